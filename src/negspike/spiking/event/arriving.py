"""What arrives at a tile in a step: with weights, from lists, and without, neuron by neuron."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from negspike.spiking.event.compiled import inlined
from negspike.spiking.event.firing import make_receive
from negspike.spiking.event.rows import MOST_BYTES, ROWS_AT_ONCE, make_accumulate, weight_bytes
from negspike.spiking.event.state import (
    BLOCK,
    CHANGES,
    DIRECT,
    DIRECT_MAP,
    DIRECT_SCALE,
    DIRECT_STRIDE_X,
    DIRECT_STRIDE_Y,
    FIRED,
    FIRST_BYTE,
    FIRST_CHANNEL,
    FIRST_DIRECT,
    FIRST_NEURON,
    FIRST_TILE,
    FROM_SUM,
    HEIGHT,
    LANES,
    LARGEST,
    LARGEST_INT32,
    LARGEST_STEP,
    REACH,
    RELATIVE,
    SCALES,
    SOURCE,
    TILE_ROWS,
    TILES,
    WIDTH,
    WORDS,
)


class Tile(NamedTuple):
    """A tile of a node, and its numbers that are needed in every step: see the tables' columns.

    ``channels`` are those of all tiles together.
    """

    node: int
    tile: int
    channel: int
    channels: int
    rows: int
    bytes: int
    largest: int
    reach: int
    largest_step: int
    flush: int


@inlined
def look_up(network, number, tile):
    """The tile's numbers; with ``flush``, how many rows of it can be summed in 32 bits, and their bytes in 16."""
    node, tiles, mine = network.nodes[number], network.tiles, network.nodes[number, FIRST_TILE] + tile
    row_bytes = weight_bytes(network.rows) * node[LANES]
    largest = tiles[mine, LARGEST]
    return Tile(
        number,
        tile,
        node[FIRST_CHANNEL] + tile * node[LANES],
        node[TILES] * node[LANES],
        tiles[mine, FIRST_BYTE],
        (tiles[mine, TILE_ROWS] + 1) * row_bytes,
        largest,
        tiles[mine, REACH],
        tiles[mine, LARGEST_STEP],
        min(LARGEST_INT32 // max(largest, 1), MOST_BYTES) & -ROWS_AT_ONCE,
    )


@inlined
def source_position(network, d, number, position):
    """Position of the source that one of the node's positions listens to without weights."""
    row, column = divmod(position, network.nodes[number, WIDTH])
    width = network.nodes[network.direct[d, SOURCE], WIDTH]
    return row * network.direct[d, DIRECT_STRIDE_Y] * width + column * network.direct[d, DIRECT_STRIDE_X]


@inlined
def steps_of_direct(network, tile, position, emitted):
    """Word of the steps in which something may arrive without weights."""
    node, busy = network.nodes[tile.node], np.uint64(0)
    for d in range(node[FIRST_DIRECT], node[FIRST_DIRECT] + node[DIRECT]):
        source = network.nodes[network.direct[d, SOURCE]]
        place, positions = source_position(network, d, tile.node, position), source[HEIGHT] * source[WIDTH]
        if network.direct[d, DIRECT_MAP] < 0:
            busy |= emitted.fired[source[FIRED] + tile.tile * positions + place]
        else:
            for other in range(source[TILES]):
                busy |= emitted.fired[source[FIRED] + other * positions + place]
    return busy


@inlined
def add_sum(network, d, tile, place, t, emitted, target, at):
    """Add what a sum emits in a step to 64-bit numbers from ``target[at]`` on."""
    direct = network.direct[d]
    source, lanes = network.nodes[direct[SOURCE]], network.nodes[tile.node, LANES]
    positions, channels = source[HEIGHT] * source[WIDTH], source[TILES] * source[LANES]
    first, scale = tile.tile * lanes, direct[DIRECT_SCALE] + tile.tile * lanes
    changes = source[CHANGES] + (place * BLOCK + t) * channels
    bit = np.uint64(t)
    if direct[DIRECT_MAP] < 0:
        if emitted.fired[source[FIRED] + tile.tile * positions + place] >> bit & np.uint64(1) != 0:
            here, scales = target[at : at + lanes], network.scales[scale : scale + lanes]
            arriving = emitted.changes[changes + first : changes + first + lanes]
            for lane in range(lanes):
                here[lane] += scales[lane] * arriving[lane]
        return
    for lane in range(lanes):
        channel = np.int64(network.maps[direct[DIRECT_MAP] + first + lane])
        if channel >= 0:
            fired = emitted.fired[source[FIRED] + channel // source[LANES] * positions + place]
            if fired >> bit & np.uint64(1) != 0:
                target[at + lane] += network.scales[scale + lane] * emitted.changes[changes + channel]


@cache
def make_add_direct(width: int, wide: bool) -> Any:
    receive = make_receive(width, wide)

    @inlined
    def add_direct(network, tile, position, t, work, target, at):
        """Add what arrives without weights in a step: to ``target[at]`` on, or to the 32-bit potentials."""
        node, state, emitted = network.nodes[tile.node], work.state, work.emitted
        place = position * node[TILES] * width + tile.tile * width
        for d in range(node[FIRST_DIRECT], node[FIRST_DIRECT] + node[DIRECT]):
            spot = source_position(network, d, tile.node, position)
            if network.direct[d, FROM_SUM]:
                if wide:
                    add_sum(network, d, tile, spot, t, emitted, target, at)
                continue
            source = network.nodes[network.direct[d, SOURCE]]
            fired = emitted.fired[source[FIRED] + tile.tile * source[HEIGHT] * source[WIDTH] + spot]
            if fired >> np.uint64(t) & np.uint64(1) == 0:
                continue
            row, column = divmod(spot, source[WIDTH])
            word = source[WORDS] + ((row * BLOCK + t) * source[WIDTH] + column) * source[TILES] + tile.tile
            up, down = emitted.up[word], emitted.down[word]
            if wide:
                scale = network.direct[d, DIRECT_SCALE] + tile.tile * width
                scales = np.int64(network.scales.ctypes.data) + 8 * scale
                receive(np.int64(target.ctypes.data) + 8 * at, 0, scales, 0, 0, up, down)
            else:
                theta, theta_low, base_low = constants_32(network, tile.channel)
                relative = np.int64(state.relative.ctypes.data) + 4 * (node[RELATIVE] + place)
                here = np.int64(state.potential.ctypes.data) + 4 * (node[FIRST_NEURON] + place)
                receive(here, relative, theta, theta_low, base_low, up, down)

    return add_direct


@inlined
def constants_32(network, channel):
    """Addresses of the thresholds, of their lower bits and of the bases' from a channel on."""
    return (
        np.int64(network.theta_high.ctypes.data) + 4 * channel,
        np.int64(network.theta_low.ctypes.data) + 4 * channel,
        np.int64(network.base_low.ctypes.data) + 4 * channel,
    )


@cache
def make_add_items(width: int) -> Any:
    accumulate = make_accumulate(width, True)

    @inlined
    def add_items(network, tile, item, last, t, lists, address):
        """Add all items of a step to 64-bit numbers at an address; returns the first item of a later step."""
        node = network.nodes[tile.node]
        scales, step = np.int64(network.scales.ctypes.data), node[TILES] * width
        while item < last and lists.step[item] == t:
            scale = scales + 8 * (node[SCALES] + lists.part[item] * step + tile.tile * width)
            begin, positive, negative = lists.begin[item], lists.positive[item], lists.negative[item]
            # Weights are summed in 32 bits, as many at a time as cannot leave them.
            while positive + negative > 0:
                now = min(positive, tile.flush)
                less = min(negative, tile.flush - now) if now == positive else np.int64(0)
                accumulate(address, network.rows, tile.rows, lists.entries, begin, now, less, scale)
                begin += now + less
                positive -= now
                negative -= less
            item += 1
        return item

    return add_items
