"""A sum for a block of time steps: what is added to its accumulators in each of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from negspike.spiking.event.arriving import look_up, make_add_direct, make_add_items, steps_of_direct
from negspike.spiking.event.compiled import compiled, inlined
from negspike.spiking.event.state import (
    ACTIVE,
    BLOCK,
    CHANGES,
    CHANNEL_COSTS,
    CHANNELS,
    COSTS,
    CURRENT,
    FIRED,
    HEIGHT,
    LANES,
    TILES,
    WIDTH,
)
from negspike.spiking.event.vectors import lowest


@inlined
def is_zero(changes, first, width):
    """Whether nothing changes."""
    either = np.int64(0)
    for lane in range(width):
        either |= changes[first + lane]
    return either == 0


def make_run_sum(width: int) -> Any:
    add_direct, add_items = make_add_direct(width, True), make_add_items(width)

    @compiled
    def run_sum(network, number, tile, part, block, work, relays):
        """What a tile of a sum emits at some positions in one block."""
        first, positions = part
        node, emitted, lists = network.nodes[number], work.emitted, work.lists
        numbers, outputs, channels = look_up(network, number, tile), node[HEIGHT] * node[WIDTH], node[TILES] * width
        for place in range(positions):
            position = first + place
            item, last = lists.first[place], lists.first[place + 1]
            busy = steps_of_direct(network, numbers, position, emitted)
            direct, fired = busy, np.uint64(0)
            for index in range(item, last):
                busy |= np.uint64(1) << np.uint64(lists.step[index])
            image = node[CURRENT] >= 0 and block.start == 0
            if image:
                busy |= np.uint64(1)
            while busy != 0:
                t = lowest(busy)
                busy &= busy - np.uint64(1)
                at = node[CHANGES] + (position * BLOCK + t) * channels + tile * width
                here = node[CURRENT] + position * channels + tile * width
                for lane in range(width):
                    emitted.changes[at + lane] = work.state.currents[here + lane] if image and t == 0 else 0
                item = add_items(network, numbers, item, last, t, lists, np.int64(emitted.changes.ctypes.data) + 8 * at)
                if direct >> np.uint64(t) & np.uint64(1) != 0:
                    add_direct(network, numbers, position, t, work, emitted.changes, at)
                if is_zero(emitted.changes, at, width):
                    continue
                fired |= np.uint64(1) << np.uint64(t)
                if node[COSTS] >= 0:
                    relays[block.start + t] += passed_on(network, number, position, tile, emitted.changes, at)
            emitted.fired[node[FIRED] + tile * outputs + position] = fired
            emitted.active[node[ACTIVE] + position] |= fired
        return np.int64(0)

    return run_sum


@inlined
def passed_on(network, number, position, tile, changes, at):
    """How many other sums' accumulators the changes of a sum's tile reach."""
    node, total = network.nodes[number], np.int64(0)
    for lane in range(node[LANES]):
        if changes[at + lane] != 0:
            channel = tile * node[LANES] + lane
            place = position * node[CHANNELS] + channel if node[CHANNEL_COSTS] else position
            total += network.costs[node[COSTS] + place]
    return total
