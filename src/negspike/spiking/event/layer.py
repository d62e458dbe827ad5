"""One population or sum for a block of time steps: tiles of neighbouring channels, position after position."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from negspike.spiking.event.compiled import compiled, inlined
from negspike.spiking.event.firing import make_candidates, make_fire, make_receive, make_start
from negspike.spiking.event.lists import list_spikes
from negspike.spiking.event.rows import MOST_LOW_BYTES, ROWS_AT_ONCE, make_accumulate
from negspike.spiking.event.state import (
    ACTIVE,
    BLOCK,
    CHANGES,
    CHANNEL_COSTS,
    CHANNELS,
    COSTS,
    CURRENT,
    DIRECT,
    DIRECT_MAP,
    DIRECT_SCALE,
    DIRECT_STRIDE_X,
    DIRECT_STRIDE_Y,
    FIRED,
    FIRST_BYTE,
    FIRST_CHANNEL,
    FIRST_DIRECT,
    FIRST_MASK,
    FIRST_NEURON,
    FIRST_TILE,
    FROM_SUM,
    HEIGHT,
    HIGH,
    KIND,
    LANES,
    LARGEST,
    LARGEST_INT32,
    LARGEST_STEP,
    LOW,
    PER_TILE,
    REACH,
    RELATIVE,
    SCALES,
    SOURCE,
    SUM,
    TILE_ROWS,
    TILES,
    WIDE,
    WIDTH,
    WORDS,
)
from negspike.spiking.event.vectors import CACHE_LINE, fetch_state, fetch_weights, lowest


class Tile(NamedTuple):
    """A tile of a node, and its numbers that are needed in every step: see the tables' columns."""

    node: int
    tile: int
    channel: int
    rows: int
    bytes: int
    largest: int
    reach: int
    largest_step: int
    flush: int


@inlined
def look_up(network, number, tile):
    """The tile's numbers; with ``flush``, how many rows of it can be summed in 32 bits, and their low bytes in 16."""
    node, tiles, mine = network.nodes[number], network.tiles, network.nodes[number, FIRST_TILE] + tile
    row_bytes = (3 if network.rows.itemsize == 1 else 2) * node[LANES]
    largest = tiles[mine, LARGEST]
    return Tile(
        number,
        tile,
        node[FIRST_CHANNEL] + tile * node[LANES],
        tiles[mine, FIRST_BYTE],
        (tiles[mine, TILE_ROWS] + 1) * row_bytes,
        largest,
        tiles[mine, REACH],
        tiles[mine, LARGEST_STEP],
        min(LARGEST_INT32 // max(largest, 1), MOST_LOW_BYTES) & -ROWS_AT_ONCE,
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
            for lane in range(lanes):
                target[at + lane] += network.scales[scale + lane] * emitted.changes[changes + first + lane]
        return
    for lane in range(lanes):
        channel = np.int64(network.maps[direct[DIRECT_MAP] + first + lane])
        if channel >= 0:
            fired = emitted.fired[source[FIRED] + channel // source[LANES] * positions + place]
            if fired >> bit & np.uint64(1) != 0:
                target[at + lane] += network.scales[scale + lane] * emitted.changes[changes + channel]


@cache
def _make_add_direct(width: int, wide: bool) -> Any:
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


@inlined
def furthest_potential(potential, first, width):
    """Largest absolute potential of a tile."""
    largest = np.int64(0)
    for lane in range(first, first + width):
        largest = max(largest, abs(np.int64(potential[lane])))
    return largest


@cache
def _make_add_items(width: int) -> Any:
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


def _make_integrate(width: int, wide: bool) -> Any:
    add_direct, add_items = _make_add_direct(width, wide), _make_add_items(width)
    accumulate, candidates = make_accumulate(width, False), make_candidates(width, True)

    @inlined
    def integrate_wide(network, tile, place, t, direct, work, item, bound):
        """Add what arrives in a step; words of candidates for spikes, the next item, and the bound."""
        position, neuron, last = place
        here = np.int64(work.state.residual.ctypes.data) + 8 * neuron
        item = add_items(network, tile, item, last, t, work.lists, here)
        if direct:
            add_direct(network, tile, position, t, work, work.state.residual, neuron)
        up, low = candidates(here, np.int64(network.theta.ctypes.data) + 8 * tile.channel)
        return up, low, item, bound

    @inlined
    def integrate_narrow(network, tile, place, t, direct, work, item, bound):
        """Add what arrives in a step; as above. The bound is negative where it could not be kept within 32 bits."""
        position, neuron, last = place
        lists, begin, positive, negative = work.lists, np.int64(0), np.int64(0), np.int64(0)
        if item < last and lists.step[item] == t:
            begin, positive, negative = lists.begin[item], lists.positive[item], lists.negative[item]
            item += 1
        growth = (positive + negative) * tile.largest
        if direct:
            growth += network.nodes[tile.node, DIRECT] * tile.largest_step
        bound += growth
        if bound > LARGEST_INT32:
            bound = max(tile.reach, furthest_potential(work.state.potential, neuron, width)) + growth
            if bound > LARGEST_INT32:
                return np.uint64(0), np.uint64(0), item, np.int64(-1)
        if direct:
            add_direct(network, tile, position, t, work, work.state.residual, neuron)
        theta = np.int64(network.theta_high.ctypes.data) + 4 * tile.channel
        here = np.int64(work.state.potential.ctypes.data) + 4 * neuron
        up, low = accumulate(here, network.rows, tile.rows, lists.entries, begin, positive, negative, theta)
        return up, low, item, bound

    return integrate_wide if wide else integrate_narrow


def _make_run_tile(width: int, wide: bool) -> Any:
    integrate, fire, begin_at = _make_integrate(width, wide), make_fire(width, wide), make_start(width, wide)
    size = 8 if wide else 4

    @inlined
    def begin(network, tile, position, here, work, counts):
        """Where a tile's potentials start, at the first step of all."""
        node, channels = network.nodes[tile.node], network.nodes[tile.node, TILES] * width
        if wide:
            begin_at(here, np.int64(network.base.ctypes.data) + 8 * tile.channel)
            if node[CURRENT] >= 0:
                neuron = position * channels + tile.tile * width
                for lane in range(neuron, neuron + width):
                    work.state.residual[node[FIRST_NEURON] + lane] += work.state.currents[node[CURRENT] + lane]
        else:
            begin_at(here, np.int64(network.start.ctypes.data) + 4 * tile.channel)

    @inlined
    def run_position(network, tile, position, block, work, counts, items):
        """Simulate a tile at a position for one block; a bound on its potentials, or -1 if it could leave 32 bits."""
        node, state, emitted, lists = network.nodes[tile.node], work.state, work.emitted, work.lists
        outputs, tiles = node[HEIGHT] * node[WIDTH], node[TILES]
        item, last = items
        lane = (position * tiles + tile.tile) * width
        neuron = node[FIRST_NEURON] + lane
        count = np.int64(counts.ctypes.data) + 4 * neuron
        relative = count
        if wide:
            here = np.int64(state.residual.ctypes.data) + 8 * neuron
            constants = (np.int64(network.theta.ctypes.data) + 8 * tile.channel, np.int64(0), np.int64(0))
        else:
            here = np.int64(state.potential.ctypes.data) + 4 * neuron
            constants = constants_32(network, tile.channel)
            if node[RELATIVE] >= 0:
                relative = np.int64(state.relative.ctypes.data) + 4 * (node[RELATIVE] + lane)
        mask = node[FIRST_MASK] + tile.tile * outputs + position
        again = state.pending[mask] != 0
        busy = steps_of_direct(network, tile, position, emitted) if node[DIRECT] > 0 else np.uint64(0)
        if item == last and not again and busy == 0:
            return np.int64(0)
        for line in range(size * width // CACHE_LINE):
            fetch_state(here + size * tiles * width + CACHE_LINE * line)
        for line in range(4 * width // CACHE_LINE):
            fetch_state(count + 4 * tiles * width + CACHE_LINE * line)
        row, column = divmod(position, node[WIDTH])
        word = node[WORDS] + (row * BLOCK * node[WIDTH] + column) * tiles + tile.tile
        bound, fired = tile.reach, np.uint64(0)
        if block.start == 0:
            # Here, where they are needed next, and not for all neurons beforehand: they would leave the cache.
            begin(network, tile, position, here, work, counts)
        elif not wide:
            bound = max(bound, furthest_potential(state.potential, neuron, width))
        above, below, bounds = state.above[mask], state.below[mask], (node[LOW], node[HIGH])
        t = np.int64(-1)
        while True:
            if again:
                t += 1
            else:
                t = lists.step[item] if item < last else BLOCK
                if busy != 0:
                    t = min(t, lowest(busy))
            if t >= block.duration:
                break
            direct = busy >> np.uint64(t) & np.uint64(1) != 0
            if direct:
                busy &= busy - np.uint64(1)
            up, low, item, bound = integrate(network, tile, (position, neuron, last), t, direct, work, item, bound)
            if bound < 0:
                return bound
            up &= below
            down = low & above
            again = False
            if up | down != 0:
                up, down, above, below, look = fire(here, count, relative, constants, bounds, up, down)
                again = look != 0
                if up | down != 0:
                    place = word + t * node[WIDTH] * tiles
                    emitted.up[place], emitted.down[place] = up, down
                    fired |= np.uint64(1) << np.uint64(t)
        state.above[mask], state.below[mask], state.pending[mask] = above, below, again
        emitted.fired[node[FIRED] + tile.tile * outputs + position] = fired
        emitted.active[node[ACTIVE] + position] |= fired
        return bound

    @compiled
    def run_tile(network, number, tile, part, block, work, counts):
        """Simulate a tile at some positions; a bound on its 32-bit potentials, or -1."""
        first, positions = part
        lists, furthest = work.lists, np.int64(0)
        numbers = look_up(network, number, tile)
        items = lists.first[positions]
        listed = lists.begin[items - 1] + lists.positive[items - 1] + lists.negative[items - 1] if items > 0 else 0
        # While one tile is computed, the next one's weights are fetched, where most of them are needed.
        rows = network.tiles[network.nodes[number, FIRST_TILE] + tile, TILE_ROWS]
        lines = -(-numbers.bytes // (CACHE_LINE * positions)) if listed >= rows else 0
        following = np.int64(network.rows.ctypes.data) + numbers.rows + numbers.bytes
        for place in range(positions):
            span = (lists.first[place], lists.first[place + 1])
            if span[0] < span[1]:
                for line in range(lines):
                    fetch_weights(following + CACHE_LINE * line)
                following += CACHE_LINE * lines
            bound = run_position(network, numbers, first + place, block, work, counts, span)
            if bound < 0:
                return bound
            furthest = max(furthest, bound)
        return np.int64(0) if wide else furthest

    return run_tile


@inlined
def is_zero(changes, first, width):
    """Whether nothing changes."""
    either = np.int64(0)
    for lane in range(width):
        either |= changes[first + lane]
    return either == 0


def _make_run_sum(width: int) -> Any:
    add_direct, add_items = _make_add_direct(width, True), _make_add_items(width)

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
                item = add_items(
                    network, numbers, item, last, t, lists, np.int64(emitted.changes.ctypes.data) + 8 * at
                )
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


_narrow_32, _narrow_64 = (_make_run_tile(width, False) for width in (32, 64))
_wide_32, _wide_64 = (_make_run_tile(width, True) for width in (32, 64))
_sum_32, _sum_64 = (_make_run_sum(width) for width in (32, 64))


@compiled
def run_layer(network, number, block, work, counts, relays):
    """Simulate a population or a sum for one block, given what its sources emit.

    Returns a bound on the 32-bit potentials, negative if one could have left 32 bits.
    """
    node = network.nodes[number]
    positions, tiles, furthest = node[HEIGHT] * node[WIDTH], node[TILES], np.int64(0)
    # Lists serve all tiles, or one alone where tiles see different channels.
    lists = tiles if node[PER_TILE] else np.int64(1)
    for group in range(lists):
        done = np.int64(0)
        while done < positions:
            place = list_spikes(network, number, group, done, work)
            for tile in range(group, group + 1) if node[PER_TILE] else range(tiles):
                part = (done, place)
                broad, wide = node[LANES] == 64, network.tiles[node[FIRST_TILE] + tile, WIDE]
                if node[KIND] == SUM and broad:
                    bound = _sum_64(network, number, tile, part, block, work, relays)
                elif node[KIND] == SUM:
                    bound = _sum_32(network, number, tile, part, block, work, relays)
                elif wide and broad:
                    bound = _wide_64(network, number, tile, part, block, work, counts)
                elif wide:
                    bound = _wide_32(network, number, tile, part, block, work, counts)
                elif broad:
                    bound = _narrow_64(network, number, tile, part, block, work, counts)
                else:
                    bound = _narrow_32(network, number, tile, part, block, work, counts)
                if bound < 0:
                    return bound
                furthest = max(furthest, bound)
            done += place
    return furthest
