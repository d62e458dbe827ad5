"""The command `negspike`, in this process; tests/commands/test_wheel.py installs it."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from negspike import SpikingNetwork
from negspike.commands import COMMANDS, main
from negspike.data.registry import DatasetSpec
from negspike.data.samples import read_samples

NETS = """
from torch import nn

def build(classes=2):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * 5 * 9, classes)
    )

def broken():
    raise RuntimeError("no weights here\\nnor there")

answer = 42
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: a model of theirs, its weights in two formats, images in a folder a class."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_nets.py").write_text(NETS)
    namespace: dict[str, nn.Module] = {}
    exec(NETS, namespace)
    torch.manual_seed(0)
    weights = namespace["build"]().state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    torch.save({"state_dict": weights}, tmp_path / "w.pt")
    random = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / "images" / ["cat", "dog"][number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path


CONVERT = ["convert", "my_nets.py:build", "--weights", "w.safetensors", "--calibration", "images/", "--out", "net.npz"]
NORMALISED = ["--mean", "0.5,0.5,0.4", "--std", "0.25,0.25,0.5"]


def test_narrow_thresholds_say_what_they_cost(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CONVERT, "--levels", "3", "--threshold-bits", "16"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"of 6 predictions and [\d,]+ of [\d,]+ activations differ", printed)
    assert re.search(r"thresholds and bases +16 bits\n", printed)
    assert main(["verify", "net.npz", "--data", "images"]) == 0
    assert main([*CONVERT, "--threshold-bits", "1"]) == 1


def test_from_a_model_to_a_proved_network(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CONVERT, "--levels", "15", *NORMALISED]) == 0
    assert main(["verify", "net.npz", "--data", "images", "--model", "my_nets.py:build", "--weights", "w.pt"]) == 0
    printed = capsys.readouterr().out
    assert "\nlossless\n" in printed and "predictions equal to the float model" in printed and "6 of 6" in printed
    network = SpikingNetwork.load(here / "net.npz")
    whole = f"{6 * network.neurons:,}"
    assert (
        f"equal to the network: {whole} of {whole} activations of the quantised model, 6 images in float64" in printed
    )
    assert [(one.low, one.high) for one in network.populations] == [(0, 15)]
    assert main(["info", "net.npz"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"image +3 x 12 x 20\n", printed) and '"mean": [0.5, 0.5, 0.4]' in printed
    assert main(["simulate", "net.npz", "--data", "images", "--out", "logs", "--batch-size", "4"]) == 0
    printed = capsys.readouterr().out
    found = re.search(r"time steps +(\d+)\n", printed)
    assert found is not None
    assert re.search(r"spikes a synapse +\d+\.\d{3}, (below|within|above) the break-even of 0\.15 to 1\.38\n", printed)
    steps = int(found[1])
    assert len((here / "logs/accuracy.txt").read_text().splitlines()) == 2 * steps


def test_logs_of_ones_own_network_are_drawn(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(CONVERT)
    for out in ("logs/mine/levels15", "logs/mine/seed1/levels15", "other"):
        assert main(["simulate", "net.npz", "--data", "images", "--out", out, "--batch-size", "4"]) == 0
    assert not (here / "other/evaluation.json").exists(), "it is not known of which net and levels"
    assert main(["figures", "logs", "--out", "figures"]) == 0
    with open(here / "figures/table.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["net"], row["seed"], row["levels"]) for row in rows] == [("mine", "0", "15"), ("mine", "1", "15")]
    assert (here / "figures/sops.png").exists()
    (here / "logs/mine/levels15/evaluation.npz").touch()
    before = (here / "logs/mine/levels15/sop_num.txt").read_bytes()
    capsys.readouterr()
    assert main(["simulate", "net.npz", "--data", "images", "--out", "logs/mine/levels15"]) == 1
    assert "an evaluation of the workflow" in capsys.readouterr().err
    assert (here / "logs/mine/levels15/sop_num.txt").read_bytes() == before


def test_images_are_prepared_as_in_conversion_unless_told_otherwise(here: Path) -> None:
    main([*CONVERT, "--size", "24x40", "--crop", "12x20", *NORMALISED])
    stored = SpikingNetwork.load(here / "net.npz").origin["preprocessing"]
    spec = DatasetSpec(name="images", format="image_folder", image_shape=(3, 24, 40), resize=True, crop=(12, 20))
    assert stored["image_shape"] == [3, 24, 40] and stored["crop"] == [12, 20] and stored["resize"] is True
    plain = read_samples(here / "images", spec)
    assert (
        plain.images.shape == (6, 3, 12, 20) and plain.labels is not None and plain.labels.tolist() == [0] * 3 + [1] * 3
    )
    for options, same in (([], True), (["--mean", "0,0,0", "--std", "1,1,1"], False)):
        assert main(["simulate", "net.npz", "--data", "images", "--out", "logs", *options]) == 0
        spikes = (here / "logs/spike_num.txt").read_text()
        mean, std = np.array([0.5, 0.5, 0.4])[:, None, None], np.array([0.25, 0.25, 0.5])[:, None, None]
        np.savez(here / "floats.npz", images=((plain.images - mean) / std).astype(np.float32), labels=plain.labels)
        assert main(["simulate", "net.npz", "--data", "floats.npz", "--out", "others"]) == 0
        assert (spikes == (here / "others/spike_num.txt").read_text()) is same


def test_what_images_may_be(here: Path) -> None:
    spec = DatasetSpec(name="images", format="image_folder", image_shape=(3, 12, 20))
    folder = read_samples(here / "images", spec)
    assert folder.labels is not None
    (here / "split").mkdir()
    (here / "images").rename(here / "split/val")
    (here / "split/train/cat").mkdir(parents=True)
    Image.new("RGB", (20, 12)).save(here / "split/train/cat/1.png")
    assert (read_samples(here / "split", spec, "test").images == folder.images).all()
    assert len(read_samples(here / "split", spec, "train").images) == 1
    flat = read_samples(here / "split/val/cat", spec)
    assert flat.labels is None and (flat.images == folder.images[:3]).all()
    single = read_samples(here / "split/val/cat/2.png", spec)
    assert (single.images == folder.images[1:2]).all()
    pixels = np.rint(folder.images * 255).astype(np.uint8)
    for name, array in (("first", pixels), ("last", pixels.transpose(0, 2, 3, 1))):
        np.savez(here / f"{name}.npz", x_test=array, y_test=folder.labels[:, None])
        read = read_samples(here / f"{name}.npz", spec)
        assert (read.images == folder.images).all() and read.labels is not None
        assert read.labels.tolist() == folder.labels.tolist()
    some = read_samples(here / "first.npz", spec, limit=3)
    assert (some.images == folder.images[::2]).all()


@pytest.mark.parametrize(
    ("layers", "shape", "stored"),
    [
        ("nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 2)", (7,), (7, 1, 1)),
        ("nn.Conv1d(3, 4, 3), nn.ReLU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(16, 2)", (3, 10), (3, 1, 10)),
    ],
)
def test_features_and_lines(
    here: Path, capsys: pytest.CaptureFixture[str], layers: str, shape: tuple[int, ...], stored: tuple[int, ...]
) -> None:
    """Floats are taken as they are, and need not be images."""
    (here / "flat.py").write_text(f"from torch import nn\n\ndef build():\n    return nn.Sequential({layers})\n")
    random = np.random.default_rng(0)
    np.savez(here / "some.npz", images=random.normal(size=(9, *shape)), labels=np.arange(9) % 2)
    assert main(["convert", "flat.py:build", "--calibration", "some.npz", "--levels", "7", "--out", "flat.npz"]) == 0
    network = SpikingNetwork.load(here / "flat.npz")
    assert network.input_shape == stored == tuple(network.origin["preprocessing"]["image_shape"])
    assert main(["verify", "flat.npz", "--data", "some.npz"]) == 0
    assert "9 of 9" in capsys.readouterr().out
    assert main(["simulate", "flat.npz", "--data", "some.npz", "--out", "logs/flat/levels7"]) == 0
    np.savez(here / "bytes.npz", images=random.integers(0, 256, (9, 7), np.uint8))
    assert main(["verify", "flat.npz", "--data", "bytes.npz"]) == 1
    assert "images are uint8 (9, 7)" in capsys.readouterr().err


def test_each_error_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(CONVERT)
    torch.save({"other": torch.zeros(2)}, here / "other.pt")
    state = torch.load(here / "w.pt", weights_only=True)["state_dict"]
    torch.save({f"module.{name}": value for name, value in state.items()}, here / "parallel.pt")
    torch.save(state | {"more": torch.zeros(2)}, here / "more.pt")
    torch.save(torch.nn.ReLU(), here / "whole.pt")
    np.savez(here / "floats.npz", images=np.zeros((4, 3, 12, 20), np.float32))
    before = {path: path.read_bytes() for path in here.iterdir() if path.is_file()}
    (here / "empty").mkdir()
    Image.new("RGB", (9, 9)).save(here / "empty/small.png")
    (here / "empty/none").mkdir()
    (here / "broken.npz").write_bytes(b"PK nothing")
    capsys.readouterr()
    replaced = {"my_nets.py:build": 1, "w.safetensors": 3, "images/": 5}
    for old, new, words in (
        ("my_nets.py:build", "my_nets.py", ["my_nets.py:build"]),
        ("my_nets.py:build", "nowhere.py:build", ["nowhere.py", "no such file"]),
        ("my_nets.py:build", "no.such.module.build", ["no.such", "No module named"]),
        ("my_nets.py:build", "my_nets.py:missing", ["no function missing", "there are build, broken"]),
        ("my_nets.py:build", "my_nets.py:broken", ["RuntimeError: no weights here nor there"]),
        ("my_nets.py:build", "my_nets.py:answer", ["no function answer"]),
        ("my_nets.py:build", "torchvision.models.nope", ["torchvision.models has no function nope"]),
        ("my_nets.py:build", "my_nets.build", ["No module named", "write my_nets.py:build"]),
        ("my_nets.py:build", "garbage", ["garbage", "my_nets.py:build or package.module.build"]),
        ("w.safetensors", "other.pt", ["other.pt", "weights of another net"]),
        ("w.safetensors", "parallel.pt", ["weights of another net", "0.bias", "is missing"]),
        ("w.safetensors", "more.pt", ["weights of another net", "has no more"]),
        ("w.safetensors", "whole.pt", ["whole.pt: no state dict but more than tensors", "never unpickled"]),
        ("w.safetensors", "broken.npz", ["broken.npz", "no state dict"]),
        ("w.safetensors", "none.pt", ["none.pt", "No such file"]),
        ("images/", "nothing", ["nothing", "no such folder"]),
        ("images/", "empty/none", ["there is no image"]),
        ("images/", "broken.npz", ["broken.npz"]),
        ("images/", "empty", ["do not fit the model"]),
    ):
        arguments = list(CONVERT)
        arguments[replaced[old]] = new
        assert main(arguments) == 1, arguments
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and error.startswith("error: "), error
        assert all(word in error for word in words), error
    for arguments, words in (
        (["verify", "net.npz", "--data", "empty"], ["small.png", "9 x 9 pixels"]),
        (["info", "w.pt"], ["w.pt"]),
        (["simulate", "net.npz", "--data", "images/cat", "--out", "x"], ["need labels"]),
        (["simulate", "net.npz", "--data", "images", "--out", "w.pt"], ["w.pt: a file", "into a folder"]),
        (["simulate", "net.npz", "--data", "floats.npz", *NORMALISED], ["floats.npz: floats", "--mean is of pixels"]),
        ([*CONVERT, "--per-image", *NORMALISED], ["--per-image takes", "leave --mean and --std out"]),
        ([*CONVERT[:-1], "empty"], ["empty: a folder"]),
        ([*CONVERT[:-1], "w.safetensors"], ["w.safetensors: what this command reads"]),
        ([*CONVERT[:-1], "my_nets.py"], ["my_nets.py: what this command reads"]),
        (["export", "net.npz", "--json", "a.json", "--size", "9"], ["belong to --data"]),
        (["export", "net.npz", "--json", "net.npz"], ["net.npz: what this command reads"]),
        (["figures", "images", "--out", "x"], ["no logs here"]),
        (["compare", "images"], ["no logs here"]),
        (["check", "nothing.yaml"], ["nothing.yaml", "no such file"]),
    ):
        assert main(arguments) == 1, arguments
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and all(word in error for word in words), error
    assert {path: path.read_bytes() for path in before} == before
    for arguments in (
        [],
        ["convert"],
        ["verify", "net.npz", "--data", "images", "--size", "big"],
        ["nothing"],
        ["check", "--cores", "-2"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and len(error.splitlines()) == 1 and "--help" in error


def test_a_model_that_has_quantisers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = NETS.replace("nn.ReLU()", "negspike.QuantReLU(k=1)").replace("from torch", "import negspike\nfrom torch")
    (here / "my_nets.py").write_text(text)
    arguments = ["convert", "my_nets.py:build", "--calibration", "images/", "--out", "net.npz"]
    assert main(arguments) == 0
    assert SpikingNetwork.load(here / "net.npz").populations[0].high is None
    for option in (["--levels", "3"], ["--percentile", "99"]):
        assert main([*arguments, *option]) == 1
        assert "quantisers of its own" in capsys.readouterr().err
    assert main(["verify", "net.npz", "--data", "images", "--model", "my_nets.py:build"]) in (0, 1)
    assert "predictions equal to the quantised model" in capsys.readouterr().out


def test_labels_are_those_of_all_classes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Or folders would be numbered otherwise, and files of labels read for other images."""
    main(CONVERT)
    arrays = {"images": np.zeros((4, 3, 12, 20), np.uint8), "labels": np.zeros(3, np.int64)}
    np.savez("deep.npz", images=np.zeros((4, 3, 8, 8), np.uint16))
    np.savez("labels.npz", **arrays)  # type: ignore[arg-type]
    (here / "images/cat").rename(here / "cat")
    capsys.readouterr()
    for data, words in (
        ("images", "1 folders of classes, the network has 2"),
        ("labels.npz", "4 images, but 3 labels"),
        ("deep.npz", "images are uint16"),
    ):
        assert main(["simulate", "net.npz", "--data", data]) == 1
        assert words in capsys.readouterr().err


@pytest.mark.slow
def test_whoever_listens_the_exit_code_says_what_was_found(here: Path) -> None:
    main([*CONVERT, *NORMALISED])
    verify = f"{sys.executable} -m negspike verify net.npz --data images --timesteps 1"
    for listener in ("cat > /dev/null", "true"):
        command = ["bash", "-c", f"{verify} | {listener}; exit ${{PIPESTATUS[0]}}"]
        found = subprocess.run(command, check=False).returncode
        assert found == 1 or (found == 141 and listener == "true"), listener
    closed = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m negspike info net.npz >&-"], capture_output=True, check=False
    )
    assert closed.returncode == 0 and closed.stderr == b""


def write_run(folder: Path, seed: int, correct: int) -> None:
    """Logs of three steps and ten images."""
    folder.mkdir(parents=True)
    for name, counts in (("accuracy", [1, correct, correct]), ("sop_num", [9, 90, 90])):
        (folder / f"{name}.txt").write_text("".join(f"{count}\n" for count in counts))
    for name in ("spike_num", "spike_collect"):
        (folder / f"{name}.txt").write_text("5\n8\n8\n")
    facts = {"net": "mlp", "seed": seed, "k": 0, "images": 10, "timesteps": 3, "batch_size": 10, "neurons": 7}
    (folder / "evaluation.json").write_text(json.dumps(facts | {"reference_operations": 9}))


def test_a_run_beside_published_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, correct in ((0, 9), (1, 8)):
        write_run(tmp_path / f"results/mlp/seed{seed}/k0", seed, correct)
    assert main(["compare", "results"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0][:6] == ["net", "precision", "number", "seeds", "ours", "deviation"]
    accuracy = ["2", "85.00%", "7.07%", "80.00%", "90.00%", "88.90%", "-3.90", "points", "yes"]
    assert rows[1] == ["mlp", "k0", "accuracy", *accuracy]
    assert rows[2] == ["mlp", "k0", "settled_step", "2", "2.0", "0.0", "2.0", "2.0", "5.0", "-3.0", "steps", "no"]
    theirs = tmp_path / "theirs.csv"
    theirs.write_text("net,k,accuracy\nmlp,0,0.95\n")
    assert main(["compare", "results", "theirs.csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-4:] == ["95.00%", "-10.00", "points", "no"]
    assert main(["compare", "results", "results"]) == 0
    capsys.readouterr()
    assert main(["compare", "results", "zou2023"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == rows
    for content, words in (
        ("net,k,accuracy\nmlp,0,high\n", "line 2"),
        ("net,k,accuracy\nmlp,0,88\n", "line 2: accuracy is '88', expected a fraction"),
        ("net,k,accuracy\nmlp,7,0.5\n", "no number in common"),
        ("a,b\n1,2\n", "line 2"),
        ("", "no line"),
    ):
        theirs.write_text(content)
        assert main(["compare", "results", "theirs.csv"]) == 1
        assert words in capsys.readouterr().err
    theirs.write_text("net,k,net_spikes_per_image\nmlp,0,-3.5\n")  # of signed neurons
    assert main(["compare", "results", "theirs.csv"]) == 0 and "-3.5" in capsys.readouterr().out
    theirs.write_text("net,k,accuracy\nlenet,0,0.9\n")
    assert main(["compare", "results", "theirs.csv"]) == 1
    assert "no net in common" in capsys.readouterr().err
    assert main(["compare"]) == main(["compare", "results", "--update", "page.md"]) == 1
    assert capsys.readouterr().err.count("give either RUN or --update FILE") == 2


def test_help_answers_at_once_and_names_every_command() -> None:
    started = time.monotonic()
    command = [sys.executable, "-X", "importtime", "-m", "negspike", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.monotonic() - started < 2
    assert all(f"\n    {name} " in result.stdout for name in COMMANDS)
    imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert not imported & {"torch", "matplotlib", "numba", "pydantic", "snakemake"}
