"""What a run would cost: the rules against small cases and a finished run, and ``snakemake check`` itself."""

from __future__ import annotations

import copy
import hashlib
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import yaml
from conftest import ROOT, OneLine
from workflow_runs import TINY, Finished, snakemake, write_config

from negspike.config import Experiment, resolve_config
from negspike.data.registry import Source
from negspike.errors import InputError
from negspike.estimate.check import PROBLEM, WARNING, check, folder_problems, look_for
from negspike.estimate.cost import (
    Cost,
    Job,
    Speed,
    Speeds,
    experiment_jobs,
    image_counts,
    job_cost,
    read_plan,
    total_seconds,
)
from negspike.estimate.probe import (
    calibrated_network,
    evaluation_speed,
    measure,
    run_of,
    seconds_per_image,
    training_speed,
)
from negspike.estimate.reserved import RESERVED
from negspike.estimate.size import net_size
from negspike.figures import KINDS
from negspike.machine import Machine
from negspike.stages.convert import spiking_network
from negspike.training.network import Network

CPU = torch.device("cpu")
MACHINE = Machine(cores=4, load=0.0, memory=16 * 10**9, available=12 * 10**9)
THREADS = {"train": 1, "evaluate": 4}


def experiment(folder: Path, **changes: Any) -> Experiment:
    """The tiny experiment of the workflow's tests, in ``folder``; ``tiny`` changes the net's definition."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"data": str(folder / "data")}
    definition: dict[str, Any] = TINY["definitions"]["tiny"] | changes.pop("tiny", {})  # type: ignore[index]
    config |= TINY | {"results": str(folder / "results" / "tiny")} | changes
    config["definitions"] = {"tiny": definition, **changes.get("definitions", {})}
    return resolve_config(config)


def every_job(config: Experiment) -> dict[Job, bool]:
    """The long jobs of an experiment of which nothing is there, and its figures."""
    figures = [Job(name, Path(name)) for name in KINDS if name != "streaming"]
    return dict.fromkeys([*figures, *experiment_jobs(config)], True)


def speeds_of(config: Experiment, image: float) -> Speeds:
    """Made-up speeds: a second until a job starts, and the same time for each image."""
    return Speeds(1.0, {(job.rule, job.net, job.precision): Speed(image) for job in every_job(config) if job.net})


def costs(config: Experiment, image: float = 1e-3) -> dict[Job, Cost]:
    """Of every job."""
    return {job: job_cost(job, config, speeds_of(config, image)) for job in every_job(config)}


def lines(config: Experiment, machine: Machine = MACHINE, image: float = 1e-3, **options: Any) -> str:
    settings: dict[str, Any] = {"cores": 4, "reserved": RESERVED, "gpus": [], "machine": machine} | options
    return "\n".join(check(config, every_job(config), speeds_of(config, image), **settings))


@pytest.fixture(autouse=True)
def without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither Slurm nor a GPU's driver, whatever this machine has."""
    monkeypatch.setattr(shutil, "which", lambda name: None)


# --- what a run takes -------------------------------------------------------------------------------------------------


def test_the_summary_is_read_by_job_not_by_file() -> None:
    summary = (
        "output_file\tdate\trule\tlog-file(s)\tstatus\tplan\n"
        "r/tiny/seed0/k1/weights.pt\t-\ttrain\t-\tmissing\tupdate pending\n"
        "r/tiny/seed0/k1/history.csv\t-\ttrain\t-\tmissing\tupdate pending\n"
        "r/tiny/seed3/k0/sop_num.txt\tMon Nov 23\tevaluate\ta.log\tok\tno update\n"
        "r/tiny/seed3/k0/evaluation.json\tMon Nov 23\tevaluate\ta.log\tok\tno update\n"
        "data/cifar10/archive.gz\t-\tdownload\t-\tmissing\tupdate pending\n"
    )
    assert read_plan(summary) == {
        Job("train", Path("r/tiny/seed0/k1"), "tiny", "seed0", "k1"): True,
        Job("evaluate", Path("r/tiny/seed3/k0"), "tiny", "seed3", "k0"): False,
        Job("download", Path("data/cifar10/archive")): True,
    }
    with OneLine(InputError, "snakemake --summary", "output_file"):
        read_plan("something else\n")


def test_time_grows_with_what_is_asked_for(tmp_path: Path) -> None:
    def trainings(changed: Experiment) -> float:
        return sum(cost.seconds - 1 for job, cost in costs(changed, 0.01).items() if job.rule == "train")

    config = experiment(tmp_path)
    # 1,438 training images and a third of the time for 359 test images, three epochs, three precisions
    assert trainings(config) == pytest.approx(9 * 0.01 * (1438 + 359 / 3))
    assert trainings(experiment(tmp_path, seeds=[0, 1])) == pytest.approx(2 * trainings(config))
    assert trainings(experiment(tmp_path, quantization_levels=[0, 1, 2])) == pytest.approx(4 / 3 * trainings(config))
    # whole images in two fifths of the updates, from half of height and width on a mean of 7/12 of the pixels before
    phases = [{"epochs": 3, "learning_rate": 1e-3, "initial_resolution": 0.5}]
    growing = experiment(tmp_path, tiny={"phases": phases})
    assert trainings(growing) == pytest.approx(9 * 0.01 * (1438 * (0.4 + 0.6 * 7 / 12) + 359 / 3))
    evaluation = next(cost for job, cost in costs(config, 0.01).items() if job.rule == "evaluate")
    assert evaluation.seconds == pytest.approx(1 + 3.59)


def test_the_total_is_bound_by_cores_by_gpus_or_by_one_network(tmp_path: Path) -> None:
    jobs = [job for job in every_job(experiment(tmp_path)) if job.rule in THREADS]
    ten = dict.fromkeys(jobs, Cost(10.0))  # three networks, two of which are evaluated
    assert total_seconds(ten, THREADS, 1, 0) == 50
    assert total_seconds(ten, THREADS, 2, 0) == (30 + 2 * 20) / 2
    assert total_seconds(ten, THREADS, 64, 0) == 20
    assert total_seconds(ten, THREADS, 64, 1) == 50
    assert total_seconds({}, THREADS, 2, 0) == 0


def test_images_are_counted_in_the_prepared_file_where_there_is_one(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    data = Path(config.data)
    data.mkdir()
    assert image_counts("fashion_mnist", config) == (50_000, 10_000, 10_000)
    np.savez(data / "fashion_mnist.npz", train_labels=np.zeros(120, np.uint8), test_labels=np.zeros(7, np.uint8))
    assert image_counts("fashion_mnist", config) == (100, 20, 7)
    (data / "cifar10.npz").write_bytes(b"damaged")
    assert image_counts("cifar10", config) == (50_000, 0, 10_000)


def test_a_wider_net_is_measured_slower_and_takes_more(tmp_path: Path) -> None:
    narrow, wide = experiment(tmp_path), experiment(tmp_path, tiny={"width": 32.0})
    options: dict[str, Any] = {"device": CPU, "threads": 1, "seconds": 0.3}
    for case, precision in ((training_speed, "fp32"), (training_speed, "k1"), (evaluation_speed, "k1")):
        fast, slow = (case(config, "tiny", precision, **options).image for config in (narrow, wide))
        assert slow > 2 * fast > 0
    large, small = costs(wide), costs(narrow)
    assert all(large[job].results >= small[job].results for job in large)
    training = next(job for job in large if job.rule == "train")
    assert large[training].results > small[training].results
    assert large[training].memory > small[training].memory + 4 * 16 * 10**6


def test_a_model_is_measured_as_a_topology_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model: dict[str, Any] = {
        "dataset": "digits",
        "model": f"{ROOT}/examples/residual_networks.py:residual",
        "timesteps": 20,
    }
    model |= {
        "arguments": {"widths": [4, 8], "blocks": 1, "inputs": 1},
        "quantization": [{"levels": 3}],
        "batch_size": 50,
    }
    model |= {"phases": [{"epochs": 2, "learning_rate": 1e-3}], "finetuning": [{"epochs": 1, "learning_rate": 1e-3}]}
    config = experiment(tmp_path, nets=["mine"], definitions={"mine": model})
    size, run = net_size(config.definitions["mine"]), run_of(config, "mine", "levels3")
    network = spiking_network(run, run.network())
    assert (size.neurons, size.populations) == (network.neurons, len(network.populations))
    options: dict[str, Any] = {"device": CPU, "threads": 1, "seconds": 0.2}
    for case, precision in ((training_speed, "levels3"), (evaluation_speed, "levels3")):
        assert case(config, "mine", precision, **options).image > 0
    calls = []

    def distance(logits: torch.Tensor, *_: Any) -> torch.Tensor:
        calls.append(len(logits))
        return logits.sum()

    monkeypatch.setattr("negspike.training.objective.distance", distance)
    model["finetuning"][0] |= {"distillation": 0.5, "recipe": "fast", "spike_penalty": 0.1}
    taught = experiment(tmp_path, nets=["mine"], definitions={"mine": model})
    assert training_speed(taught, "mine", "levels3", **options).image > 0 and calls, "its teacher computes, too"
    found = costs(config, 0.01)
    trainings = [cost for job, cost in found.items() if job.rule == "train"]
    assert sum(cost.seconds - 1 for cost in trainings) == pytest.approx(3 * 0.01 * (1438 + 359 / 3))
    assert all(cost.results > 0 and cost.checkpoints > 0 for cost in trainings)
    assert any(cost.data > 0 for cost in found.values()) and all(cost.memory > 0 for cost in found.values())


def test_as_many_images_are_timed_as_there_is_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def run(count: int) -> None:
        clock[0] += 1.0 + 0.5 * count

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    assert seconds_per_image(run, 16, 200, 1.0) == (9 / 16, 16)
    assert seconds_per_image(run, 16, 200, 10_000.0) == (101 / 200, 200)
    assert seconds_per_image(run, 1, 1, 0.0) == (1.5, 1)


def test_only_what_is_to_be_done_is_measured(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    todo = [job for job in every_job(config) if (job.rule, job.precision) == ("evaluate", "k1")]
    speeds = measure(config, todo, threads=THREADS, report=lambda line: None, seconds=0.2)
    assert set(speeds.images) == {("evaluate", "tiny", "k1")} and speeds.startup > 0.1
    assert measure(config, [], threads=THREADS, report=lambda line: None) == Speeds(0.0, {})


def test_a_calibrated_network_fires(tmp_path: Path) -> None:
    images = torch.rand(32, 1, 8, 8)
    network = calibrated_network(run_of(experiment(tmp_path), "tiny", "k1"), images).eval()
    assert isinstance(network, Network)
    with torch.inference_mode():
        assert 0.1 < (network.blocks[0](images) > 0).float().mean() < 0.6


# --- what is warned of ------------------------------------------------------------------------------------------------


def test_a_long_run_is_warned_of_and_cheaper_ones_are_named(tmp_path: Path) -> None:
    published = {"nets": ["cnn1"], "definitions": yaml.safe_load((ROOT / "config.yaml").read_text())["definitions"]}
    config = experiment(tmp_path, **published)
    found = lines(config, image=0.1)
    assert "presets/cifar10_cpu.yaml" in found and "machine with a GPU" in found and "profiles/slurm" in found
    assert " days with --cores 4" in found and PROBLEM not in found
    assert "cheaper" not in lines(config, image=1e-5) and (ROOT / "presets" / "cifar10_cpu.yaml").is_file()
    assert "machine with a GPU" not in lines(config, image=0.1, gpus=["A100"])


def test_what_the_machine_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(tmp_path)
    assert PROBLEM not in lines(config) and WARNING not in lines(config)
    assert f"{PROBLEM}memory: largest job" in lines(config, replace(MACHINE, memory=10**8, available=10**8))
    assert "4 jobs side by side" in lines(config, replace(MACHINE, available=10**9))
    assert "the largest job takes about" in lines(config, replace(MACHINE, available=10**8))
    assert "busy" in lines(config, replace(MACHINE, load=3.0))
    assert "--cores 9, but there are 4" in lines(config, cores=9)
    tight = RESERVED | {"evaluate": {"threads": 4, "mem_mb": 100}}
    assert lines(config, reserved=tight).count("--set-resources evaluate:mem_mb=") == 1
    (tmp_path / "results/tiny/tiny/seed0/k1").mkdir(parents=True)
    (tmp_path / "results/tiny/tiny/seed0/k1/.phase2.checkpoint").write_bytes(b"")
    assert "from their first epoch: 1" in lines(config)
    usage = psutil.disk_usage(str(tmp_path))._replace(free=1000)
    monkeypatch.setattr(psutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert f"{PROBLEM}disk:" in lines(config) and "1 kB are free" in lines(config)
    assert "there is an nvidia-smi" in lines(config) and "sbatch is there" in lines(config)


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    assert list(folder_problems(config)) == [] and list(tmp_path.iterdir()) == []
    (tmp_path / "results").write_text("a file")
    (problem,) = folder_problems(config)
    assert "results: nothing can be written" in problem and "is a file" in problem


def test_where_the_data_come_from(tmp_path: Path) -> None:
    target, local = tmp_path / "archive.gz", tmp_path / "copy.gz"
    right = hashlib.sha256(b"an archive").hexdigest()
    state, problem = look_for(Source("https://example.org/a.gz", right, 1234), target)
    assert not problem and "https://example.org/a.gz, 1,234 bytes" in state
    source = Source(local.as_uri(), right, None)
    assert "No such file" in look_for(source, target)[1]
    local.write_bytes(b"an archive")
    assert look_for(source, target) == (f"{target} is to be copied, its checksum is right", "")
    assert "checksum" in look_for(replace(source, size=3), target)[1]
    local.write_bytes(b"another one")
    assert "checksum" in look_for(source, target)[1]
    target.write_bytes(b"an archive")
    assert look_for(source, target) == (f"{target} is there, its checksum is right", "")
    target.write_bytes(b"damaged")
    assert "delete it" in look_for(source, target)[1]
    assert "null byte" in look_for(Source("file:///a%00b", right, None), tmp_path / "none")[1]
    assert not look_for(Source("http://[x/y", right, None), tmp_path / "none")[1], "no server is asked"


# --- the command line -------------------------------------------------------------------------------------------------


def counts(output: str) -> dict[str, int]:
    """Jobs still to do, by rule, as the table has them."""
    rows = output.partition("\nrule ")[2].partition("\n\n")[0].splitlines()[1:]
    return {row.split()[0]: int(row.split()[1]) for row in rows if row.split()[1] != "0"}


def test_a_check_counts_as_snakemake_plans_and_writes_nothing_but_its_log(finished_copy: Finished) -> None:
    folder = finished_copy.folder
    everything = len(finished_copy.planned("--forceall"))
    before = _times(folder)
    told = finished_copy.snakemake("check")
    headline = f"0 of {everything} jobs are still to do; results in results/tiny, data in data"
    log = (folder / "logs" / "check.log").read_text().splitlines()
    assert set(log[log.index(headline) :]) <= set(told.splitlines())
    # a changed setting: full precision does not depend on it
    change = finished_copy.config | {"weight_bits": 12}
    told = finished_copy.snakemake("check", config=change)
    assert "training tiny k1" in told and "tiny fp32" not in told, told
    expected = Counter(job.partition(" ")[0] for job in finished_copy.planned(config=change))
    assert counts(told) == expected
    new = {folder / name for name in ("logs", "logs/check.log", "experiment.yaml", "changed.yaml")}
    after = _times(folder)
    assert {path for path in after if before.get(path) != after[path]} <= {*new, folder}
    again = finished_copy.snakemake()
    assert "Nothing to be done" in again and "rule check" not in again
    # disk, against what was written
    definitions = finished_copy.config["definitions"]
    found = experiment(folder, nets=[*definitions], quantization_levels=[0, 1], definitions=definitions)
    taken = sum(path.stat().st_size for path in (folder / "results").rglob("*") if path.is_file())
    assert 0.5 < sum(cost.results for cost in costs(found).values()) / taken < 2


def _times(folder: Path) -> dict[Path, int]:
    paths = [path for path in folder.rglob("*") if not {".snakemake", "__pycache__"} & {*path.parts}]
    return {path: path.stat().st_mtime_ns for path in paths}


@pytest.mark.slow
def test_problems_end_with_an_error(tmp_path: Path) -> None:
    sources = {"cifar10": {"archive": {"url": "file:///nowhere/cifar.tar.gz", "sha256": "0" * 64, "size": None}}}
    tiny = copy.deepcopy(TINY) | {"quantization_levels": [1], "datasets": sources}
    tiny["definitions"]["tiny"]["dataset"] = "cifar10"  # type: ignore[index]
    told = snakemake(tmp_path, "check", "--configfile", write_config(tmp_path, tiny))
    assert told.returncode != 0
    problems = [line for line in told.stdout.splitlines() if line.startswith(PROBLEM)]
    assert problems == [f"{PROBLEM}file:///nowhere/cifar.tar.gz: No such file or directory"], told.stdout
    assert "17 of 17 jobs are still to do" in told.stdout and " with --cores 2" in told.stdout
    assert "Traceback" not in told.stdout and not (tmp_path / "data").exists() and not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["a file in the place of a folder", "no device"])
def test_what_ends_the_check_is_one_clear_line(tmp_path: Path, fault: str) -> None:
    if fault == "no device":
        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device")
        config, expected = TINY | {"device": "cuda"}, "PyTorch finds no CUDA device"
    else:
        (tmp_path / "results").write_text("a file where a folder should be")
        config, expected = TINY, "results: nothing can be written into results/tiny"
    told = snakemake(tmp_path, "check", "--configfile", write_config(tmp_path, config))
    assert told.returncode != 0 and "Traceback" not in told.stdout
    # where it happens, and again as the last line
    lines = [line for line in told.stdout.splitlines() if expected in line]
    assert len(lines) == 2 and lines[0] == lines[1] == told.stdout.rstrip().splitlines()[-1], told.stdout
