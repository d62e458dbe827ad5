"""Quantisers that a model brings along: in PyTorch's operations, PyTorch's own training, Brevitas."""

from __future__ import annotations

import copy
import importlib
import re
import warnings
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed
import torch.nn.functional as F
from conftest import ROOT, OneLine
from graphs import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import negspike
from negspike.conversion.rounding import common_steps
from negspike.errors import InputError
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import Neurons

Quantise = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


def straight(x: torch.Tensor) -> torch.Tensor:
    return (torch.round(x) - x).detach() + x


class Small(nn.Module):
    """Two convolutions with a shortcut, a quantiser behind each and behind their sum."""

    def __init__(self, quantise: Quantise) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.step = nn.Parameter(torch.tensor(0.25))
        self.classifier, self.quantise = nn.Linear(4 * 36, 5), quantise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.quantise(self.first(x), self.step)
        x = self.quantise(self.second(x) + x, self.step)
        result: torch.Tensor = self.classifier(F.max_pool2d(x, 3, 1, 1).flatten(1))
        return result


def learned_offset(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    return straight(torch.clamp((x + 0.3) / s, -3, 12)) * s - 0.3


def at_least(x: torch.Tensor, low: float) -> torch.Tensor:
    return torch.where(x < low, low, x)


def at_most(x: torch.Tensor, high: float) -> torch.Tensor:
    return torch.where(x > high, high, x)


def decomposed(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    counts = torch.ops.quantized_decomposed.quantize_per_tensor(x.float(), 0.25, 3, 0, 15, torch.uint8)
    counts = torch.ops.quantized_decomposed.dequantize_per_tensor(counts, 0.25, 3, 0, 15, torch.uint8)
    return counts.to(x.dtype)  # type: ignore[no-any-return]


# What is quantised, with a step of 1/4: how, and the counts it comes to.
STYLES: dict[str, tuple[Quantise, tuple[int | None, int | None]]] = {
    "fake_quantize": (lambda x, s: torch.fake_quantize_per_tensor_affine(x, 0.25, 3, 0, 15), (-3, 12)),
    "fake_quantize with tensors": (
        lambda x, s: torch.fake_quantize_per_tensor_affine(F.relu(x), s, torch.zeros(1, dtype=torch.int32), 0, 15),
        (0, 15),
    ),
    "quantize and dequantize": (decomposed, (-3, 12)),
    "LSQ": (lambda x, s: straight(torch.clamp(x / s, 0, 7)) * s, (0, 7)),
    "LSQ with an offset": (learned_offset, (-3, 12)),
    "autograd function": (lambda x, s: Straight.apply(torch.clamp(x / s, 0, 7)) * s, (0, 7)),
    "clipped after": (lambda x, s: torch.clamp(torch.round(x / s), 0, 7) * s, (0, 7)),
    "clipped in the end": (lambda x, s: torch.clamp(torch.round(x / s) * s, 0, 7 * 0.25), (0, 7)),
    "straight through and clipped": (lambda x, s: F.relu6(straight(x / s) * s), (0, 24)),
    "DoReFa": (lambda x, s: Straight.apply(torch.clamp(x, 0, 1) * 4) / 4, (0, 4)),
    "published": (lambda x, s: torch.floor(F.relu(x) * 4 + 0.5) / 4, (0, None)),
    "PACT": (lambda x, s: torch.round(torch.minimum(F.relu(x), s * 8) / s) * s, (0, 8)),
    "bounds as tensors": (
        lambda x, s: torch.round(torch.clamp(x, min=torch.zeros(()), max=s * 7) / s) * s,
        (0, 7),
    ),
    "maximum": (lambda x, s: torch.maximum(torch.zeros(1), torch.round(x / s)) * s, (0, None)),
    "where": (lambda x, s: at_most(at_least(torch.round(x / s), 0.0), 7.0) * s, (0, 7)),
    "where the other way round": (
        lambda x, s: torch.round(torch.where(x >= 0, x, 0.0) / s).clamp_max(7) * s,
        (0, 7),
    ),
    "ceil": (lambda x, s: torch.ceil(F.relu(x) / s - 0.5) * s, (None, 0)),
    "signed": (lambda x, s: torch.clamp(torch.round(x / s), -8, 7) * s, (-8, 7)),
    "turned": (lambda x, s: -torch.clamp(torch.round(-x / s), -8, 7) * s, (-8, 7)),
    "relu behind": (lambda x, s: F.relu(torch.round(x / s).clamp(-8, 7) * s), (0, 7)),
    "other types": (lambda x, s: torch.round(x.relu().float() / s).to(x.dtype).type_as(x) * s, (0, None)),
}


def exact_logits(model: nn.Module, images: torch.Tensor) -> np.ndarray:
    """In float64, of images as the network takes them."""
    rounded = (images.double() * 2**16).round() / 2**16
    with torch.no_grad():
        found: np.ndarray = copy.deepcopy(model).double()(rounded).numpy()
    return found


def check(network: SpikingNetwork, model: nn.Module, images: torch.Tensor) -> None:
    """All is silent and equal, and activations and logits are those of the model in float64."""
    verification = negspike.verify(network, images, model)
    assert verification.lossless, verification
    assert verification.equal_model_neurons == verification.model_neurons >= len(images) * 64, verification
    logits = negspike.simulate(network, images).logits
    assert np.ptp(logits) > 0.1
    np.testing.assert_allclose(logits, exact_logits(model, images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", STYLES)
def test_quantisers_in_operations(name: str) -> None:
    quantise, bounds = STYLES[name]
    torch.manual_seed(1)
    model, images = Small(quantise).eval(), torch.rand(20, 1, 6, 6) * 6
    with torch.no_grad():
        values = quantise(torch.linspace(-9, 9, 5001)[None, None, None], model.step)
    counts = torch.unique((values - values.min()) * 4)
    assert torch.allclose(counts, counts.round(), atol=1e-4) and len(counts.round().unique()) > 4, "it quantises"
    before = copy.deepcopy(model.state_dict())
    network = negspike.convert(model, images[:1])
    found = [(one.low, one.high) for one in network.populations if one.name.startswith("quantize")]
    assert [one for one in found if one == bounds] == [bounds] * 2, found
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    check(network, model, images)


def test_quantisers_behind_flattening() -> None:
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 4, 3), nn.Flatten(), Rounded(lambda x: torch.round(F.relu(x) / 0.3).clamp_max(5) * 0.3)]
    model, images = nn.Sequential(*layers, nn.Linear(64, 5)).eval(), torch.rand(20, 1, 6, 6) * 6
    network = negspike.convert(model, images[:1])
    assert [(one.low, one.high) for one in network.populations] == [(0, 5)]
    check(network, model, images)


BINARY: dict[str, Quantise] = {
    ">": lambda x, s: (x > 0.5).to(x.dtype),
    ">=": lambda x, s: (x >= 0.5).to(x.dtype),
    "<": lambda x, s: (x < s).type_as(x),
    "<=": lambda x, s: torch.where(x <= 0.5, 2.0, -1.0).to(x.dtype),
    "sign": lambda x, s: torch.where(x >= 0, 1.0, -1.0).to(x.dtype),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_activations(name: str) -> None:
    torch.manual_seed(2)
    model, images = Small(BINARY[name]).eval(), torch.rand(20, 1, 6, 6) * 4
    network = negspike.convert(model, images[:1])
    found = [(one.low, one.high) for one in network.populations if one.name.startswith("quantize")]
    assert found.count((0, 1)) == 2, found
    check(network, model, images)


@pytest.mark.parametrize("name", BINARY)
def test_comparisons_at_their_bound(name: str) -> None:
    """Images of 0, 1/4, 1/2, 3/4, and what is compared is the image."""
    torch.manual_seed(0)
    model = Small(BINARY[name])
    steps = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), Rounded(lambda x: BINARY[name](x, model.step * 2)))
    whole = nn.Sequential(*steps, nn.Flatten(), nn.Linear(4, 4, bias=False)).eval()
    nn.init.ones_(whole.get_parameter("0.weight"))
    nn.init.eye_(whole.get_parameter("3.weight"))
    images = torch.arange(4.0).reshape(1, 1, 2, 2) / 4
    network = negspike.convert(whole, images)
    with torch.no_grad():
        assert negspike.simulate(network, images).logits.tolist() == whole(images).tolist()


def random_quantiser(random: Random) -> Quantise:
    """Linear and clipping steps around a rounding, straight through or not."""

    def step() -> Callable[[torch.Tensor], torch.Tensor]:
        number = random.choice([-2.0, -1.0, 0.5, 1.0, 3.0])
        low, high = -random.randint(0, 3), random.randint(1, 9)
        steps: list[Callable[[torch.Tensor], torch.Tensor]] = [
            lambda x: x * number,
            lambda x: x + number,
            lambda x: x / number,
            F.relu,
            lambda x: x.clamp(low, high),
            lambda x: x.clamp_max(high),
            lambda x: torch.maximum(x, torch.tensor(float(low))),
        ]
        return random.choice(steps)

    before, after = ([step() for _ in range(random.randint(0, 3))] for _ in range(2))
    rounding: Callable[[torch.Tensor], torch.Tensor] = random.choice([torch.round, torch.floor, torch.ceil])
    through = random.random() < 0.5

    def quantise(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        x = x / s
        for one in before:
            x = one(x)
        x = (rounding(x) - x).detach() + x if through else rounding(x)
        for one in after:
            x = one(x)
        return x * s

    return quantise


def test_random_quantisers() -> None:
    """What converts computes what the model does in float64; the rest is refused in one line."""
    converted: list[int] = []

    @examples(60)
    @given(st.integers(0, 10_000))
    def run(seed: int) -> None:
        torch.manual_seed(seed)
        model, images = Small(random_quantiser(Random(seed))).eval(), torch.rand(6, 1, 6, 6) * 4
        try:
            network = negspike.convert(model, images[:1])
        except InputError as error:
            assert len(str(error).splitlines()) == 1
            return
        converted.append(seed)
        check(network, model, images)

    run()
    assert len(converted) > 25 / 60 * examples(60).max_examples, f"only {len(converted)} were converted"


# another number for each channel
EACH = torch.arange(1.0, 5.0).reshape(4, 1, 1)


@pytest.mark.parametrize(
    ("quantise", "words"),
    [
        (lambda x, s: torch.clamp(torch.round(x / s), 0, 2.5) * s, ("clamp behind a quantiser is at 2.5",)),
        (lambda x, s: torch.round(x, decimals=1), ("rounding to decimals",)),
        (lambda x, s: (F.relu(x) / s).to(torch.int32) * s, ("torch.int32 rounds towards 0", "torch.floor")),
        (lambda x, s: torch.round(x / s).clamp(1, 5) * s, ("counts from 1 to 5", "0 must be one")),
        (lambda x, s: torch.round(torch.minimum(x, EACH) / s), ("the bound of minimum",)),
        (lambda x, s: torch.round(torch.minimum(x, x * 2)), ("minimum of two activations",)),
        (lambda x, s: torch.where(x > 0, x * 2, x), ("torch.where(x > c, c, x)",)),
        (lambda x, s: torch.where(x > 1, 2.0, x), ("where jumps from 1 to 2",)),
        (lambda x, s: (x > 0) * s, ("a comparison can be converted in",)),
        (lambda x, s: (x > 0) + 1.0, ("a comparison can be converted in",)),
        (lambda x, s: torch.round(F.relu(x) * EACH + EACH), ("relu without",)),
        (lambda x, s: (F.relu(x) - x).detach() + x, ("relu without a quantiser",)),
    ],
)
def test_what_is_no_quantiser_is_refused(quantise: Quantise, words: tuple[str, ...]) -> None:
    with OneLine(InputError, *words):
        negspike.convert(Small(quantise).eval(), torch.rand(1, 1, 6, 6))


def test_ties_go_up() -> None:
    """As floor(x + 1/2) has it; PyTorch's round goes to even numbers there."""
    model = nn.Sequential(
        nn.Conv2d(1, 1, 1, bias=False), Rounded(torch.round), nn.Flatten(), nn.Linear(6, 6, bias=False)
    )
    nn.init.constant_(model.get_parameter("0.weight"), 0.5)
    nn.init.eye_(model.get_parameter("3.weight"))
    images = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert negspike.simulate(negspike.convert(model.eval(), images), images).logits.tolist() == [[0, 1, 1, 2, 2, 3]]
    model[1] = Rounded(lambda x: torch.floor(x + 0.5))
    network = negspike.convert(model.eval(), images)
    np.testing.assert_array_equal(negspike.simulate(network, images).logits, exact_logits(model, images))


class Rounded(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


# --- weights that are integers times a scale ---


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_quantised_weights_become_their_integers(bits: int, per_channel: bool) -> None:
    torch.manual_seed(bits)
    most = 2 ** (bits - 1) - 1
    model = Small(lambda x, s: torch.clamp(torch.round(x / s), 0, 7) * s).eval()
    wanted = {}
    for name in ("first", "second", "classifier"):
        weight = model.get_parameter(f"{name}.weight").data
        integers = torch.randint(-most, most + 1, weight.shape)
        integers[:, 0] = most  # so that no larger scale would do
        integers.view(len(integers), -1)[:, 1] = 1
        scale = torch.rand(len(weight) if per_channel else 1).add(0.1).mul(0.1).reshape(-1, *[1] * (weight.dim() - 1))
        weight.copy_(integers.float() * scale)
        wanted[name] = integers.numpy()
    images = torch.rand(20, 1, 6, 6) * 3
    network = negspike.convert(model, images[:1])
    found = [one.weight for node in network.layers for one in node.synapses if one.weight is not None]
    for name, made in zip(wanted, found, strict=True):
        np.testing.assert_array_equal(np.abs(made).reshape(wanted[name].shape), np.abs(wanted[name]), err_msg=name)
    check(network, model, images)


def test_thresholds_of_few_bits_of_weight_decide_as_float64_does() -> None:
    """Counts up to 255 of pixels: with the 16 bits of the image beside three of the weights alone, some are one off."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 8, 3)
    for conv, scale in ((first, 0.0213), (second, 0.0371)):
        conv.weight.data = torch.randint(-3, 4, conv.weight.shape) * torch.tensor(scale)

    def quantiser(step: float) -> nn.Module:
        return Rounded(lambda x: torch.round((x / step).clamp(0, 255)) * step)

    acts = quantiser(0.0032), quantiser(0.0093)
    model = nn.Sequential(first, acts[0], second, acts[1], nn.Flatten(), nn.Linear(8 * 64, 4)).eval()
    images = torch.rand(60, 3, 12, 12)
    network = negspike.convert(model, images)
    assert network.layers[0].synapses[0].weight is not None and np.abs(network.layers[0].synapses[0].weight).max() == 3
    proof = negspike.verify(network, images, model)
    assert proof.lossless and proof.equal_model_neurons == proof.model_neurons == 60 * network.neurons


def test_other_weights_have_no_common_step() -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((50, 3, 3, 3)).astype(np.float32).astype(np.float64)
    assert not common_steps(weight, 24).any()
    weight[7] = random.integers(-100, 101, (3, 3, 3)) * np.float32(0.0123)
    weight[8] = 0
    weight[9] = random.integers(-100, 101, (3, 3, 3)) * np.float32(0.0123) + 1e-5
    steps = common_steps(weight, 24)
    assert np.flatnonzero(steps).tolist() == [7] and steps[7] == pytest.approx(0.0123, rel=1e-6)
    assert not common_steps(weight, 5).any(), "100 takes 8 bits"
    assert not common_steps(np.random.default_rng(1).integers(-3000, 3001, (1, 99)) * 0.1, 24).any()


# --- other libraries ---


def trained(model: nn.Module) -> nn.Module:
    """It has seen some images."""
    for _ in range(5):
        model(torch.rand(8, 1, 8, 8))
    return model.eval()


def test_models_of_brevitas() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import brevitas.nn as qnn
    torch.manual_seed(0)
    model = trained(
        nn.Sequential(
            *(qnn.QuantConv2d(1, 4, 3, weight_bit_width=4, bias=True), nn.BatchNorm2d(4), qnn.QuantReLU(bit_width=4)),
            *(qnn.QuantConv2d(4, 6, 3, weight_bit_width=3, bias=False), qnn.QuantIdentity(bit_width=5)),
            *(nn.MaxPool2d(2), nn.Flatten(), qnn.QuantLinear(24, 5, weight_bit_width=8, bias=True)),
        )
    )
    images = torch.rand(40, 1, 8, 8)
    network = negspike.convert(model, images[:1])
    assert [(one.name, one.low, one.high) for one in network.populations] == [("2", 0, 15), ("4", -16, 15)]
    widths = [
        int(np.abs(one.weight).max()) for node in network.layers for one in node.synapses if one.weight is not None
    ]
    assert widths[0] <= 7 and widths[1] <= 3 and widths[2] <= 127
    verification = negspike.verify(network, images, model)
    assert verification.lossless and verification.predictions["quantised model"] == 40, verification
    assert verification.equal_model_neurons == verification.model_neurons == 40 * network.neurons


def test_the_example(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")
    network = importlib.import_module("brevitas_digits").main(epochs=1)
    said = capsys.readouterr().out
    assert said.startswith("lossless") and "360 of 360" in said
    assert network.largest_weight_bits == 4 and re.search(r"weights +4 bits", said) and network.threshold_bits < 40


@pytest.mark.parametrize("fused", [True, False])
def test_models_of_pytorchs_quantisation_aware_training(fused: bool) -> None:
    ao: Any = torch.ao.quantization
    torch.manual_seed(0)
    layers = {"conv": nn.Conv2d(1, 4, 3), "norm": nn.BatchNorm2d(4), "relu": nn.ReLU(), "next": nn.Conv2d(4, 4, 3)}
    model: Any = nn.Sequential()
    for name, layer in (layers | {"act": nn.ReLU(), "flatten": nn.Flatten(), "fc": nn.Linear(64, 5)}).items():
        model.add_module(name, layer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.qconfig = ao.get_default_qat_qconfig("fbgemm")
        model = ao.fuse_modules_qat(model, [["conv", "norm", "relu"], ["next", "act"]]) if fused else model
        model = trained(ao.prepare_qat(model))
    images = torch.rand(40, 1, 8, 8)
    with OneLine(InputError, "weight_fake_quant: it still changes its step", "disable_observer"):
        negspike.convert(model, images[:1])
    model.apply(ao.disable_observer)
    network = negspike.convert(model, images[:1])
    names = ["conv", "next", "fc"] if fused else ["conv", "norm", "relu", "next", "act", "fc"]
    assert {one.name for one in network.populations} <= {*names}
    assert all(isinstance(one, Neurons) and one.high is not None for one in network.populations)
    assert (
        max(int(np.abs(one.weight).max()) for node in network.layers for one in node.synapses if one.weight is not None)
        <= 128
    )
    verification = negspike.verify(network, images, model)
    assert verification.lossless and verification.predictions["quantised model"] == 40, verification
    assert verification.equal_model_neurons == verification.model_neurons == 40 * network.neurons
    model.apply(ao.disable_fake_quant)
    with OneLine(InputError, "relu without a quantiser"):
        negspike.convert(model, images[:1])


def test_weights_of_layers_that_round_them_themselves_are_not_rounded_before() -> None:
    """As Brevitas' layers: what they read is not what they add up with."""

    class Rounding(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(x, torch.round(self.weight * 4) / 4, self.bias)

    torch.manual_seed(0)
    own, plain = Rounding(2, 3, 3), nn.Conv2d(2, 3, 3)
    before = own.weight.clone(), plain.weight.clone()
    negspike.round_weights(nn.Sequential(own, plain), 4)
    assert torch.equal(own.weight, before[0]) and not torch.equal(plain.weight, before[1])
