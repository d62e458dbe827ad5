"""The jobs of a run, and what each costs: seconds from measured speeds, bytes by rules of thumb (docs/cost.md)."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import product
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from negspike.config import Experiment
from negspike.errors import InputError
from negspike.estimate.size import net_size
from negspike.precision import Precision
from negspike.training.schedule import Phase

STAGES = ("download", "prepare_dataset", "train", "convert", "evaluate")
SUMMARY_COLUMNS = ("output_file", "rule", "plan")
_NETWORK = re.compile(r"([^/]+)/(seed\d+)/(fp32|k\d|levels\d+)/[^/]*")
# Training images, held-out ones included, and test images of the official archives.
STANDARD_IMAGES = {
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "digits": (1_438, 359),
    "fashion_mnist": (60_000, 10_000),
    "mnist": (60_000, 10_000),
    "svhn": (73_257, 26_032),
}
ASSUMED_IMAGES = (50_000, 10_000)  # of other data, until they are prepared
# A forward pass is about a third of a training step.
TEST_SHARE = 1 / 3
# Bytes, measured on finished runs: a job's log, benchmark and small tables; a figure in all its formats; what an
# evaluation keeps of an image and time step at k = 0, twice as much for every k.
SMALL_FILES, FIGURE, RECORDED = 5e3, 2.2e5, 1.3
# Bytes that Python with PyTorch takes before any image is read, and that an engine takes for the images it simulates.
PROCESS, ENGINE = 3e8, 2e8


class Job(NamedTuple):
    """One job of the workflow: its rule, the file or folder it makes, and the network it is about, if any."""

    rule: str
    path: Path
    net: str = ""
    seed: str = ""
    precision: str = ""


class Speed(NamedTuple):
    """Seconds an image takes, in a training or simulated to the end; in words, from what smaller case if from one."""

    image: float
    scaled: str = ""


class Speeds(NamedTuple):
    """Seconds until a job has started; speeds by rule (``train`` or ``evaluate``), net and precision."""

    startup: float
    images: Mapping[tuple[str, str, str], Speed]


def read_plan(summary: str) -> dict[Job, bool]:
    """The jobs in what ``snakemake --summary`` prints, and whether each is still to do.

    Raises:
        InputError: it is not a table as expected, separated by tabs, one line for every file that a job writes.
    """
    header, *lines = summary.splitlines() or [""]
    names = header.split("\t")
    if not set(SUMMARY_COLUMNS) <= set(names):
        raise InputError(f"snakemake --summary gives {header[:60]!r}: expected columns {', '.join(SUMMARY_COLUMNS)}")
    jobs: dict[Job, bool] = {}
    for line in lines:
        row = dict(zip(names, line.split("\t"), strict=True))
        if row["rule"] == "evaluate_shard":  # `evaluate` stands for all of them
            continue
        path = Path(row["output_file"])
        path = path.with_name("table") if row["rule"] == "table" else path  # a job with several files
        found = _NETWORK.fullmatch("/".join(path.parts[-4:])) if row["rule"] in STAGES else None
        job = Job(row["rule"], path.with_suffix(""))
        if found:
            job = Job(row["rule"], path.parent, *found.groups())
        jobs[job] = jobs.get(job, False) or row["plan"] != "no update"
    return jobs


def experiment_jobs(experiment: Experiment) -> list[Job]:
    """The trainings, conversions and evaluations of a whole experiment, and the preparation of its data."""
    data = sorted({experiment.definitions[net].dataset for net in experiment.nets})
    jobs = [Job("prepare_dataset", Path(experiment.data) / dataset) for dataset in data]
    for net, seed in product(experiment.nets, experiment.seeds):
        definition = experiment.definitions[net]
        for precision in (Precision("fp32"), *definition.quantization):
            folder = Path(experiment.results) / net / f"seed{seed}" / precision.name
            about = (folder, net, f"seed{seed}", precision.name)
            rules = ("train",) if precision.kind == "fp32" else ("train", "convert", "evaluate")
            jobs += [Job(rule, *about) for rule in rules]
    return jobs


def image_counts(dataset: str, experiment: Experiment) -> tuple[int, int, int]:
    """Training, held-out and test images: of the prepared file where there is one, else of the official archives.

    Of other data, as long as they are not prepared, ASSUMED_IMAGES.
    """
    train, test = STANDARD_IMAGES.get(dataset, ASSUMED_IMAGES)
    try:
        with np.load(Path(experiment.data) / f"{dataset}.npz") as arrays:
            train, test = len(arrays["train_labels"]), len(arrays["test_labels"])
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        pass  # not there yet, or damaged, which is for the job that reads it to say
    held_out = min(experiment.specs[dataset].validation, train // 6)
    return train - held_out, held_out, test


def job_images(job: Job, experiment: Experiment) -> int:
    """Images that a training shows in all its epochs, or that an evaluation simulates."""
    definition = experiment.definitions[job.net]
    train, _, test = image_counts(definition.dataset, experiment)
    return train * sum(phase.epochs for phase in _phases(job, experiment)) if job.rule == "train" else test


def _phases(job: Job, experiment: Experiment) -> tuple[Phase, ...]:
    return experiment.definitions[job.net].phases(Precision.parse(job.precision))


def job_seconds(job: Job, experiment: Experiment, speeds: Speeds) -> float:
    """How long a job takes on its own; downloads count nothing, since nobody knows the network beforehand."""
    if job.rule not in ("train", "evaluate"):
        return 0.0 if job.rule == "download" else speeds.startup
    images = float(job_images(job, experiment))
    if job.rule == "train":
        train, held_out, test = image_counts(experiment.definitions[job.net].dataset, experiment)
        images *= 1 + TEST_SHARE * (held_out + test) / train
    return speeds.startup + images * speeds.images[job.rule, job.net, job.precision].image


def total_seconds(seconds: Mapping[Job, float], threads: Mapping[str, int], cores: int, gpus: int) -> float:
    """The least that jobs take side by side: no core or GPU ever idle, or the jobs of the longest network.

    Args:
        seconds: of each job on its own.
        threads: of a training and an evaluation, by rule; other jobs have one.
        cores: that jobs share.
        gpus: that trainings and evaluations share, one for each; 0 where they run on the CPU.
    """
    networks: dict[tuple[str, ...], float] = defaultdict(float)
    for job, spent in seconds.items():
        networks[job.net, job.seed, job.precision or str(job.path)] += spent
    core_seconds = sum(spent * min(threads.get(job.rule, 1), cores) for job, spent in seconds.items())
    gpu_seconds = sum(spent for job, spent in seconds.items() if job.rule in threads)
    return max([core_seconds / cores, gpu_seconds / gpus if gpus else 0.0, *networks.values()])


def disk_bytes(todo: Iterable[Job], experiment: Experiment, trainings: int) -> tuple[float, float, float]:
    """Bytes that jobs write: results and data, which stay, and checkpoints of so many trainings at once."""
    results = data = 0.0
    states = []
    for job in todo:
        if job.rule == "download":
            data += experiment.sources[job.path.parts[-2]][job.path.parts[-1]].size or 0
        elif job.rule == "prepare_dataset":
            data += _stored(job.path.name, experiment)
        elif not job.net:
            results += FIGURE
        else:
            results += SMALL_FILES
            definition = experiment.definitions[job.net]
            weights = 4.0 * net_size(definition).parameters
            if job.rule == "convert":
                results += weights
            if job.rule == "train":
                kept = len(_phases(job, experiment)) + definition.starts(Precision.parse(job.precision))
                results += (1 + kept) * weights
                states.append(2 * 3 * weights)  # with Adam's two averages, the new file beside the old one
            if job.rule == "evaluate":
                steps = job_images(job, experiment) * definition.expected_timesteps
                results += RECORDED * steps * _counts(job.precision)
    return results, data, sum(sorted(states)[-trainings:])


def _counts(precision: str) -> float:
    """How large counts become, next to those of k = 0, where they are 2 or 3."""
    found = Precision.parse(precision)
    return float(1 << found.k) if found.k is not None else max(1.0, (found.levels or 0) / 3)


def _stored(dataset: str, experiment: Experiment) -> int:
    """Bytes of the prepared images."""
    return sum(image_counts(dataset, experiment)) * prod(experiment.specs[dataset].image_shape)


def job_memory(job: Job, experiment: Experiment) -> float:
    """Peak memory of a job in bytes: what a Python with PyTorch takes, and the largest arrays."""
    if job.rule == "prepare_dataset":
        return PROCESS + 3 * _stored(job.path.name, experiment)
    if job.rule not in ("train", "evaluate"):
        return PROCESS
    definition = experiment.definitions[job.net]
    size, (_, held_out, test) = net_size(definition), image_counts(definition.dataset, experiment)
    # all images, and once more while they are checked; those to test with in float32 and, while prepared, float64
    images = 2 * _stored(definition.dataset, experiment) + 28 * prod(definition.spec.input_shape) * (held_out + test)
    if job.rule == "train":
        # weights, gradients and Adam's averages; five float32 for every neuron until its gradient is known
        batch = definition.batch_size
        return PROCESS + images + 16 * size.parameters + 20 * batch * size.neurons
    recorded = test * definition.expected_timesteps * (40 + 16 * size.populations)
    return PROCESS + images + ENGINE + recorded + 24 * size.parameters
