"""What a job costs: seconds from measured speeds, disk and memory from shapes and file formats."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, log10, prod
from pathlib import Path

import numpy as np

from negspike.config import Definition, Experiment
from negspike.data.registry import DATASETS, dataset_spec
from negspike.estimate.plan import Job
from negspike.estimate.probe import EvaluationSpeed, TrainingSpeed
from negspike.spiking.dense import CHUNK_BYTES, LARGEST_CHUNK
from negspike.training.topology import Topology

# Training images, held-out ones included, and test images of the official archives.
STANDARD_IMAGES = {"cifar10": (50_000, 10_000), "fashion_mnist": (60_000, 10_000), "digits": (1_438, 359)}
# Measured on finished runs (docs/cost.md).
TENSOR_OVERHEAD = 450  # bytes that a file of weights spends on each tensor beside its numbers
ARRAY_OVERHEAD = 270  # the same for each array of an .npz
LOG_BYTES = 1_000  # log and benchmark of one job
HISTORY_BYTES = 160  # one epoch: its line in two tables and in the log
FIGURE_BYTES, CURVE_BYTES = 110_000, 27_000  # one figure in all its formats, and each network drawn in it
EVALUATION_BYTES, EVALUATION_GROWTH = 0.9, 1.7  # evaluation.npz an image and time step at k = 0, more for each k
PROCESS_BYTES = 300e6  # Python with PyTorch and an optimiser, before any image is read


@dataclass(frozen=True)
class Speeds:
    """What was measured: seconds until a job has started, and the speed of each net that has something to do.

    Attributes:
        startup: seconds.
        training: by net and whether it is quantised.
        evaluation: by net.
    """

    startup: float
    training: Mapping[tuple[str, bool], TrainingSpeed]
    evaluation: Mapping[str, EvaluationSpeed]


def image_counts(dataset: str, data: Path | str) -> tuple[int, int, int]:
    """Training, held-out and test images: of the prepared file where there is one, else of the official archives."""
    train, test = STANDARD_IMAGES[dataset]
    try:
        with zipfile.ZipFile(Path(data) / f"{dataset}.npz") as archive:
            train, test = (_length(archive, f"{split}_labels.npy") for split in ("train", "test"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        pass  # not there yet, or damaged, which is for the job that reads it to say
    held_out = min(dataset_spec(dataset).validation, train // 6)
    return train - held_out, held_out, test


def _length(archive: zipfile.ZipFile, member: str) -> int:
    with archive.open(member) as stream:
        np.lib.format.read_magic(stream)
        return int(np.lib.format.read_array_header_1_0(stream)[0][0])


def epoch_seconds(definition: Definition, speed: TrainingSpeed, images: tuple[int, int, int]) -> float:
    """One pass over the training images and the tests after it."""
    train, held_out, test = images
    return ceil(train / definition.phases[0].batch_size) * speed.step + (held_out + test) * speed.test_image


def job_seconds(job: Job, experiment: Experiment, speeds: Speeds) -> float:
    """How long a job takes on its own; downloads count nothing, since nobody knows the network beforehand."""
    if job.rule == "download":
        return 0.0
    if job.rule not in ("train_phase", "evaluate"):
        return speeds.startup
    definition = experiment.definitions[job["net"]]
    images = image_counts(definition.dataset, experiment.data)
    if job.rule == "train_phase":
        epochs = definition.phases[int(job["phase"]) - 1].epochs
        speed = speeds.training[job["net"], job["precision"] != "fp32"]
        return speeds.startup + epochs * epoch_seconds(definition, speed, images)
    test = images[2]
    # the float32 ANN predicts every test image as well
    predict = speeds.training.get((job["net"], True))
    ann = test * predict.test_image if predict else 0.0
    return speeds.startup + test * speeds.evaluation[job["net"]].image[int(job["k"])] + ann


@dataclass(frozen=True)
class Disk:
    """Bytes on disk.

    Attributes:
        results: what stays under the results folder.
        data: what stays under the data folder.
        checkpoints: what trainings that run side by side keep in between, new ones beside old ones.
    """

    results: float
    data: float
    checkpoints: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.results + self.data + self.checkpoints


def disk_use(jobs: Iterable[Job], experiment: Experiment, side_by_side: int) -> Disk:
    """What the jobs that are still to do will write.

    Args:
        jobs: of the plan.
        experiment: the configuration.
        side_by_side: how many trainings run at once.
    """
    results = data = 0.0
    checkpoints = []
    for job in jobs:
        if not job.todo:
            continue
        if job.rule == "download":
            data += experiment.sources[job["dataset"]][job["file"]].size or 0
        elif job.rule == "prepare_dataset":
            data += dataset_bytes(job["dataset"])
        else:
            results += result_bytes(job, experiment)
        if job.rule == "train_phase":
            checkpoints.append(2 * checkpoint_bytes(experiment.definitions[job["net"]].topology))
    return Disk(results, data, sum(sorted(checkpoints)[-side_by_side:]))


def dataset_bytes(dataset: str) -> int:
    """The prepared images and labels, one byte each."""
    train, test = STANDARD_IMAGES[dataset]
    return (train + test) * (prod(DATASETS[dataset].image_shape) + 1) + 4 * ARRAY_OVERHEAD


def result_bytes(job: Job, experiment: Experiment) -> float:
    """Everything that a job leaves under the results folder, its log included."""
    if job.rule not in ("train_phase", "summarize_training", "convert", "evaluate"):
        networks = len(experiment.nets) * len(experiment.seeds) * len(experiment.k)
        return LOG_BYTES + (200 * networks if job.rule == "table" else FIGURE_BYTES + CURVE_BYTES * networks)
    definition = experiment.definitions[job["net"]]
    topology = definition.topology
    if job.rule == "train_phase":
        epochs = definition.phases[int(job["phase"]) - 1].epochs
        return LOG_BYTES + weights_bytes(topology) + epochs * HISTORY_BYTES
    if job.rule == "summarize_training":
        return LOG_BYTES + sum(phase.epochs for phase in definition.phases) * HISTORY_BYTES // 2
    if job.rule == "convert":
        return LOG_BYTES + spiking_bytes(topology, experiment.weight_bits)
    test = image_counts(definition.dataset, experiment.data)[2]
    lines = ceil(test / experiment.batch_size) * definition.expected_timesteps
    batch = min(test, experiment.batch_size)
    # one digit for every factor of ten in what a batch counts to in the end, and the line's end
    spikes = batch * topology.neurons * 2 ** int(job["k"]) / 2
    operations = batch * topology.macs * 2 ** int(job["k"]) / 4
    digits = sum(log10(max(number, 10.0)) + 1.5 for number in (batch, spikes, 100 * spikes, operations))
    compressed = min(EVALUATION_BYTES * EVALUATION_GROWTH ** int(job["k"]), 25.0)
    return LOG_BYTES + lines * digits + compressed * test * definition.expected_timesteps


def _weights(topology: Topology) -> int:
    return sum(prod(layer.weight_shape) for layer in topology.layers) + topology.classes * topology.features


def _channels(topology: Topology) -> int:
    return sum(layer.out_shape[0] for layer in topology.layers)


def parameters(topology: Topology) -> int:
    """Trained numbers of a net: weights, and two for each channel's batch norm."""
    return _weights(topology) + 2 * _channels(topology)


def weights_bytes(topology: Topology) -> int:
    """``phase{p}.pt``: float32 parameters, running means and variances."""
    tensors = 1 + 6 * len(topology.layers)
    return 4 * (parameters(topology) + 2 * _channels(topology)) + tensors * TENSOR_OVERHEAD


def checkpoint_bytes(topology: Topology) -> int:
    """The state after an epoch: the weights, and Adam's two averages of each parameter."""
    tensors = 3 * (1 + 3 * len(topology.layers))
    return weights_bytes(topology) + 8 * parameters(topology) + tensors * TENSOR_OVERHEAD


def spiking_bytes(topology: Topology, weight_bits: int) -> int:
    """``spiking.npz``: weights of 2 or 4 bytes; exponent, threshold and base of each channel."""
    arrays = 3 + 4 * len(topology.layers)
    width = 2 if weight_bits <= 16 else 4
    return width * _weights(topology) + 20 * _channels(topology) + arrays * ARRAY_OVERHEAD


def job_memory(job: Job, experiment: Experiment) -> float:
    """Peak memory of a job in bytes, roughly: large arrays only, and what a Python with PyTorch takes."""
    if job.rule == "prepare_dataset":
        return PROCESS_BYTES + 3 * dataset_bytes(job["dataset"])
    if job.rule not in ("train_phase", "convert", "evaluate"):
        return PROCESS_BYTES
    definition = experiment.definitions[job["net"]]
    topology = definition.topology
    if job.rule == "convert":
        return PROCESS_BYTES + 40 * _weights(topology)
    train, held_out, test = image_counts(definition.dataset, experiment.data)
    spec = dataset_spec(definition.dataset)
    pixels = prod(spec.image_shape) * (train + held_out + test) * 2  # in memory, and once more while it is checked
    seen = prod(spec.input_shape)
    largest = max(layer.neurons for layer in topology.layers)
    if job.rule == "train_phase":
        # prepared in float64 or int64, kept in float32
        tested = (held_out + test) * seen * 4 + max(held_out, test) * seen * 24
        state = 4 * 4 * parameters(topology)
        # of each neuron: what the convolution gave, what batch norm made of it, the quantised value; then gradients
        activations = definition.phases[int(job["phase"]) - 1].batch_size * (12 * topology.neurons + 12 * largest)
        return PROCESS_BYTES + pixels + tested + max(state + activations, 500 * 12 * largest)
    chunk = min(max(CHUNK_BYTES // (32 * topology.neurons), 1), LARGEST_CHUNK, test)
    simulated = 40 * topology.neurons * chunk
    # the integer ANN: the first time in float64, whose convolutions unfold their windows, then in float32 parts
    windows = max(prod(layer.weight_shape[1:]) * prod(layer.out_shape[1:]) for layer in topology.layers)
    compared = 8 * topology.neurons * chunk + 8 * (windows + 2 * largest * chunk)
    recorded = test * definition.expected_timesteps * (40 + 16 * len(topology.layers))
    return PROCESS_BYTES + pixels + test * seen * 36 + simulated + compared + recorded + 24 * _weights(topology)
