"""The same network in plain float32, no exactness asked, everything for speed; and with other libraries' neurons.

Batch norm is folded away, so that every threshold is 1; activations lie channels last in memory; a time step is five
passes over a layer's neurons beside the convolution. Sums round as they like, so a neuron near its threshold may spike
a step earlier or later than the exact one, or not at all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.contestants import LIBRARIES
from negspike import SpikingNetwork
from negspike.errors import InputError
from negspike.spiking.floats import sum_floats
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Node, Readout, Sum, Synapses, sources
from negspike.spiking.pooling import largest_values

Tensors = list[torch.Tensor]


def chain(network: SpikingNetwork) -> list[tuple[Neurons | Readout, Synapses, np.ndarray]]:
    """Nodes with their synapses and weights, where every population listens to all of the one before it.

    Raises:
        InputError: the network is another one; it names the first node that does not fit.
    """
    found: list[tuple[Neurons | Readout, Synapses, np.ndarray]] = []
    for node, source in zip(network.nodes, [INPUT, *(node.name for node in network.nodes)], strict=False):
        if isinstance(node, Readout) or (isinstance(node, Neurons) and (node.low, node.high) == (0, None)):
            for one in node.synapses:
                if one.source == source and one.weight is not None and one.channels is None and one.targets is None:
                    found.append((node, one, one.weight))
        if [item.source for _, item, _ in found[-1:]] != [source] or len(sources(node)) != 1:
            raise InputError(f"{node.name}: float32 simulations are written for chains of populations without bounds")
    return found


class ForwardPass(nn.Module):
    """The network's own ANN in float32, batch norm folded away, ReLU where neurons count: what a time to rest is worth.

    Without bounds above and without rounding, as the float model that was quantised; identities are plain additions.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__()
        self.network, self.weights = network, nn.ParameterDict()
        units = {INPUT: 2.0**-network.image_fraction_bits}
        for node in network.nodes:
            if isinstance(node, MaxPool):
                units[node.name] = units[node.source]
                continue
            units[node.name] = node.step if isinstance(node, Neurons) else getattr(node, "unit", 1.0)
            out = units[node.name] / (node.theta if isinstance(node, Neurons) else 1.0)
            # Half a step is in the base, so that counting down rounds.
            start = -node.base - node.theta / 2 if isinstance(node, Neurons) else getattr(node, "bias", np.zeros(1))
            self._keep(f"{node.name}.bias", start * out)
            for number, one in enumerate(node.synapses):
                own = np.broadcast_to(out, node.shape[0])[slice(None) if one.targets is None else one.targets]
                factor = (one.scale * own / units[one.source])[:, None, None]
                if one.weight is not None:
                    self._keep(f"{node.name}.{number}", one.weight * factor[..., None])
                elif not np.allclose(factor, 1.0):
                    self._keep(f"{node.name}.{number}", factor)

    def _keep(self, name: str, values: np.ndarray) -> None:
        weight = torch.from_numpy(values).float()
        layout = torch.channels_last if weight.dim() == 4 else torch.contiguous_format
        self.weights[name.replace(".", "/")] = nn.Parameter(weight.contiguous(memory_format=layout), False)

    def _weight(self, node: Node, part: int | str) -> torch.Tensor | None:
        name = f"{node.name}.{part}".replace(".", "/")
        return dict(self.weights).get(name)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) standardised floats to (N, classes) logits."""
        values = {INPUT: images}
        for node in self.network.nodes:
            if isinstance(node, MaxPool):
                values[node.name] = largest_values(node.window, values[node.source])
                continue
            total = self._sum(node, values)
            values[node.name] = total.relu_() if isinstance(node, Neurons) and node.low == 0 else total
        return values[self.network.readout.name][:, :, 0, 0]

    def _sum(self, node: Neurons | Sum | Readout, values: dict[str, torch.Tensor]) -> torch.Tensor:
        bias: torch.Tensor | None = self._weight(node, "bias")
        total: torch.Tensor | None = None
        # Convolutions first: the bias is added by one of them, and the rest to what it makes.
        for number, one in sorted(enumerate(node.synapses), key=lambda pair: pair[1].weight is None):
            weight, factor = self._weight(node, number), None
            if one.weight is None:
                weight, factor = None, weight
            first = bias if weight is not None and one.targets is None else None
            part = sum_floats(one, values[one.source], weight, first)
            bias = None if first is not None else bias
            part = part if factor is None else part * factor
            if one.targets is not None:
                part = part.new_zeros((len(part), *node.shape)).index_add_(1, torch.from_numpy(one.targets), part)
            total = part if total is None else total + part
        assert total is not None
        return total if bias is None else total + bias[:, None, None]


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
        self.dtype, self.shapes = dtype, [population.shape for population in network.populations]
        self.synapses, self.weights, self.bases = list[Synapses](), nn.ParameterList(), Tensors()
        for node, synapses, integers in chain(network):
            scale, kept = synapses.scale.astype(np.float64), torch.float32
            if isinstance(node, Neurons):
                scale /= node.theta
                self.bases.append(torch.from_numpy(node.base / node.theta).float()[:, None, None])
            if synapses.source == INPUT:
                scale *= 2.0**network.image_fraction_bits
            elif isinstance(node, Neurons):
                kept = dtype
            weight = torch.from_numpy(integers * scale[:, None, None, None]).to(kept)
            if weight.shape[2:] != network.shapes[synapses.source][1:]:  # else it is used as a matrix
                weight = weight.contiguous(memory_format=torch.channels_last)
            self.weights.append(nn.Parameter(weight, requires_grad=False))
            self.synapses.append(synapses)

    def current(self, number: int, spikes: torch.Tensor) -> torch.Tensor:
        """What a layer's (n, channels, height, width) input adds to its residuals, in thresholds."""
        return sum_floats(self.synapses[number], spikes, self.weights[number])

    def forward(self, residuals: Tensors, debts: Tensors) -> torch.Tensor:
        """One time step of all layers, also of those at rest; updates both lists in place. (N, classes) logits."""
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
        residuals = [
            torch.empty((len(images), *shape), memory_format=torch.channels_last).copy_(-base)
            for shape, base in zip(self.shapes, self.bases, strict=True)
        ]
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


def make_neuron(library: str) -> Any:
    """One layer's neurons: (steps, N, channels, height, width) currents to spikes of the same shape.

    They have no negative spikes, so theirs is another network with other spike counts: only image-steps per second can
    be compared. Their reset subtracts the threshold.
    """
    module = importlib.import_module(LIBRARIES[library][0])
    if library == "spikingjelly":
        return module.IFNode(v_threshold=1.0, v_reset=None, step_mode="m").eval()
    if library == "sinabs":
        iaf = module.IAF().eval()
        return lambda currents: iaf(currents.transpose(0, 1)).transpose(0, 1)
    leaky = module.Leaky(beta=1.0, init_hidden=True, reset_mechanism="subtract").eval()
    return lambda currents: leaky(currents[0])[None]


def present(floats: FloatNetwork, neurons: list[Any], images: np.ndarray, at_once: int) -> Callable[[], torch.Tensor]:
    """Simulate (N, C, H, W) standardised images with other neurons, one for each population.

    The image's current is convolved once and then given in every step, as a constant input is, so that the first layer
    costs them no more than it costs us.

    Returns:
        What simulates the next ``at_once`` time steps and gives (N, classes) logits after them.
    """
    with torch.inference_mode():
        current, counts = floats.first_current(images), torch.zeros((len(images), *floats.shapes[-1]))

    @torch.inference_mode()
    def advance() -> torch.Tensor:
        spikes = neurons[0](current.expand(at_once, *current.shape))
        for number, neuron in enumerate(neurons[1:], 1):
            currents = floats.current(number, spikes.flatten(0, 1))
            spikes = neuron(currents.reshape(spikes.shape[:2] + currents.shape[1:]))
        counts.add_(spikes.sum(0))
        return floats.logits(counts)

    return advance
