"""Lists: of the spikes that a node emitted in a block, and of those that a window of another node sees."""

from __future__ import annotations

import numpy as np

from negspike.spiking.event.compiled import compiled, inlined
from negspike.spiking.event.rows import ROWS_AT_ONCE
from negspike.spiking.event.state import (
    ACTIVE,
    BLOCK,
    CHANNEL_COSTS,
    CHANNELS,
    COSTS,
    DILATION_X,
    DILATION_Y,
    ENTRIES,
    FIRED,
    FIRST_LINK,
    FIRST_LISTENER,
    FIRST_ROW,
    FIRST_SYNAPSE,
    FIRST_TILE,
    HEIGHT,
    KERNEL_HEIGHT,
    KERNEL_WIDTH,
    LANES,
    LEFT,
    LIST_ENTRIES,
    LIST_POSITIONS,
    LISTENERS,
    MAP,
    PART,
    PARTS,
    ROWS,
    RUNS,
    SHARED,
    SOURCE,
    STRIDE_X,
    STRIDE_Y,
    SYNAPSES,
    TAP_ROWS,
    TILE_ROWS,
    TILES,
    TOP,
    WIDTH,
    WORDS,
)
from negspike.spiking.event.vectors import copy_shifted, lowest, population, spread


@compiled
def fill(array, first, count, value):
    """Set some elements."""
    for index in range(first, first + count):
        array[index] = value


@inlined
def fill_up(entries, begin, used, zeros):
    """Fill a list up to a multiple of ROWS_AT_ONCE with a row of zeros; returns where it ends."""
    for number in range(ROWS_AT_ONCE):
        entries[used + number] = zeros
    return begin + (used - begin + ROWS_AT_ONCE - 1) // ROWS_AT_ONCE * ROWS_AT_ONCE


@inlined
def steps_of_window(network, number, row, column, emitted):
    """Word of the steps in which something in the windows of all the node's synapses spikes."""
    synapses, busy = network.synapses, np.uint64(0)
    first = network.nodes[number, FIRST_SYNAPSE]
    for s in range(first, first + network.nodes[number, SYNAPSES]):
        source = synapses[s, SOURCE]
        height, width = network.nodes[source, HEIGHT], network.nodes[source, WIDTH]
        active = network.nodes[source, ACTIVE]
        top = row * synapses[s, STRIDE_Y] - synapses[s, TOP]
        left = column * synapses[s, STRIDE_X] - synapses[s, LEFT]
        step_y, step_x = synapses[s, DILATION_Y], synapses[s, DILATION_X]
        right = min(left + synapses[s, KERNEL_WIDTH] * step_x, width)
        if left < 0:
            left += (-left + step_x - 1) // step_x * step_x
        for y in range(top, min(top + synapses[s, KERNEL_HEIGHT] * step_y, height), step_y):
            if y >= 0:
                for x in range(left, right, step_x):
                    busy |= emitted.active[active + y * width + x]
    return busy


@inlined
def append_taps(network, s, link, place, source, firsts, entries, used):
    """Tap by tap: where windows are dilated, share their weights, or see some of the channels only."""
    synapses, links = network.synapses, network.links
    run, y, left = place
    channels, width = network.nodes[synapses[s, SOURCE], CHANNELS], network.nodes[synapses[s, SOURCE], WIDTH]
    names, start = links[link, MAP], network.nodes[synapses[s, SOURCE], ENTRIES]
    for tap in range(synapses[s, KERNEL_WIDTH]):
        x = left + tap * synapses[s, DILATION_X]
        if x < 0 or x >= width:
            continue
        row = links[link, FIRST_ROW]
        if not synapses[s, SHARED]:
            row += (y * synapses[s, KERNEL_WIDTH] + tap) * links[link, TAP_ROWS]
        begin, end = start + np.int64(firsts[run + x]), start + np.int64(firsts[run + x + 1])
        if names < 0:
            copy_shifted(entries, used, source, begin, end - begin, row - x * channels)
            used += end - begin
            continue
        for index in range(begin, end):
            name = network.maps[names + np.int64(source[index]) - x * channels]
            entries[used] = row + name
            used += name >= 0
    return used


@inlined
def append(network, s, link, view, emitted, negative, entries, used):
    """Append the rows of weights that a synapse's positive or negative spikes in a step stand for to the entries.

    ``view`` is the window's top row and left column, and the step. Returns where the entries end.
    """
    top, left, t = view
    synapses, links = network.synapses, network.links
    source = synapses[s, SOURCE]
    height, width = network.nodes[source, HEIGHT], network.nodes[source, WIDTH]
    taps, step = synapses[s, KERNEL_WIDTH], synapses[s, DILATION_Y]
    listed, firsts = (emitted.downs, emitted.first_down) if negative else (emitted.ups, emitted.first_up)
    near, far = max(left, 0), min(left + taps, width)
    plain = synapses[s, SHARED] == 0 and synapses[s, DILATION_X] == 1 and links[link, MAP] < 0
    tap_rows, first = links[link, TAP_ROWS], links[link, FIRST_ROW]
    busy_rows, runs, start = network.nodes[source, ROWS], network.nodes[source, RUNS], network.nodes[source, ENTRIES]
    bit = np.uint64(t)
    for tap in range(synapses[s, KERNEL_HEIGHT]):
        y = top + tap * step
        if y < 0 or y >= height or emitted.rows[busy_rows + y] >> bit & np.uint64(1) == 0:
            continue
        run = runs + (y * BLOCK + t) * (width + 1)
        if not plain:
            used = append_taps(network, s, link, (run, tap, left), listed, firsts, entries, used)
        elif far > near:
            begin, end = start + np.int64(firsts[run + near]), start + np.int64(firsts[run + far])
            copy_shifted(entries, used, listed, begin, end - begin, first + (tap * taps - left) * tap_rows)
            used += end - begin
    return used


@inlined
def list_part(network, number, tile, place, part, t, work, used):
    """List what one part of a node's synapses sees in a step; returns where positive and negative entries end."""
    row, column = place
    entries, synapses = work.lists.entries, network.synapses
    zeros = network.tiles[network.nodes[number, FIRST_TILE] + tile, TILE_ROWS]
    first = network.nodes[number, FIRST_SYNAPSE]
    begin = middle = used
    for negative in (False, True):
        for s in range(first, first + network.nodes[number, SYNAPSES]):
            if synapses[s, PART] == part:
                top = row * synapses[s, STRIDE_Y] - synapses[s, TOP]
                left = column * synapses[s, STRIDE_X] - synapses[s, LEFT]
                link = synapses[s, FIRST_LINK] + tile
                used = append(network, s, link, (top, left, t), work.emitted, negative, entries, used)
        used = fill_up(entries, begin, used, zeros)
        if not negative:
            begin = middle = used
    return middle, used


@compiled
def list_spikes(network, number, tile, first, work):
    """List what the positions from ``first`` on see, for one tile (or any); returns for how many there was room."""
    node, lists = network.nodes[number], work.lists
    positions, columns = node[HEIGHT] * node[WIDTH], node[WIDTH]
    used, items, place = np.int64(0), np.int64(0), np.int64(0)
    while first + place < positions and used < LIST_ENTRIES and place < LIST_POSITIONS:
        row, column = divmod(first + place, columns)
        busy = steps_of_window(network, number, row, column, work.emitted)
        lists.first[place] = items
        while busy != 0:
            t = lowest(busy)
            busy &= busy - np.uint64(1)
            for part in range(node[PARTS]):
                middle, end = list_part(network, number, tile, (row, column), part, t, work, used)
                lists.step[items], lists.part[items], lists.begin[items] = t, part, used
                lists.positive[items], lists.negative[items] = middle - used, end - middle
                items += end > used
                used = end
        place += 1
    lists.first[place] = items
    return place


@compiled
def collect(network, number, work, positive, negative, sops):
    """List what a node emitted in a block by row, step and column, and add it up by step."""
    node, emitted = network.nodes[number], work.emitted
    height, width, tiles, lanes, channels = node[HEIGHT], node[WIDTH], node[TILES], node[LANES], node[CHANNELS]
    # counted from the node's own beginning: all nodes' spikes together may be more than 32 bits count
    listed_up, listed_down = emitted.ups[node[ENTRIES] :], emitted.downs[node[ENTRIES] :]
    ups, downs, table = np.int64(0), np.int64(0), np.int64(work.state.bits.ctypes.data)
    active, words, outputs = emitted.active[node[ACTIVE] :], node[WORDS], height * width
    fired, costs, alike = emitted.fired[node[FIRED] :], network.costs[node[COSTS] :], node[CHANNEL_COSTS] == 0
    rows, runs, listeners = node[ROWS], node[RUNS], network.listeners[node[FIRST_LISTENER] :]
    for y in range(height):
        busy = np.uint64(0)
        for x in range(width):
            busy |= active[y * width + x]
        emitted.rows[rows + y] = busy
        while busy != 0:
            t = lowest(busy)
            busy &= busy - np.uint64(1)
            run, bit = runs + (y * BLOCK + t) * (width + 1), np.uint64(1) << np.uint64(t)
            for x in range(width):
                emitted.first_up[run + x], emitted.first_down[run + x] = ups, downs
                position = y * width + x
                if active[position] & bit == 0:
                    continue
                before_up, before_down = ups, downs
                place = words + ((y * BLOCK + t) * width + x) * tiles
                for tile in range(tiles):
                    if fired[tile * outputs + position] & bit == 0:
                        continue
                    channel = x * channels + tile * lanes
                    word = emitted.up[place + tile]
                    if word != 0:
                        spread(listed_up, ups, word, channel, table)
                        ups += population(word)
                    word = emitted.down[place + tile]
                    if word != 0:
                        spread(listed_down, downs, word, channel, table)
                        downs += population(word)
                positive[t] += ups - before_up
                negative[t] += downs - before_down
                for listener in range(node[LISTENERS]):
                    layer = listeners[listener]
                    if alike:
                        cost = costs[listener * outputs + position]
                        sops[t, layer] += cost * (ups - before_up + downs - before_down)
                        continue
                    first = (listener * outputs + position - x) * channels
                    for index in range(before_up, ups):
                        sops[t, layer] += costs[first + np.int64(listed_up[index])]
                    for index in range(before_down, downs):
                        sops[t, layer] += costs[first + np.int64(listed_down[index])]
            emitted.first_up[run + width], emitted.first_down[run + width] = ups, downs
