"""From PyTorch modules to spiking networks: each operation, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import OneLine
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import negspike
from negspike import QuantIdentity, QuantReLU
from negspike.conversion.arrays import from_network
from negspike.conversion.calls import composed_bounds
from negspike.errors import InputError
from negspike.spiking.nodes import MaxPool, Neurons, Sum
from negspike.training.network import Network
from negspike.training.quantization import round_weights
from negspike.training.topology import parse_topology

SHAPE = (4, 11, 9)


class Between(nn.Module):
    """A function between quantised convolutions: of the first one's activations."""

    def __init__(self, function: Callable[..., torch.Tensor], *, shape: tuple[int, int, int] = SHAPE) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.Conv2d(3, shape[0], 3, padding=1), QuantReLU(step=0.25, levels=7))
        self.function = function
        with torch.no_grad():
            channels = self.function(torch.zeros(2, *shape)).shape[1]
        self.after = nn.Sequential(nn.Conv2d(channels, 6, 1), nn.BatchNorm2d(6), QuantReLU(step=0.5, levels=3))
        self.head = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.after(self.function(self.before(x)))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


def prepared(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random batch norms, weights on a grid, so that float64 arithmetic is exact wherever thresholds are dyadic."""
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            size = module.weight.shape
            module.eps = 0.0
            signs = torch.randint(0, 4, size, generator=random).sign() * 2 - 1
            module.weight.data = signs * 2.0 ** torch.randint(-1, 2, size, generator=random)
            module.bias.data = torch.randint(-4, 5, size, generator=random) / 8
            module.running_mean = torch.randint(-4, 5, size, generator=random) / 8
            module.running_var = 4.0 ** torch.randint(-1, 2, size, generator=random)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.data = (module.weight.data * 64).round() / 64
            if module.bias is not None:
                module.bias.data = (module.bias.data * 16).round() / 16
    return model.eval()


def images(shape: tuple[int, int, int], count: int = 3, seed: int = 1) -> torch.Tensor:
    values = torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))
    return (values * 8).round() / 8


def check(model: nn.Module, x: torch.Tensor, *, tolerance: float = 0.0, **options: Any) -> negspike.SpikingNetwork:
    """Convert, and compare each quantiser's counts in float64, the integer ANN's and those of the silent network."""
    network = negspike.convert(model, x, **options)
    double = copy.deepcopy(model).double()
    seen: dict[str, list[torch.Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, _, output: seen.setdefault(name, []).append(output / module.step)

    def exact(module: Any, inputs: tuple[torch.Tensor]) -> Any:
        # The mean of three is not exact in binary, and a tie would go either way from machine to machine: what lies
        # within 2^-31 of a step of a tie is the tie.
        return (inputs[0] / module.step * 2**30).round() / 2**30 * module.step

    for name, module in double.named_modules():
        if isinstance(module, QuantReLU | QuantIdentity):
            module.register_forward_pre_hook(exact)
            module.register_forward_hook(keep(name))
    with torch.no_grad():
        logits = double(x.double()).numpy()
    activations = network.activations(x.numpy())
    log = negspike.simulate(network, x, engine="dense", timesteps=400)
    assert (log.silent >= 0).all()
    expected = {f"{name}_{i + 1}" if i else name: one for name, uses in seen.items() for i, one in enumerate(uses)}
    for name, counts in log.counts.items():
        np.testing.assert_array_equal(counts, activations[name])
        if name not in expected:
            assert re.fullmatch(r"ones(_\d)?|.+\.signs(_\d)?", name), "no quantiser of the model, but one of ours"
            assert not name.startswith("ones") or (counts == 1).all()
            continue
        np.testing.assert_array_equal(counts.reshape(expected[name].shape), expected[name].round().numpy(), name)
    np.testing.assert_allclose(log.logits, logits, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(log.logits, activations[network.readout.name] * network.readout.unit)
    return network


class Lambda(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def shuffle(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def add_in_place(x: torch.Tensor) -> torch.Tensor:
    y = x * 0.5
    y += x
    return y


def alias_in_place(x: torch.Tensor) -> torch.Tensor:
    y = x * 0.5
    kept = y
    y += x
    return torch.cat([y, kept], 1)


POOLS: dict[str, Callable[..., torch.Tensor]] = {
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_pool of ceil_mode": lambda x: F.max_pool2d(x, 2, ceil_mode=True),
    "max_pool of dilation 2": lambda x: F.max_pool2d(x, (3, 2), 1, dilation=2),
    "max_pool of max_pool": lambda x: F.max_pool2d(F.max_pool2d(x, 2), 2),
    "max_pool behind zeros": lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 2),
    "max_pool of scaled concat": lambda x: F.max_pool2d(torch.cat([x * 0.5, x + 1], 1), 2),
    "avg_pool": lambda x: F.avg_pool2d(x, 2),
    "avg_pool with padding": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg_pool divisor_override": lambda x: F.avg_pool2d(x, 2, divisor_override=8),
    "adaptive_avg_pool of a divisor": lambda x: F.adaptive_avg_pool2d(x[:, :, :, :], (11, 3)),
    "global average": lambda x: F.adaptive_avg_pool2d(x, 1),
    "mean with axes kept": lambda x: x.mean([2, 3], keepdim=True),
    "adaptive_max_pool": lambda x: F.adaptive_max_pool2d(x, (11, 3)),
    "largest": lambda x: x.amax((2, 3), keepdim=True),
    "largest without axes": lambda x: x.amax((-1, -2)).view(-1, 4, 1, 1),
    "sum": lambda x: x.sum((2, 3), keepdim=True),
    "pool of pool, then all of it": lambda x: F.adaptive_avg_pool2d(F.avg_pool2d(x, 2), 1),
}
ROUTES: dict[str, Callable[..., torch.Tensor]] = {
    "identity": lambda x: x,
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "contiguous": lambda x: x.contiguous(),
    "add": lambda x: x + x * 2,
    "add with alpha": lambda x: torch.add(x, x * 2, alpha=3),
    "sub": lambda x: x * 2 - x,
    "constant minus": lambda x: 1 - x,
    "neg": lambda x: -x,
    "add in place": add_in_place,
    "alias changed in place": alias_in_place,
    "div": lambda x: x / 4,
    "mul a channel": lambda x: x * torch.tensor([0.5, 1, -2, 0]).view(1, 4, 1, 1),
    "add a channel": lambda x: x + torch.tensor([0.5, 1, -2, 0]).view(4, 1, 1),
    "concat": lambda x: torch.cat([x, x * 0.5, x], 1),
    "view, transpose, view": shuffle,
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "chunk": lambda x: torch.cat(x.chunk(2, 1)[::-1], 1),
    "split": lambda x: torch.cat([part * (number + 1) for number, part in enumerate(x.split([1, 3], 1))], 1),
    "slice": lambda x: x[:, 1::2],
    "select": lambda x: torch.cat([x[:, 2].unsqueeze(1), x[:, 0:1]], 1),
    "zeros around": lambda x: F.pad(x, (1, 2, 0, 3)),
}


@pytest.mark.parametrize("name", [*POOLS, *ROUTES])
def test_operations_without_weights(name: str) -> None:
    model = prepared(Between((POOLS | ROUTES)[name]))
    network = check(model, images((3, 11, 9)), tolerance=1e-12)
    assert [one.name for one in network.populations] == ["before.1", "after.2"]
    assert network.node("head") is network.readout


CONVOLUTIONS = {
    "stride and padding": nn.Conv2d(4, 6, 3, 2, 1),
    "dilation, not square": nn.Conv2d(4, 6, (3, 2), (1, 2), (2, 0), (2, 1), bias=False),
    "groups": nn.Conv2d(4, 6, 3, groups=2, padding=1),
    "depthwise": nn.Conv2d(4, 8, 3, groups=4),
    "same": nn.Conv2d(4, 6, (4, 3), padding="same"),
    "with batch norm": nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)),
    "batch norm before": nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3)),
    "two at once": nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 5, (1, 3), 2)),
    "depthwise, then 1x1": nn.Sequential(nn.Conv2d(4, 4, 3, groups=4, padding=1), nn.Conv2d(4, 5, 1)),
    "groups, then depthwise": nn.Sequential(nn.Conv2d(4, 6, 1, groups=2), nn.Conv2d(6, 12, 3, groups=6)),
    "average, then 3x3": nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 6, 3)),
    "average, then grouped": nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 6, 3, groups=2)),
    "overlapping averages, then 2x2": nn.Sequential(nn.AvgPool2d(3, 1), nn.Conv2d(4, 6, 2, 2)),
    "3x3, then average": nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.AvgPool2d(2)),
    "1x1, then average": nn.Sequential(nn.Conv2d(4, 6, 1), nn.AvgPool2d(2)),
    "padded 3x3, then global average": nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.AdaptiveAvgPool2d(1)),
    "1x1 of stride 2, then 3x3": nn.Sequential(nn.Conv2d(4, 6, 1, 2, bias=False), nn.Conv2d(6, 5, 3, padding=1)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_linear_maps(name: str) -> None:
    layer = copy.deepcopy(CONVOLUTIONS[name])
    check(prepared(Between(layer)), images((3, 11, 9)), tolerance=1e-12)


EDGES = {
    "batch norm, then padded": nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1)),
    "batch norm, then padded in groups": nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1, groups=2)),
    "batch norm, then padded, depthwise": nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3, 2, 1, groups=4)),
    "1x1 with a bias, then padded": nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 3, padding=1)),
    "zeros around a bias": nn.Sequential(nn.BatchNorm2d(4), nn.ZeroPad2d((1, 2, 0, 3)), nn.Conv2d(4, 6, 3)),
    "zeros around a bias, alone": nn.Sequential(nn.BatchNorm2d(4), nn.ZeroPad2d((1, 2, 0, 3))),
    "average of a bias and zeros": nn.Sequential(nn.BatchNorm2d(4), nn.AvgPool2d(3, 2, 1)),
    "a bias in some channels": Lambda(lambda x: F.pad(x + torch.tensor([0.5, 0, -2, 0]).view(4, 1, 1), (1, 1, 1, 1))),
}


@pytest.mark.parametrize("name", EDGES)
def test_a_bias_within_zeros(name: str) -> None:
    network = check(prepared(Between(copy.deepcopy(EDGES[name]))), images((3, 11, 9)), tolerance=1e-12)
    assert [one.name for one in network.populations] == ["before.1", "ones", "after.2"]
    ones = network.node("ones")
    assert isinstance(ones, Neurons) and ones.shape == (1, 11, 9) and (ones.low, ones.high) == (0, 1)


def test_an_image_that_the_model_normalises() -> None:
    normalise = Lambda(
        lambda x: (x - torch.tensor([0.5, 0.25, -1]).view(3, 1, 1)) / torch.tensor([2, 0.5, 1]).view(3, 1, 1)
    )
    larger = (nn.ZeroPad2d(2), nn.Conv2d(3, 4, 3, padding=1), QuantReLU(step=0.25, levels=7), nn.AvgPool2d(2))
    smaller = (nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1), QuantReLU(step=0.25, levels=7), nn.Flatten())
    model = nn.Sequential(normalise, *larger, *smaller, nn.LazyLinear(3))
    model(torch.zeros(2, 3, 10, 8))
    network = check(prepared(model), images((3, 10, 8)), tolerance=1e-12)
    shapes = {one.name: one.shape for one in network.populations if one.name.startswith("ones")}
    assert shapes == {"ones": (1, 10, 8), "ones_2": (1, 7, 6)}


FALLING: dict[str, nn.Module] = {
    "batch norm, then max pool": nn.Sequential(nn.BatchNorm2d(4), nn.MaxPool2d(3, 2, 1)),
    "twice": Lambda(lambda x: F.max_pool2d(0.5 - F.max_pool2d(1 - 2 * x, 2), 2)),
    "of some channels twice": Lambda(lambda x: F.max_pool2d(torch.cat([x, -x, 0 * x[:, :1]], 1), 3)),
    "all of it": Lambda(lambda x: (1 - x).amax((2, 3), keepdim=True)),
}


@pytest.mark.parametrize("name", FALLING)
@pytest.mark.parametrize(
    "quantiser", [QuantReLU(step=0.25, levels=7), QuantReLU(k=2), QuantIdentity(step=0.25, low=-3, high=4)]
)
def test_a_max_pool_behind_a_negative_factor(name: str, quantiser: nn.Module) -> None:
    model = Between(copy.deepcopy(FALLING[name]))
    model.before[1] = copy.deepcopy(quantiser)
    network = check(prepared(model), images((3, 11, 9)), tolerance=1e-12)
    assert sum(".signs" in one.name for one in network.populations) == (2 if name == "twice" else 1)


@pytest.mark.parametrize("pools", [1, 2])
def test_a_max_pool_before_a_negative_factor_and_the_quantiser(pools: int) -> None:
    layers = [nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(4)) for _ in range(pools)]
    act = QuantReLU(step=0.25, levels=7)
    model: nn.Module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), *layers, act, nn.Flatten(), nn.LazyLinear(3))
    x = images((3, 11, 9))
    model(x)
    model = prepared(model)
    network = negspike.convert(model, x)
    assert [one.name for one in network.populations if ".signs" in one.name]
    for engine in ("reference", "event"):
        log = negspike.simulate(network, x, engine=engine)
        assert (log.silent >= 0).all()
        np.testing.assert_array_equal(log.logits, model.double()(x.double()).detach().numpy())


@pytest.mark.parametrize("size", [(5, 7), (3, 2), (22, 18), (11, 9), (1, 1)])
def test_adaptive_pools_before_a_linear_layer(size: tuple[int, int]) -> None:
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), QuantReLU(step=0.25, levels=7), nn.AdaptiveAvgPool2d(size), nn.Flatten()),
        *(nn.Linear(4 * size[0] * size[1], 6), QuantReLU(step=0.25, levels=7), nn.Linear(6, 3)),
    )
    check(prepared(model), images((3, 11, 9)), tolerance=1e-6)


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=2, padding=1), nn.AdaptiveAvgPool2d((5, 4))),
    ],
)
def test_pools_of_uneven_windows_before_a_linear_layer(pool: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), QuantReLU(step=0.25, levels=7), pool, nn.Flatten())
    with torch.no_grad():
        features = model(torch.zeros(1, 3, 11, 9)).shape[1]
    model.append(nn.Linear(features, 3))
    check(prepared(model), images((3, 11, 9)), tolerance=1e-6)


class Residual(nn.Module):
    """A pre-activation stream: it is read by batch norms and by later additions, and never quantised itself."""

    def __init__(self, blocks: int = 3, channels: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(blocks + 1))
        self.acts = nn.ModuleList(QuantReLU(step=0.5, levels=7) for _ in range(blocks + 1))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(blocks))
        self.fc = nn.Linear(channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for norm, act, conv in zip(self.norms, self.acts, self.convs, strict=False):
            x = x + conv(act(norm(x)))
        x = self.acts[-1](self.norms[-1](x))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def test_a_stream_is_added_up_once_and_relayed() -> None:
    model = prepared(Residual())
    network = check(model, images((3, 8, 6)), tolerance=1e-12)
    sums = [node for node in network.nodes if isinstance(node, Sum)]
    assert len(sums) == 3
    for earlier, later in pairwise(sums):
        relays = [one for one in later.synapses if one.source == earlier.name]
        assert [one.weight for one in relays] == [None] and (relays[0].scale == 1).all()
    weighted = [one for node in network.nodes[:-1] for one in node.synapses if one.weight is not None]  # type: ignore[union-attr]
    assert len(weighted) == 4


class Dense(nn.Module):
    """Concatenated features, each read through several batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for number in range(3):
            inputs = 3 + 4 * number
            act = QuantReLU(step=0.5, levels=7)
            self.layers.append(nn.Sequential(nn.BatchNorm2d(inputs), act, nn.Conv2d(inputs, 4, 3, padding=1)))
        self.last = nn.Sequential(
            nn.BatchNorm2d(15), QuantReLU(step=0.5, levels=7), nn.Flatten(), nn.Linear(15 * 48, 7)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.last(torch.cat(features, 1))  # type: ignore[no-any-return]


def decided(model: nn.Module, x: torch.Tensor, distance: float) -> torch.Tensor:
    """(N,) bool: the images of which float64 sees no quantiser closer to a tie than this share of its step."""
    double, far = copy.deepcopy(model).double(), torch.ones(len(x), dtype=torch.bool)

    def look(module: Any, inputs: tuple[torch.Tensor]) -> None:
        counts = inputs[0] / module.step - 0.5
        far.logical_and_(((counts - counts.round()).abs() > distance).flatten(1).all(1))

    for module in double.modules():
        if isinstance(module, QuantReLU | QuantIdentity):
            module.register_forward_pre_hook(look)
    with torch.no_grad():
        double(x.double())
    return far


def test_a_stream_of_numbers_that_are_not_dyadic_decides_as_float64_does() -> None:
    """Potentials have no room for more than 22 bits of scale here: what is decided by fewer may not be lost."""
    torch.manual_seed(0)
    model = Residual(channels=32)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -0.3, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.3, 2)  # type: ignore[arg-type]
    x = (torch.rand(60, 3, 11, 9) * 2**16).round() / 2**16
    model.acts = nn.ModuleList(nn.ReLU() for _ in model.acts)
    quantised = negspike.quantize(model.eval(), x, levels=15)
    far = decided(quantised, x, 2.0**-20)
    assert far.sum() > 55
    network = check(quantised, x[far], tolerance=1e-6)
    assert negspike.verify(network, x).lossless


def at_random(model: nn.Module, weight_bits: int = 24) -> nn.Module:
    """Norms of any numbers, and weights as conversion rounds them."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    return negspike.round_weights(model.eval(), weight_bits)


class Scaled(Residual):
    """The stream and what is added to it have a factor each."""

    def __init__(self, blocks: int, kept: float, added: float) -> None:
        super().__init__(blocks, 8)
        self.kept, self.added = kept, added

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for norm, act, conv in zip(self.norms, self.acts, self.convs, strict=False):
            x = self.kept * x + self.added * conv(act(norm(x)))
        x = self.acts[-1](self.norms[-1](x))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("blocks", "kept", "added"), [(2, 2**-0.5, 2**-0.5), (2, 0.9, 1.0), (3, 0.5, 0.5)])
def test_a_stream_with_factors(blocks: int, kept: float, added: float) -> None:
    """The image brings 16 bits of its own: with 16 more a sum, the next factor would be rounded to nothing."""
    torch.manual_seed(3)
    model = at_random(Scaled(blocks, kept, added))
    x = images((3, 8, 6), 12, seed=5)
    check(model, x[decided(model, x, 2.0**-20)], tolerance=1e-6)


class TwoStreams(nn.Module):
    """One neuron reads two sums, each of them through a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 8, 3, padding=1) for _ in range(2))
        self.inner = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(4))
        self.acts = nn.ModuleList(QuantReLU(step=0.25, levels=7) for _ in range(5))
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = (act(conv(x)) for act, conv in zip(self.acts[:2], self.convs, strict=True))
        one, other = self.inner[0](first) + second, self.inner[1](second) + first
        both = self.acts[2](self.norms[0](one) + self.norms[1](other))
        both = both + self.acts[3](self.norms[2](one)) + self.acts[4](self.norms[3](other))
        return self.fc(both.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("weight_bits", [8, 16])
def test_factors_of_sums_have_as_many_bits_as_there_is_room(weight_bits: int) -> None:
    torch.manual_seed(0)
    model = at_random(TwoStreams(), weight_bits)
    x = images((3, 8, 6), 40, seed=5)
    check(model, x[decided(model, x, 2.0**-20)], tolerance=1e-6, weight_bits=weight_bits)


def test_two_sums_of_wide_weights_leave_no_room() -> None:
    torch.manual_seed(0)
    model = at_random(TwoStreams())
    with OneLine(InputError, "acts.2: factors on a residual stream", "QuantIdentity", "fewer weight_bits"):
        negspike.convert(model, images((3, 8, 6), 1))


def test_dense_features_are_sums() -> None:
    network = check(prepared(Dense()), images((3, 8, 6)), tolerance=1e-12)
    assert sum(isinstance(node, Sum) for node in network.nodes) == 2


class Twice(nn.Module):
    """One quantiser used twice, and a residual addition of equal steps."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.fc = QuantReLU(step=0.3, levels=15), nn.Linear(4, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.one(x))
        x = self.act(self.two(x) + x)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


def test_a_second_use_and_an_addition_of_equal_steps() -> None:
    network = negspike.convert(Twice().eval(), images((3, 8, 6)))
    assert [one.name for one in network.populations] == ["act", "act_2"]
    second = network.populations[1]
    residual = next(one for one in second.synapses if one.weight is None)
    np.testing.assert_array_equal(residual.scale, second.theta)
    weighted = next(one for one in second.synapses if one.weight is not None)
    assert (weighted.scale >= 1 << 16).all()


class Mixed(nn.Module):
    """A concatenation of weights and spikes that several batch norms read; a stream with a factor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.act = nn.Conv2d(3, 4, 3, padding=1), QuantReLU(step=0.25, levels=7)
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.acts = nn.ModuleList(QuantReLU(step=0.5, levels=7) for _ in range(2))
        self.last, self.fc = nn.Conv2d(8, 8, 1), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.act(self.stem(x))
        joined = torch.cat([self.conv(spikes), spikes], 1) * 0.5
        stream = joined * 0.5 + self.last(self.acts[0](self.norms[0](joined)))
        stream = stream + self.last(self.acts[0](stream))
        return self.fc(self.acts[1](self.norms[1](stream)).mean((2, 3)))  # type: ignore[no-any-return]


class Chunks(nn.Module):
    """The second part of the first chunk is read behind the second chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = QuantReLU(k=2, levels=7), QuantReLU(k=2, levels=7)
        self.conv, self.classifier = nn.Conv2d(4, 4, 1), nn.Linear(4 * 12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.first(self.conv(x)).chunk(2, 1)
        c, d = self.second(torch.cat([2 * a, a], 1)).chunk(2, 1)
        result: torch.Tensor = self.classifier(torch.cat([c + d, b], 1).flatten(1))
        return result


def test_parts_of_several_chunks_are_not_mistaken_for_each_other() -> None:
    check(prepared(Chunks()), images((4, 3, 4)))


def test_sums_of_weights_and_spikes_and_factors_on_a_stream() -> None:
    check(prepared(Mixed()), images((3, 8, 6)), tolerance=1e-12)


# --- whole networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 2, 1000])
def test_classes_and_biases(classes: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), QuantReLU(k=1), nn.Flatten(), nn.Linear(4 * 6 * 3, classes))
    network = check(prepared(model), images((3, 8, 5)))
    assert network.classes == classes


def test_a_net_without_quantisers_is_its_readout() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 6 * 3, 5))
    network = check(prepared(model), images((3, 8, 5)), tolerance=1e-5)
    assert network.neurons == 0 and network.latency_bound == 0


def test_logits_of_the_image_and_of_spikes_follow_float64() -> None:
    """Whatever room the image's largest pixels leave: the smaller of two scales loses nothing."""
    torch.manual_seed(0)
    act = QuantReLU(step=0.039, levels=7)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4)]
    model = negspike.round_weights(nn.Sequential(Lambda(lambda x: x - act(x)), *head)).eval()
    images = (torch.rand(12, 3, 11, 9) * 2**16).round() / 2**16
    found = negspike.simulate(negspike.convert(model, images), images).logits
    wanted = model.double()(images.double()).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_the_head_may_be_a_quantiser_and_a_pool() -> None:
    head = (nn.Conv2d(4, 5, 1), QuantReLU(step=0.25, levels=15), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(nn.Conv2d(3, 4, 3), QuantReLU(step=0.5, levels=3), *head)
    network = check(prepared(model), images((3, 8, 5)), tolerance=1e-12)
    assert network.readout.synapses[0].weight is None


def test_max_pool_moves_behind_the_quantiser() -> None:
    layers = [nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.ReLU(), QuantIdentity(step=0.5, low=-3, high=7)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12, 3))
    network = negspike.convert(prepared(model), images((3, 8, 5)))
    neurons, pool = network.nodes[:2]
    assert isinstance(pool, MaxPool) and pool.source == neurons.name and neurons.shape == (4, 6, 3)
    assert (network.populations[0].low, network.populations[0].high) == (0, 7)  # of the ReLU, of the quantiser
    x = images((3, 8, 5))
    log = negspike.simulate(network, x, engine="dense")
    np.testing.assert_allclose(log.logits, model(x).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("topology", ["6C3-P2-10-8", "4C3-4C3-12"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("k", [0, 1, 3])
def test_the_pipelines_nets_come_to_the_same_integers(topology: str, padding: str, k: int) -> None:
    """Weights, scales and thresholds; a base is computed on another way and may be one unit, 2^-16 of a weight, off."""
    net = Network(parse_topology(topology, (3, 10, 8), padding, classes=4), k, 12)
    random = torch.Generator().manual_seed(3)
    for block in net.blocks:
        norm: Any = block.norm
        norm.weight.data = torch.randn(norm.weight.shape, generator=random)
        norm.bias.data = torch.randn(norm.weight.shape, generator=random)
        norm.running_mean = torch.randn(norm.weight.shape, generator=random)
        norm.running_var = torch.rand(norm.weight.shape, generator=random) + 0.1
    ours, theirs = negspike.convert(net.eval(), images((3, 10, 8)), weight_bits=12), from_network(net, {})
    assert ours.readout.unit == theirs.readout.unit and ours.neurons == theirs.neurons
    for one, other in zip(ours.nodes, theirs.nodes, strict=True):
        for a, b in zip(one.synapses, other.synapses, strict=True):  # type: ignore[union-attr]
            np.testing.assert_array_equal(a.weight, b.weight)
            np.testing.assert_array_equal(a.scale, b.scale)
            assert a.window == b.window
    for mine, yours in zip(ours.populations, theirs.populations, strict=True):
        np.testing.assert_array_equal(mine.theta, yours.theta)
        np.testing.assert_allclose(mine.base, yours.base, rtol=0, atol=1)


def test_weights_rounded_in_the_forward_pass_are_kept() -> None:
    class Rounded(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(x, round_weights(self.weight, 5), self.bias)

    model = nn.Sequential(Rounded(3, 4, 3), QuantReLU(k=2, levels=9), nn.Flatten(), nn.Linear(72, 3)).eval()
    weight = negspike.convert(model, images((3, 8, 5))).populations[0].synapses[0].weight
    rounded = round_weights(model.get_parameter("0.weight").detach(), 5).flatten(1)
    assert weight is not None
    for ours, theirs in zip(weight.reshape(4, -1), rounded.numpy(), strict=True):
        ratio = theirs / np.where(ours == 0, 1, ours)
        assert ((ours == 0) == (theirs == 0)).all() and len(np.unique(ratio[ours != 0])) == 1 and abs(ours).max() < 16


def test_constant_channels_and_tiny_gains() -> None:
    layers = [nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), QuantReLU(step=0.3, levels=7)]
    model: Any = prepared(nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 18, 3)))
    norm = model[1]
    norm.weight.data = torch.tensor([0.0, -0.0, 1e-30, -1e-12, 1.0, -1.0])
    norm.bias.data = torch.tensor([0.75, -3.0, 0.5, 1e6, 0.0, 0.25])
    model[0].weight.data[4] = 0
    check(model, images((3, 8, 5)), tolerance=1e-5)


# --- what is refused ------------------------------------------------------------------------------------------------


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


class Product(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


def unquantised(function: nn.Module) -> nn.Module:
    """What a function clips that no quantiser has rounded."""
    return nn.Sequential(nn.Conv2d(4, 4, 1), function)


REFUSED: dict[str, tuple[nn.Module, tuple[str, ...]]] = {
    "relu": (unquantised(nn.ReLU()), ("between.1: relu without a quantiser", "negspike.quantize(model, images)")),
    "relu6": (unquantised(nn.ReLU6()), ("between.1: ", "without a quantiser")),
    "clamp": (unquantised(Lambda(lambda x: x.clamp(0, 1))), ("between.1: clamp", "without a quantiser")),
    "SiLU": (nn.SiLU(), ("between: silu", "ReLU")),
    "sigmoid": (nn.Sigmoid(), ("between: sigmoid",)),
    "product": (Product(), ("between: the product of two activations",)),
    "layer norm": (nn.LayerNorm(9), ("between: layer_norm cannot be converted",)),
    "attention": (Lambda(lambda x: F.softmax(x, 1)), ("between: softmax", "leave it out")),
    "group norm": (nn.GroupNorm(2, 4), ("between: group_norm cannot be converted",)),
    "upsampling": (nn.Upsample(scale_factor=2), ("between: ", "cannot be converted")),
    "cropping": (Lambda(lambda x: x[:, :, 1:]), ("between: a slice of height or width",)),
    "transposing": (Lambda(lambda x: x.transpose(2, 3)), ("between: a permutation that moves height or width",)),
    "mean over channels": (
        Lambda(lambda x: x.mean(1, keepdim=True)),
        ("between: mean can be converted over height and width alone",),
    ),
    "concat of rows": (Lambda(lambda x: torch.cat([x, x], 2)), ("between: only concatenation along the channels",)),
    "factor a position": (Lambda(lambda x: x * torch.arange(9.0)), ("between: mul", "within a channel")),
    "broadcast sum": (Lambda(lambda x: x + x.mean((2, 3), keepdim=True)), ("between: add of shapes",)),
    "norm of the batch": (nn.BatchNorm2d(4, track_running_stats=False), ("between: batch norm", "batch")),
    "max pool of unquantised": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.MaxPool2d(2)), ("reads a max pool of values",)),
    "uneven pool": (nn.AdaptiveAvgPool2d((4, 4)), ("only a linear layer", "QuantIdentity")),
    "overlapping averages at the edge": (nn.AvgPool2d(3, 1, 1), ("differs at the edge", "QuantIdentity")),
    "uneven max pool": (nn.AdaptiveMaxPool2d((4, 4)), ("between: (11, 9) into (4, 4)", "different sizes")),
    "places of the largest": (
        Lambda(lambda x: F.max_pool2d(x, 1, return_indices=True)[1] * 1.0),
        ("where a max pool found", "cannot be converted"),
    ),
    "control flow": (Branches(), ("torch.export cannot trace it", "control flow")),
    "values as shapes": (Lambda(lambda x: x.nonzero()), ("",)),
    "mixed batch": (Lambda(lambda x: x.reshape(-1, 2, 11, 9).repeat(1, 2, 1, 1)), ("",)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_that_names_the_module(name: str) -> None:
    module, words = REFUSED[name]
    model = nn.Sequential()
    model.add_module("first", nn.Conv2d(3, 4, 3, padding=1))
    model.add_module("act", QuantReLU(k=1, levels=3))
    model.add_module("between", module)
    model.add_module("last", nn.Conv2d(4, 4, 3, padding=1))
    model.add_module("relu", QuantReLU(k=1, levels=3))
    model.add_module("flatten", nn.Flatten())
    model.add_module("fc", nn.LazyLinear(3))
    with torch.no_grad():
        fits = name not in ("layer norm", "mean over channels", "values as shapes", "mixed batch")
        if fits:
            model.eval()(torch.zeros(1, 3, 11, 9))
        else:
            model.fc = nn.Linear(4 * 99, 3)
            model.last = nn.Conv2d(1, 4, 3, padding=1) if name == "mean over channels" else model.last
    with OneLine(InputError, *words):
        negspike.convert(model.eval(), torch.zeros(1, 3, 11, 9))


CHANGED_IN_PLACE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flattened": lambda x: x.flatten(1).mul_(2).reshape(x.shape),
    "detached": lambda x: (x.detach().mul_(-1), x * 1.0)[1],
    "squeezed": lambda x: (x.squeeze().mul_(4), x + 1)[1],
    "viewed": lambda x: (x.view(-1, 4, 11, 9).add_(0.5), x * 2)[1],
}


@pytest.mark.parametrize("name", CHANGED_IN_PLACE)
def test_what_is_changed_in_place_through_a_view(name: str) -> None:
    check(prepared(Between(lambda x: CHANGED_IN_PLACE[name](x.clone()))), images((3, 11, 9)), tolerance=1e-5)


class Counting(nn.Module):
    """Keeps a count of its calls, and what it has seen last."""

    def __init__(self, *, count: bool) -> None:
        super().__init__()
        self.conv, self.act, self.fc, self.count = nn.Conv2d(3, 4, 1), QuantReLU(k=1), nn.Linear(4, 2), count
        self.calls: torch.Tensor
        self.register_buffer("calls", torch.zeros(1))
        self.seen: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.count:
            self.calls.add_(1)
        self.seen = self.act(self.conv(x))
        return self.fc(self.seen.mean((2, 3)))  # type: ignore[no-any-return]


def test_the_model_is_left_as_it_is() -> None:
    x = torch.zeros(1, 3, 8, 8)
    model = Counting(count=False).eval()
    negspike.convert(model, x)
    assert model.seen is None
    with torch.no_grad():
        model(x)
    copy.deepcopy(model.requires_grad_(False))
    counting = Counting(count=True).eval()
    with OneLine(InputError, "calls: the model changes it whenever it is called"):
        negspike.convert(counting, x)
    assert counting.calls == 0


def test_what_is_random_is_refused() -> None:
    for random in (lambda x: x + torch.randn(1), lambda x: x * torch.rand(4, 1, 1)):
        with OneLine(InputError, "it is random"):
            negspike.convert(Between(random).eval(), torch.zeros(1, 3, 11, 9))


@given(*[st.tuples(*[st.none() | st.integers(-3, 3)] * 2)] * 2)
def test_bounds_behind_bounds(first: tuple[int | None, int | None], then: tuple[int | None, int | None]) -> None:
    assume(all(low is None or high is None or low <= high for low, high in (first, then)))
    low, high = composed_bounds(first, then)

    def clipped(value: float, low: float | None, high: float | None) -> float:
        value = value if low is None else max(value, low)
        return value if high is None else min(value, high)

    for value in range(-5, 6):
        assert clipped(value, low, high) == clipped(clipped(value, *first), *then)


def test_rounded_weights_of_any_head_stay_what_they_are() -> None:
    """round_weights takes the last linear layer for the readout; here it is another one, with rows of all sizes."""
    model: Any = nn.Sequential(
        nn.Conv2d(3, 4, 3), QuantReLU(k=1), nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    model[2].weight.data *= 10.0 ** -torch.arange(5.0)[:, None, None, None]
    negspike.round_weights(model, 16)
    network = negspike.convert(model.eval(), torch.zeros(1, 3, 8, 8), weight_bits=16)
    (synapses,) = network.readout.synapses
    assert synapses.weight is not None
    made = synapses.weight[:, :, 0, 0] * synapses.scale[:, None] * network.readout.unit
    pooled = model[2].weight.detach().double().numpy()[:, :, 0, 0] / 36
    np.testing.assert_allclose(made * 1.0, made[0, 0] / pooled[0, 0] * pooled, rtol=1e-7)


def test_refused_models() -> None:
    x = torch.zeros(1, 3, 8, 8)
    conv, act, fc = nn.Conv2d(3, 4, 3), QuantReLU(k=1), nn.Linear(4 * 36, 2)
    good = nn.Sequential(conv, act, nn.Flatten(), fc).eval()
    with OneLine(InputError, "training mode", "model.eval()"):
        negspike.convert(copy.deepcopy(good).train(), x)
    with OneLine(InputError, "1: it is in training mode"):
        partly = nn.Sequential(conv, nn.BatchNorm2d(4), act, nn.Flatten(), fc).eval()
        partly[1].train()
        negspike.convert(partly, x)
    with OneLine(InputError, "expected (N, classes)"):
        negspike.convert(nn.Sequential(conv, act).eval(), x)
    with OneLine(InputError, "returns 2 values"):
        negspike.convert(nn.Sequential(conv, act, nn.Flatten(), fc, Lambda(lambda y: (y, y))).eval(), x)
    for result in (lambda y: {"logits": y}, lambda y: [y], lambda y: (y,)):
        with OneLine(InputError, "one tensor of logits"):
            negspike.convert(nn.Sequential(conv, act, nn.Flatten(), fc, Lambda(result)).eval(), x)
    with OneLine(InputError, "relu without a quantiser"):
        negspike.convert(nn.Sequential(conv, act, nn.Flatten(), fc, nn.ReLU()).eval(), x)
    with OneLine(InputError, "the example has shape (3, 8, 8)"):
        negspike.convert(good, x[0])
    with OneLine(InputError, "weight_bits is 25"):
        negspike.convert(good, x, weight_bits=25)
    with OneLine(InputError, "weight_bits is '8'"):
        negspike.convert(good, x, weight_bits="8")  # type: ignore[arg-type]
    with OneLine(InputError, "not finite"):
        broken: Any = copy.deepcopy(good)
        broken[0].weight.data[0] = torch.nan
        negspike.convert(broken, x)
    with OneLine(InputError, "step"):
        stepless: Any = copy.deepcopy(good)
        stepless[1].step.fill_(-1.0)
        negspike.convert(stepless, x)
    with OneLine(InputError, "slice_scatter cannot be converted"):
        part = Lambda(lambda y: (y[:, 1:].neg_(), y * 1)[1])
        negspike.convert(nn.Sequential(conv, act, part, nn.Flatten(), fc).eval(), x)
    with OneLine(InputError, "do not fit the model", "one image alone does: keep the first axis"):
        negspike.convert(nn.Sequential(conv, act, Lambda(lambda y: y.view(1, -1)), fc).eval(), x)
    with OneLine(InputError, "max_pool2d takes (N, channels, height, width)"):
        single = nn.Sequential(nn.Conv2d(3, 1, 3), act, Lambda(lambda y: F.max_pool2d(y.squeeze(1), 2).flatten(1)))
        negspike.convert(nn.Sequential(single, nn.Linear(9, 2)).eval(), x)
    with OneLine(InputError, "rounds towards 0"):
        integer = Lambda(lambda y: y.type_as(torch.zeros(1, dtype=torch.int32)) * 1.0)
        negspike.convert(nn.Sequential(conv, act, integer, nn.Flatten(), fc).eval(), x)
    with OneLine(InputError, "training=self.training"):
        negspike.convert(nn.Sequential(conv, act, Lambda(F.dropout), nn.Flatten(), fc).eval(), x)
    with OneLine(InputError, "images of shape", "do not fit the model"):
        negspike.convert(good, torch.zeros(1, 4, 8, 8))


class RawStream(nn.Module):
    """A convolution's result is read by a quantiser and by another convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.act, self.fc = QuantReLU(k=1), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.one(x)
        return self.fc(self.act(x + self.act(self.two(x))).mean((2, 3)))  # type: ignore[no-any-return]


def test_a_sum_is_not_read_through_weights() -> None:
    with OneLine(InputError, "act: it reads one", "put a QuantIdentity behind one"):
        negspike.convert(RawStream().eval(), torch.zeros(1, 3, 8, 8))
