"""The fast recipe: one cycle, orthogonalised updates of matrices only, products in bfloat16 around exact quantisers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from negspike import QuantReLU
from negspike.training import recipes
from negspike.training.recipes import arithmetic, cross_entropy, make_optimizer, set_rate
from negspike.training.schedule import Phase

FAST, PUBLISHED = Phase(1, 2, 0.4, 50, "fast"), Phase(1, 2, 1e-3, 50)
CPU = torch.device("cpu")


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), QuantReLU(step=0.5, levels=3), nn.Flatten())


def test_one_cycle() -> None:
    optimizer = make_optimizer(small(), FAST)
    rates = []
    for update in range(100):
        set_rate(optimizer, FAST, update / 100)
        rates.append({group["lr"] for group in optimizer.param_groups})
    assert rates[0] == {0.0} and rates[10] == {0.4} and all(len(one) == 1 for one in rates)
    values = [one.pop() for one in rates]
    assert values[:11] == sorted(values[:11]) and values[10:] == sorted(values[10:], reverse=True)
    assert 0 < values[-1] < 0.01


def test_published_is_adam_at_a_constant_rate() -> None:
    optimizer = make_optimizer(small(), PUBLISHED)
    set_rate(optimizer, PUBLISHED, 0.9)
    assert isinstance(optimizer, torch.optim.Adam) and optimizer.param_groups[0]["lr"] == 1e-3


def test_only_matrices_are_orthogonalised() -> None:
    network = nn.Sequential(*small(), nn.Conv2d(4, 8, 3, groups=2), nn.Linear(8, 3))
    groups = make_optimizer(network, FAST).param_groups
    matrix = {id(one): group["orthogonal"] for group in groups for one in group["params"]}
    assert {name for name, one in network.named_parameters() if matrix[id(one)]} == {"0.weight", "5.weight"}
    assert len(matrix) == len([*network.parameters()])


def test_smoothed_labels() -> None:
    logits, labels = torch.randn(5, 10, dtype=torch.bfloat16), torch.arange(5)
    torch.testing.assert_close(cross_entropy(logits, labels, "published"), F.cross_entropy(logits.float(), labels))
    mean = -logits.float().log_softmax(1).mean()
    expected = 0.9 * F.cross_entropy(logits.float(), labels) + 0.1 * mean
    torch.testing.assert_close(cross_entropy(logits, labels, "fast"), expected)


@pytest.mark.parametrize("quick", [True, False])
def test_quantisers_and_batch_norms_stay_in_float32(quick: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "has_fast_bfloat16", lambda device: quick)
    network, seen = small(), {}

    def note(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        seen[type(module).__name__] = (inputs[0].dtype, output.dtype)

    for module in network:
        module.register_forward_hook(note)
    for recipe, products in (("fast", torch.bfloat16 if quick else torch.float32), ("published", torch.float32)):
        with arithmetic(network, recipe, CPU):  # type: ignore[arg-type]
            network(torch.randn(2, 1, 6, 6)).sum().backward()
        assert seen["Conv2d"][1] == products
        assert seen["BatchNorm2d"] == seen["QuantReLU"] == (torch.float32, torch.float32)
    assert not network[1]._forward_pre_hooks and all(
        one.grad is not None and one.grad.dtype == torch.float32 for one in network.parameters()
    )
