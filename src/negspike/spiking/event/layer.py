"""One population or sum for a block of time steps: tiles of neighbouring channels, position after position."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from negspike.spiking.event.arriving import (
    constants_32,
    look_up,
    make_add_direct,
    make_add_items,
    steps_of_direct,
)
from negspike.spiking.event.compiled import compiled, inlined
from negspike.spiking.event.firing import make_candidates, make_fire, make_start
from negspike.spiking.event.lists import list_spikes
from negspike.spiking.event.rows import MOST_BYTES, make_accumulate, weight_bytes
from negspike.spiking.event.state import (
    ACTIVE,
    BLOCK,
    CURRENT,
    DIRECT,
    FIRED,
    FIRST_MASK,
    FIRST_NEURON,
    FIRST_TILE,
    HEIGHT,
    HIGH,
    KIND,
    LANES,
    LARGEST_INT32,
    LOW,
    PER_TILE,
    RELATIVE,
    SUM,
    TILE_ROWS,
    TILES,
    WIDE,
    WIDTH,
    WORDS,
)
from negspike.spiking.event.sums import make_run_sum
from negspike.spiking.event.vectors import CACHE_LINE, fetch_state, fetch_weights, lowest


class Spot(NamedTuple):
    """A tile at a position: addresses of its potentials and counts, and where its mask and its first word are."""

    position: int
    neuron: int
    potential: int
    counts: int
    relative: int
    mask: int
    word: int


@inlined
def furthest_potential(potential, first, width):
    """Largest absolute potential of a tile."""
    largest = np.int64(0)
    for lane in range(first, first + width):
        largest = max(largest, abs(np.int64(potential[lane])))
    return largest


def _make_integrate(width: int, wide: bool) -> Any:
    add_direct, add_items = make_add_direct(width, wide), make_add_items(width)
    accumulate, candidates = make_accumulate(width, False), make_candidates(width)

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
        most = MOST_BYTES if weight_bytes(network.rows) == 1 else LARGEST_INT32
        while True:
            now = min(positive, most)
            less = min(negative, most) if now == positive else np.int64(0)
            up, low = accumulate(here, network.rows, tile.rows, lists.entries, begin, now, less, theta)
            begin += now + less
            positive -= now
            negative -= less
            if positive + negative == 0:
                return up, low, item, bound

    return integrate_wide if wide else integrate_narrow


def _make_begin(width: int, wide: bool) -> Any:
    begin_at = make_start(width, wide)

    @inlined
    def begin(network, tile, spot, work):
        """Where a tile's potentials start, at the first step of all."""
        node = network.nodes[tile.node]
        if not wide:
            begin_at(spot.potential, np.int64(network.start.ctypes.data) + 4 * tile.channel)
            return
        begin_at(spot.potential, np.int64(network.base.ctypes.data) + 8 * tile.channel)
        if node[CURRENT] >= 0:
            first = node[CURRENT] + spot.neuron - node[FIRST_NEURON]
            for lane in range(width):
                work.state.residual[spot.neuron + lane] += work.state.currents[first + lane]

    return begin


def _make_locate(width: int, wide: bool) -> Any:
    @inlined
    def locate(network, tile, position, work, counts):
        """Where a tile at a position has its potentials, counts, masks and words."""
        node, state, lane = network.nodes[tile.node], work.state, position * tile.channels + tile.tile * width
        neuron = node[FIRST_NEURON] + lane
        count = np.int64(counts.ctypes.data) + 4 * neuron
        relative = count
        if wide:
            here = np.int64(state.residual.ctypes.data) + 8 * neuron
        else:
            here = np.int64(state.potential.ctypes.data) + 4 * neuron
            if node[RELATIVE] >= 0:
                relative = np.int64(state.relative.ctypes.data) + 4 * (node[RELATIVE] + lane)
        mask = node[FIRST_MASK] + tile.tile * node[HEIGHT] * node[WIDTH] + position
        row, column = divmod(position, node[WIDTH])
        word = node[WORDS] + (row * BLOCK * node[WIDTH] + column) * node[TILES] + tile.tile
        return Spot(position, neuron, here, count, relative, mask, word)

    return locate


def _make_run_steps(width: int, wide: bool) -> Any:
    integrate, fire = _make_integrate(width, wide), make_fire(width, wide)

    @inlined
    def run_steps(network, tile, spot, block, work, items, busy):
        """Simulate a tile at a position: in the steps of its items, of the word ``busy``, and while it fires."""
        node, state, emitted, lists = network.nodes[tile.node], work.state, work.emitted, work.lists
        item, last = items
        if wide:
            constants = (np.int64(network.theta.ctypes.data) + 8 * tile.channel, np.int64(0), np.int64(0))
        else:
            constants = constants_32(network, tile.channel)
        bound, fired, step = tile.reach, np.uint64(0), node[WIDTH] * node[TILES]
        if not wide and block.start > 0:
            bound = max(bound, furthest_potential(state.potential, spot.neuron, width))
        above, below, bounds = state.above[spot.mask], state.below[spot.mask], (node[LOW], node[HIGH])
        again, t, place = state.pending[spot.mask] != 0, np.int64(-1), (spot.position, spot.neuron, last)
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
            up, low, item, bound = integrate(network, tile, place, t, direct, work, item, bound)
            if bound < 0:
                return bound
            up &= below
            down = low & above
            again = False
            if up | down != 0:
                up, down, above, below, look = fire(
                    spot.potential, spot.counts, spot.relative, constants, bounds, up, down
                )
                again = look != 0
                if up | down != 0:
                    word = spot.word + t * step
                    emitted.up[word], emitted.down[word] = up, down
                    fired |= np.uint64(1) << np.uint64(t)
        state.above[spot.mask], state.below[spot.mask], state.pending[spot.mask] = above, below, again
        emitted.fired[node[FIRED] + spot.mask - node[FIRST_MASK]] = fired
        emitted.active[node[ACTIVE] + spot.position] |= fired
        return bound

    return run_steps


def _make_run_position(width: int, wide: bool) -> Any:
    begin, locate, run_steps = (make(width, wide) for make in (_make_begin, _make_locate, _make_run_steps))
    size = 8 if wide else 4

    @inlined
    def run_position(network, tile, position, block, work, counts, items):
        """Simulate a tile at a position for one block; a bound on its potentials, or -1 if it could leave 32 bits."""
        node = network.nodes[tile.node]
        spot = locate(network, tile, position, work, counts)
        busy = steps_of_direct(network, tile, position, work.emitted) if node[DIRECT] > 0 else np.uint64(0)
        if items[0] == items[1] and busy == 0 and work.state.pending[spot.mask] == 0:
            return np.int64(0)
        # What the next position needs is fetched during this one.
        for line in range(size * width // CACHE_LINE):
            fetch_state(spot.potential + size * tile.channels + CACHE_LINE * line)
        for line in range(4 * width // CACHE_LINE):
            fetch_state(spot.counts + 4 * tile.channels + CACHE_LINE * line)
        if block.start == 0:
            # Here, where they are needed next, and not for all neurons beforehand: they would leave the cache.
            begin(network, tile, spot, work)
        return run_steps(network, tile, spot, block, work, items, busy)

    return run_position


def _make_run_tile(width: int, wide: bool) -> Any:
    run_position = _make_run_position(width, wide)

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


_narrow_32, _narrow_64 = (_make_run_tile(width, False) for width in (32, 64))
_wide_32, _wide_64 = (_make_run_tile(width, True) for width in (32, 64))
_sum_32, _sum_64 = (make_run_sum(width) for width in (32, 64))


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
