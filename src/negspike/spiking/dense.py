"""The dense engine: PyTorch convolutions of spikes, on the CPU or CUDA, exact because no partial sum can round.

A convolution of spikes sums weights with signs, so every partial sum, in whatever order, stays at or below the sum of
a neuron's absolute weights. Where that is at most 2^24, float32 holds each of them exactly. Where it is more, the
weights are split into parts, w = 256 high + low, which are convolved on their own.

That leaves no room for algorithms that compute something else than sums of the operands: Winograd's and Fourier's
transforms, reduced precision of the operands (TF32, bfloat16) or of the outputs. They are switched off while the
engine runs, whatever the caller's settings, and every layer is compared with a float64 product before its first use.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from negspike.spiking.convolution import convolve
from negspike.spiking.exact import exact_arithmetic, weight_parts
from negspike.spiking.graph import THRESHOLD_EXTRA_BITS, SpikingLayer, SpikingNetwork
from negspike.spiking.recording import Recording, synapses_per_spike

CHUNK_BYTES = 256 << 20
LARGEST_CHUNK = 500
# Working on a part of a chunk costs two more copies of that part; above this share it does not pay.
WHOLE_CHUNK_SHARE = 0.75
CHUNK_SIZES = 8


class _Layer:
    """One layer on the device, and the state of the chunk that is being simulated."""

    def __init__(self, layer: SpikingLayer, cost: np.ndarray, device: torch.device) -> None:
        self.source, self.geometry = layer, layer.geometry
        self.parts = [(torch.from_numpy(part).to(device), shift) for part, shift in weight_parts(layer.weight)]
        self.theta = torch.from_numpy(layer.theta).to(device)[:, None, None]
        self.base = torch.from_numpy(layer.base).to(device)[:, None, None]
        self.cost = torch.from_numpy(cost).to(device)
        self.device = device

    def start(self, images: int) -> None:
        """Forget the last chunk.

        The residual is z * 2^shift - base - n * theta: at rest it is in [0, theta), or below where n = 0.
        """
        shape = (images, *self.geometry.out_shape)
        self.residual = (-self.base).expand(shape).clone()
        self.count = torch.zeros(shape, dtype=torch.int32, device=self.device)
        self.spikes = torch.zeros(shape, dtype=torch.float32, device=self.device)
        # Before the first step nothing is at rest: a neuron whose base + theta is at most 0 fires without any input.
        self.fired = torch.ones(images, dtype=torch.bool, device=self.device)

    def current(self, spikes: torch.Tensor) -> torch.Tensor:
        """Integer input of (n, inputs, height, width) float32 spikes, int64, exact."""
        (top, bottom), (left, right) = self.geometry.padding
        padding = (top, left)
        if self.geometry.kind == "dense":
            results = [F.linear(spikes.flatten(1), part.flatten(1))[..., None, None] for part, _ in self.parts]
        else:
            if (top, left) != (bottom, right):
                spikes, padding = F.pad(spikes, (left, right, top, bottom)), (0, 0)
            results = [F.conv2d(spikes, part, None, self.geometry.stride, padding) for part, _ in self.parts]
        total = results[0].to(torch.int64) << self.parts[0][1]
        for result, (_, shift) in zip(results[1:], self.parts[1:], strict=True):
            total += result.to(torch.int64) << shift
        return total

    def verify(self, images: int) -> None:
        """Compare dense, sparse and extreme spikes with the float64 product, alone and as a chunk of ``images``.

        Libraries choose their algorithm by the size of a chunk, so both sizes are tried.

        Raises:
            ArithmeticError: this device or library does not compute plain sums.
        """
        spikes = self._trial()
        expected = torch.from_numpy(convolve(spikes, self.source.weight, self.geometry)).to(self.device)
        trial = torch.from_numpy(spikes).float().to(self.device)
        chunk = torch.arange(images, device=self.device) % len(trial)
        single = all(torch.equal(self.current(trial[i : i + 1]), expected[i : i + 1]) for i in range(len(trial)))
        if not single or not torch.equal(self.current(trial[chunk]), expected[chunk]):
            raise ArithmeticError(
                f"layer {self.geometry.token}: float32 convolutions of PyTorch {torch.__version__} on {self.device} "
                "are not exact sums; use engine 'reference', and please report this"
            )

    def _trial(self) -> np.ndarray:
        """(3, inputs, height, width) int64 spikes: dense, sparse, and those that take a neuron to its largest sum."""
        random = np.random.default_rng(0)
        spikes = random.choice(np.array([-1, 1]), (3, *self.geometry.in_shape))
        spikes[1] *= random.random(spikes[1].shape) < 0.1
        weight = self.source.weight.astype(np.int64)
        largest = weight[np.abs(weight).sum((1, 2, 3)).argmax()]
        window, part = [], []
        for axis in (0, 1):
            before, size = self.geometry.padding[axis][0], self.geometry.in_shape[axis + 1]
            start = self.geometry.out_shape[axis + 1] // 2 * self.geometry.stride - before
            stop = start + self.geometry.kernel[axis]
            window.append(slice(max(start, 0), min(stop, size)))
            part.append(slice(max(-start, 0), self.geometry.kernel[axis] - max(stop - size, 0)))
        spikes[2] = 0
        spikes[2][:, *window] = np.sign(largest[:, *part])
        return spikes

    def fire(self, residual: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Update both in place; return which neurons emitted a positive and which a negative spike."""
        up = residual >= self.theta
        down = (residual < 0) & (count > 0)
        change = up.to(torch.int8) - down.to(torch.int8)
        residual -= change * self.theta
        count += change
        return up, down


class DenseEngine:
    """Simulates a chunk of images at once; images and layers at rest are left out of the work.

    Args:
        network: the network to simulate.
        device: where to.
        threads: CPU threads, or None for PyTorch's own choice.
    """

    def __init__(self, network: SpikingNetwork, device: torch.device, threads: int | None = None) -> None:
        self.network, self.device, self.threads = network, device, threads
        costs = synapses_per_spike(network.topology)
        # A residual of 8 bytes, a count and a spike of 4, and as much again while a step is computed.
        self.chunk_size = int(np.clip(CHUNK_BYTES // (32 * network.topology.neurons), 1, LARGEST_CHUNK))
        with exact_arithmetic(threads):
            self.layers = [_Layer(*pair, device) for pair in zip(network.layers, costs, strict=True)]
            for layer in self.layers[1:]:
                layer.verify(self.chunk_size)
            self.classifier = torch.from_numpy(network.classifier.astype(np.float64)).to(device)

    def run(self, encoded: np.ndarray, timesteps: int) -> Recording:
        """Simulate (N, C, H, W) int64 images with 16 fractional bits for ``timesteps`` steps."""
        with exact_arithmetic(self.threads):
            return self._run(encoded, timesteps)

    def _run(self, encoded: np.ndarray, timesteps: int) -> Recording:
        recording = Recording.empty(self.network.topology, len(encoded), timesteps)
        for layer in self.layers:
            layer.start(len(encoded))
        first = self.network.layers[0]
        current = convolve(encoded, first.weight, first.geometry) << first.shift
        self.layers[0].residual += torch.from_numpy(current).to(self.device)
        received = torch.zeros(len(encoded), dtype=torch.bool, device=self.device)
        prediction = torch.zeros(len(encoded), dtype=torch.int64, device=self.device)
        for t in range(timesteps):
            for number, layer in enumerate(self.layers):
                # With no input now and no spike a step ago, nothing in this layer of this image can change.
                rows = _rows(received | layer.fired)
                if rows is None:
                    received = layer.fired  # all False
                    continue
                residual, count = layer.residual[rows], layer.count[rows]
                if number > 0:
                    residual += layer.current(self.layers[number - 1].spikes[rows]) << THRESHOLD_EXTRA_BITS
                up, down = layer.fire(residual, count)
                if not isinstance(rows, slice):
                    layer.residual[rows], layer.count[rows] = residual, count
                layer.spikes[rows] = up.float() - down.float()
                positive, negative = up.sum((1, 2, 3)), down.sum((1, 2, 3))
                layer.fired[rows] = (positive + negative) > 0
                index = rows if isinstance(rows, slice) else rows.cpu().numpy()
                recording.positive[index, t, number] = positive.cpu().numpy()
                recording.negative[index, t, number] = negative.cpu().numpy()
                recording.sops[index, t] += ((up | down).sum(1) * layer.cost).sum((1, 2)).cpu().numpy()
                received = layer.fired
            if received.any():
                logits = self.layers[-1].count.flatten(1).double() @ self.classifier.T
                prediction = logits.argmax(1)
            recording.predictions[:, t] = prediction.cpu().numpy()
            if not any(bool(layer.fired.any()) for layer in self.layers):
                recording.predictions[:, t + 1 :] = recording.predictions[:, t : t + 1]
                break
            received = torch.zeros_like(received)
        recording.counts = [layer.count.cpu().numpy() for layer in self.layers]
        return recording


def _rows(busy: torch.Tensor) -> torch.Tensor | slice | None:
    """The images to work on: all of a chunk, some of it, or none.

    Some idle images are taken along, which changes nothing for them, so that few different numbers occur: oneDNN
    builds and keeps a program for every shape that it meets.
    """
    number = int(busy.sum())
    if number == 0:
        return None
    step = -(-len(busy) // CHUNK_SIZES)
    number = -(-number // step) * step
    if number > WHOLE_CHUNK_SHARE * len(busy):
        return slice(None)
    return busy.to(torch.int8).argsort(descending=True, stable=True)[:number]
