"""What quantisers and activation functions mean to the converter, also those written in PyTorch's own operations.

A quantiser is floor(x / step + tie), between two counts, times step. Rounding is one of step 1; what is done before
and after it is linear, or clips (:mod:`negspike.conversion.simplify`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from negspike.conversion.calls import Activation, Call, Chain, Comparison, Entry

# PyTorch rounds halves to even numbers, we up: where sums of weights are that coarse, train with floor(x + 0.5).
HALF = 0.5


def _one(call: Call, name: str, what: str) -> float:
    """A constant argument that is the same for all channels."""
    constant = call.constant(name)
    values = np.zeros(0) if constant is None else np.unique(constant)
    if len(values) != 1:
        raise call.refuse(f"{what} of {call.short} is {values[:3]}: it must be one number, the same for all channels")
    return float(values[0])


def _quantised(call: Call, name: str, *, step: float, tie: float = HALF, bounds: Any = (None, None)) -> Entry:
    if not step > 0:
        raise call.refuse(f"the quantiser's step is {step}: it must be one number above 0")
    return "quantize", [call.activation(name)], {"step": step, "tie": tie, "low": bounds[0], "high": bounds[1]}


def _quantizer(call: Call) -> Entry:
    bounds = [None if call.arguments[name] is None else int(call.arguments[name]) for name in ("low", "high")]
    return _quantised(call, "x", step=_one(call, "step", "the step"), bounds=bounds)


def _counts(call: Call, name: str) -> Entry:
    """What fake_quantize and quantize_per_tensor round to, less the zero point."""
    zero = round(_one(call, "zero_point", "the zero point"))
    bounds = [int(call.arguments[f"quant_{end}"]) - zero for end in ("min", "max")]
    return _quantised(call, name, step=_one(call, "scale", "the scale"), bounds=bounds)


def _fake_quantize(call: Call) -> Entry:
    return _counts(call, "self")


def _quantize_per_tensor(call: Call) -> Chain:
    scale, zero = _one(call, "scale", "the scale"), _one(call, "zero_point", "the zero point")
    return Chain((_counts(call, "input"), _scaled(call, denominator=scale, shift=zero)))


def _dequantize_per_tensor(call: Call) -> Chain:
    scale, zero = _one(call, "scale", "the scale"), _one(call, "zero_point", "the zero point")
    return Chain((("reshape", [call.activation("input")], {}), _scaled(call, numerator=scale, shift=-zero * scale)))


def _scaled(call: Call, *, numerator: float = 1.0, denominator: float = 1.0, shift: float = 0.0) -> Entry:
    values = {"numerator": numerator, "denominator": denominator, "shift": shift}
    return "affine", [], {name: np.full(call.shape[0], value) for name, value in values.items()}


def _floor(call: Call) -> Entry:
    return _quantised(call, "self", step=1.0, tie=0.0)


def _round(call: Call) -> Entry:
    if call.arguments.get("decimals"):
        raise call.refuse("rounding to decimals cannot be converted; multiply before it and divide behind it")
    return _quantised(call, "self", step=1.0)


def _ceil(call: Call) -> Chain:
    turned, first = _scaled(call, numerator=-1.0), _floor(call)
    return Chain((("reshape", first[1], {}), turned, ("quantize", [], first[2]), turned))


def _clip(call: Call, low: Any = None, high: Any = None) -> Entry:
    bounds = {"low": low, "high": high} | {
        end: _one(call, name, "the bound")
        for end, name in (("low", "min"), ("low", "min_val"), ("high", "max"), ("high", "max_val"))
        if call.arguments.get(name) is not None
    }
    return "clip", [call.activation("self")], {**bounds, "what": call.short}


def _sides(call: Call) -> tuple[Activation, float, bool]:
    """An activation, the constant that it meets, and whether it comes first."""
    first = isinstance(call.arguments["self"], Activation)
    name, other = ("self", "other") if first else ("other", "self")
    return call.activation(name), _one(call, other, "the bound"), first


def _extremum(call: Call) -> Entry:
    x, bound, _ = _sides(call)
    low, high = (bound, None) if call.short == "maximum" else (None, bound)
    return "clip", [x], {"low": low, "high": high, "what": call.short}


def _comparison(call: Call) -> Comparison:
    x, bound, first = _sides(call)
    return Comparison(x, (call.short in ("gt", "ge")) == first, call.short in ("gt", "lt"), bound)


def truth(call: Call, compared: Comparison, no: float = 0.0, yes: float = 1.0) -> Chain:
    """One number where a comparison holds, another where it does not: counts of 0 and 1."""
    # x >= c is floor(x - c + 1) of 0 and 1; the others are that of -x, or its contrary, or both
    sign = -1.0 if compared.above == compared.strict else 1.0
    first, last = (yes, no) if compared.strict else (no, yes)
    return Chain(
        (
            ("reshape", [compared.activation], {}),
            _scaled(call, numerator=sign, shift=1 - sign * compared.bound),
            ("quantize", [], {"step": 1.0, "tie": 0.0, "low": 0, "high": 1}),
            _scaled(call, numerator=last - first, shift=first),
        )
    )


def _where(call: Call) -> Entry | Chain:
    """torch.where(x > c, c, x) is x up to c; so with < and with the two exchanged. Or two numbers, by a comparison."""
    condition, x = call.arguments["condition"], call.arguments["self"]
    first = isinstance(x, Activation)
    if isinstance(condition, Comparison) and not first and not isinstance(call.arguments["other"], Activation):
        no, yes = (_one(call, name, "the value") for name in ("other", "self"))
        return truth(call, condition, no, yes)
    x, other = (x, "other") if first else (call.arguments["other"], "self")
    if not isinstance(condition, Comparison) or x != condition.activation:
        raise call.refuse("where can be converted as torch.where(x > c, c, x), or with <, alone")
    bound = _one(call, other, "the bound")
    if bound != condition.bound:
        raise call.refuse(f"where jumps from {condition.bound:g} to {bound:g}; only a bound can be converted")
    low, high = (bound, None) if first == condition.above else (None, bound)
    return "clip", [x], {"low": low, "high": high, "what": "where"}


def _probabilities(call: Call) -> Entry:
    raise call.refuse(f"{call.short} cannot be converted; as the last step leave it out: argmax is the same")


def _nonlinear(call: Call) -> Entry:
    raise call.refuse(
        f"{call.short} is not a function that spikes can follow exactly; use ReLU in its place, train, and quantize"
    )


ACTIVATIONS: dict[str, Callable[[Call], Entry | list[Entry] | Chain | Comparison]] = {
    "negspike.quantize": _quantizer,
    "aten.fake_quantize_per_tensor_affine": _fake_quantize,
    "aten._fake_quantize_learnable_per_tensor_affine": _fake_quantize,
    "quantized_decomposed.quantize_per_tensor": _quantize_per_tensor,
    "quantized_decomposed.dequantize_per_tensor": _dequantize_per_tensor,
    "aten.round": _round,
    "aten.floor": _floor,
    "aten.ceil": _ceil,
    "aten.relu": lambda call: _clip(call, 0.0),
    "aten.relu6": lambda call: _clip(call, 0.0, 6.0),
    **dict.fromkeys(("aten.hardtanh", "aten.clip", "aten.clamp", "aten.clamp_min", "aten.clamp_max"), _clip),
    **dict.fromkeys(("aten.minimum", "aten.maximum"), _extremum),
    **dict.fromkeys(("aten.gt", "aten.ge", "aten.lt", "aten.le"), _comparison),
    "aten.where": _where,
    **dict.fromkeys(
        (
            *("aten.silu", "aten.gelu", "aten.sigmoid", "aten.tanh", "aten.hardswish", "aten.hardsigmoid", "aten.elu"),
            *("aten.leaky_relu", "aten.prelu", "aten.mish", "aten.softplus"),
        ),
        _nonlinear,
    ),
    **dict.fromkeys(("aten.softmax", "aten.log_softmax"), _probabilities),
}
