"""Buffers of what nodes emit in a block: each is kept until the last listener has run, and then used again."""

from __future__ import annotations

import numpy as np

from negspike.spiking.event import state as c
from negspike.spiking.graph import SpikingNetwork

# Every kind of buffer, and the column that says where a node's own begins.
BUFFERS = {
    "words": c.WORDS,
    "entries": c.ENTRIES,
    "runs": c.RUNS,
    "active": c.ACTIVE,
    "rows": c.ROWS,
    "fired": c.FIRED,
    "changes": c.CHANGES,
}
# Lists may be overrun by what is copied or spread at a time; vectors of changes begin at a boundary.
SLACK = 64


def needs(node: np.ndarray) -> dict[str, int]:
    """Elements that a node of the table needs of each buffer."""
    channels, height, width = (int(node[column]) for column in (c.CHANNELS, c.HEIGHT, c.WIDTH))
    tiles, lanes, positions = int(node[c.TILES]), int(node[c.LANES]), height * width
    sizes = {"active": positions, "rows": height, "fired": positions * tiles}
    if node[c.KIND] == c.SUM:
        return sizes | {"changes": positions * tiles * lanes * c.BLOCK}
    lists = {"entries": positions * channels * c.BLOCK + SLACK, "runs": height * (width + 1) * c.BLOCK}
    return sizes | lists | {"words": positions * tiles * c.BLOCK}


def assign_buffers(network: SpikingNetwork, nodes: np.ndarray) -> dict[str, int]:
    """Fill in where each node's buffers begin; returns how many elements each buffer has in all."""
    numbers = {node.name: number for number, node in enumerate(network.nodes)}
    last = {number: number for number in numbers.values()}
    for name, listeners in network.listeners.items():
        if name in numbers and listeners:
            last[numbers[name]] = max(numbers[node.name] for node in listeners)
    totals = {}
    for name, column in BUFFERS.items():
        slots: list[list[int]] = []  # size, and the node after whose run it is free
        taken: dict[int, int] = {}
        for number, node in enumerate(nodes):
            size = needs(node).get(name, 0)
            if size:
                taken[number] = _take(slots, size, number, last[number])
        starts = np.cumsum([0, *(-(-size // SLACK) * SLACK for size, _ in slots)])
        for number, slot in taken.items():
            nodes[number, column] = starts[slot]
        totals[name] = int(starts[-1])
    return totals


def _take(slots: list[list[int]], size: int, number: int, until: int) -> int:
    """The free slot that fits best, enlarged if it must be, or a new one."""
    free = [slot for slot, (_, busy) in enumerate(slots) if busy < number]
    if not free:
        slots.append([size, until])
        return len(slots) - 1
    best = min(free, key=lambda slot: (max(size - slots[slot][0], 0), slots[slot][0]))
    slots[best] = [max(size, slots[best][0]), until]
    return best
