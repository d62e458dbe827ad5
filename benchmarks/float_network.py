"""The same spiking network in plain float32: no exactness asked, everything for speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from negspike.spiking.network import THRESHOLD_EXTRA_BITS, SpikingLayer, SpikingNetwork
from negspike.spiking.recorder import synapses_per_spike


@dataclass
class FloatRecording:
    """What a simulation in float32 counted; N images, T time steps.

    Attributes:
        predictions: (N, T) int64.
        positive, negative: (T, layers) int64, spikes of each step, summed over the images.
        sops: (T,) int64, synaptic operations of each step, summed over the images.
    """

    predictions: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    sops: np.ndarray


class FloatLayer:
    """One layer with batch norm folded away: every threshold is 1.

    The residual is (z - base) / theta - n: a neuron spikes at 1 and above, and back below 0 if its count allows.

    Args:
        layer: the integer layer.
    """

    def __init__(self, layer: SpikingLayer) -> None:
        self.geometry = layer.geometry
        theta = layer.theta.astype(np.float64)
        weight = layer.weight * (2.0**THRESHOLD_EXTRA_BITS / theta)[:, None, None, None]
        self.weight = torch.from_numpy(weight).float()
        self.start_residual = torch.from_numpy(-layer.base / theta).float()[:, None, None]
        if self.geometry.kind == "dense":
            # (outputs, height * width * inputs), the order in which a channels-last input lies in memory
            self.weight = self.weight.permute(0, 2, 3, 1).reshape(len(weight), -1).contiguous()
        else:
            self.weight = self.weight.contiguous(memory_format=torch.channels_last)

    def start(self, images: int) -> None:
        """Forget everything."""
        shape = (images, *self.geometry.out_shape)
        self.residual = torch.empty(shape).contiguous(memory_format=torch.channels_last)
        self.residual.copy_(self.start_residual.expand(shape))
        # minus the net count, so that max(spike, debt) is what a negative spike may be
        self.debt = torch.zeros_like(self.residual)

    def current(self, spikes: torch.Tensor) -> torch.Tensor:
        """Input of (n, inputs, height, width) spikes, in thresholds."""
        if self.geometry.kind == "dense":
            return F.linear(spikes.permute(0, 2, 3, 1).reshape(len(spikes), -1), self.weight)[..., None, None]
        (top, bottom), (left, right) = self.geometry.padding
        if (top, left) != (bottom, right):
            spikes, top, left = F.pad(spikes, (left, right, top, bottom)), 0, 0
        return F.conv2d(spikes, self.weight, None, self.geometry.stride, (top, left))

    def fire(self) -> torch.Tensor:
        """Spikes of the residual as it is: -1, 0 or 1."""
        spikes = torch.maximum(self.residual.floor().clamp_(-1, 1), self.debt)
        self.residual -= spikes
        self.debt -= spikes
        return spikes


class FloatNetwork:
    """A dense simulation in float32 of every layer in every step, also of those at rest.

    Args:
        network: the integer network whose weights, thresholds and bases it takes over.
    """

    def __init__(self, network: SpikingNetwork) -> None:
        self.network = network
        self.layers = [FloatLayer(layer) for layer in network.layers]
        channels, height, width = network.layers[-1].geometry.out_shape
        classifier = torch.from_numpy(network.classifier).float().reshape(-1, channels, height, width)
        self.classifier = classifier.permute(0, 2, 3, 1).reshape(len(classifier), -1).contiguous()

    def encode(self, images: np.ndarray) -> torch.Tensor:
        """Images as the first layer is given them at t = 0, channels last."""
        spikes = torch.from_numpy(np.ascontiguousarray(images, np.float32)) * 2.0**self.network.k
        return spikes.contiguous(memory_format=torch.channels_last)

    def logits(self) -> torch.Tensor:
        """(N, classes), of the counts as they are."""
        counts = -self.layers[-1].debt
        return F.linear(counts.permute(0, 2, 3, 1).reshape(len(counts), -1), self.classifier)

    @torch.inference_mode()
    def run(self, images: np.ndarray, timesteps: int, until_silent: bool = False, record: bool = False) -> FloatRecording:
        """Simulate (N, C, H, W) standardised floats.

        Args:
            images: the images, all of them at once.
            timesteps: T.
            until_silent: stop when no neuron of no image spiked; what is recorded stays the same.
            record: count spikes and operations, which takes time; without it they stay 0.
        """
        count = len(images)
        recording = FloatRecording(
            np.zeros((count, timesteps), np.int64),
            np.zeros((timesteps, len(self.layers)), np.int64),
            np.zeros((timesteps, len(self.layers)), np.int64),
            np.zeros(timesteps, np.int64),
        )
        costs = [torch.from_numpy(cost) for cost in synapses_per_spike(self.network.topology)]
        image = self.encode(images)
        for layer in self.layers:
            layer.start(count)
        for t in range(timesteps):
            spikes, active = image, False
            for number, layer in enumerate(self.layers):
                if number > 0 or t == 0:
                    layer.residual += layer.current(spikes)
                spikes = layer.fire()
                if until_silent:
                    active = active or bool(spikes.any())
                if record:
                    up, down = spikes > 0, spikes < 0
                    recording.positive[t, number], recording.negative[t, number] = int(up.sum()), int(down.sum())
                    recording.sops[t] += int(((up | down).sum((0, 1)) * costs[number]).sum())
            recording.predictions[:, t] = self.logits().argmax(1).numpy()
            if until_silent and not active:
                recording.predictions[:, t:] = recording.predictions[:, t : t + 1]
                break
        return recording
