"""Layouts in which gradients are right on every processor."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from negspike.training.layout import quick_layout


@pytest.mark.parametrize("inputs", [1, 3, 4, 8, 12, 15, 16, 32])
@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 2, 1), (1, 2, 2), (1, 1, 1), (3, 2, 1)])
def test_gradients_are_those_of_float64(inputs: int, kernel: int, stride: int, groups: int) -> None:
    """Where oneDNN fails in the layout of before, this test gets wrong gradients, hangs or is aborted."""
    torch.manual_seed(0)
    layer = nn.Conv2d(groups * inputs, 32, kernel, stride=stride, groups=groups, bias=False)
    images = torch.randn(5, groups * inputs, 16, 16)
    layout = quick_layout(layer)
    for _ in range(5):
        layer.zero_grad()
        layer.to(memory_format=layout)(images.contiguous(memory_format=layout)).square().sum().backward()
    found = layer.weight.grad
    exact = nn.Conv2d(groups * inputs, 32, kernel, stride=stride, groups=groups, bias=False).double()
    exact.load_state_dict(layer.state_dict())
    exact(images.double()).square().sum().backward()
    assert found is not None and exact.weight.grad is not None
    torch.testing.assert_close(found.double(), exact.weight.grad, rtol=1e-4, atol=1e-3)


def test_only_what_fails_is_laid_out_otherwise() -> None:
    assert quick_layout(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Conv2d(16, 32, 1, stride=2))) is (
        torch.channels_last
    )
    assert quick_layout(nn.Sequential(nn.Conv2d(8, 16, 1, stride=2))) is torch.contiguous_format
