"""How fast this machine trains and simulates a net, from a few seconds of measurement on random images.

Nothing is read and nothing is downloaded. What is timed is the code that the real run executes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from negspike.arithmetic import prepare_training
from negspike.config import Experiment
from negspike.console import format_duration
from negspike.data.images import prepare_images
from negspike.data.registry import DatasetSpec
from negspike.devices import choose_device
from negspike.estimate.cost import Job, Speed, Speeds
from negspike.precision import Precision
from negspike.spiking.simulation import make_engine
from negspike.stages.convert import spiking_network
from negspike.stages.run import Run
from negspike.training.layout import quick_layout
from negspike.training.objective import Objective
from negspike.training.phase import train_epoch
from negspike.training.recipes import make_optimizer
from negspike.training.schedule import Phase

PROBE_SECONDS = 10.0
FIRST_BATCH = 16
REPETITIONS = 5
CALIBRATION_IMAGES = 32
# Images that the integer ANN sees at a time: at least so many, and more of a small net.
COMPARED_IMAGES, COMPARED_MACS = 8, 500_000_000
# Seconds that a few images may take; where it would be more, not all time steps are simulated.
LONGEST_SIMULATION = 10.0
# Activations of trained networks have heavy tails, which decide how long a network takes to fall silent: with these,
# a random network keeps its layers busy about as long as trained ones do (docs/cost.md).
CALIBRATED_GAMMA, CALIBRATED_BETA = 1.5, -0.5


def measure(
    experiment: Experiment,
    todo: Collection[Job],
    *,
    threads: Mapping[str, int],
    report: Callable[[str], None],
    seconds: float = PROBE_SECONDS,
) -> Speeds:
    """Time everything that these jobs consist of, on the configured device.

    Args:
        experiment: the configuration.
        todo: the jobs.
        threads: CPU threads of a job, by rule.
        report: takes progress lines.
        seconds: about how long all of it may take. Each net needs a few steps at least, so large ones take longer.

    Raises:
        InputError: the configured device is not there.
    """
    cases = {(job.rule, job.net, job.precision) for job in todo if job.rule in threads}
    if not todo:
        return Speeds(0.0, {})
    device = choose_device(experiment.device)
    report(f"measuring for about {format_duration(seconds)} on {device.type}")
    modules = "import negspike.stages.train, negspike.stages.evaluate"
    startup = timed(lambda: subprocess.run([sys.executable, "-c", modules], check=True))
    speeds: dict[tuple[str, str, str], Speed] = {}
    for rule, net, precision in sorted(cases):
        finer = [key for key in speeds if key[:2] == ("train", net) and "fp32" not in (key[2], precision)]
        if rule == "train" and finer:  # quantised networks take equally long, whatever they are quantised to
            speeds[rule, net, precision] = speeds[finer[0]]
            continue
        case = training_speed if rule == "train" else evaluation_speed
        share = seconds / len(cases)
        speeds[rule, net, precision] = case(
            experiment, net, precision, device=device, threads=threads[rule], seconds=share
        )
    return Speeds(startup, speeds)


def training_speed(
    experiment: Experiment, net: str, precision: str, *, device: torch.device, threads: int, seconds: float
) -> Speed:
    """Time training steps of a net, with full batches where there is time for them."""
    prepare_training(threads)
    definition = experiment.definitions[net]
    spec, full = definition.spec, definition.batch_size
    network = run_of(experiment, net, precision).network()
    network.to(device, memory_format=quick_layout(network))  # type: ignore[call-overload]
    pixels = torch.from_numpy(random_pixels(spec, full)).to(device)
    labels = torch.arange(full, device=device) % spec.classes
    # of the phase that takes most of the epochs: its recipe, its teacher, its penalty
    phases = definition.phases(Precision.parse(precision))
    usual = max(phases, key=lambda phase: phase.epochs, default=Phase(1, 1, 1e-3, full))
    teacher = run_of(experiment, net, "fp32").network().to(device) if usual.distillation else None
    optimizer = make_optimizer(network, replace(usual, learning_rate=1e-3))
    random = torch.Generator().manual_seed(0)

    def train(count: int) -> None:
        phase = replace(usual, number=1, epochs=1, learning_rate=1e-3, batch_size=count, initial_resolution=1.0)
        objective, shown = Objective(network, phase, teacher, spec.input_shape), (pixels[:count], labels[:count], None)
        # it gives the loss as a number, so a GPU has finished
        train_epoch(objective, spec, shown, optimizer, random, lambda *_: None)

    image, batch = seconds_per_image(train, min(FIRST_BATCH, full), full, seconds)
    return Speed(image, "" if batch == full else f"from batches of {batch} instead of {full}")


def evaluation_speed(
    experiment: Experiment, net: str, precision: str, *, device: torch.device, threads: int, seconds: float
) -> Speed:
    """Time the simulation of a net with random weights, and the integer ANN that it is compared with."""
    torch.set_num_threads(threads)
    definition = experiment.definitions[net]
    spec, timesteps = definition.spec, definition.expected_timesteps
    images = prepare_images(spec, random_pixels(spec, CALIBRATION_IMAGES))
    run = run_of(experiment, net, precision)
    network = spiking_network(run, calibrated_network(run, torch.from_numpy(images)))
    engine = make_engine(network, experiment.evaluation.engine, threads=threads, device=experiment.device)
    several = np.resize(images, (max(engine.chunk_size, threads, COMPARED_IMAGES), *images.shape[1:]))
    encoded = network.encode(several)
    engine.run(encoded[:threads], 1)  # compiles
    step = timed(lambda: engine.run(encoded[:threads], 1))
    # later steps are cheaper where neurons have fallen silent, so all of them are simulated unless it takes too long
    steps = max(1, min(timesteps, int(LONGEST_SIMULATION / step)))
    image, _ = seconds_per_image(lambda count: engine.run(encoded[:count], steps), threads, len(encoded), seconds)
    together = max(COMPARED_IMAGES, min(len(several), COMPARED_MACS // max(1, network.macs)))
    compared, _ = seconds_per_image(lambda count: network.activations(several[:count]), together, together, seconds / 4)
    note = "" if steps == timesteps else f"from {steps} of {timesteps} steps"
    return Speed(image * timesteps / steps + compared, note)


def random_pixels(spec: DatasetSpec, count: int) -> np.ndarray:
    """Random images as a dataset stores them, (count, C, H, W) uint8."""
    return np.random.default_rng(0).integers(0, min(spec.levels, 255) + 1, (count, *spec.image_shape), dtype=np.uint8)


def run_of(experiment: Experiment, net: str, precision: str) -> Run:
    """The first of the networks that are trained."""
    definition, quantised = experiment.definitions[net], Precision.parse(precision).kind != "fp32"
    bits = 24 if definition.model else experiment.weight_bits
    return Run(net, definition.science(), 0, precision, bits if quantised else None)


def calibrated_network(run: Run, images: torch.Tensor) -> nn.Module:
    """A network with random weights whose batch norms have the statistics of ``images``, so that it fires."""
    network = replace(run, precision="fp32", weight_bits=None).network()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over what it sees, not a running one
            nn.init.constant_(module.weight, CALIBRATED_GAMMA)
            nn.init.constant_(module.bias, CALIBRATED_BETA)
    network.train()
    with torch.no_grad():
        network(images)
    return run.from_fp32(network.eval(), images)


def seconds_per_image(run: Callable[[int], object], smallest: int, full: int, seconds: float) -> tuple[float, int]:
    """Time ``run(count)`` with more and more images, up to ``full``, as far as there is time.

    Returns:
        Seconds per image of the largest count that was timed, and that count.
    """

    def spend() -> float:
        run(count)  # libraries prepare themselves for each size
        return timed(lambda: run(count))

    deadline = time.perf_counter() + seconds
    count = smallest
    spent = spend()
    while count < full and time.perf_counter() + 2 * spent * min(4, full / count) < deadline:
        count = min(4 * count, full)
        spent = spend()
    for _ in range(REPETITIONS):
        if time.perf_counter() + 2 * spent < deadline:
            spent = min(spent, spend())  # what disturbs only ever makes it longer
    return spent / count, count


def timed(run: Callable[[], object]) -> float:
    """Seconds that a call takes; what is called gives numbers in main memory, so a GPU has finished."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
