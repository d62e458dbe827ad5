"""The same network in plain float32, no exactness asked, everything for speed; and with other libraries' neurons.

Batch norm is folded away; activations lie channels last in memory; a time step is five passes over a layer's neurons
beside the convolution. Sums round as they like, so a neuron near its threshold may spike a step earlier or later than
the exact one, or not at all.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.contestants import LIBRARIES
from negspike import SpikingNetwork
from negspike.errors import InputError
from negspike.spiking.floats import sum_floats
from negspike.spiking.nodes import INPUT, Layer, MaxPool, Neurons, Readout
from negspike.spiking.pooling import largest_values

Tensors = list[torch.Tensor]


class FloatSums:
    """What each node of a network adds up, in float32.

    Args:
        network: the integer network.
        in_steps: an activation is worth its quantiser's step for each count, else 1: a threshold.
        dtype: of the weights between populations.
    """

    def __init__(self, network: SpikingNetwork, *, in_steps: bool, dtype: torch.dtype = torch.float32) -> None:
        # a bias of each node, and weights or factors of its synapses by their number
        self.network, self.kept = network, dict[tuple[str, int | str], nn.Parameter]()
        units = {INPUT: 2.0**-network.image_fraction_bits}
        for node in network.nodes:
            if isinstance(node, MaxPool):
                units[node.name] = units[node.source]
                continue
            own, start = getattr(node, "unit", 1.0), getattr(node, "bias", np.zeros(1))
            theta: Any = 1.0
            if isinstance(node, Neurons):
                # Half a step is in the base, so that counting down rounds.
                own, theta, start = node.step if in_steps else 1.0, node.theta, -node.base - node.theta / 2
            units[node.name] = own
            self._keep((node.name, "bias"), start * (own / theta))
            for number, one in enumerate(node.synapses):
                worth = np.broadcast_to(own / theta, node.shape[0])[... if one.targets is None else one.targets]
                factor = (one.scale * worth / units[one.source])[:, None, None]
                if one.weight is not None:
                    kind = dtype if isinstance(node, Neurons) and one.source != INPUT else torch.float32
                    # What sees all of its source at once is used as a matrix.
                    matrix = one.weight.shape[2:] == network.shapes[one.source][1:]
                    layout = torch.contiguous_format if matrix else torch.channels_last
                    self._keep((node.name, number), one.weight * factor[..., None], kind, layout)
                elif not np.allclose(factor, 1.0):
                    self._keep((node.name, number), factor)

    def _keep(
        self,
        key: tuple[str, int | str],
        values: np.ndarray,
        dtype: torch.dtype = torch.float32,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        weight = torch.from_numpy(values).to(dtype).contiguous(memory_format=layout)
        self.kept[key] = nn.Parameter(weight, requires_grad=False)  # a compiler freezes parameters

    def add_up(self, node: Layer, values: Mapping[str, torch.Tensor], bias: torch.Tensor | None) -> torch.Tensor:
        """(N, channels, height, width) of what its sources emit, by their names, and a bias."""
        total: torch.Tensor | None = None
        # Convolutions first: the bias is added by one of them, and the rest to what it makes.
        for number, one in sorted(enumerate(node.synapses), key=lambda pair: pair[1].weight is None):
            weight, factor = self.kept.get((node.name, number)), None
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


class ForwardPass(FloatSums):
    """The network's own ANN in float32, ReLU where neurons count: what a time to rest is worth.

    Without bounds above and without rounding, as the float model that was quantised; identities are plain additions.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        super().__init__(network, in_steps=True)

    def start(self, images: np.ndarray) -> tuple[torch.Tensor]:
        """What it is called with for (N, C, H, W) standardised floats."""
        return (channels_last(images),)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) standardised floats to (N, classes) logits."""
        values = {INPUT: images}
        for node in self.network.nodes:
            if isinstance(node, MaxPool):
                values[node.name] = largest_values(node.window, values[node.source])
                continue
            total = self.add_up(node, values, self.kept[node.name, "bias"])
            values[node.name] = total.relu_() if isinstance(node, Neurons) and node.low == 0 else total
        return values[self.network.readout.name][:, :, 0, 0]


def channels_last(images: np.ndarray) -> torch.Tensor:
    """(N, C, H, W) floats as float32 in this layout."""
    return torch.from_numpy(np.ascontiguousarray(images, np.float32)).contiguous(memory_format=torch.channels_last)


def fire(residual: torch.Tensor, debt: torch.Tensor) -> torch.Tensor:
    """Spikes, -1, 0 or 1, of residuals and of debts, which are minus the net counts; both are updated in place."""
    # A debt of 0 is a count of 0, which forbids the negative spike; any other debt is -1 or below and forbids nothing.
    spikes = torch.maximum(torch.clamp(torch.floor(residual), -1.0, 1.0), debt)
    residual -= spikes
    debt -= spikes
    return spikes


class FloatNetwork(FloatSums):
    """A dense simulation. A neuron's residual is (z - base) / theta - n: 1 and above it spikes, below 0 it spikes back.

    Args:
        network: the integer network, in which every population listens to all of the one before it.
        dtype: of weights and spikes behind the first layer; residuals are float32.

    Raises:
        InputError: the network is another one; it names the first node that does not fit.
    """

    def __init__(self, network: SpikingNetwork, dtype: torch.dtype = torch.float32) -> None:
        for node, before in zip(network.nodes, [INPUT, *(node.name for node in network.nodes)], strict=False):
            known = isinstance(node, Readout) or (isinstance(node, Neurons) and (node.low, node.high) == (0, None))
            heard = node.synapses if known and not isinstance(node, MaxPool) else ()
            plain = [one for one in heard if one.source == before and one.channels is None and one.targets is None]
            if len(heard) != 1 or not plain or plain[0].weight is None:
                raise InputError(
                    f"{node.name}: float32 simulations are written for chains of populations without bounds"
                )
        super().__init__(network, in_steps=False, dtype=dtype)
        self.dtype, self.shapes = dtype, [population.shape for population in network.populations]

    def current(self, number: int, spikes: torch.Tensor) -> torch.Tensor:
        """What a layer's (n, channels, height, width) input adds to its residuals, in thresholds."""
        node = self.network.layers[number]
        return self.add_up(node, {node.synapses[0].source: spikes}, None)

    def __call__(self, residuals: Tensors, debts: Tensors) -> torch.Tensor:
        """One time step of all layers, also of those at rest; updates both lists in place. (N, classes) logits."""
        spikes = fire(residuals[0], debts[0])
        for number in range(1, len(debts)):
            residuals[number] += self.current(number, spikes.to(self.dtype))
            spikes = fire(residuals[number], debts[number])
        return self.logits(-debts[-1])

    def logits(self, counts: torch.Tensor) -> torch.Tensor:
        """(N, classes), of the last layer's net counts."""
        readout = self.network.readout
        return self.add_up(readout, {readout.synapses[0].source: counts}, self.kept[readout.name, "bias"])[:, :, 0, 0]

    def first_current(self, images: np.ndarray) -> torch.Tensor:
        """What (N, C, H, W) standardised floats add to the first layer's residuals."""
        return self.current(0, channels_last(images))

    def start(self, images: np.ndarray) -> tuple[Tensors, Tensors]:
        """Residuals and debts before the first step, the image in the first residuals. The caller sets the mode."""
        residuals = Tensors()
        for population in self.network.populations:
            empty = torch.empty((len(images), *population.shape), memory_format=torch.channels_last)
            residuals.append(empty.copy_((self.kept[population.name, "bias"] + 0.5)[:, None, None]))
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


def present(floats: FloatNetwork, library: str, images: np.ndarray, at_once: int) -> Callable[[], torch.Tensor]:
    """Simulate (N, C, H, W) standardised images with another library's neurons.

    The image's current is convolved once and then given in every step, as a constant input is, so that the first layer
    costs them no more than it costs us.

    Returns:
        What simulates the next ``at_once`` time steps and gives (N, classes) logits after them.
    """
    neurons = [make_neuron(library) for _ in floats.shapes]
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
