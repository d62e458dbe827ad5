"""The reference engine: NumPy int64, as plain as docs/exactness.md, and the oracle of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from negspike.spiking.counting import operations_per_spike, relays_per_change
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.linear import add_current, sum_int64
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Sum
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
        """Simulate (N, C, H, W) int64 images, as the network encodes them, for ``timesteps`` steps."""
        network = self.network
        recording = Recording.empty(network, images=len(encoded), timesteps=timesteps)
        for t, step in enumerate(steps(network, encoded, timesteps)):
            for node in network.nodes:
                emitted = step.emitted[node.name]
                changed = emitted != 0
                if isinstance(node, Neurons):
                    up, down = (emitted > 0).sum((1, 2, 3)), (emitted < 0).sum((1, 2, 3))
                    recording.add_spikes(node, t, positive=up, negative=down)
                if isinstance(node, Sum):
                    recording.relays[:, t] += (changed * self.relays[node.name]).sum((1, 2, 3))
                for number, cost in self.costs.get(node.name, {}).items():
                    recording.layer_sops[:, t, number] += (changed * cost).sum((1, 2, 3))
            logits = step.counts[network.readout.name][:, :, 0, 0] + network.readout.bias
            recording.predictions[:, t] = logits.argmax(1)
        recording.counts = {node.name: step.counts[node.name].astype(np.int32) for node in network.populations}
        recording.logits = logits
        return recording


@dataclass(frozen=True, eq=False)
class Step:
    """One time step of every node, by name: (N, channels, height, width) int64. The next step overwrites the last two.

    Attributes:
        emitted: in this step: spikes, changes of a max pool, what was added to a sum or readout.
        counts: what has been emitted in all.
        potentials: what has been added in all; a max pool has none.
    """

    emitted: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    potentials: dict[str, np.ndarray]


def steps(network: SpikingNetwork, encoded: np.ndarray, timesteps: int) -> Iterator[Step]:
    """Simulate (N, C, H, W) int64 images, as the network encodes them, one time step after the other."""
    counts = {name: np.zeros((len(encoded), *shape), np.int64) for name, shape in network.shapes.items()}
    potentials = {node.name: counts[node.name].copy() for node in network.nodes if not isinstance(node, MaxPool)}
    for t in range(timesteps):
        emitted = {INPUT: encoded if t == 0 else np.zeros_like(encoded)}
        for node in network.nodes:
            n = counts[node.name]
            if isinstance(node, MaxPool):
                emitted[node.name] = node.window.largest(counts[node.source]) - n
            else:
                z, current = potentials[node.name], np.zeros_like(n)
                for synapses in node.synapses:
                    if emitted[synapses.source].any():
                        add_current(current, synapses, sum_int64(synapses, emitted[synapses.source]))
                z += current
                emitted[node.name] = current
            if isinstance(node, Neurons):
                theta, base = node.theta[:, None, None], node.base[:, None, None]
                up, down = z >= base + (n + 1) * theta, z < base + n * theta
                up &= n < (np.inf if node.high is None else node.high)
                down &= n > (-np.inf if node.low is None else node.low)
                emitted[node.name] = up.astype(np.int64) - down
            n += emitted[node.name]
        yield Step(emitted, counts, potentials)
