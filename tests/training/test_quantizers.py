"""QuantReLU and QuantIdentity: values, gradients, the same in a trace, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import OneLine
from hypothesis import given
from hypothesis import strategies as st

from negspike import QuantIdentity, QuantReLU
from negspike.errors import InputError
from negspike.training.quantization import quantize_activation

VALUES = torch.tensor([-9.0, -0.3, -0.25, 0.0, 0.2, 0.25, 0.3, 0.74, 0.75, 1.0, 7.6, 100.0])


@given(k=st.integers(0, 8), seed=st.integers(0, 1000))
def test_the_published_level_is_bit_identical(k: int, seed: int) -> None:
    x = torch.randn(4, 50, generator=torch.Generator().manual_seed(seed)) * 3
    assert torch.equal(QuantReLU(k=k)(x), quantize_activation(x.relu(), k))


def test_values() -> None:
    expected = [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert QuantReLU(step=0.5, levels=3)(VALUES).div(0.5).tolist() == expected
    assert QuantIdentity(step=0.5, low=-2, high=None)(VALUES).div(0.5).tolist() == [
        *(-2, -1, 0, 0, 0, 1, 1, 1, 2, 2, 15, 200)
    ]
    assert QuantReLU(k=1)(torch.tensor([1e6])).item() == 1e6


def gradients(quantiser: Any, x: torch.Tensor, function: Any) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    upstream = torch.arange(1.0, x.numel() + 1).reshape(x.shape)
    function(quantiser, x).backward(upstream)
    assert x.grad is not None
    step = quantiser.step.grad
    quantiser.step.grad = None
    return x.grad, step


@pytest.mark.parametrize("bounds", [(0, 3), (-2, 1), (None, None), (0, None)])
def test_gradients_are_those_of_lsq(bounds: tuple[int | None, int | None]) -> None:
    low, high = bounds
    quantiser = QuantIdentity(step=0.5, low=low, high=high)
    x = VALUES[None]
    upstream = torch.arange(1.0, 13.0)
    passed, step = gradients(quantiser, x, lambda module, values: module(values))
    ratio = VALUES / 0.5
    inside = torch.ones(12, dtype=torch.bool)
    slope = (ratio + 0.5).floor() - ratio
    if low is not None:
        inside &= ratio > low
        slope[ratio <= low] = low
    if high is not None:
        inside &= ratio < high
        slope[ratio >= high] = high
    assert torch.equal(passed[0], upstream * inside)
    largest = max(abs(low or 0), abs(high or 0), 1)
    torch.testing.assert_close(step, (upstream * slope).sum() / (12 * largest) ** 0.5)


def test_an_overflow_that_is_clipped_counts_as_the_bound() -> None:
    """Half precision overflows early: the step's gradient is that of any value above the largest count."""
    quantiser = QuantReLU(step=0.5, levels=3)
    found = [
        gradients(quantiser, torch.tensor([[0.3, large]]), lambda module, x: module(x)) for large in (9.0, torch.inf)
    ]
    assert all(torch.equal(finite, infinite) for finite, infinite in zip(*found, strict=True))


def test_the_operation_in_a_trace_is_the_same() -> None:
    quantiser = QuantReLU(step=0.3, levels=7)

    def operation(module: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.negspike.quantize(x, module.step, module.low, module.high)  # type: ignore[no-any-return]

    assert torch.equal(operation(quantiser, VALUES), quantiser(VALUES))
    ours, traced = (gradients(quantiser, VALUES[None], one) for one in (lambda q, x: q(x), operation))
    assert torch.equal(ours[0], traced[0]) and torch.equal(ours[1], traced[1])
    program = torch.export.export(quantiser, (VALUES[None],))
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert calls == ["negspike.quantize.default"]
    assert torch.equal(program.module()(VALUES[None]), quantiser(VALUES[None]))


def test_what_is_trained() -> None:
    assert [name for name, _ in QuantReLU(step=0.5).named_parameters()] == ["step"]
    assert not list(QuantReLU(k=1).parameters()) and QuantReLU(k=1).state_dict()["step"] == 0.5
    assert "levels=7" in repr(QuantReLU(k=1, levels=7)) and "low=-8" in repr(QuantIdentity(step=1, low=-8, high=7))


def test_refused() -> None:
    for options in ({}, {"k": 1, "step": 0.5}):
        with OneLine(InputError, "one of k", "step"):
            QuantReLU(**options)  # type: ignore[arg-type]
    for step in (0.0, -1.0, float("nan"), float("inf")):
        with OneLine(InputError, "step is", "above 0"):
            QuantReLU(step=step)
    for levels in (0, -3):
        with OneLine(InputError, f"levels is {levels}"):
            QuantReLU(k=0, levels=levels)
    with OneLine(InputError, "levels is 2.5"):
        QuantReLU(k=0, levels=2.5)  # type: ignore[arg-type]
    for low, high in ((1, 3), (-3, -1), (0, 0)):
        with OneLine(InputError, f"from {low} to {high}"):
            QuantIdentity(step=1.0, low=low, high=high)
