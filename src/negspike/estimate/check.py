"""What a run would cost on this machine, and whether it would go through: the table behind ``snakemake check``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from negspike.config import Experiment
from negspike.console import format_duration
from negspike.devices import choose_device
from negspike.estimate.cost import (
    Disk,
    Speeds,
    disk_use,
    epoch_seconds,
    image_counts,
    job_memory,
    job_seconds,
)
from negspike.estimate.machine import DataFile, Machine, cannot_write, existing_folder, free_bytes, look_for
from negspike.estimate.plan import Job, Limits, Resources, count_jobs, schedule, side_by_side
from negspike.estimate.probe import measure_evaluation, measure_startup, measure_training

PROBE_SECONDS = 10.0
DAY = 86_400.0


@dataclass(frozen=True)
class Check:
    """The result.

    Attributes:
        lines: the table, as text.
        warnings: what to think about before starting.
        problems: what will make the run fail.
        seconds: how long the run takes, downloads not counted.
        disk: what it writes.
    """

    lines: list[str]
    warnings: list[str]
    problems: list[str]
    seconds: float
    disk: Disk

    def text(self) -> str:
        """Everything, as lines for a terminal or a file."""
        remarks = [*(f"warning: {line}" for line in self.warnings), *(f"PROBLEM: {line}" for line in self.problems)]
        return "\n".join([*self.lines, *([""] if remarks else []), *remarks]) + "\n"


def check(
    experiment: Experiment,
    jobs: Sequence[Job],
    resources: Mapping[str, Resources],
    limits: Limits,
    machine: Machine,
    speeds: Speeds,
) -> Check:
    """Put plan, speeds and machine together.

    Args:
        experiment: the configuration.
        jobs: the plan, what is done included.
        resources: what a job of each rule reserves.
        limits: what Snakemake may use at once.
        machine: what there is.
        speeds: what :func:`measure` gave.
    """
    todo = [job for job in jobs if job.todo]
    # more cores than there are make nothing faster
    real = replace(limits, cores=min(limits.cores, machine.cores))
    seconds = {job: job_seconds(job, experiment, speeds) for job in todo}
    total = schedule(jobs, seconds, resources, real, experiment)
    together = side_by_side("train_phase", resources, real)
    disk = disk_use(jobs, experiment, together)
    files = _data_files(experiment, jobs)
    warnings, problems = _remarks(experiment, todo, resources, limits, machine, total, disk, files, together)
    trainings = _training_table(experiment, todo, seconds, speeds)
    evaluations = _evaluation_table(experiment, todo, seconds, speeds)
    lines = [
        f"{len(todo)} of {len(jobs)} jobs are still to do; results in {experiment.results}, data in {experiment.data}",
        "",
        *_aligned([("rule", "to do", "done"), *((rule, *map(str, count)) for rule, count in count_jobs(jobs).items())]),
        "",
    ]
    lines += [*trainings, ""] if trainings else []
    lines += [*evaluations, ""] if evaluations else []
    lines += _aligned(
        _summary(experiment, todo, limits, machine, seconds, total, disk, files, together, speeds), right=False
    )
    return Check(lines, warnings, problems, total, disk)


def measure(
    experiment: Experiment,
    jobs: Sequence[Job],
    resources: Mapping[str, Resources],
    limits: Limits,
    report: Callable[[str], None],
    seconds: float = PROBE_SECONDS,
) -> Speeds:
    """Time everything that the jobs still to do consist of, on the configured device.

    Args:
        experiment: the configuration.
        jobs: the plan; nets that are finished are not timed.
        resources: what a job of each rule reserves; its threads are used, as many as there may be.
        limits: what Snakemake may use at once.
        report: takes progress lines.
        seconds: about how long all of it may take. Each net needs a few steps at least, so that large ones take
            longer.

    Raises:
        InputError: the configured device is not there.
    """
    todo = [job for job in jobs if job.todo]
    if not todo:
        return Speeds(0.0, {}, {})
    device = choose_device(experiment.device)
    threads = {rule: min(reserved.threads, limits.cores) for rule, reserved in resources.items()}
    trainings, levels = set(), {net: set[int]() for net in experiment.nets}
    for job in todo:
        if job.rule == "train_phase":
            trainings.add((job["net"], job["precision"] != "fp32"))
        elif job.rule == "evaluate":
            levels[job["net"]].add(int(job["k"]))
    evaluations = {net: sorted(found) for net, found in levels.items() if found}
    share = seconds / max(len(trainings) + len(evaluations), 1)
    report(f"measuring for about {format_duration(seconds)} on {device.type}")
    training = {}
    for net, quantised in sorted(trainings):
        training[net, quantised] = measure_training(
            experiment.definitions[net],
            max(experiment.k) if quantised else None,
            experiment.weight_bits,
            device,
            threads["train_phase"],
            share,
        )
    evaluation = {
        net: measure_evaluation(
            experiment.definitions[net],
            found,
            experiment.weight_bits,
            experiment.engine,
            experiment.device,
            threads["evaluate"],
            share,
        )
        for net, found in evaluations.items()
    }
    return Speeds(measure_startup(), training, evaluation)


def _data_files(experiment: Experiment, jobs: Sequence[Job]) -> list[DataFile]:
    """The files that jobs still to do will download or read."""
    return [
        look_for(f"{dataset}/{file}", source, Path(experiment.data) / dataset / f"{file}.gz")
        for dataset in sorted({job["dataset"] for job in jobs if job.rule == "prepare_dataset" and job.todo})
        for file, source in experiment.sources[dataset].items()
    ]


def _training_table(
    experiment: Experiment, todo: Sequence[Job], seconds: Mapping[Job, float], speeds: Speeds
) -> list[str]:
    rows = [("training", "seeds", "epochs", "images an epoch", "images in all", "s an epoch", "time of all seeds")]
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in todo:
        if job.rule == "train_phase":
            groups.setdefault((job["net"], job["precision"]), []).append(job)
    for net, precision in sorted(groups, key=lambda key: (experiment.nets.index(key[0]), key[1] != "fp32", key[1])):
        jobs, definition = groups[net, precision], experiment.definitions[net]
        images = image_counts(definition.dataset, experiment.data)
        epochs = sum(definition.phases[int(job["phase"]) - 1].epochs for job in jobs)
        epoch = epoch_seconds(definition, speeds.training[net, precision != "fp32"], images)
        rows.append(
            (
                f"{net} {precision}",
                str(len({job["seed"] for job in jobs})),
                f"{epochs:,}",
                f"{images[0]:,}",
                f"{epochs * images[0]:,}",
                f"{epoch:,.3g}" if epoch < 100 else f"{epoch:,.0f}",
                _duration(sum(seconds[job] for job in jobs)),
            )
        )
    return _aligned(rows) if len(rows) > 1 else []


def _evaluation_table(
    experiment: Experiment, todo: Sequence[Job], seconds: Mapping[Job, float], speeds: Speeds
) -> list[str]:
    rows = [("evaluation", "seeds", "test images", "steps", "engine", "images/s", "time of all seeds")]
    for net in experiment.nets:
        for k in experiment.k:
            jobs = [job for job in todo if job.rule == "evaluate" and (job["net"], job["k"]) == (net, str(k))]
            if not jobs:
                continue
            definition, speed = experiment.definitions[net], speeds.evaluation[net]
            test = image_counts(definition.dataset, experiment.data)[2]
            rate = 1 / speed.image[k]
            row = (f"{net} k{k}", str(len(jobs)), f"{test:,}", str(definition.timesteps), speed.engine)
            rows.append(
                (*row, f"{rate:,.3g}" if rate < 100 else f"{rate:,.0f}", _duration(sum(seconds[job] for job in jobs)))
            )
    return _aligned(rows) if len(rows) > 1 else []


def _summary(
    experiment: Experiment,
    todo: Sequence[Job],
    limits: Limits,
    machine: Machine,
    seconds: Mapping[Job, float],
    total: float,
    disk: Disk,
    files: Sequence[DataFile],
    together: int,
    speeds: Speeds,
) -> list[tuple[str, ...]]:
    device = f"{len(machine.gpus)} GPU ({machine.gpus[0]})" if machine.gpus else "no GPU that PyTorch finds"
    training = any(job.rule == "train_phase" for job in todo)
    rows: list[tuple[str, ...]] = [
        (
            "time",
            f"about {_duration(total)} with --cores {limits.cores}"
            + (f", {together} training{'s' * (together > 1)} at a time" if training else "")
            + f" ({_duration(sum(seconds.values()))} of jobs one after the other; downloads not counted)",
        )
    ]
    partial = sorted(
        f"{net} {speed.measured_batch} of {experiment.definitions[net].phases[0].batch_size}"
        for (net, _), speed in speeds.training.items()
        if speed.measured_batch < experiment.definitions[net].phases[0].batch_size
    )
    if partial:
        rows.append(("", f"from smaller batches than configured, images: {', '.join(dict.fromkeys(partial))}"))
    rows.append(
        (
            "disk",
            f"{_size(disk.results)} of results, {_size(disk.data)} of data, {_size(disk.checkpoints)} of checkpoints"
            f" in between; free: {_size(free_bytes(experiment.results))}",
        )
    )
    if todo:
        peak, job = _largest(experiment, todo)
        rows.append(
            (
                "memory",
                f"largest job {_size(peak)} ({_name(job)}); "
                f"machine: {_size(machine.memory)}, available: {_size(machine.available)}",
            )
        )
    rows.append(("device", f"{device}; configured: {experiment.device}"))
    load = "" if machine.load is None else f", load {machine.load:.1f}"
    rows.append(("machine", f"{machine.cores} cores{load}; {'sbatch is there' if machine.cluster else 'no sbatch'}"))
    rows += [("data" if number == 0 else "", f"{file.name}: {file.state}") for number, file in enumerate(files)]
    if not files:
        rows.append(("data", "nothing to download"))
    return rows


def _remarks(
    experiment: Experiment,
    todo: Sequence[Job],
    resources: Mapping[str, Resources],
    limits: Limits,
    machine: Machine,
    total: float,
    disk: Disk,
    files: Sequence[DataFile],
    together: int,
) -> tuple[list[str], list[str]]:
    """Warnings and problems, one line each."""
    warnings: list[str] = []
    problems = [file.problem for file in files if file.problem]
    problems += folder_problems(experiment)
    problems += _disk_problems(experiment, disk)
    if total > DAY:
        warnings.append(
            f"about {_duration(total)} on this machine; cheaper: {'; '.join(_cheaper(experiment, machine))}"
        )
    if limits.cores > machine.cores:
        warnings.append(f"--cores {limits.cores}, but there are {machine.cores}: the estimate counts {machine.cores}")
    if machine.load is not None and machine.load > 0.5 * machine.cores:
        warnings.append(
            f"the machine is busy (load {machine.load:.1f} on {machine.cores} cores), so the speeds may be measured low"
        )
    if machine.driver and not machine.gpus and experiment.device != "cpu":
        warnings.append(
            "there is an nvidia-smi, but PyTorch finds no CUDA device: jobs would run on the CPU, one a GPU"
        )
    warnings += _memory_warnings(experiment, todo, resources, machine, together)
    if todo:
        peak, job = _largest(experiment, todo)
        if machine.memory is not None and peak > machine.memory:
            problems.append(
                f"memory: {_name(job)} alone takes about {_size(peak)}, the machine has {_size(machine.memory)};"
                " lower its batch_size or width"
            )
    checkpoints = [job for job in todo if job.rule == "train_phase" and _checkpoint(experiment, job).is_file()]
    if checkpoints:
        warnings.append(
            f"trainings that go on from a checkpoint, but are counted from their first epoch: {len(checkpoints)}"
        )
    return warnings, problems


def folder_problems(experiment: Experiment) -> list[str]:
    """Which of the two folders cannot be written into, and why."""
    reasons = {
        f"{name}: nothing can be written into {folder}": cannot_write(folder)
        for name, folder in (("results", experiment.results), ("data", experiment.data))
    }
    return [f"{problem} ({reason})" for problem, reason in reasons.items() if reason]


def _disk_problems(experiment: Experiment, disk: Disk) -> list[str]:
    needs = {experiment.results: disk.results + disk.checkpoints, experiment.data: disk.data}
    devices: dict[int, float] = {}
    folders: dict[int, str] = {}
    for folder, need in needs.items():
        device = existing_folder(folder).stat().st_dev
        devices[device] = devices.get(device, 0.0) + need
        folders.setdefault(device, folder)
    return [
        f"disk: {folders[device]} needs {_size(need)}, {_size(free_bytes(folders[device]))} are free"
        for device, need in devices.items()
        if need > free_bytes(folders[device])
    ]


def _memory_warnings(
    experiment: Experiment,
    todo: Sequence[Job],
    resources: Mapping[str, Resources],
    machine: Machine,
    together: int,
) -> list[str]:
    if not todo:
        return []
    warnings = []
    needs = sorted((job_memory(job, experiment) for job in todo), reverse=True)
    total = sum(needs[:together])
    if machine.available is not None and together > 1 and total > machine.available >= needs[0]:
        warnings.append(
            f"memory: {together} jobs side by side take about {_size(total)}, {_size(machine.available)} are "
            f"available; use fewer --cores, or --resources mem_mb={machine.available // 10**6}"
        )
    elif (
        machine.available is not None and machine.memory is not None and machine.available < needs[0] <= machine.memory
    ):
        warnings.append(
            f"memory: the largest job takes about {_size(needs[0])}, {_size(machine.available)} are available"
        )
    for rule in ("train_phase", "evaluate"):
        peaks = [job_memory(job, experiment) for job in todo if job.rule == rule]
        reserved = resources[rule].memory_mb * 1e6
        if peaks and max(peaks) > reserved:
            warnings.append(
                f"memory: {rule} reserves {_size(reserved)} but takes about {_size(max(peaks))}, so that a cluster "
                f"would end it; --set-resources {rule}:mem_mb={round(max(peaks) * 1.3 / 1e6)}"
            )
    return warnings


def _cheaper(experiment: Experiment, machine: Machine) -> list[str]:
    ideas = []
    if any(experiment.definitions[net].dataset == "cifar10" for net in experiment.nets):
        ideas.append("--configfile presets/cifar10_cpu.yaml (a quarter of the width, 12 epochs)")
    if not machine.gpus:
        ideas.append("a machine with a GPU")
    ideas.append(
        "the cluster (--profile profiles/slurm)"
        if machine.cluster
        else "a cluster with Slurm (--profile profiles/slurm)"
    )
    return ideas


def _largest(experiment: Experiment, todo: Sequence[Job]) -> tuple[float, Job]:
    return max(((job_memory(job, experiment), job) for job in todo), key=lambda pair: pair[0])


def _checkpoint(experiment: Experiment, job: Job) -> Path:
    folder = Path(experiment.results) / job["net"] / f"seed{job['seed']}" / job["precision"]
    return folder / f".phase{job['phase']}.checkpoint"


def _name(job: Job) -> str:
    return " ".join([job.rule, *(f"{name}={value}" for name, value in job.wildcards)])


def _duration(seconds: float) -> str:
    return format_duration(seconds) if seconds < 2 * DAY else f"{seconds / DAY:.1f} days"


def _size(size: float | None) -> str:
    if size is None:
        return "unknown"
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _aligned(rows: Sequence[Sequence[str]], right: bool = True) -> list[str]:
    """Columns of text: the first to the left, the others to the right unless ``right`` is false."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if right and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
