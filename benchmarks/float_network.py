"""The same spiking network in plain float32: no exactness asked, everything for speed.

Batch norm is folded away, so that every threshold is 1; activations lie channels last in memory; a time step is five
passes over a layer's neurons beside the convolution. Sums round as they like, so a neuron near its threshold may spike
a step earlier or later than the exact one, or not at all.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from negspike import SpikingNetwork
from negspike.errors import InputError
from negspike.fixed_point import IMAGE_FRACTION_BITS
from negspike.spiking.linear import sum_floats
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Sum, Synapses

Tensors = list[torch.Tensor]


def chain(network: SpikingNetwork) -> list[Synapses]:
    """The synapses of a network in which every population listens to the one before it.

    Raises:
        InputError: it is another one; it names the first node that does not fit.
    """
    found, source = [], INPUT
    for node in network.nodes:
        fits = not isinstance(node, MaxPool | Sum) and [s.source for s in node.synapses] == [source]
        if not fits or (isinstance(node, Neurons) and (node.low, node.high) != (0, None)):
            raise InputError(f"{node.name}: float32 simulations are written for chains of populations without bounds")
        found += [] if isinstance(node, MaxPool) else node.synapses
        source = node.name
    if any(one.weight is None or one.channels is not None or one.targets is not None for one in found):
        raise InputError("float32 simulations are written for synapses with weights, from and to all channels")
    return found


def fire(residual: torch.Tensor, debt: torch.Tensor) -> torch.Tensor:
    """Spikes, -1, 0 or 1, of residuals and of debts, which are minus the net counts; both are updated in place."""
    # A debt of 0 is a count of 0, which forbids the negative spike; any other debt is -1 or below and forbids nothing.
    spikes = torch.maximum(torch.clamp(torch.floor(residual), -1.0, 1.0), debt)
    residual -= spikes
    debt -= spikes
    return spikes


class FloatNetwork(nn.Module):
    """A dense simulation. A neuron's residual is (z - base) / theta - n: 1 and above it spikes, below 0 it spikes back.

    Args:
        network: the integer network, a :func:`chain`.
        dtype: of weights and spikes behind the first layer; residuals are float32.
    """

    def __init__(self, network: SpikingNetwork, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.synapses, self.dtype, self.shapes = chain(network), dtype, [p.shape for p in network.populations]
        self.weights, self.bases = nn.ParameterList(), []
        for number, synapses in enumerate(self.synapses):
            scale = synapses.scale.astype(np.float64)
            if number < len(self.shapes):
                population = network.populations[number]
                scale /= population.theta
                self.bases.append(torch.from_numpy(population.base / population.theta).float()[:, None, None])
            if number == 0:
                scale *= 2.0**IMAGE_FRACTION_BITS
            assert synapses.weight is not None
            weight = torch.from_numpy(synapses.weight * scale[:, None, None, None])
            weight = weight.to(dtype if 0 < number < len(self.shapes) else torch.float32)
            if weight.shape[2:] != (network.input_shape, *self.shapes)[number][1:]:  # else it is a matrix
                weight = weight.contiguous(memory_format=torch.channels_last)
            self.weights.append(nn.Parameter(weight, requires_grad=False))

    def current(self, number: int, spikes: torch.Tensor) -> torch.Tensor:
        """What a layer's (n, channels, height, width) input adds to its residuals, in thresholds."""
        return sum_floats(self.synapses[number], spikes, self.weights[number])

    def forward(self, residuals: Tensors, debts: Tensors) -> torch.Tensor:
        """One time step of all layers, also of those at rest; both lists are updated in place.

        Returns:
            (N, classes) logits after it.
        """
        spikes = fire(residuals[0], debts[0])
        for number in range(1, len(debts)):
            residuals[number] += self.current(number, spikes.to(self.dtype))
            spikes = fire(residuals[number], debts[number])
        return self.logits(-debts[-1])

    def logits(self, counts: torch.Tensor) -> torch.Tensor:
        """(N, classes), of the last layer's net counts."""
        return self.current(len(self.shapes), counts)[:, :, 0, 0]

    def first_current(self, images: np.ndarray) -> torch.Tensor:
        """What (N, C, H, W) standardised floats add to the first layer's residuals."""
        pixels = torch.from_numpy(np.ascontiguousarray(images, np.float32))
        return self.current(0, pixels.contiguous(memory_format=torch.channels_last))

    def start(self, images: np.ndarray) -> tuple[Tensors, Tensors]:
        """Residuals and debts before the first step, the image in the first residuals. The caller sets the mode."""
        layout = {"memory_format": torch.channels_last}
        shapes = [(len(images), *shape) for shape in self.shapes]
        pairs = zip(shapes, self.bases, strict=True)
        residuals = [torch.empty(shape, **layout).copy_(-base.expand(shape)) for shape, base in pairs]  # type: ignore[call-overload]
        residuals[0] += self.first_current(images)
        return residuals, [torch.zeros_like(residual) for residual in residuals]

    @torch.inference_mode()
    def run(self, images: np.ndarray, timesteps: int) -> tuple[np.ndarray, Tensors]:
        """Simulate a batch of (N, C, H, W) standardised floats, leaving out what is at rest in the whole batch.

        Returns:
            (N, T) int64 predictions and, for each population, (N, channels, height, width) net counts.
        """
        predictions = np.zeros((len(images), timesteps), np.int64)
        residuals, debts = self.start(images)
        fired = [True] * len(debts)
        for t in range(timesteps):
            received, spikes = False, residuals[0]
            for number in range(len(debts)):
                # With no input now and no spike a step ago, nothing in this layer can change.
                if not received and not fired[number]:
                    continue
                if received:
                    residuals[number] += self.current(number, spikes)
                spikes = fire(residuals[number], debts[number])
                received = fired[number] = bool(spikes.any())
            predictions[:, t:] = self.logits(-debts[-1]).argmax(1).numpy()[:, None]
            if not any(fired):
                break
        return predictions, [-debt for debt in debts]
