"""The lossless check that prints itself, and how networks and logs show themselves."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import OneLine
from torch import nn

import negspike
from negspike.errors import InputError
from negspike.spiking.nodes import Neurons


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 3), negspike.QuantReLU(step=0.2, levels=7), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 2), negspike.QuantReLU(step=0.1, levels=7), nn.Flatten(), nn.Linear(32, 50)),
    ).eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_lossless(model: nn.Module, images: torch.Tensor) -> None:
    network = negspike.convert(model, images[:1])
    found = negspike.verify(network, images, model, float_model=nn.Sequential(nn.Flatten(), nn.Linear(64, 50)))
    assert found.lossless and found.images == found.silent_images == 60
    assert found.neurons == found.equal_neurons == 60 * network.neurons
    assert found.latency_bound == network.latency_bound == 14 and 0 < found.latest_silent_step <= 14
    assert found.predictions["integer ANN"] == found.predictions["quantised model"] == 60
    assert found.predictions["float model"] < 60
    assert found.model_neurons == found.equal_model_neurons == 60 * network.neurons
    assert "float64" not in repr(found) and repr(found).startswith("lossless\n")


def test_what_rounding_makes_different_is_counted_and_explained(model: nn.Module, images: torch.Tensor) -> None:
    network = negspike.convert(model, images[:1], weight_bits=4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = negspike.verify(network, images, model, engine="dense")
    differing = 60 - found.predictions["quantised model"]
    assert found.lossless and 0 < differing == found.float64_predictions
    assert re.search(rf"float64 +{differing} of {differing}$", repr(found))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_conversion_that_is_wrong_shows(model: nn.Module, images: torch.Tensor) -> None:
    """The network is lossless for its own integer ANN, which is another one than the model."""
    network = negspike.convert(model, images[:1])
    first, *others = network.nodes
    assert isinstance(first, Neurons)
    wrong = replace(network, nodes=(replace(first, theta=first.theta * 2), *others))
    found = negspike.verify(wrong, images, model)
    assert found.equal_model_neurons is not None
    assert found.lossless and 0 < found.equal_model_neurons < found.model_neurons == 60 * network.neurons
    assert re.search(rf"neurons equal to the quantised model +{found.equal_model_neurons:,} of 14,880\n", repr(found))


def test_each_use_of_a_quantiser_is_compared(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    act = negspike.QuantReLU(step=0.2, levels=7)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), act, nn.Conv2d(6, 8, 3), act, nn.Flatten(), nn.Linear(128, 50)).eval()
    network = negspike.convert(negspike.round_weights(model), images[:1])
    found = negspike.verify(network, images, model)
    assert found.model_neurons == found.equal_model_neurons == 60 * network.neurons


class Signs(nn.Module):
    """0 or 1, in float32 whatever the input is."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x >= 0).float()


def test_a_model_that_makes_float32_itself(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    head = [nn.Conv2d(6, 8, 3), Signs(), nn.Flatten(), nn.Linear(8 * 16, 50)]
    model = nn.Sequential(nn.Conv2d(1, 6, 3), Signs(), *head).eval()
    network = negspike.convert(model, images[:1], weight_bits=4)
    found = negspike.verify(network, images, model, engine="dense")
    assert 0 < 60 - found.predictions["quantised model"] == found.float64_predictions


class InFloat32(nn.Module):
    """Runs in float32 alone, as some operations of PyTorch do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.float64:
            raise RuntimeError("expected scalar type Float but found Double")
        return x


def test_a_model_in_another_one_that_runs_in_float32_alone(model: nn.Module, images: torch.Tensor) -> None:
    network = negspike.convert(model, images[:1])
    found = negspike.verify(network, images, nn.Sequential(InFloat32(), model).eval())
    assert found.lossless and found.model_neurons == found.equal_model_neurons == 60 * network.neurons


class Branching(nn.Module):
    """What ``torch.export`` cannot trace."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) if float(x.sum()) > -1e9 else x


def test_another_model_is_compared_as_far_as_it_can_be(model: nn.Module, images: torch.Tensor) -> None:
    network = negspike.convert(model, images[:1])
    found = negspike.verify(network, images, Branching(model).eval())
    assert found.lossless and found.predictions["quantised model"] == 60
    assert found.model_neurons == 0 and found.equal_model_neurons is found.float64_predictions is None
    unknown = "neurons equal to the quantised model      unknown: this model's neurons are others\n"
    assert unknown in repr(found) and "in float64" not in repr(found)
    found = negspike.verify(network, images, nn.Sequential(nn.Flatten(), nn.Linear(64, 50)).eval())
    assert found.lossless and found.predictions["quantised model"] < 60
    assert found.model_neurons == 0 and found.equal_model_neurons is None and found.float64_predictions is not None
    assert unknown in repr(found) and "in float64" in repr(found)


def test_a_head_of_convolutions(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    head = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 50, 1)]
    model = nn.Sequential(nn.Conv2d(1, 6, 3), negspike.QuantReLU(step=0.2, levels=7), *head).eval()
    found = negspike.verify(negspike.convert(model, images[:1]), images, model)
    assert found.lossless and found.predictions["quantised model"] == 60


def test_a_model_that_does_not_fit(model: nn.Module, images: torch.Tensor) -> None:
    network = negspike.convert(model, images[:1])
    with OneLine(InputError, "(60, 3)", "(60, 50)"):
        negspike.verify(network, images, nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    with OneLine(InputError, "cannot take images of shape (1, 8, 8)"):
        negspike.verify(network, images, nn.Linear(7, 50))


def test_everything_prints_itself_in_a_dozen_lines(model: nn.Module, images: torch.Tensor) -> None:
    network = negspike.convert(model, images[:1])
    log = negspike.simulate(network, images, np.zeros(60, int))
    shown: list[Any] = [network, log, negspike.verify(network, images, model)]
    for one in shown:
        lines = repr(one).splitlines()
        assert 4 < len(lines) <= 12 and max(map(len, lines)) < 80
        cells = re.findall(r"<td>(.*?)</td>", one._repr_html_())
        assert [" ".join(pair) for pair in zip(cells[::2], cells[1::2], strict=True)] == [
            " ".join(line.split()) for line in lines[1:]
        ]
    assert "max pools" in repr(network) and "accuracy" in repr(log)
    assert "accuracy" not in repr(negspike.simulate(network, images))


def test_quantisers_behind_max_pools(images: torch.Tensor) -> None:
    """The network has its neurons before the pools, with other signs where a factor is negative."""
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(6), nn.BatchNorm2d(6)]
    for norm in norms:
        nn.init.normal_(norm.weight)
    act, identity = negspike.QuantReLU(step=0.2, levels=7), negspike.QuantIdentity(step=0.2, low=-4, high=3)
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.MaxPool2d(3, 1, 1), norms[0], act, nn.Conv2d(6, 6, 3), norms[1]]
    layers += [nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(2), identity, nn.Flatten(), nn.Linear(54, 50)]
    model = negspike.round_weights(nn.Sequential(*layers)).eval()
    found = negspike.verify(negspike.convert(model, images[:1]), images, model)
    assert found.lossless and found.equal_model_neurons == found.model_neurons == 60 * 6 * (8 * 8 + 3 * 3)


class Factors(nn.Module):
    """Sums at halves of a step, were 0.7 not a little less in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(1, 4, 3), quantiser(), quantiser()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        counts = self.first(self.conv(x))
        added: torch.Tensor = self.second(0.7 * counts[:, :2] + 0.9 * counts[:, 2:])
        return added.flatten(1)


def quantiser() -> nn.Module:
    return negspike.QuantReLU(step=0.3, levels=7)


def test_numbers_in_the_code_are_those_of_float32(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = negspike.round_weights(nn.Sequential(Factors(), nn.Linear(72, 50))).eval()
    network = negspike.convert(model, images[:1])
    counts = network.activations(images.numpy())["0.first"]
    assert ((7 * counts[:, :2] + 9 * counts[:, 2:]) % 10 == 5).any(), "there are ties"
    found = negspike.verify(network, images, model)
    assert found.lossless and found.equal_model_neurons == found.model_neurons == 60 * network.neurons
