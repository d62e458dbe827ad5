"""What a spiking network is made of: windows, synapses, and the nodes that they join. Integers, NumPy only.

One rule holds for every neuron (docs/exactness.md). Its residual r starts at -base; in each time step

    r += sum over its synapses of scale * (W s)         s: what the source emitted in this step
    +1 if r >= theta and n < high;  -1 if r < 0 and n > low;  r -= spike * theta;  n += spike
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

Shape = tuple[int, int, int]
Pair = tuple[int, int]
# The image, as a source: int64, as the network encodes images, there at the first time step and never again.
INPUT = "input"


def image_shape(shape: tuple[int, ...]) -> Shape:
    """(channels, height, width) of an image, of a line of (channels, length), or of (features,): the rest is 1."""
    channels, *size = shape
    height, width = (*(1,) * (2 - len(size)), *size)
    return (channels, height, width)


@dataclass(frozen=True)
class Window:
    """Which inputs an output sees, along (height, width).

    Attributes:
        kernel: taps.
        stride: step between windows.
        padding: zeros around the input as ((top, bottom), (left, right)); a max pool has nothing there.
        dilation: step between taps.
    """

    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    @property
    def is_point(self) -> bool:
        """Whether every output sees the one input at its own place."""
        return (self.kernel, self.stride, self.padding) == ((1, 1), (1, 1), ((0, 0), (0, 0)))

    @property
    def is_padded(self) -> bool:
        """Whether there are zeros on any side."""
        return self.padding != ((0, 0), (0, 0))

    def out_size(self, height: int, width: int) -> Pair:
        """Windows along each axis; below 1 where the padded input is smaller than a window."""
        sizes = [
            (size + sum(self.padding[axis]) - self.dilation[axis] * (self.kernel[axis] - 1) - 1) // self.stride[axis]
            + 1
            for axis, size in enumerate((height, width))
        ]
        return (sizes[0], sizes[1])

    def taps(self, padded: np.ndarray) -> Iterator[tuple[Pair, np.ndarray]]:
        """For each tap of the kernel, what all windows see there of (N, channels, height, width), padding included."""
        size = padded.shape[2] - sum(self.padding[0]), padded.shape[3] - sum(self.padding[1])
        rows, columns = self.out_size(*size)
        for a in range(self.kernel[0]):
            for b in range(self.kernel[1]):
                top, left = a * self.dilation[0], b * self.dilation[1]
                down = slice(top, top + self.stride[0] * (rows - 1) + 1, self.stride[0])
                across = slice(left, left + self.stride[1] * (columns - 1) + 1, self.stride[1])
                yield (a, b), padded[:, :, down, across]

    def largest(self, values: np.ndarray) -> np.ndarray:
        """The largest of each window of (N, channels, height, width) integers; type and order in memory stay."""
        (top, bottom), (left, right) = self.padding
        height, width = values.shape[2:]
        shape = (*values.shape[:2], top + height + bottom, left + width + right)
        padded = np.full_like(values, np.iinfo(values.dtype).min, shape=shape)
        padded[:, :, top : top + height, left : left + width] = values
        first, *others = (seen for _, seen in self.taps(padded))
        result = first.copy("K")
        for seen in others:
            np.maximum(result, seen, out=result)
        return result

    def covered(self, height: int, width: int) -> np.ndarray:
        """In how many windows each input lies, (height, width) int64; padding lies in none."""
        axes = []
        for axis, (size, outputs) in enumerate(zip((height, width), self.out_size(height, width), strict=True)):
            starts = np.arange(outputs) * self.stride[axis] - self.padding[axis][0]
            taps = starts[:, None] + np.arange(self.kernel[axis]) * self.dilation[axis]
            taps = taps[(taps >= 0) & (taps < size)]
            axes.append(np.bincount(taps, minlength=size))
        windows: np.ndarray = np.outer(*axes).astype(np.int64)
        return windows


@dataclass(frozen=True, eq=False)
class Synapses:
    """All connections from one node to another.

    Attributes:
        source: name of the node that emits, or :data:`INPUT`.
        window: which positions of the source an output sees.
        scale: (O,) int64, what the weighted sum of each output channel is multiplied with before it is added.
        weight: (O, I / groups, kernel height, kernel width) int16 or int32; (O, I / groups, 1, 1) if all taps of the
            window share their weight, as behind an average pool; None adds up the window, channel by channel (I = O).
        groups: input and output channels are divided into so many groups, each with connections within it only.
        channels: (I,) int64, the source's channel that each input channel is; None: all of them in order.
        targets: (O,) int64, the target's channel that each output channel is added to, no two alike; None: as it is.
    """

    source: str
    window: Window
    scale: np.ndarray
    weight: np.ndarray | None = None
    groups: int = 1
    channels: np.ndarray | None = None
    targets: np.ndarray | None = None

    @property
    def outputs(self) -> int:
        """O, output channels."""
        return len(self.scale)

    @property
    def inputs(self) -> int:
        """I, input channels."""
        return self.outputs if self.weight is None else self.weight.shape[1] * self.groups

    @property
    def shares_taps(self) -> bool:
        """Whether a window of several taps has one weight for all of them, or none."""
        return self.window.kernel != (1, 1) and (self.weight is None or self.weight.shape[2:] == (1, 1))

    @cached_property
    def largest_sums(self) -> np.ndarray:
        """(O,) int64, sum of absolute weights over the inputs of a neuron: what inputs of -1, 0, 1 can add."""
        if self.weight is None:
            return np.full(self.outputs, prod(self.window.kernel), np.int64)
        sums: np.ndarray = np.abs(self.weight.astype(np.int64)).sum((1, 2, 3))
        return sums * (prod(self.window.kernel) if self.shares_taps else 1)

    def macs(self, positions: int) -> int:
        """Multiply-accumulates at so many positions, padding included as dense hardware computes it."""
        return 0 if self.weight is None else self.weight.size * positions


@dataclass(frozen=True, eq=False)
class Neurons:
    """A population of spiking neurons. At rest its net counts are clip(floor((z - base) / theta), low, high).

    Attributes:
        name: of the node; for converted models the module path of the quantiser.
        shape: (channels, height, width).
        synapses: what is added up in its potentials.
        theta, base: (channels,) int64, threshold, at least 1, and base.
        low, high: smallest and largest net spike count, low <= 0 <= high; None where there is no bound.
        step: activation that one net spike stands for.
    """

    name: str
    shape: Shape
    synapses: tuple[Synapses, ...]
    theta: np.ndarray
    base: np.ndarray
    low: int | None = 0
    high: int | None = None
    step: float = 1.0

    @property
    def neurons(self) -> int:
        """How many."""
        return prod(self.shape)


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Passes on by how much the largest count of each window has changed: -1, 0 or +1 in a step. It has no neurons.

    Attributes:
        name: of the node.
        shape: (channels, height, width).
        source: neurons or a max pool.
        window: each one sees at least one input.
    """

    name: str
    shape: Shape
    source: str
    window: Window


@dataclass(frozen=True, eq=False)
class Sum:
    """Accumulators that several populations or sums read, each through a scale of its own. It has no neurons.

    It emits what was added to it in this step, any integer, and is read by synapses without weights.

    Attributes:
        name: of the node.
        shape: (channels, height, width).
        synapses: what is added up.
    """

    name: str
    shape: Shape
    synapses: tuple[Synapses, ...]


@dataclass(frozen=True, eq=False)
class Readout:
    """Adds up the logits, without spikes. The prediction is the class with the largest, the lowest index among equals.

    Attributes:
        name: of the node.
        shape: (classes, 1, 1).
        synapses: what is added up.
        bias: (classes,) int64, what the logits start at.
        unit: what one unit of a logit stands for, in the model's units.
    """

    name: str
    shape: Shape
    synapses: tuple[Synapses, ...]
    bias: np.ndarray
    unit: float = 1.0


# What synapses lead to.
Layer = Neurons | Sum | Readout
Node = Layer | MaxPool


def sources(node: Node) -> list[str]:
    """Names of the nodes that a node listens to."""
    return [node.source] if isinstance(node, MaxPool) else [synapses.source for synapses in node.synapses]
