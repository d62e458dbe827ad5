"""Topology strings such as ``96C3-256C3-P2-1024``: parsing, shapes, neuron and operation counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil, isfinite, prod

from negspike.errors import InputError

Shape = tuple[int, int, int]

# No number of more than seven digits: what is longer is a slip of the keyboard, and past 4,300 int() refuses it.
_TOKEN = re.compile(
    r"(?P<outputs>[1-9]\d{0,6})C(?P<kernel>[1-9]\d{0,6})|P(?P<pool>[2-9]|[1-9]\d{1,6})|(?P<units>[1-9]\d{0,6})",
    re.ASCII,
)
_GRAMMAR = "96C3 (convolution, 96 outputs, 3x3), P2 (learned 2x2 pooling) or 1024 (fully connected)"


@dataclass(frozen=True)
class Layer:
    """One spiking layer. Every layer is a convolution; a fully connected one has a kernel as large as its input.

    Attributes:
        token: the text it was parsed from.
        kind: ``"convolution"``, ``"pooling"`` or ``"dense"``.
        in_shape: input as (channels, height, width).
        out_shape: output as (channels, height, width).
        kernel: (height, width) of the window.
        stride: step between windows, the same in both directions.
        padding: zeros around the input as ((top, bottom), (left, right)).
    """

    token: str
    kind: str
    in_shape: Shape
    out_shape: Shape
    kernel: tuple[int, int]
    stride: int
    padding: tuple[tuple[int, int], tuple[int, int]]

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(outputs, inputs, kernel height, kernel width)."""
        return (self.out_shape[0], self.in_shape[0], *self.kernel)

    @property
    def neurons(self) -> int:
        """Number of outputs, each of them a neuron."""
        return prod(self.out_shape)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image in the reference ANN, padding included as dense hardware computes it."""
        return prod(self.weight_shape) * self.out_shape[1] * self.out_shape[2]


@dataclass(frozen=True)
class Topology:
    """A parsed topology: the spiking layers and the classifier behind them.

    Attributes:
        text: the topology string.
        input_shape: image as (channels, height, width).
        layers: the spiking layers, first to last.
        classes: outputs of the classifier.
        padding: ``"same"`` or ``"valid"``, for convolutions and learned pooling alike.
        width: multiplier of every number of outputs.
    """

    text: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    classes: int
    padding: str
    width: float

    @property
    def features(self) -> int:
        """Inputs of the classifier, in channel-major (C, H, W) order."""
        return self.layers[-1].neurons

    @property
    def neurons(self) -> int:
        """Outputs of all spiking layers (docs/counting.md)."""
        return sum(layer.neurons for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates an image, of all layers but the first, classifier included (docs/counting.md)."""
        return sum(layer.macs for layer in self.layers[1:]) + self.features * self.classes

    @property
    def reference_operations(self) -> int:
        """Additions an image of the reference ANN: a multiplication counts as two, so 3 a multiply-accumulate."""
        return 3 * self.macs


def _extent(size: int, kernel: int, stride: int, padding: str) -> tuple[int, tuple[int, int]]:
    """Output size and (before, after) padding along one axis; ``same`` gives ceil(size / stride), as in TensorFlow."""
    if padding == "valid":
        return (size - kernel) // stride + 1, (0, 0)
    out = ceil(size / stride)
    total = max((out - 1) * stride + kernel - size, 0)
    return out, (total // 2, total - total // 2)


def parse_topology(
    text: str, input_shape: Shape, padding: str = "same", width: float = 1.0, classes: int = 10
) -> Topology:
    """Parse a topology string (docs/configuration.md).

    Args:
        text: tokens joined by ``-``: ``96C3`` convolution with 96 outputs and a 3x3 window, stride 1; ``P2`` learned
            2x2 convolution of stride 2 with as many outputs as inputs; ``1024`` fully connected.
        input_shape: image as (channels, height, width).
        padding: ``"same"`` or ``"valid"``.
        width: multiplies every number of outputs, rounded (halves to even), at least 1.
        classes: outputs of the classifier, which the string does not name.

    Raises:
        InputError: an unknown token (the message points at it), a convolution behind a fully connected layer, or a
            window larger than the image that reaches it.
    """
    if not isinstance(padding, str) or padding not in ("same", "valid"):
        raise InputError(f"padding {padding!r} is unknown: it is 'same' or 'valid'")
    if not (width > 0 and isfinite(width)):
        raise InputError(f"width {width!r} must be a number above 0")
    layers: list[Layer] = []
    shape = input_shape
    position = 0
    for token in str(text).split("-"):
        shown = [each if len(each) <= 200 else f"{each[:200]}..." for each in (str(text), token)]
        where = f"topology {shown[0]!r}, token {shown[1]!r} at character {position + 1}"
        position += len(token) + 1
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise InputError(f"{where}: a token is {_GRAMMAR}, joined by '-'")
        channels, height, columns = shape
        if match["units"]:
            layer = Layer(
                token,
                "dense",
                shape,
                (_scaled(match["units"], width), 1, 1),
                (height, columns),
                1,
                ((0, 0), (0, 0)),
            )
        else:
            if layers and layers[-1].kind == "dense":
                raise InputError(f"{where}: a window cannot follow the fully connected layer '{layers[-1].token}'")
            pooling = match["pool"] is not None
            size = int(match["pool"] or match["kernel"])
            if size > min(height, columns) and (pooling or padding == "valid"):
                raise InputError(
                    f"{where}: a {size}x{size} window does not fit the {height}x{columns} image that reaches it;"
                    " the net is too deep for its image size"
                )
            stride = size if pooling else 1
            out_height, pad_height = _extent(height, size, stride, padding)
            out_columns, pad_columns = _extent(columns, size, stride, padding)
            outputs = channels if pooling else _scaled(match["outputs"], width)
            layer = Layer(
                token,
                "pooling" if pooling else "convolution",
                shape,
                (outputs, out_height, out_columns),
                (size, size),
                stride,
                (pad_height, pad_columns),
            )
        layers.append(layer)
        shape = layer.out_shape
    return Topology(str(text), input_shape, tuple(layers), classes, padding, width)


def _scaled(outputs: str, width: float) -> int:
    return max(1, round(int(outputs) * width))
