"""Muon: updates of matrices are orthogonal and in proportion, those of vectors SGD's; PyTorch's is the oracle."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from negspike.training.muon import Muon, orthogonalized

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(shapes, st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_singular_values_come_near_to_one(shape: tuple[int, int], seed: int, scale: float) -> None:
    """Those that are not tiny beside the others; singular vectors stay."""
    left, values, right = torch.linalg.svd(scale * random(*shape, seed=seed), full_matrices=False)
    values = values.clamp_min(0.05 * values[0])
    found = left.T @ orthogonalized(left * values @ right) @ right.T
    torch.testing.assert_close(found, found.diagonal().diag(), atol=1e-3, rtol=0)
    assert found.diagonal().min() > 0.5 and found.diagonal().max() < 1.3


@given(shapes, st.integers(0, 1000))
def test_a_matrix_changes_by_a_share_of_its_norm(shape: tuple[int, int], seed: int) -> None:
    weight = torch.nn.Parameter(random(*shape, seed=seed))
    before, weight.grad = weight.detach().clone(), random(*shape, seed=seed + 1)
    Muon([{"params": [weight], "lr": 0.1, "orthogonal": True}], momentum=0.6).step()
    assert torch.isclose((weight - before).norm(), 0.1 * before.norm(), rtol=1e-4)


def trained(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, steps: int = 5) -> torch.Tensor:
    for number in range(steps):
        parameter.grad = random(*parameter.shape, seed=100 + number)
        optimizer.step()
    return parameter.detach()


def test_vectors_are_those_of_sgd() -> None:
    ours, theirs = (torch.nn.Parameter(random(7)) for _ in range(2))
    found = trained(Muon([{"params": [ours], "lr": 0.1, "orthogonal": False}], momentum=0.6), ours)
    expected = trained(torch.optim.SGD([theirs], lr=0.1, momentum=0.6, nesterov=True), theirs)
    torch.testing.assert_close(found, expected)


def test_the_direction_is_that_of_pytorch() -> None:
    """Of one update: PyTorch's is as long as the orthogonal matrix, and computed in bfloat16."""
    ours, theirs = (torch.nn.Parameter(random(6, 9)) for _ in range(2))
    start = ours.detach().clone()
    moved = trained(Muon([{"params": [ours], "lr": 0.1, "orthogonal": True}], momentum=0.6), ours, 1) - start
    other = torch.optim.Muon([theirs], lr=0.1, momentum=0.6, weight_decay=0.0)
    expected = trained(other, theirs, 1) - start
    torch.testing.assert_close(moved / moved.norm(), expected / expected.norm(), atol=0.02, rtol=0)


def test_a_kernel_is_the_matrix_of_its_outputs() -> None:
    kernel, matrix = (torch.nn.Parameter(random(4, 27)) for _ in range(2))
    kernel.data = kernel.data.view(4, 3, 3, 3).to(memory_format=torch.channels_last)
    for parameter in (kernel, matrix):
        parameter.grad = random(4, 27, seed=1).view_as(parameter)
        Muon([{"params": [parameter], "lr": 0.1, "orthogonal": True}], momentum=0.6).step()
    torch.testing.assert_close(kernel.flatten(1), matrix)


def test_what_has_no_gradient_stays() -> None:
    flat, idle = (torch.nn.Parameter(random(3, 4)) for _ in range(2))
    flat.grad = torch.zeros(3, 4)
    Muon([{"params": [flat, idle], "lr": 0.1, "orthogonal": True}], momentum=0.6).step()
    assert torch.equal(flat, random(3, 4)) and torch.equal(idle, random(3, 4))


def test_a_matrix_of_zeros_learns() -> None:
    """As the last layer of a residual branch often starts."""
    weight = torch.nn.Parameter(torch.zeros(5, 5))
    optimizer = Muon([{"params": [weight], "lr": 0.1, "orthogonal": True}], momentum=0.6)
    target = torch.eye(5)
    for _ in range(150):
        weight.grad = weight.detach() - target
        optimizer.step()
    assert (weight - target).norm() < 0.3 * target.norm()


@pytest.mark.parametrize("orthogonal", [True, False])
def test_it_goes_on_from_its_state(orthogonal: bool) -> None:
    whole, part = (torch.nn.Parameter(random(3, 4)) for _ in range(2))
    group = {"lr": 0.1, "orthogonal": orthogonal}
    trained(Muon([{"params": [whole], **group}], momentum=0.6), whole, 5)
    first = Muon([{"params": [part], **group}], momentum=0.6)
    trained(first, part, 2)
    second = Muon([{"params": [part], **group}], momentum=0.6)
    second.load_state_dict(first.state_dict())
    for number in range(2, 5):
        part.grad = random(3, 4, seed=100 + number)
        second.step()
    assert torch.equal(whole, part)
