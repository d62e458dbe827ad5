"""Running a spiking network over images with an engine of one's choice."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from negspike.console import format_duration
from negspike.devices import choose_device
from negspike.errors import InputError
from negspike.spiking.dense import DenseEngine
from negspike.spiking.network import SpikingNetwork
from negspike.spiking.recorder import Recording, SimulationLog
from negspike.spiking.reference import ReferenceEngine

ENGINES = ("auto", "reference", "dense")


class Engine(Protocol):
    """What simulates a chunk of images; every engine gives the same integers."""

    chunk_size: int

    def run(self, encoded: np.ndarray, timesteps: int) -> Recording:
        """Simulate (N, C, H, W) int64 images with 16 fractional bits for ``timesteps`` steps."""


def choose_engine(name: str = "auto") -> str:
    """The engine that a name stands for: ``auto`` is ``dense``.

    Raises:
        InputError: there is no engine of that name.
    """
    if name not in ENGINES:
        raise InputError(f"engine {name!r} is unknown: there are {', '.join(ENGINES)}")
    return "dense" if name == "auto" else name


def make_engine(
    network: SpikingNetwork, engine: str = "auto", threads: int | None = None, device: str = "auto"
) -> Engine:
    """An engine by name.

    Raises:
        InputError: there is no engine or device of that name, or less than one thread.
    """
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}: it must be at least 1")
    if choose_engine(engine) == "reference":
        return ReferenceEngine(network)
    return DenseEngine(network, choose_device(device), threads)


def simulate(
    network: SpikingNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    timesteps: int = 100,
    batch_size: int = 50,
    engine: str = "auto",
    threads: int | None = None,
    device: str = "auto",
    on_chunk: Callable[[slice, Recording], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> SimulationLog:
    """Simulate every image for ``timesteps`` time steps (docs/exactness.md, "The spiking network").

    Args:
        network: the integer spiking network.
        images: (N, C, H, W) standardised floats; rounded to 16 fractional bits.
        labels: (N,) integers.
        timesteps: T.
        batch_size: images that share one run of lines in the log files. Nothing else depends on it.
        engine: ``"reference"`` (NumPy), ``"dense"`` (PyTorch) or ``"auto"``. The integers are the same.
        threads: CPU threads of the dense engine; None leaves PyTorch's setting alone.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``, for the dense engine.
        on_chunk: called with the images' slice and their recording after every chunk. The net counts of the chunk
            are dropped afterwards, so that memory does not grow with the number of images.
        report: takes progress lines.

    Returns:
        The log: per-image and per-layer numbers, and the net counts unless ``on_chunk`` was given.

    Raises:
        InputError: images, labels, time steps or engine do not fit the network.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if timesteps < 1 or batch_size < 1:
        raise InputError(f"timesteps is {timesteps} and batch_size {batch_size}: both must be at least 1")
    encoded = network.encode(images)
    if len(images) == 0:
        raise InputError("there is no image to simulate")
    if labels.shape != (len(images),):
        raise InputError(f"{len(images)} images need as many labels, not shape {labels.shape}")
    network.check_potentials(encoded, timesteps)
    runner = make_engine(network, engine, threads, device)
    recordings = []
    started = time.monotonic()
    for start in range(0, len(encoded), runner.chunk_size):
        chunk = slice(start, min(start + runner.chunk_size, len(encoded)))
        recording = runner.run(encoded[chunk], timesteps)
        if on_chunk is not None:
            on_chunk(chunk, recording)
            recording.counts = []
        recordings.append(recording)
        if report is not None:
            spent = max(time.monotonic() - started, 1e-9)
            report(
                f"image {chunk.stop}/{len(encoded)}: {chunk.stop / spent:.1f} images/s, "
                f"{format_duration(spent / chunk.stop * (len(encoded) - chunk.stop))} left"
            )
    return SimulationLog.from_recordings(recordings, labels, batch_size, keep_counts=on_chunk is None)
