"""What a run would cost on this machine, and whether it would go through: the table behind ``snakemake check``."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import psutil

from negspike.config import Experiment
from negspike.console import aligned, format_duration
from negspike.data.registry import Source
from negspike.estimate.cost import ASSUMED_IMAGES, STAGES, STANDARD_IMAGES, Cost, Job, Speeds, job_cost, total_seconds
from negspike.files import file_sha256
from negspike.machine import Machine

WARNING, PROBLEM = "warning: ", "PROBLEM: "
DAY = 86_400.0


def check(
    experiment: Experiment,
    jobs: Mapping[Job, bool],
    speeds: Speeds,
    *,
    cores: int,
    reserved: Mapping[str, Mapping[str, int]],
    machine: Machine,
    gpus: Sequence[str],
) -> list[str]:
    """Put plan, speeds and machine together.

    Args:
        experiment: the configuration.
        jobs: the plan, and whether each job is still to do.
        speeds: what was measured.
        cores: that Snakemake may use.
        reserved: ``threads`` and ``mem_mb`` that trainings and evaluations reserve, by rule.
        machine: what there is.
        gpus: names of the CUDA devices that PyTorch finds.

    Returns:
        The table's lines, then warnings, which begin with WARNING, and what will make the run fail, with PROBLEM.
    """
    costs = {job: job_cost(job, experiment, speeds) for job, todo in jobs.items() if todo}
    real = min(cores, machine.cores)  # more cores than there are make nothing faster
    shared = 0 if experiment.device == "cpu" else len(gpus)
    threads = {rule: amounts["threads"] for rule, amounts in reserved.items()}
    total, together = total_seconds(costs, threads, real, shared), max(1, shared or real // threads["train"])
    memory = sorted(((cost.memory, _name(job)) for job, cost in costs.items()), reverse=True)
    results, data = (sum(getattr(cost, kept) for cost in costs.values()) for kept in ("results", "data"))
    checkpoints = sum(sorted(cost.checkpoints for cost in costs.values())[-together:])
    datasets = sorted({job.path.name for job in costs if job.rule == "prepare_dataset"})
    files = [
        look_for(source, Path(experiment.data) / dataset / f"{name}.gz")
        for dataset in datasets
        for name, source in experiment.sources[dataset].items()
    ]
    largest = f"largest job {_size(memory[0][0])} ({memory[0][1]}); " if memory else ""
    one_by_one = sum(cost.seconds for cost in costs.values())
    lines = [
        f"{len(costs)} of {len(jobs)} jobs are still to do; results in {experiment.results}, data in {experiment.data}",
        "",
        *_count_table(jobs),
        "",
        *_work_table(costs, speeds),
        f"time     at least about {_duration(total)} with --cores {cores}, {_duration(one_by_one)} one job after the "
        "other; downloads not counted",
        f"disk     {_size(results)} of results, {_size(data)} of data, {_size(checkpoints)} of checkpoints in between; "
        f"free: {_size(_free(experiment.results))}",
        f"memory   {largest}there are {_size(machine.memory)}, available: {_size(machine.available)}",
        f"device   {f'{len(gpus)} GPU ({gpus[0]})' if gpus else 'no GPU that PyTorch finds'}; "
        f"configured: {experiment.device}",
        f"machine  {machine.cores} cores, load {machine.load:.1f}; "
        f"{'sbatch is there' if shutil.which('sbatch') else 'no sbatch'}",
        *(f"data     {state}" for state, _ in files or [("nothing to download", "")]),
    ]
    warnings = [*_time_warnings(experiment, costs, total, cores, machine, gpus)]
    warnings += _memory_warnings(costs, reserved, machine, together)
    problems = [problem for _, problem in files if problem]
    problems += [*folder_problems(experiment), *_disk_problems(experiment, results + checkpoints, data)]
    if memory and memory[0][0] > machine.memory:
        problems.append(f"memory: {largest}there are {_size(machine.memory)}; lower its batch_size or width")
    remarks = [*(WARNING + line for line in warnings), *(PROBLEM + line for line in problems)]
    return [*lines, "", *remarks] if remarks else lines


def _count_table(jobs: Mapping[Job, bool]) -> list[str]:
    every, todo = Counter(job.rule for job in jobs), Counter(job.rule for job in jobs if jobs[job])
    rules = [*(stage for stage in STAGES if stage in every), *sorted(every.keys() - STAGES)]
    return aligned(
        [("rule", "to do", "done"), *((rule, str(todo[rule]), str(every[rule] - todo[rule])) for rule in rules)]
    )


def _work_table(costs: Mapping[Job, Cost], speeds: Speeds) -> list[str]:
    """Trainings and evaluations, those of all seeds in one line; an empty line behind them where there are any."""
    rows = [("", "seeds", "images in all", "images/s", "time of all seeds", "")]
    for (rule, net, precision), speed in sorted(speeds.images.items(), reverse=True):
        seeds = [cost for job, cost in costs.items() if (job.rule, job.net, job.precision) == (rule, net, precision)]
        row = (
            f"{'training' if rule == 'train' else 'evaluation'} {net} {precision}",
            str(len(seeds)),
            f"{sum(cost.images for cost in seeds):,}",
            f"{1 / speed.image:,.3g}" if speed.image > 0.01 else f"{1 / speed.image:,.0f}",
            _duration(sum(cost.seconds for cost in seeds)),
        )
        rows.append((*row, speed.scaled))
    return [*aligned(rows), ""] if len(rows) > 1 else []


def _time_warnings(
    experiment: Experiment,
    todo: Mapping[Job, Cost],
    total: float,
    cores: int,
    machine: Machine,
    gpus: Sequence[str],
) -> Iterator[str]:
    if total > DAY:
        small = any(experiment.definitions[job.net].dataset == "cifar10" for job in todo if job.net)
        ideas = ["--configfile presets/cifar10_cpu.yaml (a quarter of the width, the fast recipe)"] if small else []
        ideas += [] if gpus else ["a machine with a GPU"]
        ideas += ["a cluster with Slurm (--workflow-profile profiles/slurm)"]
        yield f"at least about {_duration(total)} on this machine; cheaper: {'; '.join(ideas)}"
    if cores > machine.cores:
        yield f"--cores {cores}, but there are {machine.cores}: the estimate counts {machine.cores}"
    if machine.load > 0.5 * machine.cores:
        yield f"the machine is busy (load {machine.load:.1f} on {machine.cores} cores): speeds may be measured low"
    if shutil.which("nvidia-smi") and not gpus and experiment.device != "cpu":
        yield "there is an nvidia-smi, but PyTorch finds no CUDA device: jobs would run on the CPU, one a GPU"
    for dataset in sorted({job.path.name for job in todo if job.rule == "prepare_dataset"} - STANDARD_IMAGES.keys()):
        yield f"{dataset}: {sum(ASSUMED_IMAGES):,} images are assumed, until it is prepared"
    if begun := sum(any(job.path.glob(".phase*.checkpoint")) for job in todo if job.rule == "train"):
        yield f"trainings that may go on from a checkpoint, but are counted from their first epoch: {begun}"


def _memory_warnings(
    costs: Mapping[Job, Cost], reserved: Mapping[str, Mapping[str, int]], machine: Machine, together: int
) -> Iterator[str]:
    largest = sorted((cost.memory for cost in costs.values()), reverse=True)[:together]
    available = _size(machine.available)
    if largest and machine.available < largest[0]:
        yield f"memory: the largest job takes about {_size(largest[0])}, {available} are available"
    elif machine.available < sum(largest):
        yield (
            f"memory: {len(largest)} jobs side by side take about {_size(sum(largest))}, {available} are available; "
            f"use fewer --cores, or --resources mem_mb={machine.available // 10**6}"
        )
    for rule, amounts in reserved.items():
        peak = max((cost.memory for job, cost in costs.items() if job.rule == rule), default=0.0)
        if peak > amounts["mem_mb"] * 1e6:
            yield (
                f"memory: {rule} reserves {_size(amounts['mem_mb'] * 1e6)} but takes about {_size(peak)}, so that a "
                f"cluster would end it; --set-resources {rule}:mem_mb={round(peak * 1.3 / 1e6)}"
            )


def folder_problems(experiment: Experiment) -> Iterator[str]:
    """Which of the two folders cannot be written into, and why; nothing is left behind."""
    for name, folder in (("results", experiment.results), ("data", experiment.data)):
        try:
            existing = _existing(folder)
            if not existing.is_dir():
                raise NotADirectoryError(0, f"{existing} is a file")
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            yield f"{name}: nothing can be written into {folder} ({error.strerror or error})"


def _disk_problems(experiment: Experiment, results: float, data: float) -> Iterator[str]:
    needs = [(experiment.results, results), (experiment.data, data)]
    if len({_existing(folder).stat().st_dev for folder, _ in needs}) == 1:
        needs = [(experiment.results, results + data)]
    for folder, need in needs:
        if need > _free(folder):
            yield f"disk: {folder} needs {_size(need)}, {_size(_free(folder))} are free"


def look_for(source: Source, path: Path) -> tuple[str, str]:
    """What will happen to a file of a dataset, and what is wrong with it or nothing; no server is asked."""
    if path.is_file():
        file, state, problem = path, f"{path} is there", f"{path}: another checksum than the config's; delete it"
    elif source.url.startswith("file:"):
        file = Path(url2pathname(urlsplit(source.url).path))
        state, problem = f"{path} is to be copied", f"{source.url}: another size or checksum than the config's"
    else:
        size = "size unknown" if source.size is None else f"{source.size:,} bytes"
        return f"{path} is to be downloaded from {source.url}, {size}", ""
    try:
        if source.size in (None, file.stat().st_size) and file_sha256(file) == source.sha256:
            return f"{state}, its checksum is right", ""
        return state, problem
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        return state, f"{path if file == path else source.url}: {getattr(error, 'strerror', None) or error}"


def _existing(folder: Path | str) -> Path:
    """The folder, or the nearest above it that is there."""
    path = Path(folder).absolute()
    # not Path.exists: it raises inside a folder that cannot be entered
    return next(above for above in (path, *path.parents) if os.path.exists(above))  # noqa: PTH110


def _free(folder: str) -> int:
    return int(psutil.disk_usage(str(_existing(folder))).free)


def _name(job: Job) -> str:
    about = (job.net, job.seed, job.precision) if job.net else (str(job.path),)
    return " ".join((job.rule, *about))


def _duration(seconds: float) -> str:
    return format_duration(seconds) if seconds < 2 * DAY else f"{seconds / DAY:.1f} days"


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
