"""Whole images: what they add at the first step, node after node in blocks of time steps, and the predictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from negspike.spiking.event.compiled import compiled, kept, sources_checksum
from negspike.spiking.event.firing import make_settling
from negspike.spiking.event.layer import run_layer
from negspike.spiking.event.lists import collect
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


@compiled
def add_image(network, s, row, column, image, current):
    """Add what a window of the image weighs to each channel."""
    synapses, channels = network.synapses, len(current)
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
                        weights = network.image_rows[first + name * channels : first + (name + 1) * channels]
                        for channel in range(channels):
                            current[channel] += weights[channel] * pixel


@compiled
def add_currents(network, number, image, currents):
    """What the image adds to a node that listens to something else too."""
    node = network.nodes[number]
    for position in range(node[HEIGHT] * node[WIDTH]):
        first = node[CURRENT] + position * node[TILES] * node[LANES]
        current = currents[first : first + node[CHANNELS]]
        current[:] = 0
        row, column = divmod(position, node[WIDTH])
        for s in range(node[FIRST_IMAGE], node[FIRST_IMAGE] + node[IMAGES]):
            add_image(network, s, row, column, image, current)


@compiled
def settle(network, number, image, timesteps, counts):
    """Net counts at which neurons come to rest that have all their input from the start.

    They emit a spike of one sign in each of as many steps, from the first on, and then never again.
    """
    node = network.nodes[number]
    channels = node[CHANNELS]
    current = np.empty(channels, np.int64)
    first = node[FIRST_CHANNEL]
    theta, base = network.theta[first : first + channels], network.base[first : first + channels]
    inverse = 1.0 / theta
    low, high = max(node[LOW], -timesteps), min(node[HIGH], timesteps)
    for position in range(node[HEIGHT] * node[WIDTH]):
        row, column = divmod(position, node[WIDTH])
        current[:] = 0
        for s in range(node[FIRST_IMAGE], node[FIRST_IMAGE] + node[IMAGES]):
            add_image(network, s, row, column, image, current)
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
        predictions[t] = best


@compiled
def any_set(flags, first, stop):
    """Whether one of the flags from ``first`` to ``stop`` is not zero."""
    for index in range(first, stop):  # noqa: SIM110, Numba does not compile generators
        if flags[index] != 0:
            return True
    return False


@compiled
def hears(network, number, block, work, emits):
    """Whether anything can happen in a node in this block."""
    node = network.nodes[number]
    for s in range(node[FIRST_SYNAPSE], node[FIRST_SYNAPSE] + node[SYNAPSES]):
        if emits[network.synapses[s, SOURCE]]:
            return True
    for d in range(node[FIRST_DIRECT], node[FIRST_DIRECT] + node[DIRECT]):
        if emits[network.direct[d, SOURCE]]:
            return True
    if node[CURRENT] >= 0 and block.start == 0:
        return True
    masks = node[HEIGHT] * node[WIDTH] * node[TILES]
    return node[KIND] == POPULATION and any_set(work.state.pending, node[FIRST_MASK], node[FIRST_MASK] + masks)


@compiled
def run_node(network, number, block, work, image, results, emits):
    """Simulate a node for one block; a bound on its potentials, negative if one could have left 32 bits."""
    node, emitted, counts = network.nodes[number], work.emitted, results.counts[image]
    positions, bound, start = node[HEIGHT] * node[WIDTH], np.int64(0), block.start
    emitted.active[node[ACTIVE] : node[ACTIVE] + positions] = 0
    emitted.fired[node[FIRED] : node[FIRED] + positions * node[TILES]] = 0
    emits[number] = False
    if node[KIND] == IMAGE_LAYER:
        run_image_layer(network, number, block, emitted, counts)
    elif hears(network, number, block, work, emits):
        if node[KIND] == POOL:
            run_pool(network, number, work)
        else:
            bound = run_layer(network, number, block, work, counts, results.relays[image, start:])
    emits[number] = any_set(emitted.active, node[ACTIVE], node[ACTIVE] + positions)
    if node[KIND] == SUM or bound < 0:
        return bound
    if emits[number]:
        ups, downs = np.zeros(BLOCK, np.int64), np.zeros(BLOCK, np.int64)
        collect(network, number, work, ups, downs, results.sops[image, start:])
        if node[NUMBER] >= 0:
            for t in range(block.duration):
                results.positive[image, start + t, node[NUMBER]] = ups[t]
                results.negative[image, start + t, node[NUMBER]] = downs[t]
    else:
        emitted.rows[node[ROWS] : node[ROWS] + node[HEIGHT]] = 0
    return bound


@compiled
def begin(network, image, timesteps, work, counts):
    """Before the first step."""
    state = work.state
    for number in range(len(network.nodes)):
        node = network.nodes[number]
        if node[KIND] == IMAGE_LAYER:
            settle(network, number, image, timesteps, counts)
        elif node[CURRENT] >= 0:
            add_currents(network, number, image, state.currents)
        if node[KIND] == POPULATION:
            # Every neuron is looked at in the first step, input or not.
            first, stop = node[FIRST_MASK], node[FIRST_MASK] + node[HEIGHT] * node[WIDTH] * node[TILES]
            state.above[first:stop] = ~np.uint64(0) if node[LOW] < 0 else np.uint64(0)
            state.below[first:stop] = ~np.uint64(0) if node[HIGH] > 0 else np.uint64(0)
            state.pending[first:stop] = 1
    state.relative[:] = 0
    state.pooled[:] = 0


@compiled
def settled_by(network, step, counts):
    """Whether the neurons that listen to the image alone fire no more from a step on."""
    for number in range(len(network.nodes)):
        node = network.nodes[number]
        if node[KIND] == IMAGE_LAYER:
            first = node[FIRST_NEURON]
            for count in counts[first : first + node[HEIGHT] * node[WIDTH] * node[TILES] * node[LANES]]:
                if abs(count) > step:
                    return False
    return True


@compiled
def simulate_image(network, image, timesteps, work, number, results):
    """Simulate one image; whether 32 bits sufficed for its potentials."""
    begin(network, image, timesteps, work, results.counts[number])
    predictions, logits, last = results.predictions[number], results.logits[number], len(network.nodes) - 1
    emits = np.zeros(last + 1, np.bool_)
    logits[:] = network.bias
    for start in range(0, timesteps, BLOCK):
        block = Block(start, min(BLOCK, timesteps - start))
        for index in range(last + 1):
            bound = run_node(network, index, block, work, number, results, emits)
            if bound < 0:
                return False
            population = network.nodes[index, NUMBER]
            if population >= 0:
                results.reached[population] = max(results.reached[population], bound)
        stop = start + block.duration
        classify(network, last, block, work.emitted, logits, predictions[start:stop])
        pending = any_set(work.state.pending, 0, len(work.state.pending))
        if not pending and settled_by(network, stop, results.counts[number]):
            predictions[stop:] = predictions[stop - 1]
            break
    return True


def _make_simulate_images(checksum: str) -> Any:
    """The compiled entry; the checksum of all sources is one of its constants, so that a change is noticed."""

    def simulate_images(images, timesteps, network, work, results):
        """Simulate images, each until it rests or for ``timesteps`` steps; without Python's lock.

        Args:
            images: (N, C, H, W) int64 with 16 fractional bits.
            timesteps: T.
            network, work, results: tuples of arrays; see :mod:`negspike.spiking.event.state`.

        Returns:
            The number of images done: all, or as many as come before the first that 32 bits do not suffice for.
        """
        assert checksum
        for number in range(len(images)):
            if not simulate_image(network, images[number], timesteps, work, number, results):
                return number
        return len(images)

    return kept(simulate_images)


simulate_images = _make_simulate_images(sources_checksum())
