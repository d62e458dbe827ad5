"""Models of one's own, and trainings that start from FP32 weights: what is refused, and that they resume to the bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, OneLine
from safetensors.torch import save_file
from torch import nn

from negspike.data.dataset import Dataset, load_dataset, save_dataset
from negspike.data.images import prepare_images
from negspike.errors import InputError
from negspike.stages.convert import convert
from negspike.stages.evaluate import Inputs, evaluate_spiking
from negspike.stages.run import Hardware, Run, Simulation
from negspike.stages.train import train
from negspike.training.models import build_model, load_state
from negspike.training.objective import Objective
from negspike.training.quantizers import QuantReLU
from negspike.training.schedule import Phase
from negspike.training.weights import load_weights, save_weights

NETS = """
import torch
from torch import nn

def build(width, classes=10):
    layers = [nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(36 * width, classes))

class Auxiliary(nn.Module):
    def forward(self, x):
        return x, x

number = 3

def nothing():
    return 5
"""
MODEL = {"dataset": "digits", "model": "nets.py:build", "arguments": {"width": 3}}
TOPOLOGY = {"dataset": "digits", "topology": "4C3-P2-8", "padding": "same", "width": 1.0}
CPU = Hardware("cpu", 1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a file of nets."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digits_model(name: str = "nets.py:build", *, seed: int = 0, **arguments: Any) -> nn.Module:
    return build_model(name, arguments, input_shape=(1, 8, 8), classes=10, seed=seed)


def bits(network: nn.Module) -> dict[str, bytes]:
    return {name: value.contiguous().numpy().tobytes() for name, value in network.state_dict().items()}


# --- the model --------------------------------------------------------------------------------------------------------


def test_the_seed_decides_the_weights_and_nothing_else_is_disturbed() -> None:
    before = torch.get_rng_state()
    model = digits_model(width=3)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(9)
    assert bits(digits_model(width=3)) == bits(model) != bits(digits_model(width=3, seed=1))


def test_a_dotted_path() -> None:
    pytest.importorskip("torchvision")
    model = build_model("torchvision.models.resnet18", {"num_classes": 7}, input_shape=(3, 32, 40), classes=7)
    assert type(model).__name__ == "ResNet"


def test_the_example_is_the_published_resnet20() -> None:
    name = f"{ROOT}/examples/residual_networks.py:resnet20"
    model = build_model(name, {}, input_shape=(3, 32, 32), classes=10)
    convolutions = [
        module for module in model.modules() if isinstance(module, nn.Conv2d) and module.kernel_size[0] == 3
    ]
    assert len(convolutions) == 19  # and the classifier; He et al. give 0.27 million parameters
    assert 265_000 < sum(parameter.numel() for parameter in model.parameters()) < 275_000


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("missing.py:build", {}, ["missing.py", "no such file", "looked for in"]),
        ("nets.py:bild", {}, ["nets.py has no function bild", "build"]),
        ("nets.py:number", {}, ["nets.py has no function number"]),
        ("broken.py:build", {}, ["broken.py cannot be imported", "ModuleNotFoundError", "nothing_of_this_name"]),
        ("no_such_package.build", {}, ["no_such_package cannot be imported"]),
        ("nets.py:nothing", {}, ["gives a int", "torch.nn.Module"]),
        ("nets.py:build", {"width": 3, "classes": 100}, ["(2, 100)", "(2, 10)", "'arguments'"]),
        ("nets.py:build", {"depth": 3}, ["TypeError", "depth"]),
        ("nets.py:Auxiliary", {}, ["two images give tuple"]),
        ("torch.nn.Linear", {"in_features": 3, "out_features": 10}, ["(1, 8, 8) do not go through it"]),
    ],
)
def test_what_is_wrong_with_a_model_is_one_line(name: str, arguments: dict[str, Any], words: list[str]) -> None:
    with OneLine(InputError, name, *words):
        digits_model(name, **arguments)


def test_weights_from_elsewhere(folder: Path) -> None:
    trained = digits_model(width=3, seed=5)
    save_file(trained.state_dict(), folder / "w.safetensors")
    torch.save(trained.state_dict(), folder / "w.pt")
    save_weights(trained, folder / "weights.pt", {"provenance": "a training of this workflow"})
    for name in ("w.safetensors", "w.pt", "weights.pt"):
        model = digits_model(width=3)
        load_state(model, folder / name)
        assert bits(model) == bits(trained)
    with OneLine(InputError, "w.pt", "0.bias", "(3,)", "(4,)"):
        load_state(digits_model(width=4), folder / "w.pt")
    torch.save(trained, folder / "model.pt")
    torch.save({"state": trained.state_dict()}, folder / "nested.pt")
    (folder / "cut.safetensors").write_bytes((folder / "w.safetensors").read_bytes()[:-9])
    for name, word in (("model.pt", "no state dict"), ("nested.pt", "'state' is no tensor"), ("cut.safetensors", "no")):
        with OneLine(InputError, name, word):
            load_state(digits_model(width=3), folder / name)


# --- trainings from FP32 weights --------------------------------------------------------------------------------------


@pytest.fixture
def data(digits: Dataset, folder: Path) -> Path:
    """A few digits, sorted by class as images in folders are."""
    arrays = {}
    for split, images, count in (("train", digits.train, 200), ("test", digits.test, 60)):
        order = np.argsort(images.labels[:count], kind="stable")
        arrays[f"{split}_images"] = images.pixels[:count][order]
        arrays[f"{split}_labels"] = images.labels[:count][order].astype(np.uint8)
    save_dataset(digits.spec, arrays, folder / "digits.npz")
    return folder / "digits.npz"


SCHEDULE = (Phase(1, 2, 3e-3, 20),)


def train_one(
    run: Run,
    data: Path,
    source: Path | None = None,
    *,
    phases: tuple[Phase, ...] = SCHEDULE,
    report: Callable[[str], None] = lambda _: None,
) -> Path:
    """The weights it writes."""
    folder = Path(run.precision)
    folder.mkdir(exist_ok=True)
    train(run, phases, source=source, dataset=data, folder=folder, hardware=CPU, report=report)
    return folder / "weights.pt"


def start_of(run: Run, data: Path, source: Path) -> nn.Module:
    """The network before any training of its own."""
    network = run.network()
    load_weights(network, train_one(run, data, source, phases=()))
    return network


@pytest.mark.parametrize("net", [MODEL, TOPOLOGY], ids=["model", "topology"])
@pytest.mark.parametrize("precision", ["k1", "levels3"])
def test_from_float_to_spikes(net: dict[str, Any], precision: str, data: Path) -> None:
    fp32 = Run("net", net, 1, "fp32", None)
    source = train_one(fp32, data)
    run = replace(fp32, precision=precision, weight_bits=24 if "model" in net else 16)
    begun, trained = start_of(run, data, source), fp32.network()
    load_weights(trained, source)
    # quantize rounds weights to 24 bits; a topology's k does without it
    rounding = 0.0 if precision == "k1" and "topology" in net else 2.0**-20
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(begun.state_dict()[name], value, rtol=0, atol=rounding, msg=name)
    steps = [module.step.item() for module in begun.modules() if isinstance(module, QuantReLU)]
    assert (precision == "k1") == all(step in (0.5, 1.0) for step in steps)
    weights = train_one(run, data, source)
    assert [phase["number"] for phase in json.loads(weights.with_name("ann.json").read_text())["phases"]] == [0, 1]
    assert [line.split(",")[:2] for line in weights.with_name("history.csv").read_text().splitlines()[1:]] == [
        *(["0", "0"], ["1", "1"], ["1", "2"])
    ]
    convert(run, weights=weights, output=Path("spiking.npz"), report=lambda _: None)
    options: dict[str, Any] = {"inputs": Inputs(Path("spiking.npz"), weights, data), "hardware": CPU}
    simulation = Simulation("until_silent", 1000, 50)
    evaluate_spiking(run, simulation, directory=Path("out"), report=lambda _: None, **options)
    found = json.loads(Path("out/evaluation.json").read_text())
    assert found["lossless_check"]["silent_images_equal_to_integer_ann"] == 60
    assert found["differing_predictions"]["float32_ann_and_integer_ann"] <= 1
    assert (found["k"], found["levels"]) == ((1, None) if precision == "k1" else (None, 3))
    with OneLine(InputError, "spiking.npz", "levels" if precision == "levels3" else "k = 1", "15 levels"):
        evaluate_spiking(
            replace(run, precision="levels15"), simulation, directory=Path("x"), report=lambda _: None, **options
        )


class Interrupted(Exception):
    """Raised in the middle of a training."""


def stop(line: str) -> None:
    if "epoch 2/2 done" in line:
        raise Interrupted


@pytest.mark.parametrize("net", [MODEL, TOPOLOGY], ids=["model", "topology"])
def test_learned_steps_and_dropout_resume_to_the_bit(net: dict[str, Any], data: Path) -> None:
    run = Run("net", net, 0, "levels3", 24)
    fp32 = replace(run, precision="fp32", weight_bits=None)
    source = train_one(fp32, data)
    with pytest.raises(Interrupted):
        train_one(run, data, source, report=stop)
    lines: list[str] = []
    resumed, whole = run.network(), run.network()
    load_weights(resumed, train_one(run, data, source, report=lines.append))
    assert "before any training" in lines[0] and "going on after epoch 1 of 2" in lines[1]
    torch.manual_seed(99)
    shutil.rmtree("levels3")
    load_weights(whole, train_one(run, data, source))
    begun = start_of(run, data, source)
    assert bits(resumed) == bits(whole)
    name = next(name for name in bits(whole) if name.endswith(".step"))
    assert bits(whole)[name] != bits(begun)[name], "the step is learned"


def test_steps_are_chosen_on_images_of_all_classes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("net", MODEL, 0, "levels3", 24)
    source = train_one(replace(run, precision="fp32", weight_bits=None), data)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr("negspike.stages.initialize.CALIBRATION_IMAGES", 20)
    original = Run.from_fp32

    def spy(self: Run, trained: nn.Module, images: torch.Tensor, reconstruction_steps: int) -> nn.Module:
        seen.append(images)
        return original(self, trained, images, reconstruction_steps)

    monkeypatch.setattr(Run, "from_fp32", spy)
    train_one(run, data, source, phases=())
    loaded = load_dataset("digits", data)
    prepared = prepare_images(loaded.spec, loaded.train.pixels)
    labels = {int(loaded.train.labels[(prepared == one.numpy()).all((1, 2, 3))][0]) for one in seen[0]}
    assert len(seen[0]) == 20 and labels == set(range(10))


def test_a_step_moves_by_its_own_share_and_stays_above_0(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam moves each number by its rate: a step of a thousandth would be negative after one batch."""
    run = Run("net", MODEL, 0, "levels3", 24)
    source = train_one(replace(run, precision="fp32", weight_bits=None), data)
    start_of(run, data, source)
    stored = torch.load("levels3/.phase0.checkpoint", weights_only=True)
    name = next(name for name in stored["weights"] if name.endswith(".step"))
    stored["weights"][name].fill_(1e-3)
    torch.save(stored, "levels3/.phase0.checkpoint")
    network = run.network()
    load_weights(network, train_one(run, data, source))
    assert 1e-4 < network.state_dict()[name] < 1e-2

    def spoil(objective: Objective, *_: object, **__: object) -> tuple[float, float]:
        objective.network.get_parameter(name).data.fill_(-1e-3)
        return 1.0, 0.5

    monkeypatch.setattr("negspike.training.phase.train_epoch", spoil)
    with OneLine(InputError, "step is no longer above 0", "lower learning_rate (1.0)"):
        train_one(run, data, source, phases=(Phase(1, 1, 1.0, 20),))
