"""Two oracles that share no code with the engines: PyTorch in float64, node by node, and NumPy from docs/format.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from test_graph_golden import GOLDEN, NETS, FromSpec
from torch import nn

import negspike
from negspike.spiking.nodes import MaxPool, Neurons, Readout, Synapses, Window

Case = tuple[negspike.SpikingNetwork, np.ndarray]


class Odd(nn.Module):
    """What models do to windows: dilation, groups, ceil_mode, uneven padding, shuffles, signed counts, a shared sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu = nn.Conv2d(2, 8, (3, 2), stride=(2, 1), padding=(2, 1), bias=True), self._relu(3)
        self.pool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
        self.grouped, self.signed = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4), self._signed()
        self.norms = nn.ModuleList([nn.BatchNorm2d(8) for _ in range(2)])
        self.relus = nn.ModuleList([self._relu(7) for _ in range(2)])
        self.average, self.classifier = nn.AvgPool2d(2, 1), nn.Linear(8 + 8 + 8, 5)

    @staticmethod
    def _relu(levels: int) -> nn.Module:
        return negspike.QuantReLU(step=0.3, levels=levels)

    @staticmethod
    def _signed() -> nn.Module:
        return negspike.QuantIdentity(step=0.2, low=-3, high=None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu(self.first(x)))
        y = self.grouped(x)
        parts = [relu(norm(y)) for relu, norm in zip(self.relus, self.norms, strict=True)]
        z = F.channel_shuffle(torch.cat([self.signed(y) + x, *parts], 1), 3)
        logits: torch.Tensor = self.classifier(self.average(z).mean((2, 3)))
        return logits


def odd() -> Case:
    torch.manual_seed(0)
    model = Odd()
    model(torch.randn(16, 2, 11, 8))
    for norm in model.norms:
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.normal_(norm.weight)
    return negspike.convert(model.eval(), torch.zeros(1, 2, 11, 8)), torch.randn(6, 2, 11, 8).numpy()


def golden(name: str) -> Case:
    numbers = np.load(GOLDEN / f"{name}.npz")
    return negspike.convert(FromSpec(numbers).eval(), numbers["images"][:1]), numbers["images"][:6]


@pytest.fixture(scope="module", params=[*NETS, "odd"])
def case(request: pytest.FixtureRequest) -> Case:
    return odd() if request.param == "odd" else golden(request.param)


def test_numpy_from_the_documentation(case: Case, tmp_path: Path) -> None:
    network, images = case
    block = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "format.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None and "negspike" not in block[1]
    names: dict[str, Any] = {}
    exec(block[1], names)
    network.save(tmp_path / "network.npz")
    for timesteps in (2, 5, 60):
        log = negspike.simulate(network, images, timesteps=timesteps)
        for number, image in enumerate(images):
            counts, logits = names["run"](tmp_path / "network.npz", image, timesteps)
            for population in network.populations:
                np.testing.assert_array_equal(log.counts[population.name][number], counts[population.name])
            np.testing.assert_array_equal(log.logits[number], logits)
    assert (log.silent >= 0).all()


def test_pytorch_in_float64(case: Case) -> None:
    network, images = case
    log = negspike.simulate(network, images)
    assert (log.silent >= 0).all()
    values = {"input": torch.from_numpy(np.rint(images * 2.0**16)).double()}
    for node in network.nodes:
        if isinstance(node, MaxPool):
            padded = F.pad(values[node.source], sides(node.window), value=-torch.inf)
            window = node.window
            values[node.name] = F.max_pool2d(padded, window.kernel, window.stride, dilation=window.dilation)
            continue
        total = torch.zeros(len(images), *node.shape, dtype=torch.int64)
        for synapses in node.synapses:
            sums = convolved(synapses, values[synapses.source]) * torch.from_numpy(synapses.scale)[:, None, None]
            total[:, slice(None) if synapses.targets is None else torch.from_numpy(synapses.targets)] += sums
        if isinstance(node, Neurons):
            theta, base = (torch.from_numpy(array)[:, None, None] for array in (node.theta, node.base))
            total = torch.div(total - base, theta, rounding_mode="floor")
            total = total.clamp(
                -(1 << 40) if node.low is None else node.low, 1 << 40 if node.high is None else node.high
            )
            np.testing.assert_array_equal(log.counts[node.name], total.numpy(), node.name)
        elif isinstance(node, Readout):
            logits = (total[:, :, 0, 0] + torch.from_numpy(node.bias)).numpy() * node.unit
            np.testing.assert_array_equal(log.logits, logits)
        values[node.name] = total.double()


def sides(window: Window) -> tuple[int, ...]:
    (top, bottom), (left, right) = window.padding
    return left, right, top, bottom


def convolved(synapses: Synapses, x: torch.Tensor) -> torch.Tensor:
    """In float64, where every sum fits its 53 bits."""
    window, outputs = synapses.window, len(synapses.scale)
    x = x if synapses.channels is None else x[:, torch.from_numpy(synapses.channels)]
    weight, groups = synapses.weight, synapses.groups
    if weight is None:
        weight, groups = np.ones((outputs, 1, 1, 1)), outputs
    kernel = torch.from_numpy(weight.astype(np.float64)).expand(-1, -1, *window.kernel)
    assert float(x.abs().max() * kernel.abs().sum((1, 2, 3)).max()) < 2**53
    sums = F.conv2d(F.pad(x, sides(window)), kernel, None, window.stride, 0, window.dilation, groups)
    return sums.round().to(torch.int64)
