"""The dense engine: PyTorch convolutions of spikes, on the CPU or CUDA, exact because no partial sum can round.

A convolution of spikes sums weights with signs, so every partial sum, in whatever order, stays at or below the sum of
a neuron's absolute weights. Where that is at most 2^24, float32 holds each of them exactly. Where it is more, the
weights are split into two parts of 8 and fewer bits each, w = 256 high + low, which are convolved on their own.

That leaves no room for algorithms that compute something else than sums of the operands: Winograd's and Fourier's
transforms, reduced precision of the operands (TF32, bfloat16) or of the outputs. They are switched off while the
engine runs, and every layer is compared with a float64 product before its first use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
import torch.nn.functional as F

from negspike.spiking.convolution import convolve
from negspike.spiking.network import THRESHOLD_EXTRA_BITS, SpikingLayer, SpikingNetwork
from negspike.spiking.recorder import Recording, synapses_per_spike

FLOAT32_EXACT = 1 << 24
CHUNK_BYTES = 256 << 20
LARGEST_CHUNK = 500
# Working on a part of a chunk costs two more copies of that part; above this share it does not pay.
WHOLE_CHUNK_SHARE = 0.75


def weight_parts(weight: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Split integer weights so that convolving spikes with each part is exact in float32.

    Args:
        weight: (outputs, inputs, kernel height, kernel width) integers.

    Returns:
        (float32 part, left shift) pairs; the sum of part * 2^shift is the weight. The bound that makes each exact,
        the largest sum of a neuron's absolute part, is at most 2^24.
    """
    parts: list[tuple[np.ndarray, int]] = []
    rest, shift = weight.astype(np.int64), 0
    while np.abs(rest).sum((1, 2, 3)).max(initial=0) > FLOAT32_EXACT:
        low = rest & 255
        if low.sum((1, 2, 3)).max() > FLOAT32_EXACT:
            raise OverflowError(f"{rest[0].size} inputs of 8 bits can leave the exact range of float32")
        parts.append((low.astype(np.float32), shift))
        rest, shift = rest >> 8, shift + 8
    parts.append((rest.astype(np.float32), shift))
    return parts


@contextmanager
def exact_arithmetic(threads: int | None) -> Iterator[None]:
    """Only plain float32 sums of products: no Winograd, no TF32; and ``threads`` threads, restored afterwards."""
    before = torch.get_num_threads()
    tf32 = torch.backends.cuda.matmul.allow_tf32
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        # Without cuDNN a convolution on CUDA is a matrix product over unfolded windows; NNPACK has transforms only.
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(torch.backends.nnpack.flags(enabled=False))
        torch.backends.cuda.matmul.allow_tf32 = False
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            torch.set_num_threads(before)


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
        """Forget the last chunk. The residual is z * 2^shift - base - n * theta: at rest in [0, theta), or below at n = 0."""
        shape = (images, *self.geometry.out_shape)
        self.residual = (-self.base).expand(shape).clone()
        self.count = torch.zeros(shape, dtype=torch.int32, device=self.device)
        self.spikes = torch.zeros(shape, dtype=torch.float32, device=self.device)
        self.fired = torch.zeros(images, dtype=torch.bool, device=self.device)

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

    def verify(self) -> None:
        """Compare a dense and a sparse image of random spikes with the float64 product.

        Raises:
            ArithmeticError: this device or library does not compute plain sums.
        """
        random = np.random.default_rng(0)
        for share in (1.0, 0.1):
            signs = random.choice([-1, 1], (1, *self.geometry.in_shape))
            spikes = signs * (random.random(signs.shape) < share)
            expected = convolve(spikes.astype(np.int64), self.source.weight, self.geometry)
            found = self.current(torch.from_numpy(spikes.astype(np.float32)).to(self.device)).cpu().numpy()
            if not np.array_equal(found, expected):
                raise ArithmeticError(
                    f"layer {self.geometry.token}: float32 convolutions of PyTorch {torch.__version__} on {self.device} "
                    "are not exact sums; use engine 'reference', and please report this"
                )

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
                layer.verify()
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
        received = torch.ones(len(encoded), dtype=torch.bool, device=self.device)
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
    """The images to work on: all of a chunk, some of it, or none."""
    number = int(busy.sum())
    if number == 0:
        return None
    return slice(None) if number > WHOLE_CHUNK_SHARE * len(busy) else busy.nonzero()[:, 0]
