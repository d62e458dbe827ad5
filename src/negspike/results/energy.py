"""What a network would cost in energy, by a model that anybody can check by hand (docs/metrics.md).

Energies in picojoules, 45 nm at 0.9 V: M. Horowitz, "Computing's energy problem (and what we can do about it)",
ISSCC 2014, pages 10-14. They are of operations and memories alone: no control, no network on a chip, no leakage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from math import prod
from typing import Any

import numpy as np

from negspike.results.layers import layer_rows
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import Layer, Neurons
from negspike.spiking.recording import SimulationLog
from negspike.tables import Table

FLOAT32_MULTIPLY, FLOAT32_ADD = 3.7, 0.9
INT32_MULTIPLY, INT32_ADD = 3.1, 0.1
# Reading 64 bits from a memory of up to so many bytes, and from DRAM, of whose range of 1,300 to 2,600 the least.
SRAM_READS = ((8 << 10, 10.0), (32 << 10, 20.0), (1 << 20, 100.0))
DRAM_READ = 1300.0
POTENTIAL_BITS, PIXEL_BITS = 32, 8
# The quantised ANN has no wider activations.
MOST_ACTIVATION_BITS = 8
# Up to how many spikes a synapse and inference an SNN can break even with an ANN, depending on how that is built:
# M. Dampfhoffer et al., "Are SNNs really more energy-efficient than ANNs?", IEEE TETCI 7(3), 2023.
SPIKES_PER_SYNAPSE = (0.15, 1.38)
# Up to which rate an SNN of 5 to 10 time steps breaks even with a quantised ANN of as many levels: Z. Yan et al.,
# "Reconsidering the energy efficiency of spiking neural networks", arXiv:2409.08290v3 (v4: 5.7 % at 5 steps). In more
# steps the same spikes are a lower rate and cost the same: spikes a neuron are compared, 6.4 % of 5 and of 10.
SPIKE_RATE, SPIKE_RATE_STEPS = 0.064, (5, 10)
SPIKES_PER_NEURON = (SPIKE_RATE * SPIKE_RATE_STEPS[0], SPIKE_RATE * SPIKE_RATE_STEPS[1])


@dataclass(frozen=True)
class Cost:
    """Picojoules an image: of arithmetic alone, and with the reads and writes of memory."""

    arithmetic: float
    with_memory: float


@dataclass(frozen=True, repr=False)
class Energy(Table):
    """Three ways to compute the same classes, and on which side of published break-evens the spiking one is.

    Attributes:
        float32_ann, quantised_ann, spiking: picojoules an image.
        activation_bits: of the quantised ANN.
        spikes_per_synapse: synaptic operations over the ANN's multiply-accumulates, both without the first layer's.
        spikes_per_neuron: an image, of either sign.
        spike_rate: the same a time step.
    """

    float32_ann: Cost
    quantised_ann: Cost
    spiking: Cost
    activation_bits: int
    spikes_per_synapse: float
    spikes_per_neuron: float
    spike_rate: float

    @property
    def over_quantised(self) -> Cost:
        """The spiking network's energies as fractions of the quantised ANN's."""
        ann, own = self.quantised_ann, self.spiking
        # a network need not have weights
        return Cost(*(mine / max(other, INT32_ADD) for mine, other in zip(astuple(own), astuple(ann), strict=True)))

    def facts(self) -> dict[str, Any]:
        """All numbers, for ``evaluation.json``."""
        costs = {name: vars(getattr(self, name)) for name in ("float32_ann", "quantised_ann", "spiking")}
        return {"unit": "pJ an image", **costs} | {
            "over_quantised_ann": vars(self.over_quantised),
            "activation_bits": self.activation_bits,
            "spikes_per_synapse": self.spikes_per_synapse,
            "spikes_per_synapse_break_even": side(self.spikes_per_synapse, SPIKES_PER_SYNAPSE),
            "spikes_per_neuron": self.spikes_per_neuron,
            "spikes_per_neuron_break_even": side(self.spikes_per_neuron, SPIKES_PER_NEURON),
            "spike_rate": self.spike_rate,
        }

    def _table(self) -> tuple[str, list[tuple[str, str]]]:
        ratio = self.over_quantised
        measured = {
            "spikes a synapse": (self.spikes_per_synapse, SPIKES_PER_SYNAPSE),
            "spikes a neuron": (self.spikes_per_neuron, SPIKES_PER_NEURON),
        }
        rows = [
            (name, f"{value:.3f}, {side(value, bounds)} the break-even of {bounds[0]:.2f} to {bounds[1]:.2f}")
            for name, (value, bounds) in measured.items()
        ]
        share = f"{ratio.arithmetic:.2f} in arithmetic, {ratio.with_memory:.2f} with memory"
        return "Against a quantised ANN of the same bits", [*rows, ("energy over its energy", share)]


def side(value: float, bounds: tuple[float, float]) -> str:
    """Where a number is: ``below``, ``within`` or ``above`` a break-even that is known as a range."""
    return "below" if value < bounds[0] else "above" if value > bounds[1] else "within"


def energy(network: SpikingNetwork, log: SimulationLog) -> Energy:
    """The energy of an image, a mean of those simulated.

    Every operation reads its operands from memory, nothing is kept for the next one: an ANN with data reuse costs less
    than it says here, a spiking network whose events have to be routed more. The weights, inputs, outputs (32 or
    ``activation_bits`` each) and potentials (32) of a layer are each in the smallest memory that holds them. The layer
    on the image costs the spiking network what it costs the quantised ANN.

    Args:
        network: that was simulated.
        log: of it.
    """
    rows, images = layer_rows(network, log), len(log.predictions)
    bits = max((_activation_bits(one, log.timesteps) for one in network.populations), default=1)
    total = sum(
        (_layer(network, *pair, bits) for pair in zip(network.layers, rows, strict=True)),
        np.zeros((3, 2)),
    )
    spikes, sops = (float(counts[:, -1].sum() / images) for counts in (log.spikes, log.sops))
    float32_ann, quantised_ann, spiking = (Cost(*map(float, costs)) for costs in total)
    return Energy(
        float32_ann=float32_ann,
        quantised_ann=quantised_ann,
        spiking=spiking,
        activation_bits=bits,
        spikes_per_synapse=sops / max(network.macs, 1),
        spikes_per_neuron=spikes / max(network.neurons, 1),
        spike_rate=spikes / max(network.neurons, 1) / log.timesteps,
    )


def _layer(network: SpikingNetwork, layer: Layer, row: Mapping[str, Any], activation_bits: int) -> np.ndarray:
    """(3, 2) picojoules of one layer: float32 ANN, quantised ANN, spiking; arithmetic alone, with memory."""
    (macs, image_macs), bits = network.macs_of(layer), network.largest_weight_bits
    weights = sum(one.weight.size for one in layer.synapses if one.weight is not None)
    inputs, outputs = sum(prod(network.shapes[one.source]) for one in layer.synapses), prod(layer.shape)
    spikes = (row["positive_spikes"] + row["negative_spikes"]) / row["images"]
    arithmetic = (
        (macs + image_macs) * (FLOAT32_MULTIPLY + FLOAT32_ADD),
        macs * (multiply(bits, activation_bits) + INT32_ADD) + _on_image(network, layer),
    )

    def ann(weight: int, activation: int, pixel: int) -> float:
        reads = (macs + image_macs) * weight * _bit_read(weights * weight)
        reads += macs * activation * _bit_read(inputs * activation) + image_macs * pixel * _bit_read(inputs * pixel)
        return reads + outputs * activation * _bit_read(outputs * activation)

    memory = (ann(32, 32, 32), ann(bits, activation_bits, PIXEL_BITS))
    costs = [(one, one + other) for one, other in zip(arithmetic, memory, strict=True)]
    return np.array([*costs, layer_energy(network, layer, row["sops"] / row["images"], spikes)])


def layer_energy(network: SpikingNetwork, layer: Layer, sops: Any, spikes: Any) -> np.ndarray:
    """Picojoules of one layer of the spiking network: of arithmetic alone, and with memory; the first axis.

    Args:
        network: of that layer.
        layer: one of its layers.
        sops: additions into its potentials an image: a number, or an array of as many cases.
        spikes: that it emits, of either sign, an image; the same.
    """
    (_, image_macs), bits = network.macs_of(layer), network.largest_weight_bits
    weights = sum(one.weight.size for one in layer.synapses if one.weight is not None)
    inputs = sum(prod(network.shapes[one.source]) for one in layer.synapses)
    # a spike subtracts a threshold, and every addition reads a potential and writes it back
    additions = sops + spikes
    arithmetic = additions * INT32_ADD + _on_image(network, layer)
    memory = (image_macs + sops) * bits * _bit_read(weights * bits)
    memory += image_macs * PIXEL_BITS * _bit_read(inputs * PIXEL_BITS)
    memory += additions * 2 * POTENTIAL_BITS * _bit_read(prod(layer.shape) * POTENTIAL_BITS)
    return np.array([arithmetic, arithmetic + memory])


def _on_image(network: SpikingNetwork, layer: Layer) -> float:
    """Picojoules of the multiply-accumulates on the image, the same for all integer networks."""
    return network.macs_of(layer)[1] * (multiply(network.largest_weight_bits, PIXEL_BITS) + INT32_ADD)


def multiply(bits: int, other: int) -> float:
    """Multiplying integers, in proportion to both widths: 0.19 for 8 by 8, where the source has 0.2."""
    return INT32_MULTIPLY * bits * other / 32**2


def _bit_read(bits: int) -> float:
    """Reading or writing one bit in the smallest memory that holds so many."""
    return next((read for size, read in SRAM_READS if bits <= 8 * size), DRAM_READ) / 64


def _activation_bits(population: Neurons, timesteps: int) -> int:
    """Of a quantised ANN with the levels that the spiking network can tell apart in so many steps."""
    low, high = (timesteps if bound is None else abs(bound) for bound in (population.low, population.high))
    return min(max((min(low, timesteps) + min(high, timesteps)).bit_length(), 1), MOST_ACTIVATION_BITS)
