"""The reference engine: NumPy int64, as plain as docs/exactness.md, and the oracle of the others."""

from __future__ import annotations

import numpy as np

from negspike.spiking.counting import operations_per_spike, relays_per_change
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.linear import add_current, sum_int64
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Sum
from negspike.spiking.pooling import largest_counts_int64
from negspike.spiking.recording import Recording


class ReferenceEngine:
    """Simulates every neuron in every time step.

    Args:
        network: the network to simulate.
    """

    chunk_size = 50

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self.costs, self.relays = operations_per_spike(network), relays_per_change(network)

    def run(self, encoded: np.ndarray, timesteps: int) -> Recording:
        """Simulate (N, C, H, W) int64 images with 16 fractional bits for ``timesteps`` steps."""
        network = self.network
        recording = Recording.empty(network, images=len(encoded), timesteps=timesteps)
        counts = {name: np.zeros((len(encoded), *shape), np.int64) for name, shape in network.shapes.items()}
        potentials = {node.name: counts[node.name].copy() for node in network.nodes}
        for t in range(timesteps):
            # what each node emits in this step
            emitted = {INPUT: encoded if t == 0 else np.zeros_like(encoded)}
            for node in network.nodes:
                n, z = counts[node.name], potentials[node.name]
                if isinstance(node, MaxPool):
                    emitted[node.name] = largest_counts_int64(node.window, counts[node.source]) - n
                else:
                    current = np.zeros_like(z)
                    for synapses in node.synapses:
                        add_current(current, synapses, sum_int64(synapses, emitted[synapses.source]))
                    z += current
                    emitted[node.name] = current
                if isinstance(node, Neurons):
                    theta, base = node.theta[:, None, None], node.base[:, None, None]
                    up, down = z >= base + (n + 1) * theta, z < base + n * theta
                    up &= n < (np.inf if node.high is None else node.high)
                    down &= n > (-np.inf if node.low is None else node.low)
                    emitted[node.name] = up.astype(np.int64) - down
                    recording.add_spikes(node, t, positive=up.sum((1, 2, 3)), negative=down.sum((1, 2, 3)))
                n += emitted[node.name]
                changed = emitted[node.name] != 0
                if isinstance(node, Sum):
                    recording.relays[:, t] += (changed * self.relays[node.name]).sum((1, 2, 3))
                for number, cost in self.costs.get(node.name, {}).items():
                    recording.layer_sops[:, t, number] += (changed * cost).sum((1, 2, 3))
            logits = counts[network.readout.name][:, :, 0, 0] + network.readout.bias
            recording.predictions[:, t] = logits.argmax(1)
        recording.counts = {node.name: counts[node.name].astype(np.int32) for node in network.populations}
        recording.logits = logits
        return recording
