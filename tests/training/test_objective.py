"""Distillation and the spike penalty: what they add to the loss, and that they change nothing where they are absent."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import OneLine
from torch import nn

import negspike
from negspike import QuantIdentity, QuantReLU
from negspike.conversion.arrays import from_network
from negspike.data.dataset import Dataset, Images
from negspike.errors import InputError
from negspike.spiking.counting import operations_per_spike
from negspike.spiking.graph import SpikingNetwork
from negspike.training.activity import Activity
from negspike.training.network import Network
from negspike.training.objective import Objective, distance
from negspike.training.phase import train_phase
from negspike.training.schedule import Phase
from negspike.training.topology import parse_topology

SHAPE = (1, 8, 8)
BOTH = Phase(1, 4, 1e-3, 50, distillation=0.7, temperature=2.0, spike_penalty=0.1)


class Residual(nn.Module):
    """Additions of spikes, strides, a depthwise convolution, average pools that overlap, concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.first, self.second = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 3, padding=2, dilation=2)
        self.acts = nn.ModuleList(QuantReLU(step=0.25, levels=levels) for levels in (7, 3, 15))
        self.signed, self.shrink = QuantIdentity(step=0.5, low=-4, high=3), nn.Conv2d(12, 8, 1)
        self.last, self.classifier = QuantReLU(k=1), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.acts[0](self.norm(self.stem(x)))
        y = self.signed(self.first(x))
        x = self.acts[1](self.second(y) + x)
        x = F.avg_pool2d(torch.cat([x, y], 1), 3, 2, 1)
        logits: torch.Tensor = self.classifier(self.last(self.shrink(x)).mean((2, 3)))
        return logits


def chain() -> tuple[nn.Module, SpikingNetwork]:
    network = Network(parse_topology("4C3-P2-6C3-8", SHAPE), 1, 16, 0)
    torch.manual_seed(0)
    for block in network.blocks:
        block.weight.data.mul_(10)  # type: ignore[operator]
        nn.init.normal_(block.norm.bias)  # type: ignore[union-attr, arg-type]
    return network.eval(), from_network(network, {})


def graph() -> tuple[nn.Module, SpikingNetwork]:
    torch.manual_seed(0)
    model: nn.Module = Residual()
    model(torch.randn(50, *SHAPE))
    model = negspike.round_weights(model).eval()
    return model, negspike.convert(model, torch.zeros(1, *SHAPE))


@pytest.mark.parametrize("make", [chain, graph])
def test_it_counts_what_net_spikes_cost(make: Callable[[], tuple[nn.Module, SpikingNetwork]]) -> None:
    """As docs/counting.md has it: activations of the integer ANN times the operations of a spike."""
    network, spiking = make()
    images = (torch.randn(20, *SHAPE) * 8).round() / 8
    activity = Activity(network, SHAPE)
    with activity.watched():
        network(images)
    counts, expected = spiking.activations(images.numpy()), 0
    for name, costs in operations_per_spike(spiking).items():
        expected += int((np.abs(counts[name]) * sum(costs.values())).sum())
    assert activity.macs == spiking.macs
    assert activity.operations().item() == pytest.approx(expected / 20 / spiking.macs, rel=1e-4)
    assert expected > 0


def test_a_max_pool_shares_its_costs() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), QuantReLU(k=0), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 5))
    activity = Activity(model, SHAPE)
    assert (activity.fan_outs[0] == 5 / 4).all() and activity.macs == 160


def test_pools_as_modules_and_arguments_by_name() -> None:
    """An average pool's module gives all of its arguments by place, the divisor too; a window of any pool shares."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.weight = QuantReLU(k=0), nn.Parameter(torch.ones(3, 2, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = nn.functional.adaptive_max_pool2d(self.act(x), 2)
            return nn.functional.conv2d(input=x, weight=self.weight, bias=None)

    activity = Activity(Named(), (2, 8, 8))
    assert (activity.fan_outs[0] == 3 / 16).all() and activity.macs == 2 * 3 * 4
    averaged = nn.Sequential(nn.Conv2d(1, 2, 1), QuantReLU(k=0), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 5))
    assert (Activity(averaged, SHAPE).fan_outs[0] == 5).all()


def test_gradients_lower_activations_that_there_are_and_their_fan_out_weighs() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), QuantReLU(step=0.5, levels=3), nn.Conv2d(3, 7, 2), QuantReLU(k=0))
    model.append(nn.Flatten()).append(nn.Linear(7 * 49, 2))
    activity = Activity(model, SHAPE)
    x = torch.tensor([-1.0, 0.6, 9.0]).reshape(1, 3, 1, 1).expand(1, 3, 8, 8).clone().requires_grad_()
    with activity.watched():
        model[1](x)
        model[3](torch.zeros(1, 7, 7, 7))
    activity.operations().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and model[1].step.grad is None
    macs = 7 * 3 * 4 * 49 + 2 * 7 * 49
    windows = np.array([1] + [2] * 6 + [1])
    expected = np.outer(windows, windows) * 7 / 0.5 / macs
    np.testing.assert_allclose(x.grad[0, 1], expected, rtol=1e-5)
    assert not x.grad[0, 0].any() and not x.grad[0, 2].any()  # silent, and at its largest count


def test_the_network_is_left_as_it_was() -> None:
    network, _ = graph()
    network.train()
    before = copy.deepcopy(network.state_dict())
    Activity(network, SHAPE)
    assert network.training and all(one.requires_grad and one.grad is None for one in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(one._forward_hooks for one in network.modules())


def test_distance_pulls_towards_the_teacher() -> None:
    torch.manual_seed(0)
    logits, wanted = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5)
    for temperature in (1.0, 4.0):
        (gradient,) = torch.autograd.grad(distance(logits, wanted, temperature), logits)
        expected = temperature * ((logits / temperature).softmax(1) - (wanted / temperature).softmax(1)) / 6
        torch.testing.assert_close(gradient, expected.detach())
    assert distance(wanted + 3, wanted, 2.0).item() == pytest.approx(0, abs=1e-6)


@pytest.fixture(scope="module")
def small(digits: Dataset) -> Dataset:
    few = [Images(one.pixels[:count], one.labels[:count]) for one, count in ((digits.train, 200), (digits.test, 60))]
    return Dataset(digits.spec, few[0], Images(few[0].pixels[:0], few[0].labels[:0]), few[1], digits.checksum)


def start(seed: int = 0, k: int | None = 1) -> Network:
    return Network(parse_topology("4C3-P2-8", SHAPE), k, 16, seed)


def train(
    network: Network, data: Dataset, checkpoint: Path, phase: Phase, teacher: nn.Module | None = None
) -> dict[str, bytes]:
    train_phase(network, data, phase, 0, checkpoint, lambda _: None, teacher=teacher)
    return {name: value.contiguous().numpy().tobytes() for name, value in network.state_dict().items()}


def test_resumed_to_the_bit(small: Dataset, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if "epoch 3/4 done" in line:
            raise KeyboardInterrupt

    teacher = start(7, None)
    whole = train(start(), small, tmp_path / "whole", BOTH, teacher=teacher)
    with pytest.raises(KeyboardInterrupt):
        train_phase(start(), small, BOTH, 0, tmp_path / "stopped", stop, teacher=teacher)
    network, lines = start(), list[str]()
    train_phase(network, small, BOTH, 0, tmp_path / "stopped", lines.append, teacher=teacher)
    assert "going on after epoch 2" in lines[0]
    assert {name: value.contiguous().numpy().tobytes() for name, value in network.state_dict().items()} == whole
    assert train(start(), small, tmp_path / "whole", BOTH, teacher=start(8, None)) != whole  # another teacher's


def test_each_changes_the_weights_and_neither_does_where_absent(small: Dataset, tmp_path: Path) -> None:
    plain = Phase(1, 1, 1e-3, 50)
    teacher = start(7, None)
    found = {
        name: train(start(), small, tmp_path / name, phase, teacher=teacher)
        for name, phase in {
            "plain": plain,
            "temperature": Phase(1, 1, 1e-3, 50, temperature=9.0),
            "distillation": Phase(1, 1, 1e-3, 50, distillation=0.5),
            "penalty": Phase(1, 1, 1e-3, 50, spike_penalty=0.5),
        }.items()
    }
    assert found["plain"] == found["temperature"] == train(start(), small, tmp_path / "without", plain)
    assert len({str(one) for one in found.values()}) == 3
    assert plain.plain() == {"number": 1, "epochs": 1, "learning_rate": 1e-3, "batch_size": 50, "recipe": "published"}


def test_a_penalty_lowers_operations(small: Dataset, tmp_path: Path) -> None:
    images = torch.randn(50, *SHAPE)
    found = []
    for penalty in (0.0, 1.0):
        network = start()
        train(network, small, tmp_path / str(penalty), Phase(1, 5, 1e-2, 50, spike_penalty=penalty))
        activity = Activity(network, SHAPE)
        with activity.watched():
            network.eval()(images)
        found.append(activity.operations().item())
    assert found[1] < 0.7 * found[0]


def test_one_line(small: Dataset, tmp_path: Path) -> None:
    with OneLine(InputError, "phase 1: distillation needs the full-precision network"):
        Objective(start(), BOTH, None, SHAPE)
    with OneLine(InputError, "spike_penalty is for quantised trainings"):
        Objective(start(k=None), Phase(1, 1, 1e-3, 50, spike_penalty=0.1), None, SHAPE)
