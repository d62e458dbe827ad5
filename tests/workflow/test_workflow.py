"""The workflow as its users run it: real Snakemake on the command line, on real digits, in a folder of its own."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import needs_shared, write_cifar10

ROOT = Path(__file__).parents[2]
TINY = {
    "results": "results/tiny",
    "nets": ["tiny"],
    "quantization_levels": [0, 1],
    "definitions": {
        "tiny": {
            "dataset": "digits",
            "topology": "8C3-P2-32",
            "padding": "same",
            "width": 1.0,
            "timesteps": 30,
            "batch_size": 50,
            "phases": [{"epochs": 2, "learning_rate": 1.0e-3}, {"epochs": 1, "learning_rate": 1.0e-4}],
        }
    },
}


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in ``folder``; output and errors together."""
    where = ["--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *where, "--cores", "2", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "200"},
        check=False,
    )


def write_config(folder: Path, config: object, name: str = "tiny.yaml") -> str:
    path = folder / name
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return str(path)


def planned(output: str) -> dict[str, int]:
    """Jobs that a dry run announces, by rule."""
    table = output.partition("Job stats:")[2].partition("\ntotal ")[0].splitlines()
    rows = [line.split() for line in table if len(line.split()) == 2 and line.split()[1].isdigit()]
    return {rule: int(count) for rule, count in rows}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the tiny experiment has run, and its config."""
    folder = tmp_path_factory.mktemp("workflow")
    config = write_config(folder, TINY)
    result = snakemake(folder, "--configfile", config)
    assert result.returncode == 0, result.stdout
    return folder, config


def test_everything_is_written(finished: tuple[Path, str]) -> None:
    results = finished[0] / "results" / "tiny"
    for name in ("accuracy_speed", "sparsity", "sops"):
        for suffix in ("pdf", "svg", "png", "csv"):
            assert (results / "figs" / f"{name}.{suffix}").stat().st_size > 0
    for precision in ("fp32", "k0", "k1"):
        ann = json.loads((results / "tiny" / "seed0" / precision / "ann.json").read_text())
        history = list(csv.DictReader((results / "tiny" / "seed0" / precision / "history.csv").open()))
        assert [(row["phase"], row["epoch"]) for row in history] == [("1", "1"), ("1", "2"), ("2", "1")]
        assert ann["test_accuracy"] == float(history[-1]["test_accuracy"])
        assert ann["precision"] == precision and ann["environment"]["threads"] == 1
        assert len(ann["data_checksum"]) == 64 and ann["wall_seconds"] > 0
    for k in (0, 1):
        folder = results / "tiny" / "seed0" / f"k{k}"
        evaluation = json.loads((folder / "evaluation.json").read_text())
        assert evaluation["lossless_check"]["silent_images"] == evaluation["images"] == 359
        for name in ("accuracy", "sop_num", "spike_num", "spike_collect"):
            assert len((folder / f"{name}.txt").read_text().splitlines()) == 8 * 30  # 7 batches of 50 and one of 9
        with np.load(folder / "evaluation.npz") as arrays:
            assert (arrays["spiking_predictions"] == arrays["integer_predictions"]).all()


def test_a_second_run_has_nothing_to_do(finished: tuple[Path, str]) -> None:
    folder, config = finished
    result = snakemake(folder, "--configfile", config)
    assert result.returncode == 0 and "Nothing to be done" in result.stdout, result.stdout


def test_one_k_alone(finished: tuple[Path, str], tmp_path: Path) -> None:
    config = write_config(tmp_path, TINY)
    target = "results/tiny/tiny/seed0/k1/accuracy.txt"
    fresh = snakemake(tmp_path, "--configfile", config, "--dry-run", "--", target)
    assert planned(fresh.stdout) == {"prepare_dataset": 1, "train_phase": 2, "convert": 1, "evaluate": 1}
    folder, config = finished
    before = (folder / target).read_bytes()
    redone = snakemake(folder, "--configfile", config, "--force", "--", target)
    assert redone.returncode == 0, redone.stdout
    assert "rule evaluate" in redone.stdout and "rule train_phase" not in redone.stdout
    assert (folder / target).read_bytes() == before


def test_engines_and_batch_sizes_give_the_same_integers(finished: tuple[Path, str]) -> None:
    folder, config = finished
    target = "results/tiny/tiny/seed0/k1/sop_num.txt"
    before = (folder / target).read_bytes()
    summary = folder / "results/tiny/tiny/seed0/k1/evaluation.json"
    assert json.loads(summary.read_text())["engine"] in ("event", "dense")
    for engine in ("reference", "dense", "event"):
        other = ["--config", f"evaluation={{engine: {engine}}}"]
        result = snakemake(folder, "--configfile", config, *other, "--force", "--", target)
        assert result.returncode == 0, result.stdout
        assert (folder / target).read_bytes() == before
        assert json.loads(summary.read_text())["engine"] == engine


def test_until_silent(finished: tuple[Path, str], tmp_path: Path) -> None:
    """Each k for as long as it takes; the figures go on as far as the longest."""
    folder = tmp_path / "copy"
    shutil.copytree(finished[0], folder)
    before = {k: (folder / f"results/tiny/tiny/seed0/k{k}/sop_num.txt").read_text().split() for k in (0, 1)}
    change = ["--config", "definitions={tiny: {timesteps: until_silent}}"]
    result = snakemake(folder, "--configfile", finished[1], *change)
    assert result.returncode == 0, result.stdout
    assert planned(result.stdout).get("train_phase") is None and planned(result.stdout)["evaluate"] == 2
    steps = {}
    for k in (0, 1):
        where = folder / f"results/tiny/tiny/seed0/k{k}"
        facts = json.loads((where / "evaluation.json").read_text())
        steps[k] = facts["timesteps"]
        assert facts["until_silent"] and facts["lossless_check"]["images_still_spiking"] == 0
        found = (where / "sop_num.txt").read_text().split()
        assert len(found) == steps[k] * -(-facts["images"] // 50)
        # the first batch, step by step: what it had been with T = 30
        assert found[: min(steps[k], 30)] == before[k][: min(steps[k], 30)]
    rows = list(csv.DictReader((folder / "results/tiny/figs/sops.csv").open()))
    assert {int(row["k"]) for row in rows if int(row["timestep"]) == max(steps.values())} == {0, 1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quantisation_levels": [1]}, ["'quantisation_levels' is unknown", "did you mean 'quantization_levels'"]),
        ({"weight_bits": "sixteen"}, ["'weight_bits' is 'sixteen'", "whole number"]),
        ({"quantization_levels": [-1]}, ["'quantization_levels[0]' is -1", "at least 0"]),
        ({"nets": ["tinny"]}, ["net 'tinny' has no definition", "did you mean 'tiny'"]),
        ({"definitions": {"tiny": {"dataset": "digit"}}}, ["'definitions.tiny.dataset' is 'digit'", "digits"]),
        ({"definitions": {"tiny": {"topology": "8C3-X2-32"}}}, ["token 'X2' at character 5", "96C3"]),
        ({"definitions": {"tiny": {"topology": "8C3-P2-P2-P2-P2"}}}, ["token 'P2' at character 14", "too deep"]),
    ],
)
def test_a_wrong_config_is_one_clear_line(change: dict[str, object], words: list[str], tmp_path: Path) -> None:
    configs = [write_config(tmp_path, TINY), write_config(tmp_path, change, "change.yaml")]
    result = snakemake(tmp_path, "--configfile", *configs)
    lines = [line for line in result.stdout.splitlines() if words[0] in line]
    assert result.returncode != 0 and len(lines) == 1, result.stdout
    assert all(word in lines[0] for word in words)
    assert "Traceback" not in result.stdout
    assert not (tmp_path / "results").exists()


def cifar(archive: Path, **changes: object) -> dict[str, object]:
    entry = {"url": archive.as_uri(), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(), "size": None}
    return {"data": "data", "datasets": {"cifar10": {"archive": entry | changes}}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": "0" * 64}, ["wrong checksum", "0" * 64]),
        ({"size": 12345}, ["the config expects 12345"]),
        ({"url": "file:///nowhere/cifar-10-binary.tar.gz"}, ["cannot be read", "No such file"]),
    ],
)
def test_a_wrong_archive_is_one_clear_line(changes: dict[str, object], words: list[str], tmp_path: Path) -> None:
    archive = tmp_path / "cifar-10-binary.tar.gz"
    write_cifar10(archive)
    config = write_config(tmp_path, cifar(archive, **changes))
    result = snakemake(tmp_path, "--configfile", config, "--retries", "0", "--", "data/cifar10.npz")
    lines = [line for line in result.stdout.splitlines() if words[0] in line]
    assert result.returncode != 0 and len(lines) == 1, result.stdout
    assert all(word in lines[0] for word in words)
    assert "Traceback" not in result.stdout
    assert not list((tmp_path / "data").glob("cifar10*/*")) and not (tmp_path / "data" / "cifar10.npz").exists()


def test_a_truncated_archive_is_one_clear_line(tmp_path: Path) -> None:
    archive = tmp_path / "cifar-10-binary.tar.gz"
    write_cifar10(archive)
    archive.write_bytes(archive.read_bytes()[:-500])
    result = snakemake(tmp_path, "--configfile", write_config(tmp_path, cifar(archive)), "--", "data/cifar10.npz")
    lines = [line for line in result.stdout.splitlines() if "download it again" in line]
    assert result.returncode != 0 and len(lines) == 1, result.stdout
    assert not (tmp_path / "data" / "cifar10.npz").exists()


def test_weights_of_another_net_are_refused(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    for k in (0, 1):
        target = tmp_path / "results" / "tiny" / "tiny" / "seed0" / f"k{k}"
        target.mkdir(parents=True)
        # k0's weights in k1's place: same shapes, but trained for another quantisation level
        (target / "phase2.pt").write_bytes((folder / "results/tiny/tiny/seed0/k0/phase2.pt").read_bytes())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "digits.npz").write_bytes((folder / "data" / "digits.npz").read_bytes())
    config = write_config(tmp_path, TINY)
    result = snakemake(
        tmp_path,
        *("--configfile", config, "--allowed-rules", "convert"),
        *("--rerun-triggers", "mtime", "--", "results/tiny/tiny/seed0/k1/spiking.npz"),
    )
    lines = [line for line in result.stdout.splitlines() if "weights of another net" in line]
    assert result.returncode != 0 and len(lines) == 1, result.stdout
    assert not (tmp_path / "results/tiny/tiny/seed0/k1/spiking.npz").exists()


@needs_shared
def test_fashion_mnist_comes_through_the_download_rule(tmp_path: Path) -> None:
    folder = ROOT.parent / "shared" / "data" / "fashion-mnist"
    names = {
        "train_images": "train-images-idx3",
        "train_labels": "train-labels-idx1",
        "test_images": "t10k-images-idx3",
        "test_labels": "t10k-labels-idx1",
    }
    files = {key: folder / f"{name}-ubyte.gz" for key, name in names.items()}
    sources = {
        key: {"url": path.as_uri(), "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": None}
        for key, path in files.items()
    }
    config = write_config(tmp_path, {"datasets": {"fashion_mnist": sources}})
    result = snakemake(tmp_path, "--configfile", config, "--", "data/fashion_mnist.npz")
    assert result.returncode == 0, result.stdout
    with np.load(tmp_path / "data" / "fashion_mnist.npz") as arrays:
        assert arrays["train_images"].shape == (60_000, 1, 28, 28)
        assert (np.bincount(arrays["test_labels"]) == 1_000).all()
