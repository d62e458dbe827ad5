"""The jobs of a run, and what each costs: seconds from measured speeds, bytes by rules of thumb (docs/cost.md)."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from itertools import product
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from negspike.config import Experiment
from negspike.data.dataset import validation_images
from negspike.errors import InputError
from negspike.estimate.size import net_size
from negspike.precision import Precision

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
PROCESS, ENGINE = 6.5e8, 1.5e8


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


class Cost(NamedTuple):
    """What one job takes.

    Attributes:
        seconds: on its own.
        memory: peak in bytes: what a Python with PyTorch takes, and the largest arrays.
        results, data: bytes that it writes and that stay.
        checkpoints: bytes beside them while it runs.
        images: that a training shows in all its epochs, or that an evaluation simulates.
    """

    seconds: float
    memory: float = PROCESS
    results: float = 0.0
    data: float = 0.0
    checkpoints: float = 0.0
    images: int = 0


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
    spec = experiment.specs[dataset]
    train, test = STANDARD_IMAGES.get(dataset) or (spec.validation + ASSUMED_IMAGES[0], ASSUMED_IMAGES[1])
    try:
        with np.load(Path(experiment.data) / f"{dataset}.npz") as arrays:
            train, test = len(arrays["train_labels"]), len(arrays["test_labels"])
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        pass  # not there yet, or damaged, which is for the job that reads it to say
    held_out = len(validation_images(spec, train))
    return train - held_out, held_out, test


def job_cost(job: Job, experiment: Experiment, speeds: Speeds) -> Cost:
    """What a job takes; downloads count no time, since nobody knows the network beforehand."""
    if job.rule == "download":
        dataset, file = job.path.parts[-2:]
        return Cost(0.0, data=experiment.sources[dataset][file].size or 0)
    if job.rule == "prepare_dataset":
        pixels = _pixels(job.path.name, experiment)
        return Cost(speeds.startup, PROCESS + 3 * pixels, data=pixels)
    if not job.net:
        return Cost(speeds.startup, results=FIGURE)
    definition, precision = experiment.definitions[job.net], Precision.parse(job.precision)
    size = net_size(definition)
    weights = 4.0 * size.parameters
    if job.rule == "convert":
        return Cost(speeds.startup, results=SMALL_FILES + weights)
    train, held_out, test = image_counts(definition.dataset, experiment)
    # all images, and once more while they are checked; those to test with in float32 and, while prepared, float64
    memory = PROCESS + 2 * _pixels(definition.dataset, experiment)
    memory += 28 * prod(definition.spec.input_shape) * (held_out + test)
    image = speeds.images[job.rule, job.net, job.precision].image
    if job.rule == "train":
        phases = definition.phases(precision)
        shown = train * sum(phase.epochs for phase in phases)
        whole = train * sum(phase.epochs * phase.mean_pixels for phase in phases)  # as if all pixels were in so many
        return Cost(
            speeds.startup + (whole + shown * TEST_SHARE * (held_out + test) / train) * image,
            # weights, gradients and Adam's averages; five float32 for every neuron until its gradient is known
            memory + 16 * size.parameters + 20 * definition.batch_size * size.neurons,
            results=SMALL_FILES + (1 + len(phases) + definition.starts(precision)) * weights,
            checkpoints=2 * 3 * weights,  # with Adam's two averages, the new file beside the old one
            images=shown,
        )
    steps = test * definition.expected_timesteps
    # counts next to those of k = 0, which are 2 or 3
    larger = 1 << precision.k if precision.k is not None else max(1.0, (precision.levels or 0) / 3)
    return Cost(
        speeds.startup + test * image,
        memory + ENGINE + steps * (40 + 16 * size.populations) + 24 * size.parameters,
        results=SMALL_FILES + RECORDED * steps * larger,
        images=test,
    )


def _pixels(dataset: str, experiment: Experiment) -> int:
    """Of the prepared images, a byte each."""
    return sum(image_counts(dataset, experiment)) * prod(experiment.specs[dataset].image_shape)


def total_seconds(costs: Mapping[Job, Cost], threads: Mapping[str, int], cores: int, gpus: int) -> float:
    """The least that jobs take side by side: no core or GPU ever idle, or the jobs of the longest network.

    Args:
        costs: of each job.
        threads: of a training and an evaluation, by rule; other jobs have one.
        cores: that jobs share.
        gpus: that trainings and evaluations share, one for each; 0 where they run on the CPU.
    """
    networks: dict[tuple[str, ...], float] = defaultdict(float)
    for job, cost in costs.items():
        networks[job.net, job.seed, job.precision or str(job.path)] += cost.seconds
    core_seconds = sum(cost.seconds * min(threads.get(job.rule, 1), cores) for job, cost in costs.items())
    gpu_seconds = sum(cost.seconds for job, cost in costs.items() if job.rule in threads)
    return max([core_seconds / cores, gpu_seconds / gpus if gpus else 0.0, *networks.values()])
