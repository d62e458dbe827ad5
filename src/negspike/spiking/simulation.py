"""Running a spiking network over images with an engine of one's choice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from negspike.console import Progress
from negspike.devices import choose_device
from negspike.errors import InputError
from negspike.spiking.dense import DenseEngine
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.recording import Recording, SimulationLog
from negspike.spiking.reference import ReferenceEngine

ENGINES = ("auto", "reference", "dense", "event")
UNTIL_SILENT = "until_silent"
# Images whose pixels are checked at a time, and seconds between two lines of progress.
CHECKED_IMAGES = 1000
REPORT_SECONDS = 1.0


class Engine(Protocol):
    """What simulates a chunk of images; every engine gives the same integers."""

    chunk_size: int

    def run(self, encoded: np.ndarray, timesteps: int) -> Recording:
        """Simulate (N, C, H, W) int64 images with 16 fractional bits for ``timesteps`` steps."""


def choose_engine(name: str = "auto", device: str = "auto") -> str:
    """The engine that a name stands for: ``auto`` is ``event`` on a CPU and ``dense`` on a GPU.

    Raises:
        InputError: there is no engine or device of that name.
    """
    if name not in ENGINES:
        raise InputError(f"engine {name!r} is unknown: there are {', '.join(ENGINES)}")
    if name != "auto":
        return name
    return "dense" if choose_device(device).type == "cuda" else "event"


def make_engine(
    network: SpikingNetwork, engine: str = "auto", threads: int | None = None, device: str = "auto"
) -> Engine:
    """An engine by name.

    Raises:
        InputError: there is no engine or device of that name, or less than one thread.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}: it must be at least 1")
    chosen = choose_engine(engine, device)
    if chosen == "reference":
        return ReferenceEngine(network)
    if chosen == "dense":
        return DenseEngine(network, choose_device(device), threads)
    from negspike.spiking.event.engine import EventEngine  # the compiler takes a second to import

    return EventEngine(network, threads)


def simulate(
    network: SpikingNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    timesteps: int | str = 100,
    batch_size: int = 50,
    engine: str = "auto",
    threads: int | None = None,
    device: str = "auto",
    on_chunk: Callable[[slice, Recording], None] | None = None,
    report: Callable[[str], None] | None = None,
    timesteps_cap: int = 1000,
) -> SimulationLog:
    """Simulate every image for ``timesteps`` time steps (docs/exactness.md, "The spiking network").

    Args:
        network: the integer spiking network.
        images: (N, C, H, W) standardised floats; rounded to 16 fractional bits.
        labels: (N,) integers.
        timesteps: T; or ``"until_silent"``, as many as it takes until no neuron of any image spikes any more.
        batch_size: images that share one run of lines in the log files. Nothing else depends on it.
        engine: ``"event"`` (CPU), ``"dense"`` (PyTorch), ``"reference"`` (NumPy) or ``"auto"``: ``event`` on a CPU,
            ``dense`` on a GPU. The integers are the same.
        threads: CPU threads; None is every core for ``event`` and PyTorch's setting for ``dense``.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``, for ``dense`` and ``auto``.
        on_chunk: called with the images' slice and their recording after every chunk. The net counts of the chunk
            are dropped afterwards, so that memory does not grow with the neurons of all images.
        report: takes progress lines.
        timesteps_cap: with ``"until_silent"``, simulate no more steps than this.

    Returns:
        The log: per-image and per-layer numbers, and the net counts unless ``on_chunk`` was given.

    Raises:
        InputError: images, labels, time steps or engine do not fit the network.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    until_silent = timesteps == UNTIL_SILENT
    if isinstance(timesteps, str) and not until_silent:
        raise InputError(f"timesteps is {timesteps!r}: it must be a number or {UNTIL_SILENT!r}")
    steps = timesteps_cap if until_silent else int(timesteps)
    if steps < 1 or batch_size < 1:
        raise InputError(f"timesteps is {steps} and batch_size {batch_size}: both must be at least 1")
    largest = [
        np.abs(network.encode(images[first : first + CHECKED_IMAGES])).max(initial=0)
        for first in range(0, max(len(images), 1), CHECKED_IMAGES)
    ]
    if len(images) == 0:
        raise InputError("there is no image to simulate")
    if labels.shape != (len(images),):
        raise InputError(f"{len(images)} images need as many labels, not shape {labels.shape}")
    network.check_potentials(np.array(largest), steps)
    runner = make_engine(network, engine, threads, device)
    logs = []
    progress = Progress(len(images), "images", REPORT_SECONDS)
    for start in range(0, len(images), runner.chunk_size):
        chunk = slice(start, min(start + runner.chunk_size, len(images)))
        recording = runner.run(network.encode(images[chunk]), steps)
        if on_chunk is not None:
            on_chunk(chunk, recording)
            recording.counts = []
        log = SimulationLog.from_recording(recording, labels[chunk], batch_size)
        logs.append(log.until_silent() if until_silent else log)
        if report is not None and (progress.due() or chunk.stop == len(images)):
            report(f"image {chunk.stop}/{len(images)}: {progress.pace(chunk.stop)}")
    return SimulationLog.join(logs)
