"""Rounding with straight-through gradients: activations to level k, weights to integers, images to 16 fractional bits.

The same rounding serves training (float32) and conversion, so that the network that was trained is the network that
spikes (docs/exactness.md).
"""

from __future__ import annotations

from typing import Any

import torch

from negspike.errors import InputError
from negspike.training.quantizers import quantize

# 2^126 and 2^-126 are the largest pair of which float32 holds both with a full mantissa.
_LARGEST_EXPONENT = 126


class _QuantizeActivation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, k: int) -> torch.Tensor:
        return x.mul(2.0**k).add_(0.5).floor_().mul_(2.0**-k)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0], None


def quantize_activation(x: torch.Tensor, k: int) -> torch.Tensor:
    """Q_k(x) = floor(2^k x + 1/2) / 2^k, without an upper clip; its gradient is the identity (straight through).

    The sum is rounded as float32 rounds: for 0 <= 2^k x < 2^23 the result is the exact one, except at the single value
    2^k x = 1/2 - 2^-25, the last float32 below one half, which becomes 1.
    """
    if torch.compiler.is_compiling():
        # One node in a trace, so that a converter recognises it.
        return quantize(x, torch.tensor(2.0**-k), None, None)
    return _QuantizeActivation.apply(x, k)  # type: ignore[no-any-return]


def power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """2^exponent in float32, exactly: the last bit that a library's exp2 may miss in float64 is gone after the cast."""
    return torch.exp2(exponent.double()).float()


def weight_exponents(weight: torch.Tensor, bits: int, per_channel: bool = True) -> torch.Tensor:
    """Largest s for which round(weight * 2^s) fits ``bits`` signed bits, symmetric.

    Args:
        weight: (outputs, ...) floats.
        bits: width of the integers, sign included, 2 to 24.
        per_channel: one exponent for each output, or one for the whole tensor.

    Returns:
        int32 (outputs,), or (1,) without ``per_channel``. All-zero channels get 0. No exponent is above 126, the limit
        of float32: weights below about 2^-126 lose digits and in the end become 0.
    """
    if not 2 <= bits <= 24:
        raise InputError(f"weight_bits is {bits}: it must be from 2 to 24")
    rows = weight.detach().flatten(1) if per_channel else weight.detach().reshape(1, -1)
    largest = rows.abs().amax(1)
    exponent = (bits - 1 - torch.frexp(largest).exponent).clamp_max(_LARGEST_EXPONENT)
    # A mantissa that rounds up to 1.0 would need one bit more.
    overflows = (largest * power_of_two(exponent)).round() > 2 ** (bits - 1) - 1
    exponent = exponent - overflows.to(exponent.dtype)
    return torch.where(largest > 0, exponent, torch.zeros_like(exponent)).to(torch.int32)


class _RoundWeights(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, bits: int, per_channel: bool) -> torch.Tensor:
        exponent = weight_exponents(weight, bits, per_channel).view(-1, *[1] * (weight.dim() - 1))
        return weight.mul(power_of_two(exponent)).round_().mul_(power_of_two(-exponent))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0], None, None


def round_weights(weight: torch.Tensor, bits: int, per_channel: bool = True) -> torch.Tensor:
    """The weights the quantised ANN computes with: integers of ``bits`` bits times a power of two (straight through).

    Args and exponents as in :func:`weight_exponents`. Every value is exact in float32, since 24 bits fit its mantissa.
    """
    return _RoundWeights.apply(weight, bits, per_channel)  # type: ignore[no-any-return]
