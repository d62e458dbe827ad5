"""The event-driven engine: adds a row of weights for every spike and window, and touches nothing that is at rest.

How it works, what it was measured against and what bounds it: docs/performance.md.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import Empty, SimpleQueue

import numpy as np

from negspike.machine import available_cores
from negspike.spiking.event import state as c
from negspike.spiking.event.arrange import Arranged, aligned, arrange
from negspike.spiking.event.image import simulate_images
from negspike.spiking.event.rows import ROWS_AT_ONCE
from negspike.spiking.event.state import (
    BLOCK,
    LIST_ENTRIES,
    LIST_POSITIONS,
    Emitted,
    Lists,
    Network,
    Results,
    Scratch,
    State,
    Work,
)
from negspike.spiking.event.vectors import BITS, COPIED
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import INPUT, MaxPool
from negspike.spiking.recording import Recording

CHUNK_BYTES = 64 << 20
LARGEST_CHUNK = 500
# Threads wait for each other at the end of a chunk: with a few images each, not for long.
CHUNK_IMAGES_PER_THREAD = 4
# Images that a thread takes at a time: as few as one where that takes a while, more where a call would cost more.
TASK_NEURONS = 1 << 18
# So many rows can be told apart by 16 bits.
LARGEST_SHORT_LIST = 1 << 16


def refuses(network: SpikingNetwork) -> str | None:
    """Why this engine cannot simulate a network, in one line; None where it can."""
    for node in network.nodes:
        channels, height, width = node.shape
        inputs = 0
        for synapses in () if isinstance(node, MaxPool) else node.synapses:
            if synapses.source != INPUT:
                inputs += int(np.prod(synapses.window.kernel)) * network.shapes[synapses.source][0]
        # Spikes of a block and rows of a tile are counted with 32 bits.
        if max(inputs, channels * height * width * BLOCK) >= c.LARGEST_INT32:
            return f"{node.name} is too large"
    return None


def list_type(arranged: Arranged) -> type[np.generic]:
    """What holds the number of any row of a tile, its row of zeros included, and of any channel of a row of neurons."""
    nodes, tiles = arranged.network.nodes, arranged.network.tiles
    rows = tiles[:, c.TILE_ROWS].max(initial=0) + 1
    channels = ((nodes[:, c.WIDTH] + 1) * nodes[:, c.TILES] * nodes[:, c.LANES]).max()
    return np.uint16 if max(rows, channels) <= LARGEST_SHORT_LIST else np.int32


def _work(arranged: Arranged) -> Work:
    """The arrays that one thread works in."""
    network, sizes, buffers = arranged.network, arranged.sizes, arranged.buffers
    neurons, names = sizes.neurons, list_type(arranged)
    state = State(
        potential=aligned(neurons, np.int32),
        residual=aligned(neurons if network.tiles[:, c.WIDE].any() else 0, np.int64),
        relative=aligned(sizes.relative, np.int32),
        above=np.zeros(sizes.masks, np.uint64),
        below=np.zeros(sizes.masks, np.uint64),
        pending=np.zeros(sizes.masks, np.uint8),
        currents=aligned(sizes.currents, np.int64),
        pooled=np.zeros(sizes.pooled, np.int32),
        bits=BITS.copy(),
    )
    items = LIST_POSITIONS * BLOCK * arranged.parts
    most = LIST_ENTRIES + BLOCK * (arranged.listed + 2 * arranged.parts * ROWS_AT_ONCE) + COPIED
    lists = Lists(
        np.zeros(most, names), np.zeros(LIST_POSITIONS + 1, np.int64), *(np.zeros(items, np.int64) for _ in range(5))
    )
    emitted = Emitted(
        up=np.zeros(buffers["words"], np.uint64),
        down=np.zeros(buffers["words"], np.uint64),
        fired=np.zeros(buffers["fired"], np.uint64),
        active=np.zeros(buffers["active"], np.uint64),
        rows=np.zeros(buffers["rows"], np.uint64),
        ups=np.zeros(buffers["entries"] + COPIED, names),
        downs=np.zeros(buffers["entries"] + COPIED, names),
        first_up=np.zeros(buffers["runs"], np.int32),
        first_down=np.zeros(buffers["runs"], np.int32),
        changes=aligned(buffers["changes"], np.int64),
    )
    return Work(state, lists, emitted, _scratch(network))


def _scratch(network: Network) -> Scratch:
    synapses = network.synapses
    channels = int(network.nodes[:, c.CHANNELS].max())
    taps = int((synapses[:, c.KERNEL_HEIGHT] * synapses[:, c.KERNEL_WIDTH]).max(initial=1))
    return Scratch(
        currents=np.zeros(channels, np.int64),
        inverse=np.zeros(channels, np.float64),
        taps=np.zeros(taps, np.int64),
        window=np.zeros(taps * channels, np.int32),
        touched=np.zeros(channels, np.uint8),
        emits=np.zeros(len(network.nodes), np.uint8),
        ups=np.zeros(BLOCK, np.int64),
        downs=np.zeros(BLOCK, np.int64),
    )


class EventEngine:
    """Simulates images one by one on each thread; what it costs grows with their synaptic operations.

    Args:
        network: the network to simulate.
        threads: CPU threads, or None for as many as this process may use.
    """

    def __init__(self, network: SpikingNetwork, threads: int | None = None) -> None:
        self.network, self.arranged = network, arrange(network)
        self.threads = threads or available_cores()
        self.neurons = self.arranged.sizes.neurons
        chunk = max(CHUNK_BYTES // (4 * self.neurons + 1), CHUNK_IMAGES_PER_THREAD * self.threads)
        self.chunk_size = min(chunk, LARGEST_CHUNK)
        self._idle: SimpleQueue[Work] = SimpleQueue()  # of threads: whoever takes one has it alone

    def run(self, encoded: np.ndarray, timesteps: int) -> Recording:
        """Simulate (N, C, H, W) int64 images, as the network encodes them, for ``timesteps`` steps."""
        recording = Recording.empty(self.network, images=len(encoded), timesteps=timesteps)
        counts = aligned((len(encoded), self.neurons), np.int32)
        results = Results._make([counts, *(getattr(recording, name) for name in Results._fields[1:-1]), counts[:0]])
        size = max(1, TASK_NEURONS // max(self.neurons, 1))
        tasks = [slice(first, min(first + size, len(encoded))) for first in range(0, len(encoded), size)]
        with ThreadPoolExecutor(self.threads) as pool:
            for reached in pool.map(lambda task: self._simulate(encoded, timesteps, results, task), tasks):
                np.maximum(recording.potential_bounds, reached, out=recording.potential_bounds)
        recording.counts = {node.name: self._counts(counts, node.name) for node in self.network.populations}
        return recording

    def _simulate(self, encoded: np.ndarray, timesteps: int, results: Results, task: slice) -> np.ndarray:
        """Simulate some images; returns bounds on the potentials of each population."""
        reached = np.zeros(len(self.network.populations), np.int64)
        try:
            work = self._idle.get_nowait()
        except Empty:
            work = _work(self.arranged)
        first = task.start
        while first < task.stop:
            part = slice(first, task.stop)
            first += simulate_images(
                encoded[part], timesteps, self.arranged.network, work, _part(results, part, reached)
            )
            if first < task.stop:
                # A potential of this image could have left 32 bits. Once more, from the start, with 64.
                self._simulate_wide(encoded, timesteps, _part(results, slice(first, first + 1), reached), first)
                first += 1
        self._idle.put(work)
        return reached

    def _simulate_wide(self, encoded: np.ndarray, timesteps: int, results: Results, number: int) -> None:
        tiles = self.arranged.network.tiles.copy()
        tiles[:, c.WIDE] = 1
        arranged = replace(self.arranged, network=self.arranged.network._replace(tiles=tiles))
        for array in results[:-1]:
            array[:] = 0
        simulate_images(encoded[number : number + 1], timesteps, arranged.network, _work(arranged), results)

    def _counts(self, counts: np.ndarray, name: str) -> np.ndarray:
        """(N, channels, height, width) int32 of one population."""
        number = next(number for number, node in enumerate(self.network.nodes) if node.name == name)
        node = self.arranged.network.nodes[number]
        padded = int(node[c.TILES] * node[c.LANES])
        channels, height, width = self.network.nodes[number].shape
        first = int(node[c.FIRST_NEURON])
        part = counts[:, first : first + height * width * padded].reshape(-1, height, width, padded)
        return part[..., :channels].transpose(0, 3, 1, 2)


def _part(results: Results, part: slice, reached: np.ndarray) -> Results:
    return Results._make([*(array[part] for array in results[:-1]), reached])
