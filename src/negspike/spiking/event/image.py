"""Whole images: what they add at the first step, node after node in blocks of time steps, and the predictions."""

from __future__ import annotations

import numpy as np

from negspike.spiking.event.compiled import compiled, inlined, kept
from negspike.spiking.event.firing import make_settling
from negspike.spiking.event.layer import run_layer
from negspike.spiking.event.lists import collect, fill
from negspike.spiking.event.pool import run_pool
from negspike.spiking.event.state import (
    ACTIVE,
    BLOCK,
    CHANGES,
    CHANNELS,
    CURRENT,
    DILATION_X,
    DILATION_Y,
    DIRECT,
    FIRED,
    FIRST_CHANNEL,
    FIRST_DIRECT,
    FIRST_IMAGE,
    FIRST_MASK,
    FIRST_NEURON,
    FIRST_SYNAPSE,
    FIRST_WEIGHT,
    HEIGHT,
    HIGH,
    IMAGE_LAYER,
    IMAGES,
    KERNEL_HEIGHT,
    KERNEL_WIDTH,
    KIND,
    LANES,
    LEFT,
    LOW,
    NUMBER,
    POOL,
    POPULATION,
    ROWS,
    SOURCE,
    STRIDE_X,
    STRIDE_Y,
    SUM,
    SYNAPSES,
    TILES,
    TOP,
    WIDTH,
    WORDS,
    Block,
)

_settling_32, _settling_64 = make_settling(32), make_settling(64)


@inlined
def add_image(network, s, place, image, current, at, channels):
    """Add what a window of the image weighs to each channel, to ``current[at]`` and those that follow."""
    synapses = network.synapses
    row, column = place
    here = current[at : at + channels]
    inputs, height, width = image.shape
    for a in range(synapses[s, KERNEL_HEIGHT]):
        y = row * synapses[s, STRIDE_Y] - synapses[s, TOP] + a * synapses[s, DILATION_Y]
        for b in range(synapses[s, KERNEL_WIDTH]):
            x = column * synapses[s, STRIDE_X] - synapses[s, LEFT] + b * synapses[s, DILATION_X]
            if 0 <= y < height and 0 <= x < width:
                first = synapses[s, FIRST_WEIGHT] + (a * synapses[s, KERNEL_WIDTH] + b) * inputs * channels
                for name in range(inputs):
                    pixel = image[name, y, x]
                    if pixel != 0:
                        # Of slices, so that the compiler knows that no index is negative, and adds vectors.
                        weights = network.image_rows[first + name * channels : first + (name + 1) * channels]
                        for channel in range(channels):
                            here[channel] += weights[channel] * pixel


@compiled
def add_currents(network, number, image, currents):
    """What the image adds to a node that listens to something else too."""
    node = network.nodes[number]
    for position in range(node[HEIGHT] * node[WIDTH]):
        first = node[CURRENT] + position * node[TILES] * node[LANES]
        for channel in range(node[CHANNELS]):
            currents[first + channel] = 0
        for s in range(node[FIRST_IMAGE], node[FIRST_IMAGE] + node[IMAGES]):
            add_image(network, s, divmod(position, node[WIDTH]), image, currents, first, node[CHANNELS])


@compiled
def settle(network, number, image, timesteps, counts, scratch):
    """Net counts at which neurons come to rest that have all their input from the start.

    They emit a spike of one sign in each of as many steps, from the first on, and then never again.
    """
    node = network.nodes[number]
    channels = node[CHANNELS]
    first = node[FIRST_CHANNEL]
    theta, base = network.theta[first : first + channels], network.base[first : first + channels]
    inverse, current = scratch.inverse[:channels], scratch.currents[:channels]
    for channel in range(channels):
        inverse[channel] = 1.0 / theta[channel]
    low, high = max(node[LOW], -timesteps), min(node[HIGH], timesteps)
    for position in range(node[HEIGHT] * node[WIDTH]):
        for channel in range(channels):
            current[channel] = 0
        for s in range(node[FIRST_IMAGE], node[FIRST_IMAGE] + node[IMAGES]):
            add_image(network, s, divmod(position, node[WIDTH]), image, current, 0, node[CHANNELS])
        begin = node[FIRST_NEURON] + position * node[TILES] * node[LANES]
        here = counts[begin : begin + channels]
        for channel in range(channels):
            residual = current[channel] - base[channel]
            # A quotient of floats is off by less than one, up to 2^50; the integers put it right.
            quotient = min(max(residual * inverse[channel], low - 1.0), high + 1.0)
            count = np.int64(np.floor(quotient))
            rest = residual - count * theta[channel]
            count += np.int64(rest >= theta[channel]) - np.int64(rest < 0)
            here[channel] = min(max(count, low), high)


@compiled
def run_image_layer(network, number, block, emitted, counts):
    """The spikes of settling neurons in a block: each fires in its first steps, as many as its count."""
    node = network.nodes[number]
    lanes, tiles, columns = node[LANES], node[TILES], node[WIDTH]
    outputs = node[HEIGHT] * columns
    address = np.int64(counts.ctypes.data) + 4 * node[FIRST_NEURON]
    for position in range(outputs):
        row, column = divmod(position, columns)
        for tile in range(tiles):
            neurons, fired = address + 4 * (position * tiles + tile) * lanes, np.uint64(0)
            for t in range(block.duration):
                step = block.start + t
                up, down = _settling_64(neurons, step) if lanes == 64 else _settling_32(neurons, step)
                if up | down == 0:
                    break
                place = node[WORDS] + ((row * BLOCK + t) * columns + column) * tiles + tile
                emitted.up[place], emitted.down[place] = up, down
                fired |= np.uint64(1) << np.uint64(t)
            emitted.fired[node[FIRED] + tile * outputs + position] = fired
            emitted.active[node[ACTIVE] + position] |= fired


@compiled
def classify(network, number, block, emitted, logits, predictions):
    """Follow the logits through a block, and write the class with the largest one, lowest index first, a step."""
    node = network.nodes[number]
    for t in range(block.duration):
        if emitted.active[node[ACTIVE]] >> np.uint64(t) & np.uint64(1) != 0:
            first = node[CHANGES] + t * node[TILES] * node[LANES]
            for tile in range(node[TILES]):
                if emitted.fired[node[FIRED] + tile] >> np.uint64(t) & np.uint64(1) != 0:
                    for channel in range(tile * node[LANES], min((tile + 1) * node[LANES], node[CHANNELS])):
                        logits[channel] += emitted.changes[first + channel]
        best = 0
        for channel in range(1, len(logits)):
            if logits[channel] > logits[best]:
                best = channel
        predictions[block.start + t] = best


@compiled
def any_set(flags, first, stop):
    """Whether one of the flags from ``first`` to ``stop`` is not zero."""
    for index in range(first, stop):  # noqa: SIM110, Numba does not compile generators
        if flags[index] != 0:
            return True
    return False


@compiled
def hears(network, number, block, work):
    """Whether anything can happen in a node in this block."""
    node = network.nodes[number]
    for s in range(node[FIRST_SYNAPSE], node[FIRST_SYNAPSE] + node[SYNAPSES]):
        if work.scratch.emits[network.synapses[s, SOURCE]]:
            return True
    for d in range(node[FIRST_DIRECT], node[FIRST_DIRECT] + node[DIRECT]):
        if work.scratch.emits[network.direct[d, SOURCE]]:
            return True
    if node[CURRENT] >= 0 and block.start == 0:
        return True
    masks = node[HEIGHT] * node[WIDTH] * node[TILES]
    return node[KIND] == POPULATION and any_set(work.state.pending, node[FIRST_MASK], node[FIRST_MASK] + masks)


@compiled
def prepare(network, number, block, work, counts):
    """Clear what a node emits in a block; simulate it, or say that it has to be simulated as a population or sum."""
    node, emitted = network.nodes[number], work.emitted
    positions = node[HEIGHT] * node[WIDTH]
    fill(emitted.active, node[ACTIVE], positions, 0)
    fill(emitted.fired, node[FIRED], positions * node[TILES], 0)
    if node[KIND] == IMAGE_LAYER:
        run_image_layer(network, number, block, emitted, counts)
    elif hears(network, number, block, work):
        if node[KIND] != POOL:
            return True
        run_pool(network, number, work)
    return False


@compiled
def record(network, number, block, work, image, results):
    """List what a node has emitted in a block, and add it up; returns whether it has emitted anything."""
    node, emitted = network.nodes[number], work.emitted
    emits = any_set(emitted.active, node[ACTIVE], node[ACTIVE] + node[HEIGHT] * node[WIDTH])
    if node[KIND] == SUM:
        return emits
    if not emits:
        fill(emitted.rows, node[ROWS], node[HEIGHT], 0)
        return False
    ups, downs = work.scratch.ups, work.scratch.downs
    fill(ups, 0, BLOCK, 0)
    fill(downs, 0, BLOCK, 0)
    collect(network, number, work, ups, downs, results.layer_sops[image, block.start :])
    if node[NUMBER] >= 0:
        for t in range(block.duration):
            results.positive[image, block.start + t, node[NUMBER]] = ups[t]
            results.negative[image, block.start + t, node[NUMBER]] = downs[t]
    return True


@compiled
def begin(network, image, timesteps, work, counts, logits):
    """Before the first step."""
    for channel in range(len(logits)):
        logits[channel] = network.bias[channel]
    state = work.state
    for number in range(len(network.nodes)):
        node = network.nodes[number]
        if node[KIND] == IMAGE_LAYER:
            settle(network, number, image, timesteps, counts, work.scratch)
        elif node[CURRENT] >= 0:
            add_currents(network, number, image, state.currents)
        if node[KIND] == POPULATION:
            # Every neuron is looked at in the first step, input or not.
            first, masks = node[FIRST_MASK], node[HEIGHT] * node[WIDTH] * node[TILES]
            fill(state.above, first, masks, ~np.uint64(0) if node[LOW] < 0 else np.uint64(0))
            fill(state.below, first, masks, ~np.uint64(0) if node[HIGH] > 0 else np.uint64(0))
            fill(state.pending, first, masks, 1)
    fill(state.relative, 0, len(state.relative), 0)
    fill(state.pooled, 0, len(state.pooled), 0)


@compiled
def finish(network, block, work, logits, predictions, counts):
    """Write the predictions of a block; whether the image is at rest, and with it those of all later steps."""
    stop = block.start + block.duration
    classify(network, len(network.nodes) - 1, block, work.emitted, logits, predictions)
    if any_set(work.state.pending, 0, len(work.state.pending)) or not settled_by(network, stop, counts):
        return False
    fill(predictions, stop, len(predictions) - stop, predictions[stop - 1])
    return True


@compiled
def settled_by(network, step, counts):
    """Whether the neurons that listen to the image alone fire no more from a step on."""
    for number in range(len(network.nodes)):
        node = network.nodes[number]
        if node[KIND] == IMAGE_LAYER:
            first = node[FIRST_NEURON]
            for neuron in range(first, first + node[HEIGHT] * node[WIDTH] * node[TILES] * node[LANES]):
                if abs(counts[neuron]) > step:
                    return False
    return True


# Numba optimizes a function anew with each that calls it: loops are nested here, so that functions need not be.
def _simulate_images(images, timesteps, network, work, results):
    """Simulate images, each until it rests or for ``timesteps`` steps; without Python's lock.

    Args:
        images: (N, C, H, W) int64, as the network encodes images.
        timesteps: T.
        network, work, results: tuples of arrays; see :mod:`negspike.spiking.event.state`.

    Returns:
        The number of images done: all, or as many as come before the first that 32 bits do not suffice for.
    """
    nodes = len(network.nodes)
    for image in range(len(images)):
        counts, logits, relays = results.counts[image], results.logits[image], results.relays[image]
        begin(network, images[image], timesteps, work, counts, logits)
        for start in range(0, timesteps, BLOCK):
            block = Block(start, min(BLOCK, timesteps - start))
            for number in range(nodes):
                if prepare(network, number, block, work, counts):
                    bound = run_layer(network, number, block, work, counts, relays)
                    if bound < 0:
                        return image
                    population = network.nodes[number, NUMBER]
                    if population >= 0:
                        results.reached[population] = max(results.reached[population], bound)
                work.scratch.emits[number] = record(network, number, block, work, image, results)
            if finish(network, block, work, logits, results.predictions[image], counts):
                break
    return len(images)


simulate_images = kept(_simulate_images, notice="the event-driven engine (about 20 s)")
