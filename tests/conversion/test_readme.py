"""What the README shows of the Python interface, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch import nn


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.norm, self.classifier = nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(x + self.norm(self.second(x)))
        logits: torch.Tensor = self.classifier(x.mean((2, 3)))
        return logits


def test_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, Any] = {"model": Residual().eval(), "images": torch.randn(8, 1, 8, 8)}
    exec(next(block for block in blocks() if "convert" in block), names)
    printed = capsys.readouterr().out
    assert re.search("latency +at most 30 time steps", printed) and "\nlossless\n" in printed
    assert "8 of 8" in printed and (tmp_path / "network.npz").is_file()


def test_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    shapes = [(16, 1, 3, 3), (16, 16, 2, 2), (64, 16, 4, 4)]
    layers = [
        {"weight": random.normal(0, 0.3, shape), "gamma": np.ones(shape[0]), "beta": np.zeros(shape[0])}
        | {"mean": np.zeros(shape[0]), "var": np.ones(shape[0]), "eps": 1e-5}
        for shape in shapes
    ]
    names: dict[str, Any] = {"layers": layers, "classifier": random.normal(0, 1, (64, 10)), "labels": np.arange(5)}
    names["images"] = random.normal(0, 1, (5, 1, 8, 8))
    exec(next(block for block in blocks() if "from_batchnorm" in block), names)
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
        *("accuracy.txt", "sop_num.txt", "spike_collect.txt", "spike_num.txt")
    ]
