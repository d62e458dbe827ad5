"""Models of signals along a line, (N, channels, length), and of plain features, (N, features)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import OneLine
from graphs import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import negspike
from negspike import QuantReLU
from negspike.errors import InputError
from negspike.training.activity import Activity

SHAPE = (3, 199)


def lines(count: int = 8, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return (torch.randn((count, *shape), generator=torch.Generator().manual_seed(4)) * 256).round() / 256


class Joined(nn.Module):
    """A block beside itself, or added to what it reads."""

    def __init__(self, block: nn.Module, *, concatenated: bool) -> None:
        super().__init__()
        self.block, self.concatenated = block, concatenated

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.block(x)], 1) if self.concatenated else x + self.block(x)


def norm(channels: int) -> nn.BatchNorm1d:
    made = nn.BatchNorm1d(channels)
    nn.init.normal_(made.weight)
    nn.init.normal_(made.bias, 0, 0.3)
    made.running_mean, made.running_var = torch.randn(channels) * 0.3, 0.5 + torch.rand(channels)
    return made


def random_model(seed: int) -> nn.Sequential:
    random, channels, made = Random(seed), SHAPE[0], nn.Sequential()
    torch.manual_seed(seed)
    for _ in range(random.randint(1, 3)):
        kernel, dilation = random.choice([(1, 1), (2, 1), (2, 3), (3, 1), (3, 2), (5, 1)])
        stride = random.choice([1, 2])
        groups = random.choice([1, channels])
        paddings: list[str | int] = ["valid", 1, 2] if stride > 1 else ["same", 0, 1]
        padding = random.choice(paddings)
        made.append(nn.Conv1d(channels, 2 * channels, kernel, stride, padding, dilation, groups))
        channels *= 2
        made += nn.Sequential(norm(channels), QuantReLU(step=random.choice([0.25, 0.3]), levels=random.choice([3, 7])))
        if random.random() < 0.5:
            block = nn.Sequential(nn.Conv1d(channels, channels, 3, padding=1), QuantReLU(step=0.2, levels=5))
            concatenated = random.random() < 0.5
            made.append(Joined(block, concatenated=concatenated))
            channels *= 2 if concatenated else 1
        pools = [nn.MaxPool1d(2, 1, 1), nn.AvgPool1d(3, 1), nn.MaxPool1d(2, ceil_mode=True), nn.AvgPool1d(2)]
        made.append(random.choice([nn.Identity(), *pools]))
        made.append(QuantReLU(step=0.25, levels=7))
    made.append(random.choice([nn.AdaptiveAvgPool1d(1), nn.AdaptiveMaxPool1d(1), nn.Dropout1d(0.3)]))
    made.append(nn.Flatten())
    made.eval()
    return made.append(nn.Linear(made(lines()).shape[1], 4)).eval()


def beside(size: Any, height: int) -> tuple[int, int]:
    """(height, width) of a module's argument along a line."""
    return (height, size if isinstance(size, int) else size[0])


def of_images(module: nn.Module) -> nn.Module:
    """The same for images of height 1."""
    made = copy.deepcopy(module)
    for name, child in list(made.named_children()):
        made.add_module(name, of_images(child))
    if isinstance(made, nn.Conv1d):
        padding = made.padding if isinstance(made.padding, str) else beside(made.padding, 0)
        sizes = beside(made.kernel_size, 1), beside(made.stride, 1), padding, beside(made.dilation, 1)
        wide = nn.Conv2d(made.in_channels, made.out_channels, *sizes, made.groups)
        wide.weight.data, wide.bias = made.weight.data[:, :, None], made.bias
        return wide
    if isinstance(made, nn.BatchNorm1d):
        flat = nn.BatchNorm2d(made.num_features)
        flat.load_state_dict(made.state_dict())
        return flat
    if isinstance(made, nn.MaxPool1d | nn.AvgPool1d):
        sides = beside(made.kernel_size, 1), beside(made.stride, 1), beside(made.padding, 0)
        ceil = made.ceil_mode
        return nn.MaxPool2d(*sides, ceil_mode=ceil) if isinstance(made, nn.MaxPool1d) else nn.AvgPool2d(*sides, ceil)
    others: dict[type[nn.Module], nn.Module] = {nn.Dropout1d: nn.Dropout2d()}
    others |= {nn.AdaptiveAvgPool1d: nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool1d: nn.AdaptiveMaxPool2d(1)}
    return others.get(type(made), made).eval()


def test_a_line_is_an_image_of_height_1() -> None:
    """To the last integer the network of the same layers for images, in every engine, and float64's activations."""
    weighed = 0

    @examples(30)
    @given(st.integers(0, 10_000))
    def check(seed: int) -> None:
        nonlocal weighed
        model, x = negspike.round_weights(random_model(seed)), lines()
        network = negspike.convert(model, x)
        twin = negspike.convert(of_images(model).eval(), x[:, :, None])
        assert network.input_shape == (3, 1, 199) == twin.input_shape
        for one, other in zip(network.nodes, twin.nodes, strict=True):
            assert repr(one) == repr(other)
            for name, value in vars(one).items():
                if isinstance(value, np.ndarray):
                    np.testing.assert_array_equal(value, getattr(other, name))
            for mine, its in zip(getattr(one, "synapses", ()), getattr(other, "synapses", ()), strict=True):
                assert mine.window == its.window and mine.groups == its.groups
                np.testing.assert_array_equal(mine.scale, its.scale)
                np.testing.assert_array_equal(mine.weight, its.weight)
        proof = negspike.verify(network, x, model)
        assert proof.lossless
        assert proof.model_neurons == proof.equal_model_neurons
        weighed += proof.model_neurons or 0
        for engine in ("event", "reference"):
            log = negspike.simulate(network, x[:3], engine=engine)
            np.testing.assert_array_equal(log.logits, negspike.simulate(twin, x[:3, :, None], engine="dense").logits)

    check()
    assert weighed > 1000


WRITTEN: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "F.conv1d": lambda x, weight: F.relu(F.conv1d(x, weight, padding=1)).mean(2),
    "torch.conv1d": lambda x, weight: torch.relu(torch.conv1d(x, weight)).mean(-1),
    "sum": lambda x, weight: F.relu(F.conv1d(x, weight)).sum(2) / 100,
    "amax": lambda x, weight: F.relu(F.conv1d(x, weight)).amax(2),
    "pad": lambda x, weight: F.relu(F.conv1d(F.pad(x, (2, 0)), weight)).mean(2),
    "max_pool1d": lambda x, weight: F.max_pool1d(F.relu(F.conv1d(x, weight)), 2, 2, ceil_mode=True).mean(2),
    "avg_pool1d": lambda x, weight: F.avg_pool1d(F.relu(F.conv1d(x, weight)), 3).mean(2),
    "adaptive_avg_pool1d": lambda x, weight: F.adaptive_avg_pool1d(F.relu(F.conv1d(x, weight)), 1).flatten(1),
    "adaptive_max_pool1d": lambda x, weight: F.adaptive_max_pool1d(F.relu(F.conv1d(x, weight)), 1).squeeze(-1),
    "in place": lambda x, weight: F.relu_(F.conv1d(x, weight)).mean(2),
    "no quantiser between": lambda x, weight: F.relu(F.conv1d(F.conv1d(x, weight), weight[:, [0] * 6])).mean(2),
    "two-dimensional": lambda x, weight: F.relu(F.conv2d(x[:, :, None], weight[:, :, None])).squeeze(2).mean(2),
}


class Written(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.function, self.weight, self.classifier = function, nn.Parameter(torch.randn(6, 3, 3)), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.function(x, self.weight))  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", WRITTEN)
def test_functions(name: str) -> None:
    x = lines()
    quantised = negspike.quantize(Written(WRITTEN[name]).eval(), x)
    proof = negspike.verify(negspike.convert(quantised, x), x, quantised)
    assert proof.lossless and proof.model_neurons == proof.equal_model_neurons
    assert (proof.model_neurons or 0) >= 8 * 6


def test_images_whose_model_takes_lines() -> None:
    """As data of images of height 1 are given to a model that takes the height away."""
    body, x = random_model(3), lines()
    network = negspike.convert(negspike.round_weights(body), x)
    taken = negspike.convert(nn.Sequential(nn.Flatten(1), nn.Unflatten(1, SHAPE), body).eval(), x[:, :, None])
    for images in (x, x[:, :, None]):
        for one in (network, taken):
            log = negspike.simulate(one, images)
            np.testing.assert_array_equal(log.logits, negspike.simulate(network, x, engine="dense").logits)


def test_features() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3)).eval()
    x = lines(30, (20,))
    quantised = negspike.quantize(model, x)
    network = negspike.convert(quantised, x)
    assert network.input_shape == (20, 1, 1)
    proof = negspike.verify(network, x, quantised)
    assert proof.lossless and proof.model_neurons == proof.equal_model_neurons == 30 * 16


def test_weights_are_rounded_as_those_of_images() -> None:
    torch.manual_seed(0)
    conv = nn.Conv1d(3, 4, 3)
    before = conv.weight.detach().clone()
    negspike.round_weights(nn.Sequential(conv, nn.Flatten(), nn.Linear(4 * 197, 2)), 4)
    weight = conv.weight.detach()
    scaled = weight * 2 ** (2 - torch.floor(torch.log2(weight.abs().amax((1, 2), keepdim=True))))
    assert (scaled == scaled.round()).all() and (scaled.abs() <= 7).all() and not torch.equal(weight, before)


def test_operations_of_spikes() -> None:
    """A penalty on them counts on a line as in images of height 1."""
    torch.manual_seed(0)
    for pool in (nn.MaxPool1d(2, 2, 1), nn.AvgPool1d(3, 2, 1), nn.AdaptiveMaxPool1d(1), nn.AdaptiveAvgPool1d(1)):
        layers = [nn.Conv1d(3, 4, 3), QuantReLU(step=0.25, levels=3), pool, nn.Conv1d(4, 5, 1)]
        model = nn.Sequential(nn.Flatten(1), nn.Unflatten(1, SHAPE), *layers)
        twin = nn.Sequential(*(of_images(one) for one in layers))
        found, expected = Activity(model, (3, 1, 199)), Activity(twin, (3, 1, 199))
        assert found.macs == expected.macs > 0
        torch.testing.assert_close(found.fan_outs[0][:, :, None], expected.fan_outs[0])
        assert found.fan_outs[0].sum() > 0


def test_one_line() -> None:
    x = lines()
    with OneLine(InputError, "ConvTranspose1d cannot be converted; there are Conv1d, Conv2d and Linear"):
        negspike.quantize(nn.Sequential(nn.ConvTranspose1d(3, 4, 3), nn.ReLU()), x)
    with OneLine(InputError, "calibration images have shape"):
        negspike.quantize(random_model(0), torch.zeros(2, 1, 3, 4, 5))
    with OneLine(InputError, "expected an input of shape (N, features)"):
        negspike.convert(nn.Sequential(nn.Linear(199, 4), nn.Flatten(), nn.Linear(12, 2)).eval(), x)
    with OneLine(InputError, "over height and width"):
        negspike.convert(Written(lambda x, weight: F.conv1d(x, weight).mean(1, keepdim=True)[:, 0, :6]).eval(), x)
    network = negspike.convert(negspike.round_weights(random_model(0)), x)
    with OneLine(InputError, "images have shape (8, 3, 198), expected (N, 3, 1, 199)"):
        negspike.simulate(network, x[:, :, 1:])
    with OneLine(InputError, "images have shape (8, 597), expected (N, 3, 1, 199)"):
        negspike.simulate(network, x.flatten(1))
