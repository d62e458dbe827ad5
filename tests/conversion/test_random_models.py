"""Models that nobody would think of: what can be converted is lossless and the model's own, the rest is one line."""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from graphs import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import negspike
from negspike.errors import InputError

SHAPE = (3, 11, 9)
LAYERS = (
    "conv",
    "conv",
    "depthwise",
    "relu",
    "relu",
    "relu",
    "relu6",
    "norm",
    "max",
    "average",
    "factor",
    "shift",
    "block",
)


class Operand(nn.Module):
    """A factor or a summand for each channel."""

    def __init__(self, channels: int, *, factor: bool) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("constant", torch.randn(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.constant if self.factor else x + self.constant  # type: ignore[operator]


class Branch(nn.Module):
    """A block and a way around it."""

    def __init__(self, block: nn.Module, join: str) -> None:
        super().__init__()
        self.block, self.join = block, join

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.block(x)
        if self.join == "concat":
            return torch.cat([x, y], 1)
        return x + y if self.join == "sum" else x - y  # type: ignore[no-any-return]


def norm(channels: int) -> nn.BatchNorm2d:
    """With factors of both signs."""
    made = nn.BatchNorm2d(channels)
    nn.init.normal_(made.weight)
    nn.init.normal_(made.bias, 0, 0.3)
    made.running_mean, made.running_var = torch.randn(channels) * 0.3, 0.5 + 1.5 * torch.rand(channels)
    return made


def block(random: Random, channels: int, *, inner: bool) -> tuple[nn.Sequential, int]:
    """Some layers and how many channels they give; an inner block keeps channels, height and width."""
    made = nn.Sequential()
    for _ in range(random.randint(1, 5)):
        name = random.choice(LAYERS[:-1] if inner else LAYERS)
        pool = (3, 1, 1) if inner else (random.choice([2, 3]), random.choice([1, 2]), random.choice([0, 1]))
        if name == "conv":
            outputs = channels if inner else random.choice([2, 3, 4, 6])
            padding = 1 if inner else random.choice([0, 1])
            made.append(nn.Conv2d(channels, outputs, 3, padding=padding, bias=random.random() < 0.5))
            channels = outputs
        elif name == "block":
            join = random.choice(["sum", "difference", "concat"])
            made.append(Branch(block(random, channels, inner=True)[0], join))
            channels *= 2 if join == "concat" else 1
        else:
            layers: dict[str, nn.Module] = {
                "depthwise": nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
                "relu": nn.ReLU(),
                "relu6": nn.ReLU6(),
                "norm": norm(channels),
                "max": nn.MaxPool2d(*pool),
                "average": nn.AvgPool2d(*pool),
                "factor": Operand(channels, factor=True),
                "shift": Operand(channels, factor=False),
            }
            made.append(layers[name])
    return made, channels


def test_random_models() -> None:
    converted: set[int] = set()

    @examples(40)
    @given(st.integers(0, 1000))
    def check(seed: int) -> None:
        random = Random(seed)
        torch.manual_seed(seed)
        body, channels = block(random, SHAPE[0], inner=False)
        pool = random.choice([nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)])
        model = nn.Sequential(body, pool, nn.Flatten(), nn.Linear(channels, 4)).eval()
        images = (torch.rand(12, *SHAPE) * 2**16).round() / 2**16
        try:
            quantised = negspike.quantize(model, images, levels=random.choice([3, 7, 15]))
            network = negspike.convert(quantised, images)
        except InputError as error:
            assert "\n" not in str(error)
            # the edge of averages, and sums that are read twice; or a pool as large as what is left of the image
            assert any(
                words in str(error) for words in ("QuantIdentity", "linear layer follows", "do not fit the model")
            )
            return
        converted.add(seed)
        log = negspike.simulate(network, images, engine=random.choice(["event", "reference", "dense"]))
        proof = negspike.verify(network, images, quantised)
        assert proof.lossless and (log.silent >= 0).all()
        assert proof.equal_model_neurons == proof.model_neurons, proof
        with torch.no_grad():
            wanted = quantised.double()(images.double()).numpy()
        np.testing.assert_allclose(log.logits, wanted, rtol=0, atol=1e-5 * max(abs(wanted).max(), 1e-9))

    check()
    assert len(converted) > 20 / 40 * examples(40).max_examples
