"""Chains, event by event: adds a row of weights for every spike and window, and touches nothing that is at rest.

How it works, what it was measured against and what bounds it: docs/performance.md. The compiled functions are in
:mod:`negspike.spiking.event.chain_kernels`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from negspike.fixed_point import THRESHOLD_EXTRA_BITS
from negspike.machine import available_cores
from negspike.spiking.counting import operations_per_spike
from negspike.spiking.event import chain_kernels as kernels
from negspike.spiking.event.chain_kernels import ListedWindow, Spikes, State, Weights
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.linear import sum_int64
from negspike.spiking.nodes import INPUT, Neurons, Shape, Synapses, Window
from negspike.spiking.recording import Recording

CHUNK_BYTES = 64 << 20
LARGEST_CHUNK = 500
# Threads wait for each other at the end of a chunk: with a few images each, not for long.
CHUNK_IMAGES_PER_THREAD = 4
# Images that a thread takes at a time: as few as one where that takes a while, more where a call would cost more.
TASK_NEURONS = 1 << 18
ALIGNMENT = 64
TILE_WIDTHS = (64, 32)
# A list of spikes costs about as much to go through as this many outputs cost to add.
LIST_COST = 16
# Potentials of 32 bits must have room for a step's input beside the threshold.
LARGEST_NARROW = 1 << 29
# So many rows can be told apart by 16 bits.
LARGEST_SHORT_LIST = 1 << 16
NEVER = 1 << 62


def aligned(shape: int | tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """Zeros that begin at a 64-byte boundary, as vector loads want them; the system provides them when touched."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    first = -raw.ctypes.data % ALIGNMENT
    return raw[first : first + size].view(dtype).reshape(shape)


def tile_width(outputs: int) -> int:
    """Output channels that are computed together: padding to whole tiles costs time, and narrow tiles do too."""
    return min(TILE_WIDTHS, key=lambda width: -(-outputs // width) * (width + LIST_COST))


def is_chain(network: SpikingNetwork) -> bool:
    """Whether a network is what this module simulates: layer after layer, weights, one threshold unit, no bounds."""
    before = INPUT
    for population in network.populations:
        (synapses, *more), window = population.synapses, population.synapses[0].window
        if more or synapses.source != before or not _is_plain(synapses, population.low, population.high):
            return False
        if len(set(synapses.scale.tolist())) > 1 or (before == INPUT) != (population is network.populations[0]):
            return False
        scale = int(synapses.scale[0])
        if scale != 1 << THRESHOLD_EXTRA_BITS and (before != INPUT or scale < 1 or scale & (scale - 1)):
            return False
        if window.dilation != (1, 1) or window.stride[0] != window.stride[1]:
            return False
        before = population.name
    readout = network.readout
    (synapses, *more) = readout.synapses
    return (
        len(network.nodes) == len(network.populations) + 1
        and not (more or readout.bias.any() or (synapses.scale != 1).any())
        and synapses.source == before != INPUT
        and _is_plain(synapses, 0, None)
        and synapses.window.kernel == network.shapes[before][1:]
        and all(_fits(network, population) for population in network.populations)
    )


def _is_plain(synapses: Synapses, low: int | None, high: int | None) -> bool:
    weight = synapses.weight
    whole = synapses.channels is None and synapses.targets is None and synapses.groups == 1
    return whole and weight is not None and weight.shape[2:] == synapses.window.kernel and (low, high) == (0, None)


def _fits(network: SpikingNetwork, population: Neurons) -> bool:
    """Spikes of a block and rows of a tile are counted with 32 bits."""
    (synapses,) = population.synapses
    assert synapses.weight is not None
    reach = int(np.prod(synapses.weight.shape[1:])) + int(np.prod(network.shapes[synapses.source]))
    return max(reach, population.neurons * kernels.BLOCK) < kernels.LARGEST_INT32


class _Layer(NamedTuple):
    """One population of a chain, with the weights of its only synapse, (outputs, inputs, height, width)."""

    population: Neurons
    weight: np.ndarray
    window: Window
    in_shape: Shape
    shift: int


def _layers(network: SpikingNetwork) -> list[_Layer]:
    layers = []
    for population in network.populations:
        (synapses,) = population.synapses
        assert synapses.weight is not None
        shift = int(synapses.scale[0]).bit_length() - 1
        layers.append(_Layer(population, synapses.weight, synapses.window, network.shapes[synapses.source], shift))
    return layers


def list_type(layers: np.ndarray) -> type[np.generic]:
    """What holds the number of any row of a tile, its row of zeros included, and of any channel of a row of neurons."""
    rows = layers[:, kernels.INPUTS] * layers[:, kernels.KERNEL_HEIGHT] * layers[:, kernels.KERNEL_WIDTH] + 1
    channels = layers[:, kernels.OUT_WIDTH] * layers[:, kernels.TILES] * layers[:, kernels.WIDTH]
    return np.uint16 if max(rows.max(), channels.max()) <= LARGEST_SHORT_LIST else np.int32


def arrange(network: SpikingNetwork) -> Weights:
    """The network's integers in the order in which the compiled functions read them."""
    costs, layers = operations_per_spike(network), _layers(network)
    bits16 = all(np.abs(layer.weight.astype(np.int64)).max() < 1 << 15 for layer in layers)
    weight_bytes = 2 if bits16 else 3
    table = np.zeros((len(layers), kernels.COLUMNS), np.int64)
    rows, theta, base, wide, largest, reach = [], [], [], [], [], []
    sizes = np.zeros(6, np.int64)
    for number, layer in enumerate(layers):
        population, window = layer.population, layer.window
        outputs, inputs, height, width = layer.weight.shape
        lanes = tile_width(outputs)
        tiles = -(-outputs // lanes)
        (top, _), (left, _) = window.padding
        table[number] = (
            *(*layer.in_shape, *population.shape, height, width, window.stride[0], top, left, layer.shift),
            *(lanes, tiles, lanes * weight_bytes, *sizes),
        )
        padded = np.zeros((tiles * lanes, inputs, height, width), np.int32)
        padded[:outputs] = layer.weight
        tiled = padded.reshape(tiles, lanes, inputs, height, width).transpose(0, 3, 4, 2, 1).reshape(tiles, -1, lanes)
        tiled = _row_bytes(np.pad(tiled, ((0, 0), (0, 1), (0, 0))), bits16)
        padded_theta, padded_base = np.full(tiles * lanes, NEVER), np.ones(tiles * lanes, np.int64)
        padded_theta[:outputs], padded_base[:outputs] = population.theta, population.base
        theta.append(padded_theta)
        base.append(padded_base)
        positions = population.shape[1] * population.shape[2]
        if number > 0:
            rows.append(np.pad(tiled, (0, -tiled.size % ALIGNMENT)))
            for tile in range(tiles):
                part = slice(tile * lanes, min((tile + 1) * lanes, outputs))
                far = max(int(np.abs(population.base[part]).max()), int(population.theta[part].max()))
                wide.append(not bits16 or far >> 16 >= LARGEST_NARROW)
                largest.append(int(np.abs(layer.weight[part].astype(np.int64)).max()))
                reach.append((far >> 16) + 2)
            sizes += (rows[-1].size, tiles * lanes, tiles, positions, positions * tiles * lanes, positions * tiles)
        else:
            sizes += (0, tiles * lanes, 0, positions, positions * tiles * lanes, 0)
    flat = aligned(int(sizes[0]), np.uint8)
    np.concatenate([*rows, flat[:0]], out=flat)
    all_theta, all_base = _flat(theta, np.int64), _flat(base, np.int64)
    start = -all_base >> 16
    return Weights(
        layers=table,
        rows=flat.view(np.int16) if bits16 else flat,
        image_rows=_image_rows(layers[0].weight),
        theta=all_theta,
        base=all_base,
        theta_high=_flat([np.minimum(all_theta >> 16, kernels.LARGEST_INT32)], np.int32),
        theta_low=_flat([all_theta & 0xFFFF], np.int32),
        base_low=_flat([-all_base & 0xFFFF], np.int32),
        start=_flat([np.clip(start, -kernels.LARGEST_INT32, kernels.LARGEST_INT32)], np.int32),
        wide=np.array(wide, np.uint8),
        largest=np.array(largest, np.int64),
        reach=np.array(reach, np.int64),
        costs=np.concatenate([costs[layer.population.name].ravel() for layer in layers]),
        classifier=_classifier(network),
    )


def _flat(parts: list[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    values = np.concatenate(parts)
    result = aligned(len(values), dtype)
    result[:] = values
    return result


def _row_bytes(weights: np.ndarray, bits16: bool) -> np.ndarray:
    """Bytes of int32 weights (..., outputs): 16 bits each, or a row's upper 16 bits first and then its lower 8."""
    width = weights.shape[-1]
    high = (weights if bits16 else weights >> 8).astype(np.int16)[..., kernels.stored_order(width, 16)]
    parts = [np.ascontiguousarray(high).view(np.uint8)]
    if not bits16:
        parts.append((weights & 0xFF).astype(np.uint8)[..., kernels.stored_order(width, 8)])
    return np.concatenate(parts, axis=-1).ravel()


def _image_rows(weight: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(weight.astype(np.int64).transpose(2, 3, 1, 0).reshape(-1, len(weight)))


def _classifier(network: SpikingNetwork) -> np.ndarray:
    """(features, classes) int64, features in the order of neurons: position, then channel."""
    weight = network.readout.synapses[0].weight
    assert weight is not None
    return np.ascontiguousarray(weight.astype(np.int64).transpose(2, 3, 1, 0).reshape(-1, network.classes))


class _Workspace:
    """The arrays that one thread works in."""

    def __init__(self, network: SpikingNetwork, weights: Weights) -> None:
        layers = _layers(network)
        table = weights.layers
        positions, neurons = _positions(table), _neurons(table)
        masks = int((positions * table[:, kernels.TILES])[1:].sum())
        most = int(positions.max())
        words = int((positions * table[:, kernels.TILES]).max()) * kernels.BLOCK
        self.state = State(
            potential=aligned(int(neurons.sum()), np.int32),
            residual=aligned(int(neurons.sum()) if weights.wide.any() else 0, np.int64),
            above=np.zeros(masks, np.uint64),
            pending=np.zeros(masks, np.uint8),
            up=np.zeros(words, np.uint64),
            down=np.zeros(words, np.uint64),
            bits=kernels.BITS.copy(),
        )
        inputs = max(int(np.prod(layer.weight.shape[1:])) for layer in layers)
        steps, listed, names = kernels.LIST_POSITIONS * kernels.BLOCK, kernels.LIST_ENTRIES, list_type(table)
        self.window = ListedWindow(
            entries=np.zeros(listed + kernels.BLOCK * (inputs + 2 * kernels.ROWS_AT_ONCE) + kernels.COPIED, names),
            first=np.zeros(kernels.LIST_POSITIONS + 1, np.int64),
            step=np.zeros(steps, np.int64),
            begin=np.zeros(steps, np.int64),
            positive=np.zeros(steps, np.int64),
            negative=np.zeros(steps, np.int64),
        )
        self.settled = aligned(int(neurons[0]), np.int32)
        rows = int(table[:, kernels.OUT_HEIGHT].max())
        runs = int((table[:, kernels.OUT_HEIGHT] * (table[:, kernels.OUT_WIDTH] + 1)).max()) * kernels.BLOCK
        entries = max(layer.population.neurons for layer in layers) + kernels.COPIED
        self.spikes, self.emitted = (
            Spikes(
                up=np.zeros(entries, names),
                down=np.zeros(entries, names),
                first_up=np.zeros(runs, np.int32),
                first_down=np.zeros(runs, np.int32),
                active=np.zeros(most, np.uint64),
                rows=np.zeros(rows, np.uint64),
            )
            for _ in range(2)
        )


class ChainEngine:
    """Simulates images one by one on each thread; what it costs grows with their synaptic operations.

    Args:
        network: the network to simulate.
        threads: CPU threads, or None for as many as this process may use.
    """

    def __init__(self, network: SpikingNetwork, threads: int | None = None) -> None:
        self.network, self.weights = network, arrange(network)
        self.threads = threads or available_cores()
        self.neurons = int(_neurons(self.weights.layers).sum())
        chunk = max(CHUNK_BYTES // (4 * self.neurons), CHUNK_IMAGES_PER_THREAD * self.threads)
        self.chunk_size = min(chunk, LARGEST_CHUNK)
        self._idle: list[_Workspace] = []

    def run(self, encoded: np.ndarray, timesteps: int) -> Recording:
        """Simulate (N, C, H, W) int64 images with 16 fractional bits for ``timesteps`` steps."""
        recording = Recording.empty(self.network, images=len(encoded), timesteps=timesteps)
        counts = aligned((len(encoded), self.neurons), np.int32)
        size = max(1, TASK_NEURONS // self.neurons)
        tasks = [slice(first, first + size) for first in range(0, len(encoded), size)]
        with ThreadPoolExecutor(self.threads) as pool:
            for reached in pool.map(lambda task: self._simulate(encoded, timesteps, counts, recording, task), tasks):
                np.maximum(recording.potential_bounds, reached, out=recording.potential_bounds)
        for number, population in enumerate(self.network.populations):
            recording.counts[population.name] = self._layer_counts(counts, number)
        last = recording.counts[self.network.populations[-1].name]
        recording.logits = sum_int64(self.network.readout.synapses[0], last)[:, :, 0, 0]
        return recording

    def _simulate(
        self, encoded: np.ndarray, timesteps: int, counts: np.ndarray, recording: Recording, task: slice
    ) -> np.ndarray:
        """Simulate some images; returns bounds on the potentials of each layer."""
        reached = np.zeros(len(self.weights.layers), np.int64)
        results = (counts, recording.predictions, recording.positive, recording.negative, recording.sops)
        first, stop, _ = task.indices(len(encoded))
        workspace = self._idle.pop() if self._idle else _Workspace(self.network, self.weights)
        while first < stop:
            part = slice(first, stop)
            done = self._call(workspace, self.weights, encoded, timesteps, results, reached, part)
            first += done
            if first < stop:
                # A potential of this image could have left 32 bits. Once more, from the start, with 64.
                weights = self.weights._replace(wide=np.ones_like(self.weights.wide))
                part = slice(first, first + 1)
                for array in results:
                    array[part] = 0
                self._call(_Workspace(self.network, weights), weights, encoded, timesteps, results, reached, part)
                workspace = _Workspace(self.network, self.weights)
                first += 1
        self._idle.append(workspace)
        return reached

    @staticmethod
    def _call(
        workspace: _Workspace,
        weights: Weights,
        encoded: np.ndarray,
        timesteps: int,
        results: tuple[np.ndarray, ...],
        reached: np.ndarray,
        part: slice,
    ) -> int:
        """The number of images that were simulated: fewer than asked for if 32 bits did not suffice for the next."""
        done: int = kernels.simulate_images(
            *(encoded[part], timesteps, weights, workspace.state, workspace.window, workspace.settled),
            *(workspace.spikes, workspace.emitted, *(array[part] for array in results), reached),
        )
        return done

    def _layer_counts(self, counts: np.ndarray, number: int) -> np.ndarray:
        """(N, outputs, height, width) int32 of one layer."""
        layer = self.weights.layers[number]
        outputs, height, width = self.network.populations[number].shape
        channels = int(layer[kernels.TILES] * layer[kernels.WIDTH])
        first = int(layer[kernels.FIRST_NEURON])
        part = counts[:, first : first + height * width * channels].reshape(-1, height, width, channels)
        return part[..., :outputs].transpose(0, 3, 1, 2)


def _positions(layers: np.ndarray) -> np.ndarray:
    positions: np.ndarray = layers[:, kernels.OUT_HEIGHT] * layers[:, kernels.OUT_WIDTH]
    return positions


def _neurons(layers: np.ndarray) -> np.ndarray:
    """Neurons of each layer, those that fill up a tile included."""
    neurons: np.ndarray = _positions(layers) * layers[:, kernels.TILES] * layers[:, kernels.WIDTH]
    return neurons
