"""The workflow as its users run it: real Snakemake on the command line, on real digits, in a folder of its own."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, needs_shared, write_cifar10, write_fashion_mnist
from workflow_runs import TINY, Finished, planned, planned_jobs, run, snakemake, write_config

from negspike.figures import KINDS

NET = "results/tiny/tiny/seed0"


@pytest.fixture
def copied(finished_copy: Finished, tmp_path: Path) -> Finished:
    """The finished experiment, to be changed."""
    shutil.copytree(finished_copy.folder, tmp_path / "copied")
    return Finished(tmp_path / "copied", finished_copy.config)


def test_everything_is_written(finished_copy: Finished) -> None:
    results = finished_copy.folder / "results" / "tiny"
    for name in KINDS.keys() - {"streaming"}:
        for suffix in ("pdf", "svg", "png", "csv"):
            assert (results / "figs" / f"{name}.{suffix}").stat().st_size > 0
    for precision in ("fp32", "k0", "k1"):
        ann = json.loads((results / "tiny" / "seed0" / precision / "ann.json").read_text())
        history = list(csv.DictReader((results / "tiny" / "seed0" / precision / "history.csv").open()))
        assert [(row["phase"], row["epoch"]) for row in history] == [("1", "1"), ("1", "2"), ("2", "1")]
        assert ann["test_accuracy"] == float(history[-1]["test_accuracy"])
        assert ann["precision"] == precision and ann["environment"]["threads"] == 1
        assert len(ann["data_checksum"]) == 64 and ann["wall_seconds"] > 0
    rows = [row for row in csv.DictReader((results / "figs/tradeoff.csv").open()) if row["net"] == "tiny"]
    for k in (0, 1):
        folder = results / "tiny" / "seed0" / f"k{k}"
        evaluation = json.loads((folder / "evaluation.json").read_text())
        assert evaluation["lossless_check"]["silent_images"] == evaluation["images"] == 359
        for name in ("accuracy", "sop_num", "spike_num", "spike_collect"):
            assert len((folder / f"{name}.txt").read_text().splitlines()) == 8 * 30  # 7 batches of 50 and one of 9
        spent = [row for row in rows if row["k"] == str(k)][-1]
        costs = evaluation["energy"]["spiking"]
        assert float(spent["energy_pj"]) == pytest.approx(costs["arithmetic"])
        assert float(spent["energy_with_memory_pj"]) == pytest.approx(costs["with_memory"])
        with np.load(folder / "evaluation.npz") as arrays:
            assert (arrays["spiking_predictions"] == arrays["integer_predictions"]).all()


def test_streams_are_made_where_they_are_asked_for(copied: Finished) -> None:
    output = copied.snakemake("--", "results/tiny/figs/streaming.svg")
    assert planned_jobs(output) == {"stream tiny/seed0/k1", "stream small/seed0/k1", "streaming"}
    rows = list(csv.DictReader((copied.folder / "results/tiny/figs/streaming.csv").open()))
    assert {row["equal"] for row in rows} == {"1"} and len(rows) == 2 * 26 * 10
    assert all(0 <= int(row["sops"]) < int(row["fresh_sops"]) for row in rows if row["kind"] == "moves in parts")
    assert {int(row["sops"]) for row in rows if row["kind"] == "still"} == {0}


def test_a_second_run_has_nothing_to_do(finished_copy: Finished) -> None:
    """Nor has one that says null of what is null, or names a target in another way."""
    assert "Nothing to be done" in finished_copy.snakemake()
    nothing = finished_copy.snakemake("./results/tiny//table.csv", "--config", "published=null", "threshold_bits=null")
    assert "Nothing to be done" in nothing


def test_a_run_ends_with_its_table(finished_copy: Finished) -> None:
    (finished_copy.folder / "results/tiny/summary.md").unlink()
    output = finished_copy.snakemake()
    summary = (finished_copy.folder / "results/tiny/summary.md").read_text()
    assert output.endswith(summary)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in summary.splitlines() if line.startswith("|")]
    assert [row[:3] for row in rows[2:]] == [[net, "0", p] for net in ("small", "tiny") for p in ("fp32", "k0", "k1")]
    with open(finished_copy.folder / "results/tiny/table.csv") as stream:
        table = {(row["net"], f"k{row['k']}"): row for row in csv.DictReader(stream)}
    for row in rows[2:]:
        if row[2] != "fp32":
            expected = table[row[0], row[2]]
            assert row[5] == f"{float(expected['accuracy']):.2%}" and row[6] == "359 of 359"
            assert row[7].rstrip(" *") == expected["settled_step"]
            assert row[8] == f"{float(expected['sops_per_image']):,.0f}"
    assert summary.rstrip().endswith("Figures: results/tiny/figs/")
    (finished_copy.folder / "results/tiny/figs/sops.csv").unlink()
    assert summary not in finished_copy.snakemake("--", "results/tiny/figs/sops.csv")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["results/tiny/tiny/sed0/k1/accuracy.txt"], ["did you mean results/tiny/tiny/seed0/k1/accuracy.txt?"]),
        (["sopss"], ["did you mean sops?"]),
        (["results/digits/figs/sops.pdf"], ["is a result of presets/digits.yaml", "--configfile presets/digits.yaml"]),
        (["nothing/like/it"], ["nothing makes nothing/like/it", "results/tiny/figs/accuracy_speed.pdf"]),
        (["--config", "device=gpu", "--"], ["config key 'device' is 'gpu'", "did you mean 'cuda'?"]),
        (["--config", "published=zou2023", "--"], ["config key 'published': Zou et al. 2023 has", "no net in common"]),
        (["--config", "published=zou", "--"], ["config key 'published': zou: there is no such file"]),
        (["--config", "published=.", "--"], ["config key 'published': . is a folder"]),
        (["--config", "threshold_bits=1", "--"], ["'threshold_bits' is 1"]),
        (["results/tiny/tiny/seed01/k1/accuracy.txt"], ["did you mean results/tiny/tiny/seed0/k1/accuracy.txt?"]),
        (["results/tiny/tiny/seed0/levels0/weights.pt"], ["nothing makes results/tiny/tiny/seed0/levels0/weights.pt"]),
    ],
)
def test_what_is_asked_for_wrongly_gets_a_sentence(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    result = snakemake(tmp_path, "--dry-run", "--configfile", write_config(tmp_path, TINY), "--", *arguments)
    if arguments[-1] == "--":
        result = snakemake(tmp_path, "--dry-run", "--configfile", write_config(tmp_path, TINY), *arguments)
    (line,) = [line for line in result.stdout.splitlines() if words[0] in line]
    assert result.returncode != 0 and all(word in line for word in words)


def test_one_k_is_redone_alone_and_by_each_engine_to_the_same_integers(copied: Finished) -> None:
    logs = [f"{NET}/k1/{name}.txt" for name in ("accuracy", "sop_num", "spike_num", "spike_collect")]
    before = {log: (copied.folder / log).read_bytes() for log in logs}
    summary = copied.folder / NET / "k1/evaluation.json"
    done_by = json.loads(summary.read_text())["engine"]
    assert done_by in ("event", "dense")
    for engine in sorted({"event", "dense", "reference"} - {done_by}):
        redone = copied.snakemake("--config", f"evaluation={{engine: {engine}}}", "--force", "--", logs[0])
        assert planned_jobs(redone) == {"evaluate tiny/seed0/k1"}
        assert {log: (copied.folder / log).read_bytes() for log in logs} == before
        assert json.loads(summary.read_text())["engine"] == engine


def test_published_numbers_stand_beside_ours(copied: Finished) -> None:
    """Another table of the same name draws again, and nothing else."""
    table = copied.folder / "theirs.csv"
    arguments = ("--config", "published=theirs.csv", "--")
    for accuracy in ("0.5", "0.75"):
        table.write_text(f"net,k,timestep,accuracy,sops_per_image\ntiny,0,3,{accuracy},9\n")
        jobs = planned_jobs(copied.snakemake(*arguments))
        assert jobs == {"all", "accuracy_speed", "sparsity", "sops", "tradeoff", "table"}
        rows = list(csv.DictReader((copied.folder / "results/tiny/figs/accuracy_speed.csv").open()))
        assert [(row["net"], row["accuracy"]) for row in rows if row["source"] == "theirs"] == [("tiny", accuracy)]
        summary = (copied.folder / "results/tiny/summary.md").read_text()
        assert f"| {float(accuracy):.2%} |" in summary.replace("  ", " ").replace("  ", " ") and "one seed" in summary
        assert "accuracy_mean_of_last_ten_epochs" in summary


def test_until_silent(copied: Finished) -> None:
    """Each k for as long as it takes; the figures go on as far as the longest."""
    folders = {k: copied.folder / NET / f"k{k}" for k in (0, 1)}
    before = {k: (folder / "sop_num.txt").read_text().split() for k, folder in folders.items()}
    config = copied.changed(lambda config: config.update(nets=["tiny"]))
    config["definitions"]["tiny"] = config["definitions"]["tiny"] | {"timesteps": "until_silent"}
    jobs = planned(copied.snakemake("results/tiny/figs/sops.csv", config=config))
    assert "train" not in jobs and jobs["evaluate"] == 2
    steps = {}
    for k, folder in folders.items():
        facts = json.loads((folder / "evaluation.json").read_text())
        steps[k] = facts["timesteps"]
        assert facts["until_silent"] and facts["lossless_check"]["images_still_spiking"] == 0
        found = (folder / "sop_num.txt").read_text().split()
        assert len(found) == steps[k] * -(-facts["images"] // 50)
        # the first batch, step by step: what it had been with T = 30
        assert found[: min(steps[k], 30)] == before[k][: min(steps[k], 30)]
    rows = list(csv.DictReader((copied.folder / "results/tiny/figs/sops.csv").open()))
    assert {int(row["k"]) for row in rows if int(row["timestep"]) == max(steps.values())} == {0, 1}


def test_shards_give_the_same_bytes_and_go_on_one_by_one(copied: Finished) -> None:
    names = [*(f"{name}.txt" for name in ("accuracy", "sop_num", "spike_num", "spike_collect")), "evaluation.npz"]
    names += ["layers.csv", "layer_steps.csv"]
    before = {name: (copied.folder / NET / "k1" / name).read_bytes() for name in names}
    sharded, target = ["--config", "evaluation={shards: 3}"], f"{NET}/k1/accuracy.txt"
    (copied.folder / target).unlink()
    copied.snakemake(*sharded, "--notemp", "--", f"{NET}/k1/shards/2-of-3.npz")  # as if the others had failed
    redone = copied.snakemake(*sharded, "--", target)
    assert sorted(set(re.findall(r"scatteritem=(\S+)", redone))) == ["1-of-3", "3-of-3"]
    assert {name: (copied.folder / NET / "k1" / name).read_bytes() for name in names} == before
    assert not (copied.folder / NET / "k1" / "shards").exists()
    assert "Nothing to be done" in copied.snakemake(*sharded, "--", target)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quantisation_levels": [1]}, ["'quantisation_levels' is unknown", "did you mean 'quantization_levels'"]),
        ({"definitions": {"tiny": {"topology": "8C3-X2-32"}}}, ["token 'X2' at character 5", "96C3"]),
    ],
)
def test_a_wrong_config_is_one_clear_line(change: dict[str, object], words: list[str], tmp_path: Path) -> None:
    """Every kind of wrong input: test_config.py."""
    configs = [write_config(tmp_path, TINY), write_config(tmp_path, change, "change.yaml")]
    result = snakemake(tmp_path, "--configfile", *configs)
    lines = [line for line in result.stdout.splitlines() if words[0] in line]
    assert result.returncode != 0 and len(lines) == 1, result.stdout
    assert all(word in lines[0] for word in words)
    assert "Traceback" not in result.stdout
    assert not (tmp_path / "results").exists()


def source(archive: Path, **changes: object) -> dict[str, object]:
    right = {"url": archive.as_uri(), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(), "size": None}
    return right | changes


@pytest.mark.slow
def test_a_wrong_archive_is_one_clear_line(tmp_path: Path) -> None:
    truncated = tmp_path / "cifar-10-binary.tar.gz"
    write_cifar10(truncated)
    truncated.write_bytes(truncated.read_bytes()[:-500])
    archives, _ = write_fashion_mnist(tmp_path)
    changes: dict[str, dict[str, object]] = {
        "train_images": {"sha256": "0" * 64},
        "train_labels": {"size": 12345},
        "test_images": {"url": "file:///nowhere/images.gz"},
        "test_labels": {},
    }
    sources = {name: source(path, **changes[name]) for name, path in archives.items()}
    datasets = {"cifar10": {"archive": source(truncated)}, "fashion_mnist": sources}
    config = write_config(tmp_path, {"data": "data", "datasets": datasets})
    options = ["--configfile", config, "--keep-going", "--retries", "0"]
    result = snakemake(tmp_path, *options, "--", "data/cifar10.npz", "data/fashion_mnist.npz")
    assert result.returncode != 0 and "Traceback" not in result.stdout, result.stdout
    for words in (
        ["wrong checksum", "0" * 64],
        ["the config expects 12345"],
        ["cannot be read", "No such file", "nowhere"],
        ["download it again"],
    ):
        said, *again = [line for line in result.stdout.splitlines() if words[0] in line]
        assert all(word in said for word in words) and again == [said], result.stdout
        assert said in result.stdout.rsplit("\n\n")[-1], "not among the last lines"
    # what was right stays: the cut-off archive has the checksum that it should have
    data = tmp_path / "data"
    found = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.*z"))
    assert found == ["cifar10/archive.gz", "fashion_mnist/test_labels.gz"]


def test_weights_of_another_net_are_refused(copied: Finished) -> None:
    target = f"{NET}/k1/spiking.npz"
    (copied.folder / target).unlink()
    # k0's weights in k1's place: same shapes, but trained for another quantisation level; with the times of k1's
    times = (copied.folder / NET / "k1/weights.pt").stat()
    shutil.copyfile(copied.folder / NET / "k0/weights.pt", copied.folder / NET / "k1/weights.pt")
    os.utime(copied.folder / NET / "k1/weights.pt", ns=(times.st_atime_ns, times.st_mtime_ns))
    result = run(copied.folder, "--configfile", "experiment.yaml", "--", target)
    lines = [line for line in result.stdout.splitlines() if "weights of another net" in line]
    assert result.returncode != 0 and len(lines) == 2, result.stdout
    assert result.stdout.splitlines()[-1] == lines[0] == lines[1]
    assert not (copied.folder / target).exists()


@pytest.mark.slow
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
    sources = {key: source(path) for key, path in files.items()}
    config = write_config(tmp_path, {"datasets": {"fashion_mnist": sources}})
    result = snakemake(tmp_path, "--configfile", config, "--", "data/fashion_mnist.npz")
    assert result.returncode == 0, result.stdout
    with np.load(tmp_path / "data" / "fashion_mnist.npz") as arrays:
        assert arrays["train_images"].shape == (60_000, 1, 28, 28)
        assert (np.bincount(arrays["test_labels"]) == 1_000).all()
