"""A max pool for a block of time steps: keeps the counts of its windows and passes on the change of the largest."""

from __future__ import annotations

import numpy as np

from negspike.spiking.event.compiled import compiled, inlined
from negspike.spiking.event.lists import fill, steps_of_window
from negspike.spiking.event.state import (
    ACTIVE,
    BLOCK,
    CHANNELS,
    DILATION_X,
    DILATION_Y,
    ENTRIES,
    FIRED,
    FIRST_SYNAPSE,
    HEIGHT,
    KERNEL_HEIGHT,
    KERNEL_WIDTH,
    LANES,
    LEFT,
    POOLED,
    RUNS,
    SOURCE,
    STRIDE_X,
    STRIDE_Y,
    TILES,
    TOP,
    WIDTH,
    WORDS,
)
from negspike.spiking.event.vectors import lowest


@inlined
def windows_taps(network, number, position, taps):
    """Write the source's positions that a window sees to ``taps``; returns how many."""
    synapses, s = network.synapses, network.nodes[number, FIRST_SYNAPSE]
    source = network.nodes[synapses[s, SOURCE]]
    row, column = divmod(position, network.nodes[number, WIDTH])
    seen = 0
    for a in range(synapses[s, KERNEL_HEIGHT]):
        y = row * synapses[s, STRIDE_Y] - synapses[s, TOP] + a * synapses[s, DILATION_Y]
        for b in range(synapses[s, KERNEL_WIDTH]):
            x = column * synapses[s, STRIDE_X] - synapses[s, LEFT] + b * synapses[s, DILATION_X]
            if 0 <= y < source[HEIGHT] and 0 <= x < source[WIDTH]:
                taps[seen] = y * source[WIDTH] + x
                seen += 1
    return seen


@inlined
def count_spikes(source, position, t, emitted, counts, first, touched):
    """Add a position's spikes of a step to its channels' counts, from ``first`` on, and mark the channels."""
    row, column = divmod(position, source[WIDTH])
    start = source[ENTRIES]
    run, before = source[RUNS] + (row * BLOCK + t) * (source[WIDTH] + 1) + column, column * source[CHANNELS]
    for index in range(start + emitted.first_up[run], start + emitted.first_up[run + 1]):
        channel = np.int64(emitted.ups[index]) - before
        counts[first + channel] += 1
        touched[channel] = 1
    for index in range(start + emitted.first_down[run], start + emitted.first_down[run + 1]):
        channel = np.int64(emitted.downs[index]) - before
        counts[first + channel] -= 1
        touched[channel] = 1


@inlined
def emit_changes(network, number, position, t, work, window, seen, touched):
    """Compare the largest counts of touched channels with what they were, and emit the differences."""
    node, emitted, pooled = network.nodes[number], work.emitted, work.state.pooled
    channels, outputs = node[CHANNELS], node[HEIGHT] * node[WIDTH]
    source = network.nodes[network.synapses[node[FIRST_SYNAPSE], SOURCE]]
    largest = node[POOLED] + (source[HEIGHT] * source[WIDTH] + position) * channels
    row, column = divmod(position, node[WIDTH])
    word = node[WORDS] + ((row * BLOCK + t) * node[WIDTH] + column) * node[TILES]
    for tile in range(node[TILES]):
        up, down, first = np.uint64(0), np.uint64(0), tile * node[LANES]
        for channel in range(first, min(first + node[LANES], channels)):
            if touched[channel]:
                touched[channel] = 0
                count = window[channel]
                for tap in range(1, seen):
                    count = max(count, window[tap * channels + channel])
                bit = np.uint64(1) << np.uint64(channel - first)
                if count > pooled[largest + channel]:
                    up |= bit
                elif count < pooled[largest + channel]:
                    down |= bit
                pooled[largest + channel] = count
        if up | down != 0:
            emitted.up[word + tile], emitted.down[word + tile] = up, down
            step = np.uint64(1) << np.uint64(t)
            emitted.fired[node[FIRED] + tile * outputs + position] |= step
            emitted.active[node[ACTIVE] + position] |= step


@compiled
def run_pool(network, number, work):
    """What a max pool emits in one block, given what its source emits."""
    node, emitted, pooled = network.nodes[number], work.emitted, work.state.pooled
    s, channels = node[FIRST_SYNAPSE], node[CHANNELS]
    source = network.nodes[network.synapses[s, SOURCE]]
    taps, window, touched = work.scratch.taps, work.scratch.window, work.scratch.touched
    for position in range(node[HEIGHT] * node[WIDTH]):
        row, column = divmod(position, node[WIDTH])
        busy = steps_of_window(network, number, row, column, emitted)
        if busy == 0:
            continue
        seen = windows_taps(network, number, position, taps)
        for tap in range(seen):
            before = node[POOLED] + taps[tap] * channels
            for channel in range(channels):
                window[tap * channels + channel] = pooled[before + channel]
        while busy != 0:
            t = lowest(busy)
            busy &= busy - np.uint64(1)
            for tap in range(seen):
                if emitted.active[source[ACTIVE] + taps[tap]] >> np.uint64(t) & np.uint64(1) != 0:
                    count_spikes(source, taps[tap], t, emitted, window, tap * channels, touched)
            emit_changes(network, number, position, t, work, window, seen, touched)
    for position in range(source[HEIGHT] * source[WIDTH]):
        busy = emitted.active[source[ACTIVE] + position]
        while busy != 0:
            t = lowest(busy)
            busy &= busy - np.uint64(1)
            count_spikes(source, position, t, emitted, pooled, node[POOLED] + position * channels, touched)
    fill(touched, 0, channels, 0)
