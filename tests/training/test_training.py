"""Training: repeatable to the bit, resumable to the bit, suspicious of the files it finds."""

from __future__ import annotations

import copy
import csv
import math
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
from conftest import ROOT, OneLine
from torch import nn

from negspike.data.dataset import Dataset, Images, load_dataset, save_dataset
from negspike.data.registry import DATASETS
from negspike.devices import environment
from negspike.errors import InputError
from negspike.fingerprint import code_of
from negspike.training import phase as module
from negspike.training.history import Epoch, write_history
from negspike.training.network import Network
from negspike.training.phase import PhaseResult, train_phase
from negspike.training.schedule import Phase, Recipe
from negspike.training.topology import parse_topology
from negspike.training.weights import load_weights, save_weights

CPU = torch.device("cpu")
PHASE = Phase(1, 3, 1e-3, 50)
TOPOLOGY = "4C3-P2-8"


def part(images: Images, count: int) -> Images:
    return Images(images.pixels[:count], images.labels[:count])


@pytest.fixture(scope="module")
def small(digits: Dataset) -> Dataset:
    """201 digits: the last of five batches is a single image."""
    return Dataset(digits.spec, part(digits.train, 201), part(digits.train, 0), part(digits.test, 60), digits.checksum)


@pytest.fixture(scope="module")
def colours() -> Dataset:
    """Random images that are augmented, with some held out."""
    random = np.random.default_rng(0)
    splits = [
        Images(random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), random.integers(0, 10, count))
        for count in (60, 10, 20)
    ]
    return Dataset(DATASETS["cifar10"], splits[0], splits[1], splits[2], "0" * 64)


def start(dataset: Dataset, k: int | None = 1, seed: int = 0, topology: str = TOPOLOGY, bits: int = 16) -> Network:
    return Network(parse_topology(topology, dataset.spec.input_shape), k, bits, seed)


def train(
    network: nn.Module, dataset: Dataset, checkpoint: Path, phase: Phase = PHASE, seed: int = 0, **options: object
) -> PhaseResult:
    report = options.get("report", lambda _: None)
    assert callable(report)
    return train_phase(network, dataset, phase, seed, checkpoint, report)


def bits(network: nn.Module) -> dict[str, bytes]:
    return {name: value.contiguous().numpy().tobytes() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("k", [None, 1])
def test_the_same_seed_gives_the_same_bits(k: int | None, small: Dataset, tmp_path: Path) -> None:
    results = []
    for name, disturbance in (("a", 0), ("b", 99)):
        torch.manual_seed(disturbance)
        network = start(small, k)
        results.append((train(network, small, tmp_path / name).history, bits(network)))
    assert results[0] == results[1]
    other = start(small, k)
    assert train(other, small, tmp_path / "c", seed=1).history != results[0][0]


def test_it_learns_and_keeps_a_history(digits: Dataset, tmp_path: Path) -> None:
    network = start(digits, topology="8C3-P2-16")
    history = train(network, digits, tmp_path / "checkpoint", Phase(2, 4, 3e-3, 50)).history
    assert [(row.phase, row.epoch, row.learning_rate) for row in history] == [(2, i, 3e-3) for i in range(1, 5)]
    first, last = history[0].loss, history[-1].loss
    assert first is not None and last is not None and last < 0.5 * first
    assert history[-1].test_accuracy > 0.8
    assert all(row.validation_accuracy is None for row in history)


class Interrupted(Exception):
    """Raised in the middle of a training."""


def stop_at(words: str) -> Callable[[str], None]:
    def report(line: str) -> None:
        if words in line:
            raise Interrupted

    return report


@pytest.mark.parametrize("dataset_name", ["small", "colours"])
@pytest.mark.parametrize("words", ["epoch 2/3 done", "epoch 3/3 done", "epoch 3/3 image"])
@pytest.mark.parametrize(("recipe", "resolution"), [("published", 1.0), ("fast", 0.5)])
def test_an_interrupted_training_goes_on_to_the_same_bits(
    dataset_name: str,
    words: str,
    recipe: Recipe,
    resolution: float,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.0)  # a line after every batch
    dataset: Dataset = request.getfixturevalue(dataset_name)
    phase = Phase(1, 3, 1e-2, 20, recipe, initial_resolution=resolution)
    whole = start(dataset)
    expected = train(whole, dataset, tmp_path / "whole", phase)
    interrupted, checkpoint = start(dataset), tmp_path / "checkpoint"
    with pytest.raises(Interrupted):
        train(interrupted, dataset, checkpoint, phase, report=stop_at(words))
    resumed, lines = start(dataset), list[str]()
    result = train(resumed, dataset, checkpoint, phase, report=lines.append)
    done = 1 if words.startswith("epoch 2") else 2
    assert f"going on after epoch {done} of 3" in lines[0]
    assert bits(resumed) == bits(whole)
    assert result.history == expected.history
    assert (dataset_name == "colours") == (result.history[0].validation_accuracy is not None)


class Unused(nn.Module):
    """With a layer that its forward leaves out."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.fc, self.left_out = nn.Linear(inputs, classes), nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("recipe", ["published", "fast"])
def test_a_parameter_that_no_gradient_reaches(recipe: Recipe, colours: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Unused(int(np.prod(colours.spec.input_shape)), colours.spec.classes)
    resumed, phase, lines = copy.deepcopy(model), Phase(1, 3, 1e-2, 20, recipe), list[str]()
    train(model, colours, tmp_path / "whole", phase)
    with pytest.raises(Interrupted):
        train(copy.deepcopy(resumed), colours, tmp_path / "checkpoint", phase, report=stop_at("epoch 3"))
    train(resumed, colours, tmp_path / "checkpoint", phase, report=lines.append)
    assert "going on after epoch 2 of 3" in lines[0] and bits(resumed) == bits(model)


def test_the_fast_recipe_shows_both_sides_of_an_image_in_two_epochs(
    colours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which half begins mirrored is chance: of the seed, and not of the other random numbers."""
    shown, original = list[torch.Tensor](), module.train_epoch

    def note(*given: Any, **options: Any) -> tuple[float, float]:
        shown.append(given[2][2])
        return original(*given, **options)

    monkeypatch.setattr(module, "train_epoch", note)
    train(start(colours), colours, tmp_path / "fast", Phase(1, 4, 1e-3, 50, "fast"))
    train(start(colours), colours, tmp_path / "seed", Phase(1, 1, 1e-3, 50, "fast"), seed=1)
    first, second, third, fourth, other = shown
    assert torch.equal(first, ~second) and torch.equal(first, third) and torch.equal(second, fourth)
    assert 15 < first.sum() < 45 and not torch.equal(first, other)
    shown.clear()
    train(start(colours), colours, tmp_path / "published", Phase(1, 1, 1e-3, 50))
    assert shown == [None]


def test_a_finished_phase_is_not_trained_again(small: Dataset, tmp_path: Path) -> None:
    network, checkpoint = start(small), tmp_path / "checkpoint"
    result = train(network, small, checkpoint)
    again, lines = start(small), list[str]()
    assert train(again, small, checkpoint, report=lines.append).history == result.history
    assert bits(again) == bits(network)
    assert len(lines) == 1 and "going on after epoch 3 of 3" in lines[0]


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from negspike.data.dataset import load_dataset
from negspike.fingerprint import code_of
from negspike.training import phase as module
from negspike.training.network import Network
from negspike.devices import environment
from negspike.training.topology import parse_topology
from negspike.training.schedule import Phase
from negspike.training.phase import train_phase

torch.set_num_threads(1)
data, checkpoint = Path(sys.argv[1]), Path(sys.argv[2])

def report(line):
    if "epoch 3/4 done" in line:
        os.kill(os.getpid(), signal.SIGKILL)

network = Network(parse_topology("4C3-P2-8", (1, 8, 8)), 1, 16, 0)
train_phase(network, load_dataset("digits", data), Phase(1, 4, 1e-3, 50), 0, checkpoint, report)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_process_goes_on_in_another(digits: Dataset, tmp_path: Path) -> None:
    arrays = {}
    for split, images in (("train", part(digits.train, 200)), ("test", part(digits.test, 60))):
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images.pixels, images.labels.astype(np.uint8)
    data, checkpoint = tmp_path / "digits.npz", tmp_path / "checkpoint"
    save_dataset(digits.spec, arrays, data)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(data), str(checkpoint)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert checkpoint.exists()
    dataset = load_dataset("digits", data)
    phase = Phase(1, 4, 1e-3, 50)
    resumed, whole, lines = start(dataset), start(dataset), list[str]()
    train(resumed, dataset, checkpoint, phase, report=lines.append)
    train(whole, dataset, tmp_path / "other", phase)
    assert "going on after epoch 2 of 4" in lines[0]
    assert bits(resumed) == bits(whole)


def test_the_second_phase_starts_from_the_weights_of_the_first(small: Dataset, tmp_path: Path) -> None:
    first = start(small)
    train(first, small, tmp_path / "first")
    save_weights(first, tmp_path / "phase1.pt", {"made": "by a test"})
    second = Phase(2, 2, 1e-4, 50)
    train(first, small, tmp_path / "second", second)
    loaded = start(small, seed=5)
    assert load_weights(loaded, tmp_path / "phase1.pt") == {"made": "by a test"}
    train(loaded, small, tmp_path / "third", second)
    assert bits(loaded) == bits(first)


@pytest.mark.parametrize(
    "change",
    ["seed", "rate", "batch", "epochs", "number", "k", "bits", "start", "data", "topology"],
)
def test_the_checkpoint_of_other_settings_is_ignored(change: str, small: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    train(start(small), small, checkpoint, Phase(1, 2, 1e-3, 50))
    phase, seed, network, dataset = Phase(1, 2, 1e-3, 50), 0, start(small), small
    match change:
        case "seed":
            seed = 1
        case "rate":
            phase = Phase(1, 2, 2e-3, 50)
        case "batch":
            phase = Phase(1, 2, 1e-3, 40)
        case "epochs":
            phase = Phase(1, 3, 1e-3, 50)
        case "number":
            phase = Phase(2, 2, 1e-3, 50)
        case "k":
            network = start(small, 2)
        case "bits":
            network = start(small, bits=8)
        case "start":
            network = start(small, seed=1)
        case "data":
            dataset = Dataset(small.spec, small.train, small.validation, small.test, "1" * 64)
        case "topology":
            network = start(small, topology="4C3-P2-9")
    lines: list[str] = []
    history = train(network, dataset, checkpoint, phase, seed, report=lines.append).history
    assert not any("going on" in line for line in lines)
    assert len(history) == phase.epochs


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def damaged_files(good: bytes, weight: bytes, folder: Path) -> dict[str, bytes]:
    """What a disk, a user or an attacker may leave in place of a file that torch wrote, with ``weight`` in it."""
    flipped = bytearray(good)
    flipped[good.index(weight) + 2] ^= 255
    tensor, listed, bomb = folder / "tensor", folder / "list", folder / "bomb"
    torch.save(torch.zeros(3), tensor)
    torch.save([1, 2], listed)
    torch.save({"weights": Bomb(folder / "evil"), "metadata": {}, "settings": Bomb(folder / "evil")}, bomb)
    plain = folder / "plain"
    with zipfile.ZipFile(plain, "w") as archive:
        archive.writestr("text", "text")
    return {
        "empty": b"",
        "text": b"not a checkpoint\n" * 100,
        "truncated": good[: len(good) // 2],
        "cut": good[:-20],
        "flipped": bytes(flipped),
        "tensor": tensor.read_bytes(),
        "list": listed.read_bytes(),
        "zip": plain.read_bytes(),
        "bomb": bomb.read_bytes(),
        "pickle": pickle.dumps(Bomb(folder / "evil")),
    }


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_damaged_checkpoint_is_ignored(small: Dataset, tmp_path: Path) -> None:
    phase, checkpoint, folder = Phase(1, 1, 1e-3, 50), tmp_path / "checkpoint", tmp_path / "files"
    folder.mkdir()
    whole = start(small)
    train(whole, small, checkpoint, phase)
    good = checkpoint.read_bytes()
    assert len(good) > 1000
    for name, content in damaged_files(good, whole.classifier.detach().numpy().tobytes(), folder).items():
        checkpoint.write_bytes(content)
        network = start(small)
        history = train(network, small, checkpoint, phase).history
        assert len(history) == 1, name
        assert bits(network) == bits(whole), name
    assert not (folder / "evil").exists()


def test_no_checkpoint_is_left_half_written(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "checkpoint"
    train(start(small), small, checkpoint, Phase(1, 1, 1e-3, 50))
    before = checkpoint.read_bytes()

    def full(_: object, stream: IO[bytes]) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        train(start(small), small, checkpoint, Phase(1, 1, 2e-3, 50))
    assert checkpoint.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("often", [0.0, 15.0])
def test_a_loss_that_is_not_finite(
    often: float, small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", often)
    network = start(small, None)
    with torch.no_grad():
        network.classifier[0, 0] = math.nan
    with OneLine(InputError, "phase 1, epoch 1", "the loss is nan", "learning_rate (0.001)"):
        train(network, small, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def test_a_learning_rate_far_too_high(small: Dataset, tmp_path: Path) -> None:
    with OneLine(InputError, "the loss is", "lower learning_rate"):
        train(start(small), small, tmp_path / "checkpoint", Phase(1, 3, 1e30, 50))


def test_weights_that_are_not_finite_after_the_last_step(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No loss has seen them yet."""
    network = start(small)

    def spoil(*_: object, **__: object) -> tuple[float, float]:
        with torch.no_grad():
            network.classifier[0, 0] = math.inf
        return 1.0, 0.5

    monkeypatch.setattr(module, "train_epoch", spoil)
    with OneLine(InputError, "phase 1, epoch 1", "classifier is no longer finite", "learning_rate (0.001)"):
        train(network, small, tmp_path / "checkpoint")
    assert not (tmp_path / "checkpoint").exists()


def test_a_single_image_is_refused(small: Dataset, tmp_path: Path) -> None:
    one = Dataset(small.spec, part(small.train, 1), small.validation, small.test, small.checksum)
    with OneLine(InputError, "digits has 1 training image", "at least 2"):
        train(start(one), one, tmp_path / "checkpoint")


def test_another_machine_goes_on_and_is_recorded(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Interrupted):
        train(start(small), small, checkpoint, report=stop_at("epoch 2/3 done"))
    here = environment(CPU, torch.get_num_threads())
    there = here | {"threads": 7, "torch": "9.9"}
    monkeypatch.setattr(module, "environment", lambda *_: there)
    lines: list[str] = []
    result = train(start(small), small, checkpoint, report=lines.append)
    assert result.sessions == [{"first_epoch": 1, "environment": here}, {"first_epoch": 2, "environment": there}]
    assert "going on after epoch 1 of 3" in lines[0]
    assert f"threads {here['threads']} (now 7)" in lines[1] and "(now 9.9)" in lines[1] and "device" not in lines[1]
    # asked for again when it is finished, it is what it was
    monkeypatch.setattr(module, "environment", lambda *_: here)
    assert train(start(small), small, checkpoint, report=lines.append).sessions == result.sessions


def test_an_interruption_on_the_same_machine_leaves_no_trace(small: Dataset, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(start(small), small, tmp_path / "checkpoint", report=stop_at("epoch 3/3 done"))
    assert (
        train(start(small), small, tmp_path / "checkpoint").sessions
        == train(start(small), small, tmp_path / "other").sessions
    )


def test_a_checkpoint_that_cannot_be_read_is_not_replaced(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "checkpoint"
    train(start(small), small, checkpoint)
    before = checkpoint.read_bytes()

    def broken(_: Path) -> None:
        raise OSError(5, "Input/output error", str(checkpoint))

    monkeypatch.setattr("negspike.training.checkpoint.read_tensors", broken)
    with pytest.raises(OSError, match="Input/output error"):
        train(start(small), small, checkpoint)
    assert checkpoint.read_bytes() == before


def test_the_rule_redoes_what_a_checkpoint_is_refused_for() -> None:
    behind_checkpoint = code_of(Path(module.__file__))
    assert {"training/phase", "data/augmentation", "training/quantization"} <= behind_checkpoint.keys()
    assert behind_checkpoint.items() <= code_of(ROOT / "workflow/scripts/train.py").items()


def test_the_checkpoint_of_other_code_is_ignored(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(start(small), small, tmp_path / "checkpoint")
    monkeypatch.setattr(module, "code_of", lambda path: {"training/phase": "other"})
    lines: list[str] = []
    train(start(small), small, tmp_path / "checkpoint", report=lines.append)
    assert "code, not used" in lines[0] and not any("going on" in line for line in lines)


def test_progress_says_how_long_it_takes(small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.0)
    lines: list[str] = []
    train(start(small), small, tmp_path / "checkpoint", report=lines.append)
    progress = [line for line in lines if " image " in line]
    assert len(progress) == 3 * 4  # the batch of a single image is left out
    assert all("images/s" in line and line.endswith(" left") and "\n" not in line for line in lines if line in progress)
    assert sum("done: loss" in line for line in lines) == 3


# Weights files


def test_weights_round_trip(small: Dataset, tmp_path: Path) -> None:
    network, other = start(small, seed=1), start(small, seed=2)
    metadata: dict[str, str | int | float | bool | None] = {
        "text": "a",
        "number": 1,
        "fraction": 0.5,
        "yes": True,
        "nothing": None,
    }
    save_weights(network, tmp_path / "w.pt", metadata)
    assert load_weights(other, tmp_path / "w.pt") == metadata
    assert bits(other) == bits(network)
    save_weights(network, tmp_path / "again.pt", metadata)
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "w.pt").read_bytes()


@pytest.mark.parametrize("topology", ["4C3-P2-9", "4C3-P2-8-8", "4C3-8", "4C5-P2-8"])
def test_weights_of_another_net(topology: str, small: Dataset, tmp_path: Path) -> None:
    save_weights(start(small), tmp_path / "w.pt", {})
    network = start(small, topology=topology)
    before = bits(network)
    with OneLine(InputError, str(tmp_path / "w.pt"), "weights of another net", topology):
        load_weights(network, tmp_path / "w.pt")
    assert bits(network) == before


def test_weights_that_are_none(small: Dataset, tmp_path: Path) -> None:
    path, folder = tmp_path / "w.pt", tmp_path / "files"
    folder.mkdir()
    network = start(small)
    save_weights(network, path, {})
    weight = network.classifier.detach().numpy().tobytes()
    for content in damaged_files(path.read_bytes(), weight, folder).values():
        path.write_bytes(content)
        with OneLine(InputError, str(path), "not a weights file"):
            load_weights(start(small), path)
    wrong: list[dict[str, object]] = [
        {"weights": [1], "metadata": {}},
        {"weights": {"classifier": 1}, "metadata": {}},
        {"weights": {}},
    ]
    for stored in wrong:
        torch.save(stored, path)
        with OneLine(InputError, str(path), "not a weights file"):
            load_weights(start(small), path)
    assert not (folder / "evil").exists()
    with OneLine(InputError, str(folder / "none.pt"), "no such file"):
        load_weights(start(small), folder / "none.pt")


# The history table


def test_history_columns(tmp_path: Path) -> None:
    rows = [Epoch(1, 1, 1e-3, 0.1 + 0.2, 0.5, None, 0.25, 1.5), Epoch(1, 2, 1e-3, 0.1, 1.0, 0.75, 1.0, 2.0)]
    write_history(tmp_path / "phase1.csv", rows)
    text = (tmp_path / "phase1.csv").read_bytes()
    assert b"\r" not in text
    header, *lines = csv.reader(text.decode().splitlines())
    columns = "phase epoch learning_rate loss training_accuracy validation_accuracy test_accuracy seconds"
    assert header == columns.split()
    assert lines == [
        ["1", "1", "0.001", "0.30000000000000004", "0.5", "", "0.25", "1.5"],
        ["1", "2", "0.001", "0.1", "1.0", "0.75", "1.0", "2.0"],
    ]
