"""What a run would cost on this machine, and whether it would go through: the table behind ``snakemake check``."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import psutil

from negspike.config import Experiment
from negspike.console import format_duration
from negspike.data.registry import Source
from negspike.estimate.cost import disk_bytes, job_images, job_memory, job_seconds, total_seconds
from negspike.estimate.plan import STAGES, Job
from negspike.estimate.probe import Speeds
from negspike.files import file_sha256
from negspike.machine import Machine

DAY = 86_400.0


@dataclass(frozen=True)
class Check:
    """The result.

    Attributes:
        lines: the table, as text.
        warnings: what to think about before starting.
        problems: what will make the run fail.
    """

    lines: list[str]
    warnings: list[str]
    problems: list[str]

    def text(self) -> str:
        """Everything, as lines for a terminal or a file."""
        remarks = [*(f"warning: {line}" for line in self.warnings), *(f"PROBLEM: {line}" for line in self.problems)]
        return "\n".join([*self.lines, *([""] if remarks else []), *remarks]) + "\n"


def check(
    experiment: Experiment,
    jobs: Mapping[Job, bool],
    speeds: Speeds,
    *,
    cores: int,
    reserved: Mapping[str, Mapping[str, int]],
    machine: Machine,
    gpus: Sequence[str],
) -> Check:
    """Put plan, speeds and machine together.

    Args:
        experiment: the configuration.
        jobs: the plan, and whether each job is still to do.
        speeds: what was measured.
        cores: that Snakemake may use.
        reserved: ``threads`` and ``mem_mb`` that trainings and evaluations reserve, by rule.
        machine: what there is.
        gpus: names of the CUDA devices that PyTorch finds.
    """
    todo = [job for job, wanted in jobs.items() if wanted]
    seconds = {job: job_seconds(job, experiment, speeds) for job in todo}
    real = min(cores, machine.cores)  # more cores than there are make nothing faster
    threads = {rule: amounts["threads"] for rule, amounts in reserved.items()}
    shared_gpus = 0 if experiment.device == "cpu" else len(gpus)
    together = max(1, shared_gpus or real // threads["train_phase"])
    total = total_seconds(seconds, threads, real, shared_gpus)
    disk = disk_bytes(todo, experiment, together)
    memory = sorted(((job_memory(job, experiment), str(job)) for job in todo), reverse=True)
    files, problems = data_files(experiment, todo)
    problems += [*folder_problems(experiment), *_disk_problems(experiment, disk)]
    warnings = [*_time_warnings(experiment, total, cores, machine, gpus), *_memory_warnings(memory, machine, together)]
    for rule, amounts in reserved.items():
        peak = max((job_memory(job, experiment) for job in todo if job.rule == rule), default=0.0)
        if peak > amounts["mem_mb"] * 1e6:
            warnings.append(
                f"memory: {rule} reserves {_size(amounts['mem_mb'] * 1e6)} but takes about {_size(peak)}, so that a "
                f"cluster would end it; --set-resources {rule}:mem_mb={round(peak * 1.3 / 1e6)}"
            )
    if memory and memory[0][0] > machine.memory:
        problems.append(
            f"memory: {memory[0][1]} alone takes about {_size(memory[0][0])}, there are {_size(machine.memory)}; "
            "lower its batch_size or width"
        )
    if begun := [job for job in todo if job.phase and (job.path / f".phase{job.phase}.checkpoint").is_file()]:
        warnings.append(f"trainings that go on from a checkpoint, but are counted from their first epoch: {len(begun)}")
    device = f"{len(gpus)} GPU ({gpus[0]})" if gpus else "no GPU that PyTorch finds"
    cluster = "sbatch is there" if shutil.which("sbatch") else "no sbatch"
    summary = [
        (
            "time",
            f"at least about {_duration(total)} with --cores {cores}, {_duration(sum(seconds.values()))} one job "
            "after the other; downloads not counted",
        ),
        (
            "disk",
            f"{_size(disk['results'])} of results, {_size(disk['data'])} of data, {_size(disk['checkpoints'])} of "
            f"checkpoints in between; free: {_size(_free(experiment.results))}",
        ),
        (
            "memory",
            (f"largest job {_size(memory[0][0])} ({memory[0][1]}); " if memory else "")
            + f"there are {_size(machine.memory)}, available: {_size(machine.available)}",
        ),
        ("device", f"{device}; configured: {experiment.device}"),
        ("machine", f"{machine.cores} cores, load {machine.load:.1f}; {cluster}"),
        *(("" if number else "data", line) for number, line in enumerate(files or ["nothing to download"])),
    ]
    lines = [
        f"{len(todo)} of {len(jobs)} jobs are still to do; results in {experiment.results}, data in {experiment.data}",
        "",
        *_count_table(jobs),
        "",
        *_work_table(experiment, seconds, speeds),
        *(f"{name:9}{text}" for name, text in summary),
    ]
    return Check(lines, warnings, problems)


def _count_table(jobs: Mapping[Job, bool]) -> list[str]:
    rules = {job.rule for job in jobs}
    rules_in_order = [rule for rule in STAGES if rule in rules] + sorted(rules.difference(STAGES))
    counts = {rule: [wanted for job, wanted in jobs.items() if job.rule == rule] for rule in rules_in_order}
    rows = [(rule, str(sum(wanted)), str(len(wanted) - sum(wanted))) for rule, wanted in counts.items()]
    return _aligned([("rule", "to do", "done"), *rows])


def _work_table(experiment: Experiment, seconds: Mapping[Job, float], speeds: Speeds) -> list[str]:
    """Trainings and evaluations, those of all seeds in one line; an empty line behind it where there are any."""
    rows = [("", "seeds", "images in all", "images/s", "time of all seeds", "")]
    for (rule, net, precision), speed in sorted(speeds.images.items(), reverse=True):
        jobs = [job for job in seconds if (job.rule, job.net, job.precision) == (rule, net, precision)]
        rows.append(
            (
                f"{'training' if rule == 'train_phase' else 'evaluation'} {net} {precision}",
                str(len({job.seed for job in jobs})),
                f"{sum(job_images(job, experiment) for job in jobs):,}",
                f"{1 / speed.image:,.3g}" if speed.image > 0.01 else f"{1 / speed.image:,.0f}",
                _duration(sum(seconds[job] for job in jobs)),
                speed.scaled,
            )
        )
    return [*_aligned(rows), ""] if len(rows) > 1 else []


def _time_warnings(
    experiment: Experiment, total: float, cores: int, machine: Machine, gpus: Sequence[str]
) -> Iterator[str]:
    if total > DAY:
        small = any(experiment.definitions[net].dataset == "cifar10" for net in experiment.nets)
        ideas = ["--configfile presets/cifar10_cpu.yaml (a quarter of the width, 12 epochs)"] if small else []
        ideas += [] if gpus else ["a machine with a GPU"]
        ideas += ["a cluster with Slurm (--workflow-profile profiles/slurm)"]
        yield f"at least about {_duration(total)} on this machine; cheaper: {'; '.join(ideas)}"
    if cores > machine.cores:
        yield f"--cores {cores}, but there are {machine.cores}: the estimate counts {machine.cores}"
    if machine.load > 0.5 * machine.cores:
        yield f"the machine is busy (load {machine.load:.1f} on {machine.cores} cores): speeds may be measured low"
    if shutil.which("nvidia-smi") and not gpus and experiment.device != "cpu":
        yield "there is an nvidia-smi, but PyTorch finds no CUDA device: jobs would run on the CPU, one a GPU"


def _memory_warnings(memory: Sequence[tuple[float, str]], machine: Machine, together: int) -> Iterator[str]:
    largest = [size for size, _ in memory[:together]]
    if largest and machine.available < largest[0]:
        yield f"memory: the largest job takes about {_size(largest[0])}, {_size(machine.available)} are available"
    elif machine.available < sum(largest):
        yield (
            f"memory: {len(largest)} jobs side by side take about {_size(sum(largest))}, {_size(machine.available)} "
            f"are available; use fewer --cores, or --resources mem_mb={machine.available // 10**6}"
        )


def folder_problems(experiment: Experiment) -> Iterator[str]:
    """Which of the two folders cannot be written into, and why; nothing is left behind."""
    for name, folder in (("results", experiment.results), ("data", experiment.data)):
        existing = _existing(folder)
        try:
            if not existing.is_dir():
                raise NotADirectoryError(0, f"{existing} is a file")
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            yield f"{name}: nothing can be written into {folder} ({error.strerror or error})"


def _disk_problems(experiment: Experiment, disk: Mapping[str, float]) -> Iterator[str]:
    needs: dict[int, list[tuple[str, float]]] = {}
    results = (experiment.results, disk["results"] + disk["checkpoints"])
    for folder, need in (results, (experiment.data, disk["data"])):
        needs.setdefault(_existing(folder).stat().st_dev, []).append((folder, need))
    for shared in needs.values():
        folder, need = shared[0][0], sum(amount for _, amount in shared)
        if need > _free(folder):
            yield f"disk: {folder} needs {_size(need)}, {_size(_free(folder))} are free"


def data_files(experiment: Experiment, todo: Iterable[Job]) -> tuple[list[str], list[str]]:
    """The files that jobs will download or read: what will happen to each, and what is wrong; no server is asked."""
    lines, problems = [], []
    for dataset in sorted({job.path.name for job in todo if job.rule == "prepare_dataset"}):
        for name, source in experiment.sources[dataset].items():
            state, problem = _look_for(source, Path(experiment.data) / dataset / f"{name}.gz")
            lines.append(f"{dataset}/{name}: {state}")
            problems += [problem] if problem else []
    return lines, problems


def _look_for(source: Source, path: Path) -> tuple[str, str]:
    parts = urlsplit(source.url)
    if path.is_file():
        file, where, problem = path, f"{path} is there", f"{path}: another checksum than the config's; delete it"
    elif parts.scheme == "file":
        file = Path(url2pathname(parts.path))
        where, problem = f"to be copied from {file}", f"{source.url}: another size or checksum than the config's"
    else:
        size = "size unknown" if source.size is None else f"{source.size:,} bytes"
        return f"to be downloaded from {source.url}, {size}", ""
    try:
        if source.size in (None, file.stat().st_size) and file_sha256(file) == source.sha256:
            return f"{where}, its checksum is right", ""
        return where, problem
    except OSError as error:
        return where, f"{source.url if file != path else path}: {error.strerror or error}"


def _existing(folder: Path | str) -> Path:
    """The folder, or the nearest above it that is there."""
    path = Path(folder).absolute()
    # not Path.exists: it raises inside a folder that cannot be entered
    return next(above for above in (path, *path.parents) if os.path.exists(above))  # noqa: PTH110


def _free(folder: str) -> int:
    return int(psutil.disk_usage(str(_existing(folder))).free)


def _duration(seconds: float) -> str:
    return format_duration(seconds) if seconds < 2 * DAY else f"{seconds / DAY:.1f} days"


def _size(size: float) -> str:
    unit, factor = next(((unit, factor) for unit, factor in (("GB", 1e9), ("MB", 1e6)) if size >= factor), ("kB", 1e3))
    return f"{size / factor:.{0 if unit == 'kB' else 1}f} {unit}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of text: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return ["  ".join(row).rstrip() for row in cells]
