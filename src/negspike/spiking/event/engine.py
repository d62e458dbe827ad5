"""The event-driven engine: adds a row of weights for every spike and window, and touches nothing that is at rest.

How it works, what it was measured against and what bounds it: docs/performance.md. The compiled functions are in
:mod:`negspike.spiking.event.kernels`.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from negspike.errors import InputError
from negspike.spiking.event import kernels
from negspike.spiking.event.kernels import Spikes, State, Weights, Window
from negspike.spiking.graph import SpikingLayer, SpikingNetwork
from negspike.spiking.recording import Recording, synapses_per_spike

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


def list_type(layers: np.ndarray) -> type[np.generic]:
    """What holds the number of any row of a tile, its row of zeros included, and of any channel of a row of neurons."""
    rows = layers[:, kernels.INPUTS] * layers[:, kernels.KERNEL_HEIGHT] * layers[:, kernels.KERNEL_WIDTH] + 1
    channels = layers[:, kernels.OUT_WIDTH] * layers[:, kernels.TILES] * layers[:, kernels.WIDTH]
    return np.uint16 if max(rows.max(), channels.max()) <= LARGEST_SHORT_LIST else np.int32


def arrange(network: SpikingNetwork) -> Weights:
    """The network's integers in the order in which the compiled functions read them."""
    costs = synapses_per_spike(network.topology)
    bits16 = all(np.abs(layer.weight.astype(np.int64)).max() < 1 << 15 for layer in network.layers)
    weight_bytes = 2 if bits16 else 3
    table = np.zeros((len(network.layers), kernels.COLUMNS), np.int64)
    rows, theta, base, wide, largest, reach = [], [], [], [], [], []
    sizes = np.zeros(6, np.int64)
    for number, layer in enumerate(network.layers):
        geometry = layer.geometry
        _check_size(number, layer)
        outputs, inputs, height, width = layer.weight.shape
        lanes = tile_width(outputs)
        tiles = -(-outputs // lanes)
        (top, _), (left, _) = geometry.padding
        table[number] = (
            *(*geometry.in_shape, *geometry.out_shape, height, width, geometry.stride, top, left, layer.shift),
            *(lanes, tiles, lanes * weight_bytes, *sizes),
        )
        padded = np.zeros((tiles * lanes, inputs, height, width), np.int32)
        padded[:outputs] = layer.weight
        tiled = padded.reshape(tiles, lanes, inputs, height, width).transpose(0, 3, 4, 2, 1).reshape(tiles, -1, lanes)
        tiled = _row_bytes(np.pad(tiled, ((0, 0), (0, 1), (0, 0))), bits16)
        padded_theta, padded_base = np.full(tiles * lanes, NEVER), np.ones(tiles * lanes, np.int64)
        padded_theta[:outputs], padded_base[:outputs] = layer.theta, layer.base
        theta.append(padded_theta)
        base.append(padded_base)
        positions = geometry.out_shape[1] * geometry.out_shape[2]
        if number > 0:
            rows.append(np.pad(tiled, (0, -tiled.size % ALIGNMENT)))
            for tile in range(tiles):
                part = slice(tile * lanes, min((tile + 1) * lanes, outputs))
                far = max(int(np.abs(layer.base[part]).max()), int(layer.theta[part].max()))
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
        image_rows=_image_rows(network.layers[0]),
        theta=all_theta,
        base=all_base,
        theta_high=_flat([np.minimum(all_theta >> 16, kernels.LARGEST_INT32)], np.int32),
        theta_low=_flat([all_theta & 0xFFFF], np.int32),
        base_low=_flat([-all_base & 0xFFFF], np.int32),
        start=_flat([np.clip(start, -kernels.LARGEST_INT32, kernels.LARGEST_INT32)], np.int32),
        wide=np.array(wide, np.uint8),
        largest=np.array(largest, np.int64),
        reach=np.array(reach, np.int64),
        costs=np.concatenate([cost.ravel() for cost in costs]),
        classifier=_classifier(network),
    )


def _check_size(number: int, layer: SpikingLayer) -> None:
    """Spikes of a block and rows of a tile are counted with 32 bits."""
    reach = int(np.prod(layer.geometry.weight_shape[1:])) + int(np.prod(layer.geometry.in_shape))
    if max(reach, layer.geometry.neurons * kernels.BLOCK) >= kernels.LARGEST_INT32:
        raise InputError(f"layer {number} ({layer.geometry.token}) is too large for engine 'event'; use 'dense'")


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


def _image_rows(layer: SpikingLayer) -> np.ndarray:
    outputs = layer.weight.shape[0]
    return np.ascontiguousarray(layer.weight.astype(np.int64).transpose(2, 3, 1, 0).reshape(-1, outputs))


def _classifier(network: SpikingNetwork) -> np.ndarray:
    channels, height, width = network.topology.layers[-1].out_shape
    matrix = network.classifier.astype(np.int64).reshape(-1, channels, height * width)
    return np.ascontiguousarray(matrix.transpose(2, 1, 0).reshape(-1, len(network.classifier)))


class _Workspace:
    """The arrays that one thread works in."""

    def __init__(self, network: SpikingNetwork, weights: Weights) -> None:
        layers = network.topology.layers
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
        inputs = max(int(np.prod(layer.weight_shape[1:])) for layer in layers)
        steps, listed, names = kernels.LIST_POSITIONS * kernels.BLOCK, kernels.LIST_ENTRIES, list_type(table)
        self.window = Window(
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
        entries = max(layer.neurons for layer in layers) + kernels.COPIED
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


class EventEngine:
    """Simulates images one by one on each thread; what it costs grows with their synaptic operations.

    Args:
        network: the network to simulate.
        threads: CPU threads, or None for as many as this process may use.
    """

    def __init__(self, network: SpikingNetwork, threads: int | None = None) -> None:
        self.network, self.weights = network, arrange(network)
        self.threads = threads or _cores()
        self.neurons = int(_neurons(self.weights.layers).sum())
        chunk = max(CHUNK_BYTES // (4 * self.neurons), CHUNK_IMAGES_PER_THREAD * self.threads)
        self.chunk_size = min(chunk, LARGEST_CHUNK)
        self._idle: list[_Workspace] = []

    def run(self, encoded: np.ndarray, timesteps: int) -> Recording:
        """Simulate (N, C, H, W) int64 images with 16 fractional bits for ``timesteps`` steps."""
        recording = Recording.empty(self.network.topology, len(encoded), timesteps)
        counts = aligned((len(encoded), self.neurons), np.int32)
        size = max(1, TASK_NEURONS // self.neurons)
        tasks = [slice(first, first + size) for first in range(0, len(encoded), size)]
        with ThreadPoolExecutor(self.threads) as pool:
            for reached in pool.map(lambda task: self._simulate(encoded, timesteps, counts, recording, task), tasks):
                np.maximum(recording.potential_bounds, reached, out=recording.potential_bounds)
        recording.counts = [self._layer_counts(counts, number) for number in range(len(self.weights.layers))]
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
        outputs, height, width = self.network.layers[number].geometry.out_shape
        channels = int(layer[kernels.TILES] * layer[kernels.WIDTH])
        first = int(layer[kernels.FIRST_NEURON])
        part = counts[:, first : first + height * width * channels].reshape(-1, height, width, channels)
        return part[..., :outputs].transpose(0, 3, 1, 2)


def _cores() -> int:
    """Cores that this process may use, where the system tells."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _positions(layers: np.ndarray) -> np.ndarray:
    positions: np.ndarray = layers[:, kernels.OUT_HEIGHT] * layers[:, kernels.OUT_WIDTH]
    return positions


def _neurons(layers: np.ndarray) -> np.ndarray:
    """Neurons of each layer, those that fill up a tile included."""
    neurons: np.ndarray = _positions(layers) * layers[:, kernels.TILES] * layers[:, kernels.WIDTH]
    return neurons
