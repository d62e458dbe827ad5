"""What each operation of PyTorch means to the converter: one entry an operation, by its name in the exported graph.

Quantisers and activation functions have a table of their own, :mod:`negspike.conversion.activations`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor, prod
from typing import Any

import numpy as np
import torch

from negspike.conversion.activations import ACTIVATIONS, truth
from negspike.conversion.calls import Activation, Call, Chain, Comparison, Entry
from negspike.conversion.windows import matrix
from negspike.spiking.nodes import Pair, Window, image_shape


def _pair(call: Call, name: str, *, flat: int = 1) -> Pair:
    """An argument along (height, width); ``flat`` is the height's where the operation is on lines."""
    value = call.arguments[name]
    sizes = [int(one) for one in (value if isinstance(value, list | tuple) else [value])]
    return (flat if _is_on_lines(call) else sizes[0], sizes[-1])


def _is_on_lines(call: Call) -> bool:
    """Whether it takes (N, channels, length) in place of (N, channels, height, width)."""
    return "1d" in call.short


def _size(shape: tuple[int, ...]) -> Pair:
    """(height, width) of a tensor, of lines (1, length)."""
    return image_shape(shape)[1:]


# --- linear maps ----------------------------------------------------------------------------------------------------


def _convolution(call: Call) -> Entry:
    x, weight, bias = call.activation("input"), call.constant("weight"), call.constant("bias")
    assert weight is not None
    if _is_on_lines(call):
        weight = weight[:, :, None]
    stride, dilation = _pair(call, "stride"), _pair(call, "dilation")
    if call.arguments["padding"] == "same":
        total = [dilation[axis] * (weight.shape[2 + axis] - 1) for axis in (0, 1)]
        sides = [(size // 2, size - size // 2) for size in total]
    else:
        valid = call.arguments["padding"] == "valid"
        sides = [(size, size) for size in ((0, 0) if valid else _pair(call, "padding", flat=0))]
    window = Window((weight.shape[2], weight.shape[3]), stride, (sides[0], sides[1]), dilation)
    return "conv", [x], {"weight": weight, "bias": bias, "window": window, "groups": int(call.arguments["groups"])}


def _linear(call: Call) -> Entry:
    return "linear", [call.activation("input")], {"weight": call.constant("weight"), "bias": call.constant("bias")}


def _batch_norm(call: Call) -> Entry:
    x = call.activation("input")
    if call.arguments.get("training") or call.arguments.get("use_input_stats"):
        raise call.refuse(
            "batch norm in training mode depends on the other images, in an evaluated model too: give it running "
            "statistics, and training=self.training where it is a function"
        )
    mean, var = call.constant("running_mean"), call.constant("running_var")
    if mean is None or var is None:
        raise call.refuse("batch norm without running statistics depends on the other images of a batch")
    gamma, beta = call.constant("weight"), call.constant("bias")
    gamma = np.ones_like(mean) if gamma is None else gamma
    if (var + call.arguments["eps"] <= 0).any():
        raise call.refuse("var + eps of batch norm must be above 0")
    sigma = np.sqrt(var + call.arguments["eps"])
    shift = (0 if beta is None else beta) - gamma * mean / sigma
    return "affine", [x], {"numerator": gamma, "denominator": sigma, "shift": shift}


def _per_channel(call: Call, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A constant operand as one number a channel."""
    constant = call.constant(name)
    assert constant is not None
    channels = shape[0]
    try:
        full = np.broadcast_to(constant, (1, *shape))[0].reshape(channels, -1)
    except ValueError:
        raise call.refuse(f"{call.short} with a constant of shape {constant.shape} does not fit {shape}") from None
    if (full != full[:, :1]).any():
        raise call.refuse(f"{call.short} with a constant that differs within a channel cannot be converted")
    factors: np.ndarray = full[:, 0].copy()
    return factors


def _scale(call: Call, x: Activation, numerator: Any = 1.0, denominator: Any = 1.0, shift: Any = 0.0) -> Entry:
    values = {"numerator": numerator, "denominator": denominator, "shift": shift}
    return "affine", [x], {name: np.broadcast_to(value, x.shape[0]).astype(float) for name, value in values.items()}


def _sides(call: Call) -> tuple[Any, Any]:
    return call.argument("self"), call.argument("other")


def _add(call: Call, sign: float = 1.0) -> Entry:
    x, y = _sides(call)
    alpha = sign * float(call.arguments.get("alpha", 1))
    if isinstance(x, Activation) and isinstance(y, Activation):
        if x.shape != y.shape:
            raise call.refuse(f"{call.short} of shapes {x.shape} and {y.shape}: only equal shapes can be converted")
        return "add", [x, y], {"factors": (1.0, alpha)}
    if isinstance(x, Activation):
        return _scale(call, x, shift=alpha * _per_channel(call, "other", x.shape))
    return _scale(call, y, numerator=alpha, shift=_per_channel(call, "self", y.shape))


def _reversed_subtraction(call: Call) -> Entry:
    x = call.activation("self")
    alpha = float(call.arguments.get("alpha", 1))
    return _scale(call, x, numerator=-alpha, shift=_per_channel(call, "other", x.shape))


def _multiply(call: Call) -> Entry:
    x, y = _sides(call)
    if isinstance(x, Activation) and isinstance(y, Activation):
        raise call.refuse("the product of two activations (squeeze and excitation, attention) cannot be converted")
    if isinstance(x, Activation):
        return _scale(call, x, numerator=_per_channel(call, "other", x.shape))
    return _scale(call, y, numerator=_per_channel(call, "self", y.shape))


def _divide(call: Call) -> Entry:
    x = call.activation("self")
    if call.arguments.get("rounding_mode"):
        raise call.refuse("a division that rounds cannot be converted")
    divisor = _per_channel(call, "other", x.shape)
    if (divisor == 0).any():
        raise call.refuse("division by 0")
    return _scale(call, x, denominator=divisor)


def _zero_pad(call: Call) -> Entry:
    x, padding = call.activation("self"), [int(size) for size in call.arguments["pad"]]
    if call.arguments.get("mode", "constant") != "constant" or (call.arguments.get("value") or 0) != 0:
        raise call.refuse("only padding with zeros can be converted")
    axes = len(x.shape) - 1
    if min(padding) < 0 or any(padding[2 * axes :]) or not axes:
        raise call.refuse(f"padding {padding} crops or goes beyond height and width; it cannot be converted")
    left, right, top, bottom = (*padding, 0, 0)[:4]
    return "pad", [x], {"window": Window(padding=((top, bottom), (left, right)))}


# --- pools ----------------------------------------------------------------------------------------------------------


def _window(call: Call, sizes: Pair) -> Window:
    """The window of a pool; in ceil_mode the last one may reach over the edge."""
    kernel, before = _pair(call, "kernel_size"), _pair(call, "padding", flat=0)
    stride = _pair(call, "stride") if call.arguments["stride"] else kernel
    dilation = _pair(call, "dilation") if "dilation" in call.arguments else (1, 1)
    sides = []
    for axis, (size, outputs) in enumerate(zip(sizes, _size(call.shape), strict=True)):
        over = (outputs - 1) * stride[axis] + dilation[axis] * (kernel[axis] - 1) + 1 - size - before[axis]
        sides.append((before[axis], max(over, 0) if call.arguments["ceil_mode"] else before[axis]))
    return Window(kernel, stride, (sides[0], sides[1]), dilation)


def _pooled(call: Call) -> Activation:
    """What a pool reads."""
    x = call.activation("self")
    axes = "(N, channels, length)" if _is_on_lines(call) else "(N, channels, height, width)"
    if len(x.shape) != axes.count(","):
        raise call.refuse(f"{call.short} takes {axes}, not {len(x.shape)} axes an image")
    return x


def _max_pool(call: Call) -> Entry:
    x = _pooled(call)
    return "maxpool", [x], {"window": _window(call, _size(x.shape))}


def _adaptive_max_pool(call: Call) -> Entry:
    x = _pooled(call)
    kernel = _even(x, _size(call.shape))
    if kernel is None:
        raise call.refuse(
            f"{_size(x.shape)} into {_size(call.shape)} makes windows of different sizes; it cannot be converted"
        )
    return "maxpool", [x], {"window": Window(kernel, kernel)}


def _largest(call: Call) -> Entry:
    x = _whole_images(call)
    return "maxpool", [x], {"window": Window(_size(x.shape))}


def _average_pool(call: Call) -> Entry:
    x = _pooled(call)
    sizes, outputs = _size(x.shape), _size(call.shape)
    window, fixed = _window(call, sizes), call.arguments.get("divisor_override")
    padding, spans = _pair(call, "padding", flat=0), []
    for axis in (0, 1):
        size, extra = sizes[axis], padding[axis]
        starts = np.arange(outputs[axis]) * window.stride[axis] - extra
        if call.arguments["count_include_pad"]:
            stops = np.minimum(starts + window.kernel[axis], size + extra)
        else:
            stops = np.minimum(starts + window.kernel[axis], size)
            starts = np.maximum(starts, 0)
        spans.append(stops - starts)
    divisors = np.outer(*spans) if fixed is None else np.array([[fixed]])
    if (divisors == divisors.flat[0]).all():
        return "avgpool", [x], {"window": window, "divisor": float(divisors.flat[0])}
    taps = [matrix(window, axis, sizes[axis], outputs[axis]) / spans[axis][:, None] for axis in (0, 1)]
    return "spread", [x], {"rows": taps[0], "columns": taps[1]}


def _even(x: Activation, outputs: Pair) -> Pair | None:
    """The windows that divide height and width into so many equal parts; None where they do not."""
    height, width = _size(x.shape)
    even = height % outputs[0] == 0 and width % outputs[1] == 0
    return (height // outputs[0], width // outputs[1]) if even else None


def _adaptive(x: Activation, outputs: Pair) -> Entry:
    """The pool that gives ``outputs``: windows of one size where that divides the input's, else one matrix an axis."""
    kernel = _even(x, outputs)
    if kernel is not None:
        return "avgpool", [x], {"window": Window(kernel, kernel), "divisor": float(prod(kernel))}
    matrices = []
    for size, number in zip(_size(x.shape), outputs, strict=True):
        matrix = np.zeros((number, size))
        for place in range(number):
            start, stop = floor(place * size / number), ceil((place + 1) * size / number)
            matrix[place, start:stop] = 1 / (stop - start)
        matrices.append(matrix)
    return "spread", [x], {"rows": matrices[0], "columns": matrices[1]}


def _adaptive_average_pool(call: Call) -> Entry:
    return _adaptive(_pooled(call), _size(call.shape))


def _whole_images(call: Call) -> Activation:
    """What is reduced over height and width, or the length of lines."""
    x = call.activation("self")
    axes = sorted(axis % (len(x.shape) + 1) for axis in call.arguments["dim"] or [])
    if axes not in ([2], [2, 3]) or len(axes) != len(x.shape) - 1:
        raise call.refuse(f"{call.short} can be converted over height and width alone, both of them")
    return x


def _mean(call: Call) -> Entry:
    return _adaptive(_whole_images(call), (1, 1))


def _total(call: Call) -> Entry:
    x = _whole_images(call)
    return "avgpool", [x], {"window": Window(_size(x.shape)), "divisor": 1.0}


# --- routing --------------------------------------------------------------------------------------------------------


def _same(call: Call) -> Entry:
    if call.short.endswith("dropout") and call.arguments.get("train"):
        raise call.refuse("dropout in training mode is random, in an evaluated model too: write training=self.training")
    return "reshape", [call.activation(next(iter(call.arguments)))], {}


def _cast(call: Call) -> Entry | Chain:
    kind, compared = call.arguments.get("dtype"), call.arguments["self"]
    if isinstance(other := call.arguments.get("other"), torch.Tensor):
        kind = other.dtype
    if isinstance(compared, Comparison):
        return truth(call, compared)
    if isinstance(kind, torch.dtype) and not kind.is_floating_point:
        raise call.refuse(f"a conversion to {kind} rounds towards 0; write torch.floor or torch.round")
    return _same(call)


def _permute(call: Call) -> Entry:
    x = call.activation("self")
    axes = list(range(len(x.shape) + 1))
    if "dims" in call.arguments:
        axes = [axis % len(axes) for axis in call.arguments["dims"]]
    else:
        a, b = call.arguments["dim0"] % len(axes), call.arguments["dim1"] % len(axes)
        axes[a], axes[b] = axes[b], axes[a]
    if axes[0] != 0:
        raise call.refuse(f"{call.short} moves the batch; keep the first axis as it is")
    return "permute", [x], {"axes": tuple(axis - 1 for axis in axes[1:])}


def _shuffle(call: Call) -> Entry:
    x, groups = call.activation("self"), int(call.arguments["groups"])
    order = np.arange(x.shape[0]).reshape(groups, -1).T.reshape(-1)
    return "pick", [x], {"axis": 0, "index": order}


def _axis(call: Call, x: Activation) -> int:
    axis = int(call.arguments.get("dim", 0)) % (len(x.shape) + 1)
    if axis == 0:
        raise call.refuse(f"{call.short} divides the batch; keep the first axis as it is")
    return axis - 1


def _slice(call: Call) -> Entry:
    x = call.activation("self")
    start, stop, step = call.arguments["start"], call.arguments["end"], int(call.arguments["step"])
    if int(call.arguments["dim"]) == 0 and start in (None, 0) and step == 1 and (stop is None or stop > 1):
        return "reshape", [x], {}
    axis = _axis(call, x)
    return "pick", [x], {"axis": axis, "index": np.arange(x.shape[axis])[start:stop:step]}


def _select(call: Call) -> Entry:
    x = call.activation("self")
    axis = _axis(call, x)
    return "pick", [x], {"axis": axis, "index": np.arange(x.shape[axis])[int(call.arguments["index"])]}


def _parts(call: Call) -> list[Entry]:
    x = call.activation("self")
    axis = _axis(call, x)
    size = x.shape[axis]
    if "chunks" in call.arguments:
        sizes: Any = -(-size // int(call.arguments["chunks"]))
    else:
        sizes = call.arguments.get("split_sizes", call.arguments.get("split_size"))
    stops = np.cumsum(sizes) if isinstance(sizes, list) else np.arange(sizes, size + sizes, sizes)
    return [("pick", [x], {"axis": axis, "index": part}) for part in np.split(np.arange(size), stops[:-1])]


def _concatenate(call: Call) -> Entry:
    tensors = call.arguments["tensors"]
    if not all(isinstance(one, Activation) for one in tensors):
        raise call.refuse("concatenation with a constant cannot be converted")
    if int(call.arguments["dim"]) % (len(tensors[0].shape) + 1) != 1:
        raise call.refuse("only concatenation along the channels can be converted")
    return "concat", list(tensors), {}


OPERATIONS: dict[str, Callable[[Call], Entry | list[Entry] | Chain | Comparison]] = {
    **dict.fromkeys(("aten.conv1d", "aten.conv2d"), _convolution),
    "aten.linear": _linear,
    "aten.batch_norm": _batch_norm,
    "aten._native_batch_norm_legit_no_training": lambda call: [_batch_norm(call)],
    "aten.add": _add,
    "aten.sub": lambda call: _add(call, -1.0),
    "aten.rsub": _reversed_subtraction,
    "aten.neg": lambda call: _scale(call, call.activation("self"), numerator=-1.0),
    "aten.mul": _multiply,
    "aten.div": _divide,
    "aten.pad": _zero_pad,
    "aten.constant_pad_nd": _zero_pad,
    **dict.fromkeys(("aten.max_pool1d", "aten.max_pool2d"), _max_pool),
    "aten.max_pool1d_with_indices": lambda call: [_max_pool(call)],
    "aten.max_pool2d_with_indices": lambda call: [_max_pool(call)],
    **dict.fromkeys(("aten.avg_pool1d", "aten.avg_pool2d"), _average_pool),
    **dict.fromkeys(("aten.adaptive_avg_pool1d", "aten.adaptive_avg_pool2d"), _adaptive_average_pool),
    **dict.fromkeys(("aten.adaptive_max_pool1d", "aten.adaptive_max_pool2d"), lambda call: [_adaptive_max_pool(call)]),
    "aten.mean": _mean,
    "aten.sum": _total,
    "aten.amax": _largest,
    "aten.permute": _permute,
    "aten.transpose": _permute,
    "aten.channel_shuffle": _shuffle,
    "aten.slice": _slice,
    "aten.select": _select,
    "aten.chunk": _parts,
    "aten.split": _parts,
    "aten.split_with_sizes": _parts,
    "aten.cat": _concatenate,
    **dict.fromkeys(("aten.to", "aten._to_copy", "aten.type_as"), _cast),
    **dict.fromkeys(
        (
            *("aten.view", "aten.reshape", "aten._unsafe_view", "aten.flatten", "aten.unflatten", "aten.unsqueeze"),
            *("aten.squeeze", "aten.contiguous", "aten.clone", "aten.alias", "aten.detach", "aten.dropout"),
            *("aten.feature_dropout", "aten.alpha_dropout", "aten.feature_alpha_dropout", "aten.lift_fresh_copy"),
            "aten.expand",
        ),
        _same,
    ),
    **ACTIVATIONS,
}
