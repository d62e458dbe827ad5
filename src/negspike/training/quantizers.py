"""Activations as whole numbers of steps: quantisers for any PyTorch model, trainable, and one node in a trace of it."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn

from negspike.arguments import whole
from negspike.errors import InputError

LARGEST_EXPONENT = 126
LARGEST_COUNT = (1 << 31) - 1


@torch.library.custom_op("negspike::quantize", mutates_args=())
def _quantize_operation(x: torch.Tensor, step: torch.Tensor, low: int | None, high: int | None) -> torch.Tensor:
    return _rounded(x, step, low, high)


@_quantize_operation.register_fake
def _(x: torch.Tensor, step: torch.Tensor, low: int | None, high: int | None) -> torch.Tensor:
    return torch.empty_like(x)


def _rounded(x: torch.Tensor, step: torch.Tensor, low: int | None, high: int | None) -> torch.Tensor:
    return _clipped(x.div(step).add_(0.5).floor_(), low, high).mul_(step)


def _clipped(values: torch.Tensor, low: int | None, high: int | None) -> torch.Tensor:
    """In place."""
    return values if low is None and high is None else values.clamp_(low, high)


def _save(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, step, ctx.low, ctx.high = inputs
    ctx.save_for_backward(x, step)


def _gradients(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
    """Straight through between the bounds, and the gradient of the step of LSQ (Esser et al., ICLR 2020)."""
    x, step = ctx.saved_tensors
    ratio = x / step
    # A ReLU's gradient is 0 at 0, so is that of a value at a bound.
    inside = torch.ones_like(x, dtype=torch.bool) if ctx.low is None else ratio > ctx.low
    if ctx.high is not None:
        inside &= ratio < ctx.high
    passed = gradient * inside
    if not ctx.needs_input_grad[1]:
        return passed, None, None, None
    # In place, since a step of training waits for memory: counts, less the ratio inside of the bounds. Outside it may
    # be infinite, in half precision above all, which must not meet a 0.
    counts = _clipped((ratio + 0.5).floor_(), ctx.low, ctx.high)
    slope = counts.sub_(_clipped(ratio, ctx.low, ctx.high).mul_(inside))
    # LSQ's scale: as many values share the step, and the larger the counts the larger is what it does.
    largest = max(abs(bound) for bound in (ctx.low or 0, ctx.high or 0, 1))
    scale = (x[0].numel() * largest) ** -0.5 if x.dim() and len(x) else 1.0
    return passed, (slope.mul_(gradient).sum() * scale).reshape(step.shape), None, None


_quantize_operation.register_autograd(_gradients, setup_context=_save)


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, step: torch.Tensor, low: int | None, high: int | None) -> torch.Tensor:
        _save(ctx, (x, step, low, high), x)
        return _rounded(x, step, low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, None, None]:
        return _gradients(ctx, gradients[0])


def quantize(x: torch.Tensor, step: torch.Tensor, low: int | None, high: int | None) -> torch.Tensor:
    """clip(floor(x / step + 1/2), low, high) * step, differentiable in ``x`` and ``step``.

    Args:
        x: floats of any shape, the first axis images.
        step: () float, above 0.
        low, high: smallest and largest count; None where there is no bound.
    """
    if torch.compiler.is_compiling():
        # One node in the graph, so that a converter recognises it.
        return torch.ops.negspike.quantize(x, step, low, high)  # type: ignore[no-any-return]
    return _Quantize.apply(x, step, low, high)  # type: ignore[no-any-return]


class _Quantizer(nn.Module):
    """What both quantisers share: a step, and counts between two bounds."""

    step: torch.Tensor

    def __init__(self, step: float, low: int | None, high: int | None, *, trainable: bool = True) -> None:
        super().__init__()
        try:
            if isinstance(step, bool | str | bytes):
                raise TypeError
            value = torch.tensor(float(step), dtype=torch.float32)
        except (TypeError, ValueError, OverflowError, RuntimeError):
            raise InputError(f"step is {step!r}: it must be a number above 0") from None
        if not 0 < value < torch.inf:
            raise InputError(f"step is {step!r}: it must be a number above 0")
        self.low, self.high = _count("low", low), _count("high", high)
        if (self.low or 0) > 0 or (self.high or 0) < 0 or (self.low == 0 and self.high == 0):
            raise InputError(f"counts from {low} to {high}: 0 must be one of them, and not the only one")
        if trainable:
            self.step = nn.Parameter(value)
        else:
            self.register_buffer("step", value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, ...) floats to floats of the same shape, each a whole number of steps."""
        return quantize(x, self.step, self.low, self.high)


class QuantReLU(_Quantizer):
    """ReLU and rounding in one: n = clip(floor(x / step + 1/2), 0, levels), output n * step.

    The step is a parameter, with the gradients of LSQ; a step of 2^-k is a buffer and stays as it is.

    Args:
        k: the step is 2^-k, as published; or
        step: the step itself, above 0.
        levels: largest count; None: no upper bound.

    Raises:
        InputError: not one of ``k`` and ``step`` is given, or a value is out of range.
    """

    def __init__(self, *, k: int | None = None, step: float | None = None, levels: int | None = None) -> None:
        if (k is None) == (step is None):
            raise InputError("QuantReLU takes one of k (a step of 2^-k) and step")
        if levels is not None and (_count("levels", levels) or 0) < 1:
            raise InputError(f"levels is {levels}: it must be at least 1, or None for no upper bound")
        if k is not None and abs(whole("k", k)) > LARGEST_EXPONENT:
            raise InputError(f"k is {k}: float32 has no step of 2^-{k}")
        value = 2.0**-k if k is not None else step
        super().__init__(value, 0, levels, trainable=k is None)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"step={self.step.item():.4g}, levels={self.high}"


class QuantIdentity(_Quantizer):
    """Rounding without a ReLU, for what none follows: n = clip(floor(x / step + 1/2), low, high), output n * step.

    Args:
        step: above 0; a parameter, with the gradients of LSQ.
        low, high: smallest and largest count, 0 between them; None: no bound.

    Raises:
        InputError: a value is out of range.
    """

    def __init__(self, *, step: float, low: int | None, high: int | None) -> None:
        super().__init__(step, low, high)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return f"step={self.step.item():.4g}, low={self.low}, high={self.high}"


def learned_steps(model: nn.Module) -> list[nn.Parameter]:
    """The steps of a model's quantisers that training may change, () float32 each."""
    quantisers = (module for module in model.modules() if isinstance(module, _Quantizer))
    return [one.step for one in quantisers if isinstance(one.step, nn.Parameter) and one.step.requires_grad]


def _count(name: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}: it must be a whole number or None") from None
    if isinstance(value, bool) or abs(number) > LARGEST_COUNT:
        raise InputError(f"{name} is {value!r}: it must be a whole number of 32 bits or None")
    return number
