"""A max pool for a block of time steps: keeps the counts of its windows and passes on the change of the largest."""

from __future__ import annotations

import numpy as np

from negspike.spiking.event.compiled import compiled
from negspike.spiking.event.lists import steps_of_window
from negspike.spiking.event.state import (
    ACTIVE,
    BLOCK,
    CHANNELS,
    DILATION_X,
    DILATION_Y,
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


@compiled
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


@compiled
def count_spikes(source, position, t, emitted, counts, touched):
    """Add a position's spikes of a step to its channels' counts, and mark the channels."""
    row, column = divmod(position, source[WIDTH])
    run, first = source[RUNS] + (row * BLOCK + t) * (source[WIDTH] + 1) + column, column * source[CHANNELS]
    for entry in emitted.ups[emitted.first_up[run] : emitted.first_up[run + 1]]:
        counts[np.int64(entry) - first] += 1
        touched[np.int64(entry) - first] = True
    for entry in emitted.downs[emitted.first_down[run] : emitted.first_down[run + 1]]:
        counts[np.int64(entry) - first] -= 1
        touched[np.int64(entry) - first] = True


@compiled
def emit_changes(network, number, position, t, work, largest, touched, window):
    """Compare the largest counts of touched channels with what they were, and emit the differences."""
    node, emitted = network.nodes[number], work.emitted
    row, column = divmod(position, node[WIDTH])
    word = node[WORDS] + ((row * BLOCK + t) * node[WIDTH] + column) * node[TILES]
    for tile in range(node[TILES]):
        up, down, first = np.uint64(0), np.uint64(0), tile * node[LANES]
        for channel in range(first, min(first + node[LANES], node[CHANNELS])):
            if touched[channel]:
                touched[channel] = False
                change = window[:, channel].max() - largest[channel]
                largest[channel] += change
                bit = np.uint64(1) << np.uint64(channel - first)
                if change > 0:
                    up |= bit
                elif change < 0:
                    down |= bit
        if up | down != 0:
            emitted.up[word + tile], emitted.down[word + tile] = up, down
            step = np.uint64(1) << np.uint64(t)
            emitted.fired[node[FIRED] + tile * node[HEIGHT] * node[WIDTH] + position] |= step
            emitted.active[node[ACTIVE] + position] |= step


@compiled
def run_pool(network, number, work):
    """What a max pool emits in one block, given what its source emits."""
    node, emitted = network.nodes[number], work.emitted
    s = node[FIRST_SYNAPSE]
    source, channels = network.nodes[network.synapses[s, SOURCE]], node[CHANNELS]
    positions, outputs = source[HEIGHT] * source[WIDTH], node[HEIGHT] * node[WIDTH]
    stop = node[POOLED] + positions * channels
    before = work.state.pooled[node[POOLED] : stop].reshape((positions, channels))
    largest = work.state.pooled[stop : stop + outputs * channels].reshape((outputs, channels))
    most = network.synapses[s, KERNEL_HEIGHT] * network.synapses[s, KERNEL_WIDTH]
    taps, window = np.zeros(most, np.int64), np.zeros((most, channels), np.int32)
    touched = np.zeros(channels, np.bool_)
    for position in range(outputs):
        row, column = divmod(position, node[WIDTH])
        busy = steps_of_window(network, number, row, column, emitted)
        if busy == 0:
            continue
        seen = windows_taps(network, number, position, taps)
        for tap in range(seen):
            window[tap] = before[taps[tap]]
        while busy != 0:
            t = lowest(busy)
            busy &= busy - np.uint64(1)
            for tap in range(seen):
                if emitted.active[source[ACTIVE] + taps[tap]] >> np.uint64(t) & np.uint64(1) != 0:
                    count_spikes(source, taps[tap], t, emitted, window[tap], touched)
            emit_changes(network, number, position, t, work, largest[position], touched, window[:seen])
    for position in range(positions):
        busy = emitted.active[source[ACTIVE] + position]
        while busy != 0:
            t = lowest(busy)
            busy &= busy - np.uint64(1)
            count_spikes(source, position, t, emitted, before[position], touched)
