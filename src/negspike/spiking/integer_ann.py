"""The integer ANN: the activations of the quantised network in closed form, which every silent neuron must equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from negspike.errors import InputError
from negspike.spiking.bounds import reach
from negspike.spiking.linear import ExactSum, add_current
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Readout
from negspike.spiking.pooling import largest_counts_int64

if TYPE_CHECKING:
    from negspike.spiking.graph import SpikingNetwork


class IntegerAnn:
    """Computes all activations of a network at rest.

    Args:
        network: whose weights, thresholds and bounds it computes with.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self._sums = {
            (node.name, number): ExactSum(synapses)
            for node in network.nodes
            if not isinstance(node, MaxPool)
            for number, synapses in enumerate(node.synapses)
        }

    def activations(self, encoded: np.ndarray) -> dict[str, np.ndarray]:
        """n* = clip(floor((z - base) / theta), low, high) of every population.

        Args:
            encoded: (N, C, H, W) int64 images with 16 fractional bits.

        Returns:
            (N, channels, height, width) int64 for each population, and under the readout's name (N, classes) logits.

        Raises:
            InputError: a potential or logit is too large for 64-bit integers.
        """
        values = {INPUT: encoded}
        for node in self.network.nodes:
            if isinstance(node, MaxPool):
                values[node.name] = largest_counts_int64(node.window, values[node.source])
                continue
            largest = {name: int(np.abs(value).max(initial=0)) for name, value in values.items()}
            if reach(node, largest) >= 1 << 63:
                raise InputError(f"{node.name}: its input is too large for 64-bit potentials; scale the images down")
            total = np.zeros((len(encoded), *node.shape), np.int64)
            for number, synapses in enumerate(node.synapses):
                add_current(total, synapses, self._sums[node.name, number](values[synapses.source]))
            if isinstance(node, Neurons):
                total = settled_counts(node, total)
            elif isinstance(node, Readout):
                total = total[:, :, 0, 0] + node.bias
            values[node.name] = total
        wanted = [*(population.name for population in self.network.populations), self.network.readout.name]
        return {name: values[name] for name in wanted}


def settled_counts(population: Neurons, current: np.ndarray) -> np.ndarray:
    """The net counts at rest for a current z, (N, channels, height, width) int64."""
    theta, base = (torch.from_numpy(values)[:, None, None] for values in (population.theta, population.base))
    # PyTorch divides integers on several threads.
    counts = torch.div(torch.from_numpy(current) - base, theta, rounding_mode="floor")
    if population.low is not None or population.high is not None:
        counts = counts.clamp(min=population.low, max=population.high)
    bounded: np.ndarray = counts.numpy()
    return bounded
