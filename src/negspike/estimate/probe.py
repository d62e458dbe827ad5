"""How fast this machine trains and simulates a net, from a few seconds of measurement on random images.

Nothing is read and nothing is downloaded. What is timed is the code that the real run executes, on networks of the
configured size; only the number of images is cut down where a full batch would take too long.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from negspike.config import Definition
from negspike.conversion.arrays import from_network
from negspike.data.dataset import Dataset, Images
from negspike.data.images import prepare_images
from negspike.data.registry import DatasetSpec, dataset_spec
from negspike.devices import make_deterministic
from negspike.spiking.dense import DenseEngine
from negspike.spiking.recording import Recording
from negspike.spiking.reference import ReferenceEngine
from negspike.spiking.simulation import Engine, choose_engine, make_engine
from negspike.training.network import Network, predict
from negspike.training.phase import _train_epoch
from negspike.training.schedule import Phase
from negspike.training.topology import Topology, parse_topology

REPETITIONS = 9
PREDICT_BATCH = 500
CALIBRATION_IMAGES = 32
SIMULATED_IMAGES = 8
# A copy of a net with about so many multiply-accumulates tells how many of its layers are busy, and for how long.
SMALL_NET_MACS = 4e6
# Activations of trained networks have heavy tails, which decide how long a network takes to fall silent: with these,
# a random network keeps its layers busy about as long as trained ones do (docs/cost.md).
CALIBRATED_GAMMA, CALIBRATED_BETA = 1.5, -0.5


@dataclass(frozen=True)
class TrainingSpeed:
    """Seconds on this machine.

    Attributes:
        step: of one training step with a full batch.
        test_image: of one image when the network is tested after an epoch.
        measured_batch: images of the largest batch that was timed; the full batch, or fewer for a large net.
    """

    step: float
    test_image: float
    measured_batch: int


@dataclass(frozen=True)
class EvaluationSpeed:
    """Seconds on this machine.

    Attributes:
        image: of one test image over all time steps, with the integer ANN it is compared with; one for each k.
        engine: the engine that was timed.
    """

    image: dict[int, float]
    engine: str


def measure_startup() -> float:
    """Seconds until a job of the workflow has its modules, in a Python of its own."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import negspike.stages.evaluate"], check=True)
    return time.perf_counter() - started


def measure_training(
    definition: Definition, k: int | None, weight_bits: int, device: torch.device, threads: int, seconds: float
) -> TrainingSpeed:
    """Time training steps of a net.

    Args:
        definition: the net; its topology, dataset and batch size count.
        k: None for full precision, else any quantisation level: they take equally long.
        weight_bits: width of the rounded weights.
        device: where to.
        threads: CPU threads of a training job.
        seconds: about how long the measurement may take; steps with 4 and with 16 images are always timed.
    """
    make_deterministic(threads)
    spec = dataset_spec(definition.dataset)
    batch_size = definition.phases[0].batch_size
    network = Network(definition.topology, k, weight_bits)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels, labels = random_pixels(spec, max(batch_size, 2)), np.arange(max(batch_size, 2)) % 10
    images = Images(pixels, labels)
    dataset = Dataset(spec, images, images, images, checksum="")
    on_device, labels_on_device = torch.from_numpy(pixels).to(device), torch.from_numpy(labels).to(device)
    optimizer = torch.optim.Adam(network.parameters())
    random = torch.Generator().manual_seed(0)

    def train(count: int) -> None:
        phase = Phase(1, 1, 1e-3, count)
        _train_epoch(
            network,
            dataset,
            on_device[:count],
            labels_on_device[:count],
            phase,
            optimizer,
            random,
            lambda *_: None,
        )

    step, measured = time_per_batch(train, 4, batch_size, seconds * 0.8, device)
    prepared = torch.from_numpy(prepare_images(spec, random_pixels(spec, PREDICT_BATCH))).to(device)
    prepared = prepared.contiguous(memory_format=torch.channels_last)
    test, _ = time_per_batch(lambda count: predict(network, prepared[:count]), 1, PREDICT_BATCH, seconds * 0.2, device)
    return TrainingSpeed(step, test / PREDICT_BATCH, measured)


def measure_evaluation(
    definition: Definition,
    levels: Sequence[int],
    weight_bits: int,
    engine: str,
    device_name: str,
    threads: int,
    seconds: float,
) -> EvaluationSpeed:
    """Time the simulation of a net with random weights, calibrated so that its neurons fire.

    A few images are simulated by the net itself, for as many steps as there is time for or, where steps without spikes
    cost nothing, for all of them; a narrower copy of it, if it is large, is simulated for all of its steps to find out
    how much work they are for each k.

    Args:
        definition: the net; its topology, dataset and time steps count.
        levels: the quantisation levels k to be evaluated.
        weight_bits: width of the integer weights.
        engine: ``auto`` or the name of one.
        device_name: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads of an evaluation job.
        seconds: about how long the measurement may take.
    """
    torch.set_num_threads(threads)
    topology, timesteps = definition.topology, definition.expected_timesteps
    spec = dataset_spec(definition.dataset)
    images = prepare_images(spec, random_pixels(spec, CALIBRATION_IMAGES))
    network = from_network(calibrated_network(topology, max(levels), weight_bits, images), {})
    name = choose_engine(engine, device_name)
    runner = make_engine(network, name, threads, device_name)
    largest = min(runner.chunk_size, CALIBRATION_IMAGES * (1 + runner.chunk_size // CALIBRATION_IMAGES))
    encoded = network.encode(np.resize(images, (largest, *images.shape[1:])))

    runner.run(encoded[:1], 1)  # compiles, or lets libraries choose their algorithms
    if name == "event":
        # Most of its work is in the first steps and later ones are cheap; images are what its threads share.
        steps = timesteps
        one_image = _timed(lambda: runner.run(encoded[:1], steps))
        count = max(1, min(largest, int(seconds / 2 * threads / one_image)))
    else:
        # one image for two steps: what a step costs, and so how much there is time for
        first = _timed(lambda: runner.run(encoded[:1], 2))
        one_image = first * timesteps / 2
        steps = timesteps if one_image < seconds / 2 else max(2, min(timesteps, int(seconds / 2 / first * 2)))
        count = max(1, min(largest, int(seconds / 2 / (first * steps / 2))))
    if count > 1:
        runner.run(encoded[:count], 1)
    started = time.perf_counter()
    recording = runner.run(encoded[:count], steps)
    spent = time.perf_counter() - started
    rate = spent / max(_work(runner, topology, recording), 1.0)

    compared = min(count, SIMULATED_IMAGES)
    network.activations(images[:compared])  # the first time is compared with float64
    compare = _timed(lambda: network.activations(images[:compared])) / compared
    image = {k: rate * work + compare for k, work in _work_per_image(definition, levels, weight_bits, runner).items()}
    return EvaluationSpeed(image, name)


def random_pixels(spec: DatasetSpec, count: int) -> np.ndarray:
    """Random images as a dataset stores them, (count, C, H, W) uint8."""
    return np.random.default_rng(0).integers(0, min(spec.levels, 255) + 1, (count, *spec.image_shape), dtype=np.uint8)


def calibrated_network(topology: Topology, k: int, weight_bits: int, images: np.ndarray) -> Network:
    """A network with random weights whose batch norms have the statistics of ``images``, so that it fires."""
    network = Network(topology, k, weight_bits)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over what it sees, not a running one
            nn.init.constant_(module.weight, CALIBRATED_GAMMA)
            nn.init.constant_(module.bias, CALIBRATED_BETA)
    network.train()
    with torch.no_grad():
        network(torch.from_numpy(images))
    return network


def time_per_batch(
    run: Callable[[int], object], smallest: int, full: int, seconds: float, device: torch.device
) -> tuple[float, int]:
    """Seconds that ``run(full)`` takes, measured with as many images as there is time for.

    Larger batches are tried until the next one would take too long, two sizes at least; from the last two the full
    batch is extrapolated, since a step has a part that does not depend on the number of images.

    Returns:
        The seconds, and the largest number of images that was timed.
    """
    deadline = time.perf_counter() + seconds
    count, before = min(smallest, full), None
    duration = _repeated(run, count, 1, device)
    while count < full:
        larger = min(4 * count, full)
        # each size once to warm up, since libraries prepare themselves for it, and once for the measurement
        if before is not None and time.perf_counter() + 2 * duration * larger / count > deadline:
            break
        before = (count, duration)
        count, duration = larger, _repeated(run, larger, 1, device)
    repetitions = int(max(0.0, deadline - time.perf_counter()) / max(duration, 1e-6))
    if repetitions > 1:
        duration = _repeated(run, count, min(repetitions, REPETITIONS), device)
    if count == full:
        return duration, count
    assert before is not None
    fewer, faster = before
    # On a busy machine the difference of two times is mostly noise, so the part without images is kept below 30 %.
    slope = min(max((duration - faster) / (count - fewer), 0.7 * duration / count), duration / count)
    return duration + slope * (full - count), count


def _repeated(run: Callable[[int], object], count: int, repetitions: int, device: torch.device) -> float:
    """Median seconds of ``run(count)``, after one run that does not count."""

    def timed() -> float:
        _synchronize(device)
        started = time.perf_counter()
        run(count)
        _synchronize(device)
        return time.perf_counter() - started

    timed()
    return statistics.median(timed() for _ in range(repetitions))


def _timed(run: Callable[[], object]) -> float:
    # an engine returns arrays in main memory, so a GPU has finished
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _work_per_image(
    definition: Definition, levels: Sequence[int], weight_bits: int, runner: Engine
) -> dict[int, float]:
    """The engine's work for one image over all time steps, for each k."""
    topology, spec = definition.topology, dataset_spec(definition.dataset)
    narrow = topology
    if topology.macs > SMALL_NET_MACS:
        width = topology.width * (SMALL_NET_MACS / topology.macs) ** 0.5
        narrow = parse_topology(topology.text, topology.input_shape, topology.padding, width, topology.classes)
    images = prepare_images(spec, random_pixels(spec, CALIBRATION_IMAGES))
    work = {}
    for k in levels:
        network = from_network(calibrated_network(narrow, k, weight_bits, images), {})
        engine = DenseEngine(network, torch.device("cpu"))  # the quickest, and every engine gives the same numbers
        recording = engine.run(network.encode(images[:SIMULATED_IMAGES]), definition.expected_timesteps)
        work[k] = _work(runner, narrow, recording) / SIMULATED_IMAGES * (topology.macs / narrow.macs)
    return work


def _work(runner: Engine, topology: Topology, recording: Recording) -> float:
    """What an engine's time grows with, for all images of a recording.

    The dense engine computes a layer when it or the one before it has just fired, the reference engine always; one
    that follows single spikes does a synaptic operation at a time.
    """
    macs = np.array([layer.macs for layer in topology.layers], np.float64)
    fired = (recording.positive + recording.negative) > 0
    if isinstance(runner, ReferenceEngine):
        return float(fired[..., 0].size * macs.sum())
    if isinstance(runner, DenseEngine):
        again = np.ones_like(fired)
        again[:, 1:] = fired[:, :-1]
        busy = again[..., 1:] | fired[..., :-1]
        return float((busy * macs[1:]).sum() + busy[..., 0].shape[0] * macs[0])
    return float(recording.sops.sum() + len(fired) * macs[0])
