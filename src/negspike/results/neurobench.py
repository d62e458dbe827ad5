"""The metrics of NeuroBench under their names, in integers, beside what this project counts (docs/counting.md).

Source: J. Yik et al., "The neurobench framework for benchmarking neuromorphic computing algorithms and systems",
Nature Communications 16 (2025), and its package, version 2.3.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from negspike.arguments import as_array
from negspike.devices import choose_device
from negspike.spiking.dense import DenseEngine
from negspike.spiking.floats import sum_exactly
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Synapses
from negspike.spiking.simulation import check_run, most_timesteps
from negspike.tables import Table

_COUNTED = ("weights", "zero_weights", "effective_acs", "effective_macs", "dense_operations")
_ARRAYS = ("theta", "base", "bias", "scale", "weight", "channels", "targets")


@dataclass(frozen=True, repr=False)
class NeuroBench(Table):
    """Metrics of a network on some images, whole numbers of all images together.

    Attributes:
        images, timesteps: N and T.
        footprint: bytes of the network's arrays (docs/format.md).
        weights, zero_weights: of all weighted synapses, those on the image too.
        activations: outputs of all neurons in all steps; zero_activations: those without a spike.
        effective_acs: additions that spikes cause through weights that are not zero.
        effective_macs: the same for pixels that are not zero, which are multiplied.
        dense_operations: all weights in all steps, inside the image and its feature maps, not in their padding.
        membrane_updates: potentials that are not what they were a step before; all of them in the first step.
        synaptic_operations: as this project counts: zero weights and synapses without weights cost as much as others.
        reference_macs: of the ANN as this project counts: once, padding included, weights on the image left out.
    """

    images: int
    timesteps: int
    footprint: int
    weights: int
    zero_weights: int
    activations: int
    zero_activations: int
    effective_acs: int
    effective_macs: int
    dense_operations: int
    membrane_updates: int
    synaptic_operations: int
    reference_macs: int

    def results(self) -> dict[str, Any]:
        """What NeuroBench reports, under its keys: operations and updates are means of an image."""
        return {
            "Footprint": self.footprint,
            "ConnectionSparsity": self.zero_weights / max(self.weights, 1),
            "ActivationSparsity": self.zero_activations / max(self.activations, 1),
            "SynapticOperations": {
                "Effective_MACs": self.effective_macs / self.images,
                "Effective_ACs": self.effective_acs / self.images,
                "Dense": self.dense_operations / self.images,
            },
            "MembraneUpdates": self.membrane_updates / self.images,
        }

    def _table(self) -> tuple[str, list[tuple[str, str]]]:
        found = self.results()
        operations = found["SynapticOperations"]
        return f"NeuroBench, {self.images:,} images, {self.timesteps:,} time steps", [
            ("footprint", f"{self.footprint:,} bytes"),
            ("connection sparsity", f"{found['ConnectionSparsity']:.4f}"),
            ("activation sparsity", f"{found['ActivationSparsity']:.4f}"),
            ("effective ACs an image", f"{operations['Effective_ACs']:,.1f}"),
            ("effective MACs an image", f"{operations['Effective_MACs']:,.1f}"),
            ("dense operations an image", f"{operations['Dense']:,.1f}"),
            ("membrane updates an image", f"{found['MembraneUpdates']:,.1f}"),
            ("synaptic operations an image, as in the logs", f"{self.synaptic_operations / self.images:,.1f}"),
            ("multiply-accumulates of the ANN", f"{self.reference_macs:,}"),
        ]


def neurobench(
    network: SpikingNetwork, images: Any, timesteps: int, *, device: str = "auto", threads: int | None = None
) -> NeuroBench:
    """Simulate and count as NeuroBench does; all images are one of its batches.

    Args:
        network: the integer spiking network.
        images: (N, C, H, W) standardised floats, array or tensor; there at the first step, zeros afterwards.
        timesteps: T, such as ``log.timesteps`` of a simulation until silence.
        device, threads: as in :func:`negspike.simulate`.

    Raises:
        InputError: images or time steps do not fit the network.
    """
    array, steps = np.atleast_1d(as_array("images", images)), most_timesteps(network, timesteps)
    check_run(network, array, steps)
    engine = DenseEngine(network, choose_device(device), threads)
    totals, counted = {INPUT: np.zeros(network.input_shape, np.int64)}, Counter(dict.fromkeys(_COUNTED, 0))
    images_spike = True
    for first in range(0, len(array), engine.chunk_size):
        encoded = network.encode(array[first : first + engine.chunk_size])
        images_spike &= bool(np.isin(np.abs(encoded), (0, 1 << network.image_fraction_bits)).all())
        totals[INPUT] += (encoded != 0).sum(0)
        counted.update(_simulate(engine, encoded, steps, totals))
    for layer in network.layers:
        for one in layer.synapses:
            if one.weight is not None:
                nonzero, everything = one.weight != 0, np.ones_like(one.weight)
                kind = "effective_macs" if one.source == INPUT and not images_spike else "effective_acs"
                counted[kind] += _reached(one, nonzero, totals[one.source])
                inputs = np.full(network.shapes[one.source], steps * len(array))
                counted["dense_operations"] += _reached(one, everything, inputs)
                counted["weights"] += one.weight.size
                counted["zero_weights"] += int((~nonzero).sum())
    activations = network.neurons * steps * len(array)
    return NeuroBench(
        images=len(array),
        timesteps=steps,
        footprint=_footprint(network),
        activations=activations,
        zero_activations=activations - sum(int(totals[population.name].sum()) for population in network.populations),
        reference_macs=network.macs,
        **counted,
    )


def _simulate(engine: DenseEngine, encoded: np.ndarray, timesteps: int, totals: dict[str, np.ndarray]) -> Counter[str]:
    """Simulate a chunk step by step; add up what each neuron and max pool emits, of either sign, in ``totals``."""
    network, states = engine.network, engine.start(len(encoded))
    counted = Counter(membrane_updates=network.neurons * len(encoded), synaptic_operations=0)
    for t in range(timesteps):
        before = {node.name: states[node.name].residual.clone() for node in network.populations}
        recording = engine.advance(states, encoded if t == 0 else np.zeros_like(encoded), 1)
        counted["synaptic_operations"] += int(recording.sops.sum())
        for node in network.nodes:
            state = states[node.name]
            if isinstance(node, Neurons | MaxPool):
                emitted = (state.emitted != 0).sum(0).cpu().numpy()
                totals[node.name] = totals.get(node.name, 0) + emitted
            if isinstance(node, Neurons) and t > 0:
                counted["membrane_updates"] += int((state.residual != before[node.name]).sum())
        if not any(bool(state.fired.any()) for state in states.values()):
            break  # nothing changes any more
    return counted


def _reached(synapses: Synapses, weight: np.ndarray, inputs: np.ndarray) -> int:
    """Pairs of one of so many inputs a place, (channels, height, width), and a weight not zero that it meets."""
    pairs = replace(synapses, weight=weight.astype(np.int16))
    return int(sum_exactly(pairs, inputs[None]).sum())


def _footprint(network: SpikingNetwork) -> int:
    arrays = (
        getattr(part, name, None) for layer in network.layers for part in (layer, *layer.synapses) for name in _ARRAYS
    )
    return sum(array.nbytes for array in arrays if array is not None)
