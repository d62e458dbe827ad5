"""The fast recipe: one cycle, orthogonalised updates of matrices only, products in bfloat16 around exact quantisers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
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


def test_adam_without_the_compiler_is_pytorchs_to_the_bit() -> None:
    """Also from a saved state, on parameters with rates of their own."""
    one, other = small(), small()
    ours, theirs = make_optimizer(one, PUBLISHED), torch.optim.Adam(make_optimizer(other, PUBLISHED).param_groups)
    images = torch.randn(5, 1, 6, 6)
    for update in range(6):
        for network, optimizer in ((one, ours), (other, theirs)):
            optimizer.zero_grad()
            network(images * update).square().sum().backward()
            optimizer.step()
        if update == 2:
            state, ours = ours.state_dict(), make_optimizer(one, PUBLISHED)
            ours.load_state_dict(state)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    before = small().state_dict()
    assert not torch.equal(one.state_dict()["2.step"], before["2.step"])
    assert all(parameter.requires_grad for parameter in one.parameters())


TRAIN = """
import sys
from pathlib import Path
from negspike.stages.prepare_dataset import prepare_dataset
from negspike.stages.run import Hardware, Run
from negspike.stages.train import train
from negspike.training.schedule import Phase

data, net = Path("digits.npz"), {"dataset": "digits", "topology": "2C3-P2-4", "padding": "same", "width": 1.0}
prepare_dataset("digits", {}, data, report=print)
changed = {"distillation": 0.5, "spike_penalty": 1.0}
for name, phase, source in (
    ("fp32", Phase(1, 1, 1e-3, 500), None),
    ("k1", Phase(1, 1, 1e-3, 500, "fast"), None),
    ("levels3", Phase(1, 1, 1e-3, 500, **changed), Path("fp32/weights.pt")),
):
    Path(name).mkdir()
    run, hardware = Run("net", net, 0, name, 16 if source else None), Hardware("cpu", 1)
    train(run, [phase], source=source, dataset=data, folder=Path(name), hardware=hardware, report=print)
print({"torch._dynamo", "torch._inductor"} & sys.modules.keys())
"""


def test_a_training_does_not_import_the_compiler(tmp_path: Path) -> None:
    """Which takes longer than a small training."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", TRAIN]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "set()"


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
