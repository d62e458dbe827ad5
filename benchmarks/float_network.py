"""The same spiking network in plain float32: no exactness asked, everything for speed.

Batch norm is folded away, so that every threshold is 1; activations lie channels last in memory; a time step is five
passes over a layer's neurons beside the convolution. Sums round as they like, so a neuron near its threshold may spike
a step earlier or later than the exact one, or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from negspike.spiking.graph import THRESHOLD_EXTRA_BITS, SpikingLayer, SpikingNetwork
from negspike.spiking.recording import synapses_per_spike


@dataclass
class FloatRecording:
    """What a simulation in float32 counted; N images, T time steps.

    Attributes:
        predictions: (N, T) int64.
        positive: (T, layers) int64, positive spikes of each step, summed over the images.
        negative: (T, layers) int64, the same for negative spikes.
        sops: (T,) int64, synaptic operations of each step, summed over the images.
    """

    predictions: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    sops: np.ndarray


class FloatLayer(nn.Module):
    """Weights of one layer in units of its thresholds.

    A neuron's residual is (z - base) / theta - n: it spikes at 1 and above, and back below 0 if its count allows.

    Args:
        layer: the integer layer.
        dtype: of weights and spikes; residuals are float32.
    """

    def __init__(self, layer: SpikingLayer, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        geometry = layer.geometry
        theta = layer.theta.astype(np.float64)
        scaled = layer.weight * (2.0**THRESHOLD_EXTRA_BITS / theta)[:, None, None, None]
        weight = torch.from_numpy(scaled).to(dtype)
        self.dense = geometry.kind == "dense"
        if self.dense:
            # (outputs, height * width * inputs), the order in which a channels-last input lies in memory
            weight = weight.permute(0, 2, 3, 1).reshape(len(weight), -1).contiguous()
        else:
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.start = nn.Parameter(torch.from_numpy(-layer.base / theta).float()[:, None, None], requires_grad=False)
        (top, bottom), (left, right) = geometry.padding
        self.even = (top, left) == (bottom, right)
        self.padding, self.margins = (top, left), (left, right, top, bottom)
        self.stride = geometry.stride
        self.shape = geometry.out_shape

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Input current of (n, inputs, height, width) spikes, in thresholds."""
        if self.dense:
            flat = spikes.permute(0, 2, 3, 1).reshape(spikes.shape[0], -1)
            return F.linear(flat, self.weight)[..., None, None]
        if self.even:
            return F.conv2d(spikes, self.weight, None, self.stride, self.padding)
        return F.conv2d(F.pad(spikes, self.margins), self.weight, None, self.stride)


def fire(residual: torch.Tensor, debt: torch.Tensor) -> torch.Tensor:
    """Spikes, -1, 0 or 1, of residuals and of debts, which are minus the net counts; both are updated in place."""
    # A debt of 0 is a count of 0, which forbids the negative spike; any other debt is -1 or below and forbids nothing.
    spikes = torch.maximum(torch.clamp(torch.floor(residual), -1.0, 1.0), debt)
    residual -= spikes
    debt -= spikes
    return spikes


class Step(nn.Module):
    """One time step of all layers, also of those at rest; the image has been added to the first residual before.

    Args:
        network: the integer network whose weights, thresholds and bases it takes over.
        dtype: of weights and spikes.
    """

    def __init__(self, network: SpikingNetwork, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype, self.first = dtype, FloatLayer(network.layers[0])
        self.layers = nn.ModuleList(FloatLayer(layer, dtype) for layer in network.layers[1:])
        channels, height, width = network.layers[-1].geometry.out_shape
        matrix = torch.from_numpy(network.classifier).float().reshape(-1, channels, height, width)
        # The sign turns debts into counts.
        matrix = -matrix.permute(0, 2, 3, 1).reshape(len(matrix), -1)
        self.classifier = nn.Parameter(matrix.contiguous(), requires_grad=False)

    def forward(self, residuals: list[torch.Tensor], debts: list[torch.Tensor]) -> torch.Tensor:
        """(N, classes) logits after this step; residuals and debts are updated in place."""
        spikes = fire(residuals[0], debts[0])
        for number, layer in enumerate(self.layers, 1):
            residuals[number] += layer(spikes.to(self.dtype))
            spikes = fire(residuals[number], debts[number])
        return self.logits(debts)

    def logits(self, debts: list[torch.Tensor]) -> torch.Tensor:
        """(N, classes), of the counts as they are."""
        last = debts[-1]
        return F.linear(last.permute(0, 2, 3, 1).reshape(last.shape[0], -1), self.classifier)


class FloatNetwork:
    """A dense simulation in float32.

    Args:
        network: the integer network.
        dtype: of weights and spikes.
    """

    def __init__(self, network: SpikingNetwork, dtype: torch.dtype = torch.float32) -> None:
        self.network = network
        self.step = Step(network, dtype).eval()
        self.layers: list[FloatLayer] = [self.step.first, *self.step.layers]

    @torch.inference_mode()
    def start(self, images: np.ndarray) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Residuals and debts of (N, C, H, W) standardised floats before the first step."""
        residuals, debts = [], []
        for layer in self.layers:
            shape = (len(images), *layer.shape)
            residual = torch.empty(shape, memory_format=torch.channels_last).copy_(layer.start.expand(shape))
            residuals.append(residual)
            debts.append(torch.zeros_like(residual))
        spikes = torch.from_numpy(np.ascontiguousarray(images, np.float32)) * 2.0**self.network.k
        residuals[0] += self.layers[0](spikes.contiguous(memory_format=torch.channels_last))
        return residuals, debts

    @torch.inference_mode()
    def run(self, images: np.ndarray, timesteps: int, record: bool = False) -> FloatRecording:
        """Simulate a batch of (N, C, H, W) standardised floats, leaving out what is at rest in the whole batch.

        Args:
            images: the images, all of them at once.
            timesteps: T.
            record: count spikes and operations, which takes time; without it they stay 0.
        """
        layers, costs = self.layers, [torch.from_numpy(cost) for cost in synapses_per_spike(self.network.topology)]
        recording = FloatRecording(
            np.zeros((len(images), timesteps), np.int64),
            np.zeros((timesteps, len(layers)), np.int64),
            np.zeros((timesteps, len(layers)), np.int64),
            np.zeros(timesteps, np.int64),
        )
        residuals, debts = self.start(images)
        fired = [True] * len(layers)
        for t in range(timesteps):
            spikes, received = torch.empty(0), False
            for number, layer in enumerate(layers):
                # With no input now and no spike a step ago, nothing in this layer can change.
                if not received and not fired[number]:
                    continue
                if received:
                    residuals[number] += layer(spikes)
                spikes = fire(residuals[number], debts[number])
                received = fired[number] = bool(spikes.any())
                if record:
                    up, down = spikes > 0, spikes < 0
                    recording.positive[t, number], recording.negative[t, number] = int(up.sum()), int(down.sum())
                    recording.sops[t] += int(((up | down).sum((0, 1)) * costs[number]).sum())
            recording.predictions[:, t] = self.step.logits(debts).argmax(1).numpy()
            if not any(fired):
                recording.predictions[:, t:] = recording.predictions[:, t : t + 1]
                break
        return recording
