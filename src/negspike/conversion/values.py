"""Between operations and nodes: tensors whose axes lie on a signal, and nodes of the network in real numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from negspike.conversion.signals import POINT, Signal
from negspike.errors import InputError
from negspike.spiking.nodes import Shape, Window


@dataclass(frozen=True, eq=False)
class FloatNode:
    """A node of the network in real numbers.

    Attributes:
        kind: ``neurons``, ``maxpool``, ``sum`` or ``readout``.
        name: of the node.
        signal: what it reads; a max pool its one source, point by point.
        step, low, high: of neurons.
        window: of a max pool.
        operation: that rounds as these neurons do; of neurons that the model does not have, none.
        pools: max pools that the model has before that operation, and the network behind the neurons, as in a signal.
    """

    kind: str
    name: str
    signal: Signal
    step: float = 1.0
    low: int | None = None
    high: int | None = None
    window: Window = POINT
    operation: str = ""
    pools: tuple[tuple[Window, np.ndarray], ...] = ()

    @property
    def shape(self) -> Shape:
        """(channels, height, width) of what it emits."""
        channels, height, width = self.signal.shape
        return (channels, *(self.window.out_size(height, width) if self.kind == "maxpool" else (height, width)))

    def pooled(self, counts: np.ndarray) -> np.ndarray:
        """(N, channels, height, width) integers behind the max pools."""
        for window, largest in self.pools:
            signs = np.where(largest, 1, -1)[:, None, None]
            counts = signs * window.largest(signs * counts)
        return counts


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the model: a signal, and how the tensor's axes lie on it.

    Attributes:
        signal: (channels, height, width).
        index: the signal's channels along the tensor's axes before height and width.
        axes: how many of height and width are axes: both; the width alone, of signals along a line, whose height is 1;
            or none, where both are 1, or ``flat``.
        flat: channels, height and width are one axis.
    """

    signal: Signal
    index: np.ndarray
    axes: int = 2
    flat: bool = False

    @classmethod
    def of(cls, signal: Signal, *, axes: int = 2) -> Value:
        """The tensor that is the signal."""
        return cls(signal, np.arange(signal.shape[0]), axes)

    def plain(self) -> Signal:
        """The signal with channels in the tensor's order."""
        order = self.index.reshape(-1)
        return self.signal if np.array_equal(order, np.arange(self.signal.shape[0])) else self.signal.picked(order)

    def like(self, signal: Signal) -> Value:
        """Another signal, channels in order, with the axes of this one."""
        return Value(signal, np.arange(signal.shape[0]).reshape(self.index.shape), self.axes, self.flat)

    def reshaped(self, shape: tuple[int, ...]) -> Value:
        """With other axes; only channels may be divided or joined, or everything joined to one axis.

        Raises:
            InputError: anything else.
        """
        size, count = self.signal.out_shape[1:], self.index.size
        if self.flat:
            return self if shape == (count * prod(size),) else replace(self, axes=2, flat=False).reshaped(shape)
        if len(shape) == 1 and prod(size) > 1 and self.axes and shape[0] == count * prod(size):
            return replace(self, index=self.index.reshape(-1), axes=0, flat=True)
        if len(shape) + self.axes > 3 and shape[-2:] == size and prod(shape[:-2]) == count:
            return replace(self, index=self.index.reshape(shape[:-2]), axes=2)
        line = self.axes == 1 or (self.axes == 2 and size[0] == 1 and size[1] > 1)
        if line and shape[-1:] == size[1:] and prod(shape[:-1]) == count:
            return replace(self, index=self.index.reshape(shape[:-1]), axes=1)
        if prod(size) == 1 and prod(shape) == count:
            axes = 2 if len(shape) > 2 and shape[-2:] == (1, 1) else 0
            return replace(self, index=self.index.reshape(shape[:-2] if axes else shape), axes=axes)
        raise InputError(
            f"a reshape from {self.signal.out_shape} to {shape} an image cannot be converted: channels can be divided "
            "or joined, or everything flattened"
        )
