"""What a run would cost: the model against finished runs, and ``snakemake check`` on the command line."""

from __future__ import annotations

import copy
import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, OneLine
from workflow_runs import TINY, planned, snakemake, write_config

import negspike.estimate.check
from negspike.config import Experiment, resolve_config
from negspike.data.registry import Source, dataset_spec
from negspike.errors import InputError
from negspike.estimate.check import Check, check, measure
from negspike.estimate.cost import Speeds, disk_use, image_counts, job_memory, job_seconds, result_bytes
from negspike.estimate.machine import Machine, cannot_write, look_for, read_machine, read_memory
from negspike.estimate.plan import Job, Limits, Resources, count_jobs, read_plan, schedule, side_by_side
from negspike.estimate.probe import (
    EvaluationSpeed,
    TrainingSpeed,
    calibrated_network,
    measure_evaluation,
    measure_training,
    random_pixels,
    time_per_batch,
)
from negspike.spiking.event.engine import EventEngine
from negspike.spiking.recording import Recording
from negspike.training.network import predict

CPU = torch.device("cpu")
MACHINE = Machine(cores=4, load=0.0, memory=16 * 10**9, available=12 * 10**9, gpus=(), driver=False, cluster=False)
RULES = ("prepare_dataset", "train_phase", "convert", "evaluate", "summarize_training", "table")
RESOURCES = {rule: Resources(1, 0, 4000) for rule in (*RULES, "download", "accuracy_speed", "sops", "sparsity")}


def experiment(folder: Path, **changes: Any) -> Experiment:
    """The tiny experiment of the workflow's tests, in ``folder``; ``tiny`` changes the net's definition."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"data": str(folder / "data")}
    tiny = copy.deepcopy(TINY)
    definition: dict[str, Any] = tiny["definitions"]["tiny"] | changes.pop("tiny", {})  # type: ignore[index]
    config |= tiny | {"results": str(folder / "results" / "tiny")} | changes
    config["definitions"] = {"tiny": definition, **changes.get("definitions", {})}
    return resolve_config(config, ROOT / "workflow" / "schemas" / "config.schema.yaml")


def every_job(config: Experiment) -> list[Job]:
    """The plan of an experiment of which nothing is there, as Snakemake would make it."""
    jobs = []
    datasets = sorted({config.definitions[net].dataset for net in config.nets})
    for dataset in datasets:
        jobs += [job("download", dataset=dataset, file=file) for file in config.sources[dataset]]
        jobs.append(job("prepare_dataset", dataset=dataset))
    for net in config.nets:
        for seed in config.seeds:
            for precision in ("fp32", *(f"k{k}" for k in config.k)):
                network = {"net": net, "seed": seed, "precision": precision}
                jobs += [job("train_phase", **network, phase=phase.number) for phase in config.definitions[net].phases]
                jobs.append(job("summarize_training", **network))
            for k in config.k:
                jobs += [job(rule, net=net, seed=seed, k=k) for rule in ("convert", "evaluate")]
    return [*jobs, *(job(rule) for rule in ("accuracy_speed", "sops", "sparsity", "table"))]


def job(rule: str, **wildcards: object) -> Job:
    return Job(rule, tuple(sorted((name, str(value)) for name, value in wildcards.items())), True)


def speeds_of(config: Experiment, step: float = 0.1) -> Speeds:
    """Made-up speeds: a tenth of a second a step, a millisecond a test image; (1 + k) / 100 seconds an evaluation."""
    training = {(net, quantised): TrainingSpeed(step, 1e-3, 50) for net in config.nets for quantised in (False, True)}
    image = {k: (1 + k) / 100 for k in config.k}
    return Speeds(1.0, training, {net: EvaluationSpeed(image, "dense") for net in config.nets})


def result(config: Experiment, machine: Machine = MACHINE, limits: Limits | None = None, **speed: float) -> Check:
    return check(config, every_job(config), RESOURCES, limits or Limits(4), machine, speeds_of(config, **speed))


# --- the plan -------------------------------------------------------------------------------------------------------


def test_the_summary_is_read_by_job_not_by_file() -> None:
    summary = (
        "output_file\tdate\trule\tlog-file(s)\tstatus\tplan\n"
        "r/tiny/seed0/k1/phase2.pt\t-\ttrain_phase\t-\tmissing\tupdate pending\n"
        "r/tiny/seed0/k1/phase2.csv\t-\ttrain_phase\t-\tmissing\tupdate pending\n"
        "r/tiny/seed3/fp32/phase1.pt\tMon Nov 23\ttrain_phase\ta.log\tok\tno update\n"
    )
    jobs = read_plan(summary, {"train_phase": r"r/{net,tiny|a}/seed{seed,\d+}/{precision}/phase{phase,[1-9]\d*}.pt"})
    first = {"net": "tiny", "phase": "2", "precision": "k1", "seed": "0"}
    assert [(dict(job.wildcards), job.todo) for job in jobs] == [
        (first, True),
        ({"net": "tiny", "phase": "1", "precision": "fp32", "seed": "3"}, False),
    ]
    assert count_jobs(jobs) == {"train_phase": (1, 1)}
    with OneLine(InputError, "snakemake --summary", "output_file"):
        read_plan("something else\n", {})
    with OneLine(InputError, "train_phase"):
        read_plan(summary, {})


def test_jobs_run_side_by_side_as_far_as_they_fit(tmp_path: Path) -> None:
    config = experiment(tmp_path, quantization_levels=[0])
    jobs = [job for job in every_job(config) if job.rule == "train_phase"]
    seconds = dict.fromkeys(jobs, 10.0)

    def duration(limits: Limits, need: Resources = RESOURCES["train_phase"]) -> float:
        return schedule(jobs, seconds, RESOURCES | {"train_phase": need}, limits, config)

    # two phases one after the other, for two precisions
    assert duration(Limits(1)) == 40
    assert duration(Limits(2)) == duration(Limits(8)) == 20
    assert duration(Limits(8, gpus=1), Resources(1, 1, 4000)) == 40
    assert duration(Limits(8, gpus=2), Resources(1, 1, 4000)) == 20
    assert duration(Limits(8, memory_mb=7999)) == 40
    assert duration(Limits(8), Resources(8, 0, 4000)) == 40
    assert duration(Limits(8), Resources(99, 0, 4000)) == 40  # cut down to what there is
    assert side_by_side("train_phase", RESOURCES, Limits(3)) == 3
    assert side_by_side("train_phase", RESOURCES | {"train_phase": Resources(1, 1, 0)}, Limits(3, gpus=1)) == 1


def test_every_stage_waits_for_the_one_before_it(tmp_path: Path) -> None:
    config = experiment(tmp_path, quantization_levels=[0])
    jobs = every_job(config)
    seconds = dict.fromkeys(jobs, 1.0)
    # images, two phases, conversion, evaluation, figures
    assert schedule(jobs, seconds, RESOURCES, Limits(99), config) == 6
    assert schedule(jobs, seconds, RESOURCES, Limits(1), config) == len(jobs)
    done = [replace(job, todo=job.rule == "table") for job in jobs]
    assert schedule(done, seconds, RESOURCES, Limits(99), config) == 1


# --- time -----------------------------------------------------------------------------------------------------------


def test_the_time_grows_with_what_is_asked_for(tmp_path: Path) -> None:
    limits = Limits(1)
    config = experiment(tmp_path)

    def trainings(changed: Experiment) -> float:
        found = speeds_of(changed)
        return sum(job_seconds(job, changed, found) - 1 for job in every_job(changed) if job.rule == "train_phase")

    # 1,438 images in 29 batches, 359 test images, three epochs, three precisions
    assert trainings(config) == pytest.approx(9 * (29 * 0.1 + 0.359))
    assert trainings(experiment(tmp_path, seeds=[0, 1])) == pytest.approx(2 * trainings(config))
    assert trainings(experiment(tmp_path, quantization_levels=[0, 1, 2])) == pytest.approx(4 / 3 * trainings(config))
    three = {"phases": [{"epochs": epochs, "learning_rate": 1e-3} for epochs in (4, 3, 2)]}
    assert trainings(experiment(tmp_path, tiny=three)) == pytest.approx(3 * trainings(config))
    assert (
        result(experiment(tmp_path, seeds=[0, 1]), limits=limits).seconds > 1.9 * result(config, limits=limits).seconds
    )
    k1 = job("evaluate", net="tiny", seed=0, k=1)
    assert job_seconds(k1, config, speeds_of(config)) == pytest.approx(1 + 359 * 0.02 + 359 * 1e-3)


def test_images_are_counted_in_the_prepared_file_where_there_is_one(tmp_path: Path) -> None:
    assert image_counts("fashion_mnist", tmp_path) == (50_000, 10_000, 10_000)
    assert image_counts("cifar10", tmp_path) == (50_000, 0, 10_000)
    np.savez(tmp_path / "fashion_mnist.npz", train_labels=np.zeros(120, np.uint8), test_labels=np.zeros(7, np.uint8))
    assert image_counts("fashion_mnist", tmp_path) == (100, 20, 7)
    (tmp_path / "cifar10.npz").write_bytes(b"damaged")
    assert image_counts("cifar10", tmp_path) == (50_000, 0, 10_000)


def test_a_wider_net_is_measured_slower_and_takes_more(tmp_path: Path) -> None:
    narrow, wide = experiment(tmp_path), experiment(tmp_path, tiny={"width": 32.0})
    times = [measure_training(e.definitions["tiny"], 1, 16, CPU, 1, 0.5).step for e in (narrow, wide)]
    assert times[1] > 2 * times[0] > 0
    evaluations = [
        measure_evaluation(e.definitions["tiny"], [0, 2], 16, "auto", "cpu", 1, 0.5).image for e in (narrow, wide)
    ]
    assert evaluations[1][2] > 2 * evaluations[0][2] > 0
    assert evaluations[1][2] > evaluations[1][0]  # finer levels need more steps
    assert result(wide).disk.results > 10 * result(narrow).disk.results
    training = job("train_phase", net="tiny", seed=0, precision="k1", phase=1)
    assert job_memory(training, wide) > job_memory(training, narrow) + 4 * 16 * 10**6


def test_the_event_engine_is_timed_over_all_steps_with_images_for_every_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, run = [], EventEngine.run

    def recorded(engine: EventEngine, encoded: np.ndarray, timesteps: int) -> Recording:
        runs.append((engine.threads, len(encoded), timesteps))
        return run(engine, encoded, timesteps)

    monkeypatch.setattr(EventEngine, "run", recorded)
    definition = experiment(tmp_path, tiny={"timesteps": 70}).definitions["tiny"]
    assert measure_evaluation(definition, [1], 16, "auto", "cpu", 2, 0.5).engine == "event"
    assert runs[-1][0] == 2 and runs[-1][1] >= 2 and runs[-1][2] == 70


def test_a_job_gets_no_more_threads_than_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(tmp_path, quantization_levels=[0])
    threads = []

    def evaluated(*arguments: Any) -> EvaluationSpeed:
        threads.append(arguments[5])
        return EvaluationSpeed({0: 1.0}, "event")

    monkeypatch.setattr(negspike.estimate.check, "measure_evaluation", evaluated)
    jobs = [replace(job, todo=job.rule == "evaluate") for job in every_job(config)]
    for cores in (1, 2, 8):
        measure(config, jobs, RESOURCES | {"evaluate": Resources(4, 0, 4000)}, Limits(cores), lambda line: None)
    assert threads == [1, 2, 4]


def test_the_full_batch_is_extrapolated_from_two_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sizes = [0.0], []

    def run(count: int) -> None:
        sizes.append(count)
        clock[0] += 1.0 + 0.5 * count

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    seconds, measured = time_per_batch(run, 4, 200, 1.0, CPU)
    assert seconds == pytest.approx(1.0 + 0.5 * 200) and measured == 16 and set(sizes) == {4, 16}
    seconds, measured = time_per_batch(run, 2, 200, 10_000.0, CPU)
    assert seconds == pytest.approx(101.0) and measured == 200
    seconds, measured = time_per_batch(run, 1, 1, 0.0, CPU)
    assert seconds == pytest.approx(1.5) and measured == 1


def test_only_what_is_to_be_done_is_measured(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    jobs = [replace(job, todo=job.rule == "evaluate" and job["k"] == "1") for job in every_job(config)]
    lines: list[str] = []
    found = measure(config, jobs, RESOURCES, Limits(1), lines.append, 0.2)
    assert not found.training and set(found.evaluation["tiny"].image) == {1} and found.startup > 0.1
    table = check(config, jobs, RESOURCES, Limits(1), MACHINE, found).text()
    assert "tiny k1" in table and "tiny k0" not in table and "\ntraining " not in table
    finished = [replace(job, todo=False) for job in jobs]
    speeds = measure(config, finished, RESOURCES, Limits(1), lines.append)
    nothing = check(config, finished, RESOURCES, Limits(1), MACHINE, speeds)
    assert nothing.seconds == 0 and nothing.disk.total == 0 and "0 of 18 jobs are still to do" in nothing.text()


def test_a_calibrated_network_fires(tmp_path: Path) -> None:
    definition = experiment(tmp_path).definitions["tiny"]
    images = torch.rand(32, 1, 8, 8)
    network = calibrated_network(definition.topology, 1, 16, images.numpy())
    network.eval()
    with torch.inference_mode():
        active = (network.blocks[0](images) > 0).float().mean()
    assert 0.1 < active < 0.6 and predict(network, images).shape == (32,)


def test_random_images_have_the_levels_of_the_dataset() -> None:
    pixels = random_pixels(dataset_spec("digits"), 50)
    assert pixels.shape == (50, 1, 8, 8) and pixels.dtype == np.uint8 and pixels.max() == 16
    assert random_pixels(dataset_spec("cifar10"), 5).max() == 255


# --- what is warned of ----------------------------------------------------------------------------------------------


def test_a_long_run_is_warned_of_and_cheaper_ones_are_named(tmp_path: Path) -> None:
    published = {"nets": ["cnn1"], "definitions": yaml.safe_load((ROOT / "config.yaml").read_text())["definitions"]}
    config = experiment(tmp_path, **published)
    found = result(config, step=5.0)
    assert found.seconds > 86_400 and not found.problems
    warning = next(line for line in found.warnings if "cheaper" in line)
    assert "presets/cifar10_cpu.yaml" in warning and "GPU" in warning and "profiles/slurm" in warning
    assert not any("cheaper" in line for line in result(config, step=1e-4).warnings)
    assert (ROOT / "presets" / "cifar10_cpu.yaml").is_file()
    with_gpu = result(config, replace(MACHINE, gpus=("A100",)), step=5.0)
    assert not any("a machine with a GPU" in line for line in with_gpu.warnings)


def test_what_the_machine_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment(tmp_path)
    assert result(config).problems == [] and result(config).warnings == []
    little = result(config, replace(MACHINE, memory=10**8, available=10**8))
    assert any("memory:" in line and "100.0 MB" in line for line in little.problems)
    assert any("side by side" in line for line in result(config, replace(MACHINE, available=5 * 10**8)).warnings)
    assert any("are available" in line for line in result(config, replace(MACHINE, available=10**8)).warnings)
    assert any("busy" in line for line in result(config, replace(MACHINE, load=3.0)).warnings)
    assert any("--cores 9" in line for line in result(config, limits=Limits(9)).warnings)
    assert any("nvidia-smi" in line for line in result(config, replace(MACHINE, driver=True)).warnings)
    tight = RESOURCES | {"evaluate": Resources(1, 0, 100)}
    told = check(config, every_job(config), tight, Limits(1), MACHINE, speeds_of(config)).warnings
    assert len(told) == 1 and "--set-resources evaluate:mem_mb=" in told[0]
    monkeypatch.setattr(negspike.estimate.check, "free_bytes", lambda folder: 1000)
    assert any(line.startswith("disk:") and "1 kB are free" in line for line in result(config).problems)


def test_a_checkpoint_is_mentioned(tmp_path: Path) -> None:
    config = experiment(tmp_path)
    folder = tmp_path / "results" / "tiny" / "tiny" / "seed0" / "k1"
    folder.mkdir(parents=True)
    (folder / ".phase2.checkpoint").write_bytes(b"")
    assert any("from their first epoch: 1" in line for line in result(config).warnings)


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    assert any("results: nothing can be written" in line for line in result(experiment(tmp_path)).problems)
    assert cannot_write(tmp_path / "new" / "folder") is None and not (tmp_path / "new").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results"]


def test_where_the_data_come_from(tmp_path: Path) -> None:
    content = b"an archive"
    right = hashlib.sha256(content).hexdigest()
    target = tmp_path / "archive.gz"
    online = look_for("cifar10/archive", Source("https://example.org/a.gz", right, 1234), target)
    assert online.problem is None and "https://example.org/a.gz, 1,234 bytes" in online.state
    copy_of_it = tmp_path / "copy.gz"
    source = Source(copy_of_it.as_uri(), right, None)
    assert "there is no such file" in str(look_for("cifar10/archive", source, target).problem)
    copy_of_it.write_bytes(content)
    assert "its checksum is right" in look_for("cifar10/archive", source, target).state
    assert "checksum" in str(look_for("cifar10/archive", replace(source, size=3), target).problem)
    copy_of_it.write_bytes(b"another one")
    assert "checksum" in str(look_for("cifar10/archive", source, target).problem)
    target.write_bytes(content)
    assert look_for("cifar10/archive", source, target).state.endswith("is there, its checksum is right")
    target.write_bytes(b"damaged")
    assert "delete it" in str(look_for("cifar10/archive", source, target).problem)


def test_the_machine_is_read(tmp_path: Path) -> None:
    machine = read_machine()
    assert machine.cores >= 1 and (machine.memory is None or machine.memory > 10**8)
    (tmp_path / "meminfo").write_text("MemTotal:  2 kB\nMemAvailable:   1 kB\nHugePages_Total:  0\n")
    assert read_memory(tmp_path / "meminfo") == (2048, 1024)
    assert read_memory(tmp_path / "nothing") == (None, None)


# --- the command line ------------------------------------------------------------------------------------------------


def counts(output: str) -> dict[str, int]:
    """Jobs still to do, by rule, as the table has them."""
    rows = output.partition("\nrule ")[2].partition("\n\n")[0].splitlines()[1:]
    return {row.split()[0]: int(row.split()[1]) for row in rows if row.split()[1] != "0"}


def files(folder: Path) -> dict[str, int]:
    """Every file with the time of its last change, without Snakemake's own."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and ".snakemake" not in path.parts
    }


def dry_run(folder: Path, config: str) -> dict[str, int]:
    jobs = planned(snakemake(folder, "--dry-run", "--configfile", config).stdout)
    return {rule: count for rule, count in jobs.items() if rule != "all"}


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, list[dict[str, int]], list[str]]:
    """A finished run that was checked before, half-way and after: folder, config, Snakemake's plans, what was told."""
    folder = tmp_path_factory.mktemp("cost")
    config = write_config(folder, TINY | {"quantization_levels": [1]})
    plans, told = [], []
    for target in (None, "results/tiny/tiny/seed0/k1/spiking.npz", "all"):
        if target is not None:
            run = snakemake(folder, "--configfile", config, "--", target)
            assert run.returncode == 0, run.stdout
        plans.append(dry_run(folder, config))
        before = files(folder)
        output = snakemake(folder, "check", "--configfile", config)
        assert output.returncode == 0, output.stdout
        told.append(output.stdout)
        after = files(folder)
        # the log is all that it writes
        assert {name for name in after if before.get(name) != after[name]} == {"logs/check.log"}
        assert before.keys() <= after.keys()
    return folder, config, plans, told


Stages = tuple[Path, str, list[dict[str, int]], list[str]]


def test_jobs_are_counted_as_snakemake_plans_them(stages: Stages) -> None:
    _, _, plans, told = stages
    assert [counts(output) for output in told] == plans
    assert plans[0]["train_phase"] == 4 and plans[1]["train_phase"] == 2 and plans[2] == {}
    assert "13 of 13 jobs are still to do" in told[0] and "0 of 13 jobs are still to do" in told[2]


def test_the_table_is_in_the_log_too(stages: Stages) -> None:
    folder, _, _, told = stages
    lines = (folder / "logs" / "check.log").read_text().splitlines()
    start = lines.index("0 of 13 jobs are still to do; results in results/tiny, data in data")
    assert all(line in told[2].splitlines() for line in lines[start:]) and any("disk " in line for line in lines)
    assert not any("13 of 13" in line for line in lines)


def test_a_check_makes_nothing_run_again_and_is_no_part_of_all(stages: Stages) -> None:
    folder, config, _, _ = stages
    nothing = snakemake(folder, "--configfile", config)
    assert "Nothing to be done" in nothing.stdout and "rule check" not in nothing.stdout


def test_a_changed_setting_is_counted(stages: Stages) -> None:
    folder, config, _, _ = stages
    change = write_config(folder, {"weight_bits": 12}, "change.yaml")
    expected = planned(snakemake(folder, "--dry-run", "--configfile", config, change).stdout)
    told = snakemake(folder, "check", "--configfile", config, change)
    assert told.returncode == 0, told.stdout
    assert counts(told.stdout) == {rule: count for rule, count in expected.items() if rule != "all"}
    assert counts(told.stdout)["train_phase"] == 2  # full precision does not depend on it


def test_disk_is_what_a_finished_run_takes(stages: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, config, _, _ = stages
    monkeypatch.chdir(folder)
    base = yaml.safe_load((ROOT / "config.yaml").read_text())
    merged = base | yaml.safe_load(Path(config).read_text())
    found = resolve_config(merged, ROOT / "workflow" / "schemas" / "config.schema.yaml")

    def taken(*patterns: str) -> int:
        return sum(path.stat().st_size for pattern in patterns for path in folder.glob(pattern) if path.is_file())

    disk = disk_use(every_job(found), found, 1)
    assert disk.results == pytest.approx(taken("results/**/*"), rel=0.25)
    assert disk.data == pytest.approx(taken("data/*.npz"), rel=0.02)
    network = {"net": "tiny", "seed": 0}
    weights = result_bytes(job("train_phase", **network, precision="k1", phase=1), found)
    assert weights == pytest.approx(
        taken("results/tiny/tiny/seed0/k1/phase1.*", "results/tiny/logs/tiny/seed0/k1/phase1.log"), rel=0.2
    )
    spiking = result_bytes(job("convert", **network, k=1), found)
    assert spiking == pytest.approx(taken("results/tiny/tiny/seed0/k1/spiking.npz"), rel=0.5)


def test_the_digits_are_checked_in_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    told = snakemake(tmp_path, "check", "--configfile", str(ROOT / "presets" / "digits.yaml"))
    assert told.returncode == 0, told.stdout
    assert time.monotonic() - started < 15
    assert "digits fp32" in told.stdout and "35,950" in told.stdout and "nothing to download" in told.stdout


def test_problems_end_with_an_error(tmp_path: Path) -> None:
    sources = {"cifar10": {"archive": {"url": "file:///nowhere/cifar.tar.gz", "sha256": "0" * 64, "size": None}}}
    tiny = copy.deepcopy(TINY) | {"quantization_levels": [1], "datasets": sources}
    tiny["definitions"]["tiny"]["dataset"] = "cifar10"  # type: ignore[index]
    told = snakemake(tmp_path, "check", "--configfile", write_config(tmp_path, tiny))
    assert told.returncode != 0
    problems = [line for line in told.stdout.splitlines() if line.startswith("PROBLEM: ")]
    assert problems == ["PROBLEM: file:///nowhere/cifar.tar.gz: there is no such file"], told.stdout
    assert "Traceback" not in told.stdout and not (tmp_path / "data").exists() and not (tmp_path / "results").exists()


def test_a_file_in_the_place_of_a_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file where a folder should be")
    told = snakemake(tmp_path, "check", "--configfile", write_config(tmp_path, TINY))
    assert told.returncode != 0 and "Traceback" not in told.stdout
    lines = [line for line in told.stdout.splitlines() if "results: nothing can be written into results/tiny" in line]
    assert len(lines) == 1 and "is a file" in lines[0], told.stdout


def test_a_device_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    told = snakemake(tmp_path, "check", "--configfile", write_config(tmp_path, TINY | {"device": "cuda"}))
    assert told.returncode != 0 and "Traceback" not in told.stdout
    assert len([line for line in told.stdout.splitlines() if "PyTorch finds no CUDA device" in line]) == 1
