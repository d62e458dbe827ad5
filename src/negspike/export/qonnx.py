"""The integer quantised ANN as ONNX with QONNX's MultiThreshold and Im2Col (docs/export.md).

It is a graph of matrix products of integers, channels last, as compilers for FPGAs lower convolutions. All tensors are
float64 with the integer type that suffices annotated; that no sum leaves the 53 bits in which that is exact is proved.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from negspike.errors import InputError
from negspike.export import package
from negspike.files import atomic_path
from negspike.spiking.bounds import FLOAT64_EXACT
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Readout, Shape, Sum, Synapses, Window

# Of a pixel with its 16 fractional bits, sign included: values below 128.
INPUT_BITS = 24
MOST_LEVELS = 1 << 16
MOST_BYTES = (1 << 31) - (1 << 24)  # of a protocol buffer, and some for the graph
OPSET, DOMAIN = 11, "qonnx.custom_op.general"
_NHWC, _NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


def write(network: SpikingNetwork, path: Path | str) -> None:
    """Write the network at rest as an ONNX model with QONNX operators and annotations, for one image at a time; atomic.

    Input is ``input``, (1, channels, height, width) integers as :meth:`negspike.SpikingNetwork.encode` makes them;
    output are the logits, (1, classes) integers, under the readout's name. Each population's counts are the tensor of
    its name, (1, height, width, channels).

    Raises:
        InputError: onnx or qonnx are not installed, a population has no bounds, or a sum could leave 53 bits.
    """
    model = build(network)
    with atomic_path(path) as temporary:
        model.save(str(temporary))


def build(network: SpikingNetwork) -> Any:
    """The ``qonnx.core.modelwrapper.ModelWrapper`` of a network.

    Raises:
        InputError: as :func:`write`.
    """
    builder = _Builder(network)
    for node in network.nodes:
        if isinstance(node, MaxPool):
            builder.max_pool(node)
        elif isinstance(node, Neurons):
            builder.neurons(node)
        elif isinstance(node, Readout):
            builder.readout(node)
        else:
            builder.emitted[node.name] = builder.sum(node)[0]
    return builder.model()


class _Builder:
    """Operators, constants and annotations, in the order of the nodes."""

    def __init__(self, network: SpikingNetwork) -> None:
        self.network, self.onnx = network, package("onnx")
        self.operators: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        largest = (1 << INPUT_BITS - 1) - 1
        self.shapes: dict[str, tuple[int, ...]] = {INPUT: (1, *network.input_shape)}
        self.ranges: dict[str, tuple[int, int]] = {INPUT: (-largest, largest)}
        # the tensor with what a node emits, channels last, by the node's name
        self.emitted = {INPUT: self._add("Transpose", INPUT, f"{INPUT}:last", _last(network.input_shape), perm=_NHWC)}

    def model(self) -> Any:
        """All of it as a model."""
        basic, wrapper, types = (
            package(f"qonnx.{name}") for name in ("util.basic", "core.modelwrapper", "core.datatype")
        )
        helper, readout = self.onnx.helper, self.network.readout
        if sum(one.nbytes for one in self.constants.values()) > MOST_BYTES:
            raise InputError("the network's weights are more than the 2 GB that an ONNX file holds")
        double = self.onnx.TensorProto.DOUBLE
        named = {name: helper.make_tensor_value_info(name, double, shape) for name, shape in self.shapes.items()}
        ends = [named.pop(INPUT)], [named.pop(readout.name)]
        constants = [self.onnx.numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.operators, "negspike", *ends, constants, value_info=list(named.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
        model = wrapper.ModelWrapper(basic.qonnx_make_model(graph, opset_imports=opsets))
        for name, between in self.ranges.items():
            model.set_tensor_datatype(name, types.DataType[_integer(*between)])
        meaning = {
            "image_fraction_bits": self.network.image_fraction_bits,
            "unit": readout.unit,
            "origin": dict(self.network.origin),
        }
        model.set_metadata_prop("negspike", json.dumps(meaning, sort_keys=True, allow_nan=False))
        return model

    def max_pool(self, node: MaxPool) -> None:
        """Of counts; where padding is as wide as the kernel, which ONNX refuses, the least count stands for nothing."""
        window, shape, x = node.window, self.network.shapes[node.source], self.emitted[node.source]
        if any(max(sides) >= kernel for sides, kernel in zip(window.padding, window.kernel, strict=True)):
            x, shape, window = self._padded(node.name, x, shape, window, fill=self.ranges[x][0])
        x = self._add("Transpose", x, f"{node.name}:first", (1, *shape), perm=_NCHW)
        (top, bottom), (left, right) = window.padding
        geometry = {"kernel_shape": window.kernel, "strides": window.stride, "dilations": window.dilation}
        pads = [top, left, bottom, right]
        x = self._add("MaxPool", x, f"{node.name}:pooled", (1, *node.shape), pads=pads, **geometry)
        self.emitted[node.name] = self._add("Transpose", x, node.name, _last(node.shape), perm=_NHWC)

    def neurons(self, node: Neurons) -> None:
        """floor((z - base) / theta) >= n where z >= base + n theta; z is a sum, or divisor times a sum."""
        low, high = node.low, node.high
        if low is None or high is None or high - low > MOST_LEVELS:
            found = "no bound" if low is None or high is None else f"{high - low:,} levels"
            raise InputError(
                f"{node.name}: its counts have {found}, and a MultiThreshold lists each of its thresholds, "
                f"{MOST_LEVELS:,} at most; quantise with levels, or give --levels-cap"
            )
        total, divisors = self.sum(node, fold=len(node.synapses) == 1)
        most = self._largest(total)
        channels = list(zip(node.base.tolist(), node.theta.tolist(), divisors.tolist(), strict=True))
        never = [[most + 1]] * len(channels)  # of a population that has one count only
        rows = [[-((-base - n * theta) // by) for n in range(low + 1, high + 1)] for base, theta, by in channels]
        values = np.array([[min(max(value, -most), most + 1) for value in row] for row in rows if row] or never)
        thresholds = self._constant(f"{node.name}:thresholds", values)
        attributes = {"out_dtype": _integer(low, high), "out_bias": float(low), "data_layout": "NHWC"}
        shape, between = _last(node.shape), (low, high)
        self.emitted[node.name] = node.name
        self._add("MultiThreshold", total, node.name, shape, thresholds, between=between, **attributes)

    def readout(self, node: Readout) -> None:
        """The logits, (1, classes)."""
        total, bias = self.sum(node)[0], self._constant(f"{node.name}:bias", node.bias)
        most = self._largest(total) + int(np.abs(node.bias).max())
        total = self._add("Add", total, f"{node.name}:biased", _last(node.shape), bias, between=(-most, most))
        shape = self._constant(f"{node.name}:shape", np.array([1, node.shape[0]]), np.int64)
        self._add("Reshape", total, node.name, (1, node.shape[0]), shape)

    def sum(self, node: Neurons | Sum | Readout, *, fold: bool = False) -> tuple[str, np.ndarray]:
        """What arrives at a node, and by what each of its channels is divided: ``fold`` leaves scales to thresholds."""
        total, divisors = "", np.ones(node.shape[0], np.int64)
        reached = np.zeros(node.shape[0], object)  # what the sum of each channel can come to, in absolute value
        for number, synapses in enumerate(node.synapses):
            name, scale = f"{node.name}:{number}", np.zeros(node.shape[0], np.int64)
            at = slice(None) if synapses.targets is None else synapses.targets
            scale[at] = synapses.scale
            x, source = self._seen(name, synapses), self.network.shapes[synapses.source]
            matrix = _matrix(synapses, source[0], node.shape[0])
            most = self._largest(self.emitted[synapses.source]) * synapses.largest_sums.astype(object)
            if fold and (matrix is not None or (scale > 0).all()):
                matrix = None if matrix is None else matrix * np.sign(scale)
                divisors, scale = np.maximum(np.abs(scale), 1), divisors
            if matrix is not None:
                weight = self._constant(f"{name}:weight", matrix)
                x = self._add("MatMul", x, f"{name}:sum", _last(node.shape), weight, between=(-max(most), max(most)))
            if (scale != 1).any():
                most = most * np.abs(scale[at])
                factor = self._constant(f"{name}:scale", scale)
                x = self._add("Mul", x, f"{name}:scaled", _last(node.shape), factor, between=(-max(most), max(most)))
            reached[at] += most
            between = (-max(reached), max(reached))
            total = self._add("Add", total, f"{name}:total", _last(node.shape), x, between=between) if total else x
        return total, divisors

    def _seen(self, name: str, synapses: Synapses) -> str:
        """What the windows of a synapse see, (1, height, width, taps * channels), or the sums of the taps."""
        x, window, shape = self.emitted[synapses.source], synapses.window, self.network.shapes[synapses.source]
        if window.is_point:
            return x
        height, width = window.out_size(*shape[1:])
        taps = prod(window.kernel)
        if min(shape[1:]) == 1 and (max(window.padding[0]) or max(window.padding[1])):
            x, shape, window = self._padded(name, x, shape, window, fill=0)  # Im2Col takes a size of 1 for no axis
        seen = (1, height, width, taps * shape[0])
        if window.kernel == shape[1:] and window.padding == ((0, 0), (0, 0)):
            x = self._reshape(x, f"{name}:flat", seen)
        else:
            (top, bottom), (left, right) = window.padding
            attributes = {"kernel_size": window.kernel, "stride": window.stride, "dilations": window.dilation}
            placed: dict[str, Any] = {"pad_amount": (top, left, bottom, right), "input_shape": str(_last(shape))}
            x = self._add("Im2Col", x, f"{name}:windows", seen, **attributes, **placed)
        if taps == 1 or not (synapses.weight is None or synapses.shares_taps):
            return x
        x = self._reshape(x, f"{name}:taps", (1, height, width, taps, shape[0]))
        between = (taps * self.ranges[x][0], taps * self.ranges[x][1])
        result = f"{name}:pooled"
        return self._add("ReduceSum", x, result, (1, height, width, shape[0]), between=between, axes=[3], keepdims=0)

    def _padded(self, name: str, x: str, shape: Shape, window: Window, *, fill: int) -> tuple[str, Shape, Window]:
        (top, bottom), (left, right) = window.padding
        shape = (shape[0], shape[1] + top + bottom, shape[2] + left + right)
        pads = self._constant(f"{name}:pads", np.array([0, top, left, 0, 0, bottom, right, 0]), np.int64)
        value = self._constant(f"{name}:fill", np.array(fill))
        x = self._add("Pad", x, f"{name}:padded", _last(shape), pads, value)
        return x, shape, Window(window.kernel, window.stride, dilation=window.dilation)

    def _largest(self, name: str) -> int:
        return max(map(abs, self.ranges[name]))

    def _reshape(self, x: str, output: str, shape: tuple[int, ...]) -> str:
        return self._add("Reshape", x, output, shape, self._constant(f"{output}:shape", np.array(shape), np.int64))

    def _constant(self, name: str, value: np.ndarray, kind: type[np.generic] = np.float64) -> str:
        self.constants[name] = value.astype(kind)
        if kind is np.float64:
            self.ranges[name] = int(value.min()), int(value.max())
        return name

    def _add(
        self,
        operator: str,
        x: str,
        output: str,
        shape: tuple[int, ...],
        *others: str,
        between: tuple[int, int] | None = None,
        **attributes: Any,
    ) -> str:
        """An operator on x and others; the range of its output is that of x, or ``between``. Returns the output."""
        self.ranges[output] = between or self.ranges[x]
        if self._largest(output) + 1 >= FLOAT64_EXACT:
            bits = self._largest(output).bit_length()
            raise InputError(
                f"{output.partition(':')[0]}: its sums may have {bits} bits, float64 is exact up to 53; "
                "convert with fewer weight_bits"
            )
        domain = DOMAIN if operator in ("Im2Col", "MultiThreshold") else ""
        make = self.onnx.helper.make_node
        self.operators.append(make(operator, [x, *others], [output], name=output, domain=domain, **attributes))
        self.shapes[output] = shape
        return output


def _last(shape: Shape) -> tuple[int, int, int, int]:
    """(channels, height, width) as one image with its channels last."""
    return (1, *shape[1:], shape[0])


def _integer(low: int, high: int) -> str:
    """QONNX's name of the least type of integers that holds these."""
    if low < 0:
        return f"INT{max((-low - 1).bit_length(), high.bit_length()) + 1}"
    return "BINARY" if high <= 1 else f"UINT{high.bit_length()}"


def _matrix(synapses: Synapses, sources: int, targets: int) -> np.ndarray | None:
    """(taps * source channels, target channels) int64, of groups and chosen channels too; None is the identity."""
    weight = synapses.weight
    if weight is None:
        if synapses.channels is None and synapses.targets is None:
            return None
        weight = np.eye(synapses.outputs, dtype=np.int64)[:, :, None, None]
    rows = np.arange(sources) if synapses.channels is None else synapses.channels
    columns = np.arange(targets) if synapses.targets is None else synapses.targets
    taps = weight.astype(np.int64).transpose(2, 3, 1, 0)
    full = np.zeros((*taps.shape[:2], sources, targets), np.int64)
    for some_rows, some_columns, part in zip(
        np.split(rows, synapses.groups),
        np.split(columns, synapses.groups),
        np.split(taps, synapses.groups, 3),
        strict=True,
    ):
        for number, row in enumerate(some_rows):  # a channel may be chosen twice
            full[:, :, row, some_columns] += part[:, :, number]
    return full.reshape(-1, targets)
