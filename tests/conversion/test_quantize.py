"""quantize: what becomes a quantiser, with which step, and that the result converts and trains."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import OneLine
from torch import nn
from torch.nn.utils import prune

import negspike
from negspike import QuantIdentity, QuantReLU
from negspike.conversion import reconstruct
from negspike.conversion.calibrate import MOST_VALUES, best_step
from negspike.data.dataset import Dataset
from negspike.errors import InputError


def images(count: int = 8, shape: tuple[int, int, int] = (3, 8, 6)) -> torch.Tensor:
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(4))


def lossless(model: nn.Module, x: torch.Tensor) -> negspike.SpikingNetwork:
    network = negspike.convert(model, x)
    log, activations = negspike.simulate(network, x, engine="dense"), network.activations(x.numpy())
    assert (log.silent >= 0).all()
    for name, counts in log.counts.items():
        np.testing.assert_array_equal(counts, activations[name])
    return network


def quantisers(model: nn.Module) -> dict[str, Any]:
    return {name: one for name, one in model.named_modules() if isinstance(one, QuantReLU | QuantIdentity)}


class Uses(nn.Module):
    """An activation function as it is written in one way or another."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.fc, self.function = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.function(self.conv(x)).mean((2, 3)))  # type: ignore[no-any-return]


WRITTEN: dict[str, Callable[..., torch.Tensor]] = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "relu6": F.relu6,
    "clamp": lambda x: x.clamp(min=0, max=0.5),
    "torch.clamp": lambda x: torch.clamp(x, 0),
    "clip to 0.5": lambda x: x.clip(0, 0.5),
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 0.5),
    "module": nn.ReLU(inplace=True),
    "module ReLU6": nn.ReLU6(),
    "module Hardtanh": nn.Hardtanh(0, 0.5),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_way_to_write_an_activation(name: str) -> None:
    model, x = Uses(WRITTEN[name]).eval(), images()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    quantised = negspike.quantize(model, x, levels=255)
    (found,) = quantisers(quantised).values()
    assert isinstance(found, QuantReLU) and found.high == 255
    if "0.5" in name or "clamp" in name or "ardtanh" in name:
        assert 255 * found.step.item() <= 0.5 + 1e-6 or name == "torch.clamp"
    with torch.no_grad():
        torch.testing.assert_close(quantised(x), model(x), atol=5e-3, rtol=0)
    network = lossless(quantised, x)
    assert [one.name for one in network.populations] == ["function" if "module" in name else "relu"]
    assert model.state_dict().keys() == before.keys() <= quantised.state_dict().keys()
    for key, value in before.items():
        assert torch.equal(model.state_dict()[key], value)
        kept = quantised.state_dict()[key]  # weights are rounded to 24 bits, everything else is as it was
        assert (kept - value).abs().max() <= ("weight" in key) * 2.0**-23 * value.abs().max()


def test_weights_are_those_of_the_spiking_network() -> None:
    model = Uses(F.relu).eval()
    quantised = negspike.quantize(model, images())
    network = negspike.convert(quantised, images()[:1])
    hidden, readout = network.populations[0].synapses[0], network.readout.synapses[0]
    weights = [weight.clone() for weight in weights_of(quantised)]
    for synapses, weight in zip((hidden, readout), weights, strict=True):
        assert synapses.weight is not None
        ratio = synapses.weight.astype(float) / weight.detach().double().numpy().reshape(synapses.weight.shape)
        factors = abs(ratio).reshape(len(ratio), -1).max(1)
        assert (np.log2(factors) % 1 == 0).all()  # a power of two a channel, and nothing was rounded on the way
        assert (abs(ratio) == factors[:, None, None, None]).all()
    again = negspike.round_weights(quantised)
    assert again is quantised and all(torch.equal(a, b) for a, b in zip(weights, weights_of(again), strict=True))
    with OneLine(InputError, "weight_bits is 25", "2 to 24"):
        negspike.round_weights(quantised, 25)


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    return [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def test_a_signed_hardtanh_has_counts_of_both_signs() -> None:
    quantised = negspike.quantize(Uses(nn.Hardtanh()).eval(), images(), levels=15)
    (found,) = quantisers(quantised).values()
    assert isinstance(found, QuantIdentity) and (found.low, found.high) == (-8, 7)
    lossless(quantised, images())


def test_a_signed_hardtanh_keeps_its_bounds() -> None:
    """Its quantiser is not for what lies beyond them."""
    model, x = Uses(nn.Hardtanh(-0.25, 0.5)).eval(), 20 * images()
    quantised = negspike.quantize(model, x, levels=255)
    (found,) = quantisers(quantised).values()
    assert found.high * found.step.item() < 0.6
    with torch.no_grad():
        torch.testing.assert_close(quantised(x), model(x), atol=5e-3, rtol=0)
    network = lossless(quantised, x)
    assert network.populations[0].high == round(0.5 / found.step.item())


def rectified_and_read_again(x: torch.Tensor) -> torch.Tensor:
    x.relu_()
    return x + 1


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(x) + x  # type: ignore[no-any-return]


IN_PLACE: dict[str, Callable[..., torch.Tensor]] = {
    "a statement": rectified_and_read_again,
    "a residual": lambda x: F.relu(x, inplace=True) + 2 * x,
    "a residual around a module": Residual(),
    "clamp": lambda x: x.clamp_(min=0) - x / 2,
    "hardtanh": lambda x: F.hardtanh_(x, 0.0, 0.5) + x,
    "by its name": lambda x: F.relu(input=x, inplace=True) + x,
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_is_rectified_in_place_is_read_rectified(name: str) -> None:
    model, x = Uses(IN_PLACE[name]).eval(), images()
    quantised = negspike.quantize(model, x, levels=255)
    assert len(quantisers(quantised)) == 1
    with torch.no_grad():
        torch.testing.assert_close(quantised(x), model(x), atol=2e-2, rtol=0)
    lossless(quantised, x)


CLIPPED_TWICE: dict[str, Callable[..., torch.Tensor]] = {
    "above alone": lambda x: F.relu(x).clamp(max=0.3),
    "clamp_max": lambda x: torch.clamp_max(F.relu(x), 0.3),
    "ReLU and Hardtanh": nn.Sequential(nn.ReLU(), nn.Hardtanh(-0.2, 0.3)),
    "pool, norm and Hardtanh": nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.Hardtanh(-0.2, 0.3)),
}


@pytest.mark.parametrize("name", CLIPPED_TWICE)
def test_bounds_between_the_steps_of_what_is_before(name: str) -> None:
    model, x = Uses(CLIPPED_TWICE[name]).eval(), images()
    quantised = negspike.quantize(model, x, levels=255)
    with torch.no_grad():
        torch.testing.assert_close(quantised(x), model(x), atol=1e-2, rtol=0)
    lossless(quantised, x)


class Gated(Uses):
    """With functions of parameters alone: constants, whatever they are."""

    def __init__(self) -> None:
        super().__init__(F.relu)
        self.gate, self.smallest = nn.Parameter(torch.randn(4, 1, 1)), nn.Parameter(torch.rand(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.conv2d(x, F.relu(self.conv.weight)) * torch.sigmoid(self.gate) * self.smallest.clamp(min=1e-3)
        return self.fc(self.function(x).mean((2, 3)))  # type: ignore[no-any-return]


def test_functions_of_parameters_stay_what_they_are() -> None:
    torch.manual_seed(0)
    model, x = Gated().eval(), images()
    quantised = negspike.quantize(model, x, levels=255)
    assert len(quantisers(quantised)) == 1
    with torch.no_grad():
        torch.testing.assert_close(quantised(x), model(x), atol=5e-3, rtol=0)
    lossless(quantised, x)


class Shortcut(nn.Module):
    """A pre-activation block whose sum is read by an average pool and by a quantised branch."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, 2)
        self.relu, self.pool, self.fc = nn.ReLU(), nn.AvgPool2d(2), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.one(x)
        x = x + self.two(self.relu(x))
        x = self.pool(x) + self.three(self.relu(x))
        return self.fc(self.relu(x).mean((2, 3)))  # type: ignore[no-any-return]


def test_a_sum_that_an_average_reads_too() -> None:
    torch.manual_seed(0)
    model, x = Shortcut().eval(), images()
    quantised = negspike.quantize(model, x, levels=127)
    with torch.no_grad():
        torch.testing.assert_close(quantised(x), model(x), atol=3e-2, rtol=0)
    lossless(quantised, x)


def test_the_largest_value_counts_among_many() -> None:
    """More values than are looked at: the largest and smallest are, whatever the sample."""
    values = torch.rand(4 * MOST_VALUES, generator=torch.Generator().manual_seed(0))
    values[7] = 10.0
    assert best_step(values, 0, 1 << 20) >= 10 / (1 << 20) * 0.999
    values[8] = torch.nan
    with OneLine(InputError, "not finite"):
        best_step(values, 0, 15)


def test_reconstruction_leaves_no_gradients_and_no_step_below_zero(
    trained: tuple[nn.Sequential, torch.Tensor, torch.Tensor],
) -> None:
    model, x, _ = trained
    frozen = copy.deepcopy(model).train()
    frozen[1].eval()
    quantised: Any = negspike.quantize(frozen, x[:64], levels=3, reconstruction_steps=3)
    assert all(one.grad is None for one in quantised.parameters())
    assert quantised.training and not quantised.get_submodule("1").training
    negspike.quantize(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).requires_grad_(False), x, reconstruction_steps=2)


def test_what_is_changed_through_a_view_is_refused() -> None:
    def through_a_view(x: torch.Tensor) -> torch.Tensor:
        F.relu_(x[:, 0])
        return x

    with OneLine(InputError, "changes one in place", "QuantReLU"):
        negspike.quantize(Uses(through_a_view).eval(), images())


def test_a_module_is_what_it_is_whatever_its_name() -> None:
    model: Any = nn.Sequential()
    model.add_module("conv", nn.Conv2d(3, 4, 3))
    model.add_module("relu", nn.BatchNorm2d(4))
    model.add_module("act", nn.ReLU())
    model.add_module("pool", nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc", nn.Linear(4, 5))
    quantised = negspike.quantize(model.eval(), images())
    assert list(quantisers(quantised)) == ["act"]


def test_the_callers_images_stay_as_they_are() -> None:
    class Normalising(Uses):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.sub_(0.5).div_(0.25))

    x = images()
    before = x.clone()
    negspike.quantize(Normalising(F.relu).eval(), x)
    assert torch.equal(x, before)


class Block(nn.Module):
    """One ReLU module for both places, as ResNets have it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x
        return self.relu(out)  # type: ignore[no-any-return]


def test_each_use_of_a_module_has_a_step_of_its_own() -> None:
    model = nn.Sequential(Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    for _ in range(3):
        model(images(32))
    quantised = negspike.quantize(model.eval(), images(32), levels=7)
    found = quantisers(quantised)
    assert list(found) == ["0.relu", "0.relu_2", "1.relu", "1.relu_2"]
    assert len({one.step.item() for one in found.values()}) == 4
    network = lossless(quantised, images())
    assert [one.name for one in network.populations] == list(found)
    assert network.latency_bound == 28
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, quantised.get_buffer(name))


class Inverted(nn.Module):
    """An inverted residual: its last convolution has no activation, and the next block's first one reads the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.act1 = nn.Conv2d(3, 6, 1), nn.ReLU6()
        self.depth, self.act2 = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.ReLU6()
        self.project = nn.Sequential(nn.Conv2d(6, 3, 1, bias=False), nn.BatchNorm2d(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.project(self.act2(self.depth(self.act1(self.expand(x)))))  # type: ignore[no-any-return]


def test_a_linear_bottleneck_gets_a_signed_quantiser() -> None:
    model = nn.Sequential(Inverted(), Inverted(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(3, 4))
    quantised = negspike.quantize(model.eval(), images(), levels=15)
    found = quantisers(quantised)
    signed = {name: (one.low, one.high) for name, one in found.items() if isinstance(one, QuantIdentity)}
    assert signed == {"0.quant": (-8, 7), "1.quant": (-8, 7)}
    network = lossless(quantised, images())
    assert {one.name for one in network.populations} == set(found)


class Pooled(nn.Module):
    """The largest of a residual sum, as at the end of ResNet-9, and what comes of it."""

    def __init__(self, after: nn.Module) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.pool, self.after, self.fc = nn.ReLU(), nn.MaxPool2d(2), after, nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.one(x))
        x = self.after(self.pool(self.relu(self.two(x)) + x))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


def test_the_largest_of_a_sum_gets_a_quantiser() -> None:
    quantised = negspike.quantize(Pooled(nn.Identity()).eval(), images(), levels=15)
    found = quantisers(quantised)
    assert set(found) == {"relu", "relu_2", "pool_quant"}
    one = found["pool_quant"]
    assert isinstance(one, QuantIdentity) and (one.low, one.high) == (0, 15), "a sum of ReLUs is never negative"
    lossless(quantised, images())


@pytest.mark.parametrize(
    "between", [nn.Identity(), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4), nn.MaxPool2d(2))]
)
def test_a_quantiser_that_follows_serves(between: nn.Module) -> None:
    after = nn.Sequential(between, nn.ReLU())
    quantised = negspike.quantize(Pooled(after).eval(), images(), levels=15)
    assert set(quantisers(quantised)) == {"relu", "relu_2", "after.1"}
    lossless(quantised, images())


class Factor(nn.Module):
    factor: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor([0.5, -1, 2, 1]).view(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def test_a_factor_in_front_of_a_max_pool_needs_no_quantiser() -> None:
    layers = (nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), Factor(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1))
    model = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    quantised = negspike.quantize(model, images(), levels=15)
    assert set(quantisers(quantised)) == {"1", "5"}
    lossless(quantised, images())


def test_overlapping_averages_before_a_padded_convolution_get_a_quantiser() -> None:
    layers = (
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(3, 2, 1),
        nn.Dropout(),
        nn.Conv2d(4, 4, 3, padding=1),
    )
    model = nn.Sequential(*layers, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    quantised = negspike.quantize(model, images(), levels=15)
    assert set(quantisers(quantised)) == {"1", "2_quant", "5"}
    lossless(quantised, images())
    for pool in (nn.AvgPool2d(2), nn.AvgPool2d(1, 2), nn.AvgPool2d(2, ceil_mode=True)):
        model[2] = pool
        alike = negspike.quantize(model, images())
        assert set(quantisers(alike)) == {"1", "5"}
        lossless(alike, images())


class OfTensors(nn.Module):
    """As the transforms of torchvision: what is no tensor passes."""

    def forward(self, x: Any) -> Any:
        return (x - 0.5) / 0.25 if isinstance(x, torch.Tensor) else x


def test_a_trace_that_is_another_function_is_refused() -> None:
    model = nn.Sequential(OfTensors(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    model(images())
    with OneLine(InputError, "Sequential: torch.fx traces another function", "QuantReLU"):
        negspike.quantize(model.eval(), images())
    model[2] = QuantReLU(step=0.1, levels=15)
    lossless(negspike.round_weights(model.eval()), images())


def test_functional_dropout_drops_in_training_only() -> None:
    model = Uses(lambda x: F.dropout(F.relu(x), 0.5, training=False))
    quantised = negspike.quantize(model.train(), images())
    assert quantised.training
    assert not torch.equal(quantised(images()), quantised(images()))
    lossless(quantised.eval(), images())


def test_the_step_has_the_least_squared_error() -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(1))
    for low, high in ((0, 3), (0, 15), (-8, 7), (-1, 1)):
        values = x.clamp(min=0) if low == 0 else x

        def error(step: float, low: int = low, high: int = high, values: torch.Tensor = values) -> float:
            return float(((values / step + 0.5).floor().clamp(low, high) * step - values).square().sum())

        assert error(best_step(x, low, high)) <= 1.001 * min(error(4.0 * n / 4000) for n in range(1, 4000))
    assert best_step(x, 0, 4, percentile=100) == pytest.approx(x.max().item() / 4)
    assert best_step(torch.zeros(3), 0, 3) > 0
    assert best_step(10 * x, 0, 3, limit=6.0) <= 2.0


def test_of_many_values_a_sample_from_everywhere_is_looked_at() -> None:
    """At regular distances it would see nothing but the first column of these images, which is zero."""
    images = torch.ones(MOST_VALUES // 32, 64)
    images[:, 0] = 0
    step = best_step(images, 0, 1)
    assert step == pytest.approx(1.0) and step == best_step(images, 0, 1)
    assert best_step(images, 0, 2, percentile=50) == 0.5


def test_training_in_a_loop_of_ones_own(digits: Dataset) -> None:
    """A net of 1-bit activations learns again, steps and all, and is lossless afterwards."""
    torch.manual_seed(0)
    x = torch.from_numpy(digits.train.pixels[:400]).float() / 16
    y = torch.from_numpy(digits.train.labels[:400]).long()
    body = (
        nn.Conv2d(1, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3),
        nn.ReLU(),
    )
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(64, 10))

    def fit(net: nn.Module, epochs: int) -> float:
        net.train()
        optimizer = torch.optim.Adam(net.parameters(), 5e-3)
        for _ in range(epochs):
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        net.eval()
        return float((net(x).argmax(1) == y).float().mean())

    trained = fit(model, 60)
    quantised = negspike.quantize(model, x[:100], levels=1)
    before = float((quantised(x).argmax(1) == y).float().mean())
    steps = [one.step.item() for one in quantisers(quantised).values()]
    after = fit(quantised, 60)
    assert before < after and after > trained - 0.1
    assert all(one.step.item() != step for one, step in zip(quantisers(quantised).values(), steps, strict=True))
    network = lossless(quantised, x[:20])
    agreed = network.activations(x.numpy())[network.readout.name].argmax(1) == quantised(x).argmax(1).numpy()
    assert agreed.mean() > 0.99


@pytest.fixture(scope="module")
def trained(digits: Dataset) -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A float net of two convolutions, with images it was trained on and others: pixels and labels of all of them."""
    torch.manual_seed(0)
    x = torch.from_numpy(digits.train.pixels[:600]).float() / 16
    y = torch.from_numpy(digits.train.labels[:600]).long()
    body = (nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU6(), nn.Conv2d(12, 12, 3), nn.Hardtanh())
    model = nn.Sequential(*body, nn.MaxPool2d(2), nn.Conv2d(12, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 10))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        F.cross_entropy(model(x[:400]), y[:400]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model.eval(), x, y


def test_reconstruction_without_labels(trained: tuple[nn.Sequential, torch.Tensor, torch.Tensor]) -> None:
    """Nearer to the float model on images it has not seen, the same twice, its statistics kept, and lossless."""
    model, x, y = trained
    shown, others = x[:400], x[400:]
    before, after, again = (
        negspike.quantize(model, shown, levels=3, reconstruction_steps=steps) for steps in (0, 100, 100)
    )
    with torch.no_grad():
        wanted = model(others).softmax(1)
        errors = [float(F.kl_div(one(others).log_softmax(1), wanted, reduction="batchmean")) for one in (before, after)]
        right = [float((one(others).argmax(1) == y[400:]).float().mean()) for one in (before, after)]
    assert errors[1] < errors[0] and right[1] > right[0] + 0.02
    state, repeated = after.state_dict(), again.state_dict()
    assert all(torch.equal(state[key], value) for key, value in repeated.items())
    assert torch.equal(state["1.running_var"], model.state_dict()["1.running_var"])
    assert not torch.equal(state["0.weight"], model.state_dict()["0.weight"])
    lossless(after, others[:8])


def test_reconstruction_that_does_not_help_is_undone(
    trained: tuple[nn.Sequential, torch.Tensor, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(reconstruct, "LEARNING_RATE", 10.0)
    model, x, _ = trained
    before, after = (negspike.quantize(model, x[:64], levels=15, reconstruction_steps=steps) for steps in (0, 3))
    assert all(torch.equal(value, before.state_dict()[key]) for key, value in after.state_dict().items())
    assert "reconstruction undone: of 8 images held out" in caplog.text


class Untraceable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        return x, x


class TwoInputs(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


def test_refused() -> None:
    model, x = Uses(F.relu), images()
    for function in (F.silu, torch.sigmoid, F.gelu, lambda y: F.leaky_relu(y, 0.1), lambda y: y.tanh()):
        with OneLine(InputError, "nothing that spikes can follow exactly"):
            negspike.quantize(Uses(function), x)
    with OneLine(InputError, "returns a tuple", "one tensor of logits"):
        negspike.quantize(nn.Sequential(model, Pair()), x, reconstruction_steps=1)
    with OneLine(InputError, "do not fit the model"):
        negspike.quantize(TwoInputs(), x)
    for levels in (0, 1 << 24):
        with OneLine(InputError, f"levels is {levels}"):
            negspike.quantize(model, x, levels=levels)
    with OneLine(InputError, "levels is 1.5"):
        negspike.quantize(model, x, levels=1.5)  # type: ignore[arg-type]
    with OneLine(InputError, "reconstruction_steps is -1"):
        negspike.quantize(model, x, reconstruction_steps=-1)
    with OneLine(InputError, "percentile is '99'", "a number"):
        negspike.quantize(model, x, percentile="99")  # type: ignore[arg-type]
    with OneLine(InputError, "percentile is 0"):
        negspike.quantize(model, x, percentile=0)
    with OneLine(InputError, "calibration images have shape (3, 8, 6)"):
        negspike.quantize(model, x[0])
    with OneLine(InputError, "do not fit the model"):
        negspike.quantize(model, x[:, :2])
    with OneLine(InputError, "not finite"):
        negspike.quantize(model, x / 0)
    with OneLine(InputError, "function: SiLU", "ReLU"):
        negspike.quantize(Uses(nn.SiLU()), x)
    with OneLine(InputError, "1: LayerNorm"):
        negspike.quantize(nn.Sequential(nn.Conv2d(3, 3, 1), nn.LayerNorm(6)), x)
    with OneLine(InputError, "Untraceable: torch.fx cannot trace it", "QuantReLU"):
        negspike.quantize(Untraceable(), x)


class Rounding(nn.Module):
    """A quantiser of somebody's own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.round(torch.clamp(x, 0, 3))


def test_a_quantised_model_is_not_quantised_again() -> None:
    """Its levels would be ignored, or a second quantiser be put on each of its own."""
    x = images()
    quantised = negspike.quantize(Uses(F.relu), x, levels=15)
    with OneLine(InputError, "all of its activations are quantised already", "convert it as it is"):
        negspike.quantize(quantised, x, levels=3)
    own = nn.Sequential(nn.Conv2d(3, 4, 3), Rounding(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    with OneLine(InputError, "1: round", "quantisers of its own"):
        negspike.quantize(own, x)


def test_a_model_is_no_network() -> None:
    quantised: Any = negspike.quantize(Uses(F.relu), images())
    for use in (negspike.simulate, negspike.verify):
        with OneLine(InputError, "expected a SpikingNetwork", "negspike.convert"):
            use(quantised, images())
    with OneLine(InputError, "Uses: expected", "convert it first"):
        negspike.narrow_thresholds(quantised, 16)


def test_pruned_weights_are_made_permanent_first() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3))
    prune.l1_unstructured(model.eval()[0], "weight", 0.5)  # type: ignore[no-untyped-call]
    with OneLine(InputError, "Sequential: it cannot be copied", "prune.remove"):
        negspike.quantize(model, images())
    prune.remove(model[0], "weight")  # type: ignore[no-untyped-call]
    assert negspike.convert(negspike.quantize(model, images()), images()[:1]).populations
