"""The reference engine: NumPy int64, as plain as docs/exactness.md, and the oracle of the others."""

from __future__ import annotations

import numpy as np

from negspike.spiking.convolution import convolve_int64
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.recording import Recording, synapses_per_spike


class ReferenceEngine:
    """Simulates every neuron in every time step.

    Args:
        network: the network to simulate.
    """

    chunk_size = 50

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self.costs = synapses_per_spike(network.topology)

    def run(self, encoded: np.ndarray, timesteps: int) -> Recording:
        """Simulate (N, C, H, W) int64 images with 16 fractional bits for ``timesteps`` steps."""
        network = self.network
        recording = Recording.empty(network.topology, len(encoded), timesteps)
        shapes = [(len(encoded), *layer.geometry.out_shape) for layer in network.layers]
        potentials = [np.zeros(shape, np.int64) for shape in shapes]
        counts = [np.zeros(shape, np.int64) for shape in shapes]
        for t in range(timesteps):
            spikes = encoded if t == 0 else np.zeros_like(encoded)
            for number, layer in enumerate(network.layers):
                z, n = potentials[number], counts[number]
                z += convolve_int64(spikes, layer.weight, layer.geometry)
                theta, base = layer.theta[:, None, None], layer.base[:, None, None]
                scaled = z << layer.shift
                up = scaled >= base + (n + 1) * theta
                down = (n > 0) & (scaled < base + n * theta)
                spikes = up.astype(np.int64) - down
                n += spikes
                recording.positive[:, t, number] = up.sum((1, 2, 3))
                recording.negative[:, t, number] = down.sum((1, 2, 3))
                recording.sops[:, t] += ((up | down) * self.costs[number]).sum((1, 2, 3))
            recording.predictions[:, t] = network.logits(counts[-1]).argmax(1)
        recording.counts = [n.astype(np.int32) for n in counts]
        return recording
