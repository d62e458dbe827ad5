"""Rounding: activations and weights against exact fractions, straight-through gradients, extreme magnitudes."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import OneLine
from hypothesis import given, settings
from hypothesis import strategies as st

from negspike.data.augmentation import round_images
from negspike.errors import InputError
from negspike.fixed_point import integer_images
from negspike.training.quantization import power_of_two, quantize_activation, round_weights, weight_exponents

LEVELS = st.integers(0, 8)
BITS = st.integers(2, 24)
HALF = Fraction(1, 2)


def exact_level(value: float, k: int) -> Fraction:
    return Fraction(math.floor(2**k * Fraction(value) + HALF), 2**k)


@settings(max_examples=300, deadline=None)
@given(st.floats(0, 16384, width=32), LEVELS)
def test_q_k_in_exact_fractions(value: float, k: int) -> None:
    if value * 2**k == 0.5 - 2**-25:
        return  # see the next test but one
    assert Fraction(quantize_activation(torch.tensor([value]), k).item()) == exact_level(value, k)


@pytest.mark.parametrize("k", range(9))
def test_q_k_at_and_beside_every_boundary(k: int) -> None:
    boundaries = (torch.arange(1, 2000) - 0.5) / 2**k
    below = torch.nextafter(boundaries, torch.tensor(0.0))[1:]
    above = torch.nextafter(boundaries, torch.tensor(1e9))
    for values in (boundaries, below, above):
        expected = [float(exact_level(value, k)) for value in values.tolist()]
        assert quantize_activation(values, k).tolist() == expected


def test_the_one_value_that_float32_rounds_up() -> None:
    last_below_half = torch.tensor([0.5 - 2**-25])
    assert exact_level(last_below_half.item(), 0) == 0
    assert quantize_activation(last_below_half, 0).item() == 1


def test_q_k_has_no_upper_clip_and_leaves_its_argument() -> None:
    values = torch.tensor([0.0, 0.4, 1e6])
    assert quantize_activation(values, 1).tolist() == [0.0, 0.5, 1e6]
    assert values.tolist() == torch.tensor([0.0, 0.4, 1e6]).tolist()


@pytest.mark.parametrize("k", [0, 1, 2, 8])
def test_the_gradient_of_q_k_is_the_identity(k: int) -> None:
    values = torch.linspace(-3, 3, 101, requires_grad=True)
    upstream = torch.randn(101, generator=torch.Generator().manual_seed(0))
    quantize_activation(values, k).backward(upstream)  # type: ignore[no-untyped-call]
    assert values.grad is not None
    assert torch.equal(values.grad, upstream)


def test_powers_of_two_are_exact() -> None:
    exponents = torch.arange(-149, 128)
    assert power_of_two(exponents).tolist() == [2.0**exponent for exponent in range(-149, 128)]


def fits(value: Fraction, exponent: int, bits: int) -> bool:
    """round(value * 2^exponent), halves to even, is at most the largest symmetric integer."""
    return bool(abs(round(value * Fraction(2) ** exponent)) <= 2 ** (bits - 1) - 1)


NORMAL = st.floats(2.0**-100, 2.0**100, width=32) | st.floats(-(2.0**100), -(2.0**-100), width=32) | st.just(0.0)
ROWS = st.lists(st.lists(NORMAL, min_size=3, max_size=3), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(ROWS, BITS, st.booleans())
def test_rounded_weights_in_exact_fractions(rows: list[list[float]], bits: int, per_channel: bool) -> None:
    weight = torch.tensor(rows)
    exponents = weight_exponents(weight, bits, per_channel)
    assert exponents.dtype == torch.int32
    assert len(exponents) == (len(rows) if per_channel else 1)
    rounded = round_weights(weight, bits, per_channel)
    for index, row in enumerate(rows):
        group = row if per_channel else [value for every in rows for value in every]
        exponent = int(exponents[index if per_channel else 0])
        largest = max(abs(Fraction(value)) for value in group)
        if largest == 0:
            assert exponent == 0
        else:
            assert fits(largest, exponent, bits)
            assert not fits(largest, exponent + 1, bits)
        for value, result in zip(row, rounded[index].tolist(), strict=True):
            integer = round(Fraction(value) * Fraction(2) ** exponent)
            assert Fraction(result) == integer * Fraction(2) ** -exponent
    assert torch.equal(round_weights(rounded, bits, per_channel), rounded), "rounding twice is rounding once"


@pytest.mark.parametrize("bits", [2, 3, 8, 16, 24])
def test_a_mantissa_that_rounds_up_takes_one_bit_less(bits: int) -> None:
    top = 2 ** (bits - 1)
    weight = torch.tensor([[top - 1.0], [top - 0.5 if bits < 24 else top - 1.0], [float(top)]]) / top
    exponents = weight_exponents(weight, bits).tolist()
    assert exponents == [bits - 1, bits - 2 if bits < 24 else bits - 1, bits - 2]


@pytest.mark.parametrize("bits", [2, 16, 24])
@pytest.mark.parametrize(
    "magnitude", [2.0**-149, 1e-45, 1e-40, 2.0**-126, 1e-38, 1e-35, 1e-30, 1.0, 1e30, 2.0**126, 1.7e38]
)
def test_huge_and_tiny_weights_stay_finite_and_exact(magnitude: float, bits: int) -> None:
    weight = torch.tensor([[magnitude, -magnitude / 3, 0.0]])
    exponent = int(weight_exponents(weight, bits).item())
    rounded = round_weights(weight, bits)
    assert torch.isfinite(rounded).all()
    for value, result in zip(weight[0].tolist(), rounded[0].tolist(), strict=True):
        integer = Fraction(result) * Fraction(2) ** exponent
        assert integer.denominator == 1
        assert abs(integer) <= 2 ** (bits - 1) - 1
        assert integer == round(Fraction(value) * Fraction(2) ** exponent)
    assert exponent == 126 or not fits(Fraction(weight[0, 0].item()), exponent + 1, bits)


def test_not_a_number_stays_visible() -> None:
    for value in (math.nan, math.inf):
        assert not torch.isfinite(round_weights(torch.tensor([[value, 1.0]]), 16)).all()


def test_a_zero_channel_among_others() -> None:
    weight = torch.tensor([[0.0, 0.0], [0.5, -0.25]])
    assert weight_exponents(weight, 16).tolist() == [0, 15]
    assert torch.equal(round_weights(weight, 16), weight)
    assert weight_exponents(torch.zeros(2, 3, 1, 1), 16, per_channel=False).tolist() == [0]


def test_one_channel_does_not_change_another() -> None:
    weight = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([round_weights(weight[i : i + 1], 6) for i in range(5)])
    assert torch.equal(round_weights(weight, 6), alone)
    assert not torch.equal(round_weights(weight, 6, per_channel=False), alone)


def test_rounding_weights_leaves_them_and_hands_their_gradient_on() -> None:
    weight = torch.randn(3, 4, requires_grad=True, generator=torch.Generator().manual_seed(1))
    before = weight.detach().clone()
    upstream = torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    round_weights(weight, 3).backward(upstream)  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert torch.equal(weight.grad, upstream)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("bits", [-1, 0, 1, 25, 32])
def test_widths_that_do_not_exist(bits: int) -> None:
    with OneLine(InputError, f"weight_bits is {bits}", "2 to 24"):
        round_weights(torch.ones(1, 1), bits)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=20))
def test_images_are_rounded_alike_as_floats_and_as_integers(values: list[float]) -> None:
    integers = integer_images(np.array(values, np.float32))
    assert integers.dtype == np.int64
    assert integers.tolist() == [round(Fraction(value) * 2**16) for value in values]
    rounded = round_images(torch.tensor(values))
    assert (rounded.double() * 2**16).tolist() == [float(integer) for integer in integers.tolist()]
    assert integer_images(rounded.numpy()).tolist() == integers.tolist()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e300, -(2.0**47)])
def test_images_without_an_integer(value: float) -> None:
    with OneLine(InputError, "the images hold a value"):
        integer_images(np.array([0.0, value]))


def test_an_empty_batch_of_images() -> None:
    assert integer_images(np.zeros((0, 1, 2, 2))).shape == (0, 1, 2, 2)
