"""Running a spiking network over images with an engine of one's choice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from negspike.arguments import as_array, whole
from negspike.console import Progress
from negspike.devices import choose_device
from negspike.errors import InputError
from negspike.spiking.bounds import check_potentials
from negspike.spiking.dense import DenseEngine
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.recording import Recording, SimulationLog
from negspike.spiking.reference import ReferenceEngine

ENGINES = ("auto", "reference", "dense", "event")
UNTIL_SILENT = "until_silent"
# The most time steps until silence, where the network has no certified bound.
MOST_STEPS = 1000
# Images whose pixels are checked at a time, and seconds between two lines of progress.
CHECKED_IMAGES = 1000
REPORT_SECONDS = 1.0
# Until silence, so many steps are tried first, and then several times as many: what is recorded takes memory in
# proportion to the steps asked for, not to those in which something happens.
FIRST_STEPS = 1000
MORE_STEPS = 4
RECORDED_BYTES = 1 << 28

_log = logging.getLogger("negspike")


class Engine(Protocol):
    """What simulates a chunk of images; every engine gives the same integers."""

    chunk_size: int

    def run(self, encoded: np.ndarray, timesteps: int) -> Recording:
        """Simulate (N, C, H, W) int64 images, as the network encodes them, for ``timesteps`` steps."""


def choose_engine(network: SpikingNetwork, name: str = "auto", *, device: str = "auto") -> str:
    """The engine that a name stands for: ``auto`` is ``event`` on a CPU and ``dense`` on a GPU.

    Where the network has something that ``event`` cannot simulate, ``auto`` is ``dense``, and a line is logged.

    Raises:
        InputError: there is no engine or device of that name, or the engine named cannot run this network there.
    """
    if not isinstance(name, str) or name not in ENGINES:
        raise InputError(f"engine {name!r} is unknown: there are {', '.join(ENGINES)}")
    where = choose_device(device).type
    if name in ("reference", "event") and device == "cuda":
        raise InputError(f"engine {name!r} runs on the CPU only; use device cpu or auto, or engine dense")
    if name == "reference" or name == "dense" or (name == "auto" and where == "cuda"):
        return "dense" if name == "auto" else name
    from negspike.spiking.event.engine import refuses  # the compiler takes a second to import

    reason = refuses(network)
    if reason is None:
        return "event"
    if name == "event":
        raise InputError(f"engine 'event' cannot simulate this network: {reason}; use auto or dense")
    _log.warning("engine dense is used, event cannot simulate this network: %s", reason)
    return "dense"


def make_engine(
    network: SpikingNetwork, engine: str = "auto", *, threads: int | None = None, device: str = "auto"
) -> Engine:
    """An engine by name.

    Raises:
        InputError: as :func:`choose_engine`, or there is less than one thread.
    """
    if not isinstance(network, SpikingNetwork):
        raise InputError(
            f"the network is a {type(network).__name__}, expected a SpikingNetwork, as negspike.convert and "
            "negspike.load give one"
        )
    if threads is not None and whole("threads", threads) < 1:
        raise InputError(f"threads is {threads}: it must be at least 1")
    chosen = choose_engine(network, engine, device=device)
    if chosen == "reference":
        return ReferenceEngine(network)
    if chosen == "dense":
        return DenseEngine(network, choose_device(device), threads)
    from negspike.spiking.event.engine import EventEngine

    return EventEngine(network, threads)


def simulate(
    network: SpikingNetwork,
    images: Any,
    labels: Any = None,
    *,
    timesteps: int | str = UNTIL_SILENT,
    batch_size: int = 50,
    engine: str = "auto",
    device: str = "auto",
    threads: int | None = None,
) -> SimulationLog:
    """Simulate every image (docs/exactness.md, "The spiking network").

    Args:
        network: the integer spiking network.
        images: (N, C, H, W) standardised floats, array or tensor, or lines or features as
            :func:`negspike.convert` takes them; rounded to the network's ``image_fraction_bits``.
        labels: (N,) integers, array or tensor; without them the log knows no accuracy.
        timesteps: T; or ``"until_silent"``, as many as it takes until no neuron of any image spikes any more, which the
            network's ``latency_bound`` limits, or 1,000 where it has none.
        batch_size: images that share one run of lines in the log files. Nothing else depends on it.
        engine: ``"event"`` (CPU), ``"dense"`` (PyTorch), ``"reference"`` (NumPy) or ``"auto"``: ``event`` on a CPU,
            ``dense`` on a GPU. The integers are the same.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``, for ``dense`` and ``auto``.
        threads: CPU threads; None is every core for ``event`` and PyTorch's setting for ``dense``.

    Returns:
        The log: per-image and per-population numbers, and the net counts.

    Raises:
        InputError: images, labels, time steps or engine do not fit the network.
    """
    images = np.atleast_1d(as_array("images", images))
    runner = make_engine(network, engine, threads=threads, device=device)
    counts: dict[str, np.ndarray] = {}

    def keep(chunk: slice, found: Mapping[str, np.ndarray]) -> None:
        for name, values in found.items():
            counts.setdefault(name, np.empty((len(images), *values.shape[1:]), np.int32))[chunk] = values

    log = run_logged(network, images, labels, timesteps=timesteps, runner=runner, batch_size=batch_size, each=keep)
    return replace(log, counts=counts)


def run_logged(
    network: SpikingNetwork,
    images: np.ndarray,
    labels: Any,
    *,
    timesteps: int | str,
    runner: Engine,
    batch_size: int,
    each: Callable[[slice, Mapping[str, np.ndarray]], None],
    cap: int = MOST_STEPS,
    report: Callable[[str], None] | None = None,
) -> SimulationLog:
    """Simulate chunk after chunk; who looks at the net counts of each and lets them go needs no memory for all.

    Args:
        network, images, labels, timesteps, batch_size: as in :func:`simulate`; images are an array.
        runner: made for this network by :func:`make_engine`.
        each: takes a chunk's slice of the images and its net counts, as in :class:`Recording`.
        cap: with ``until_silent``, simulate no more steps than this.
        report: takes progress lines.

    Returns:
        The log of all images, without net counts.

    Raises:
        InputError: images, labels or time steps do not fit the network.
    """
    steps, until_silent = most_timesteps(network, timesteps, cap=cap), timesteps == UNTIL_SILENT
    if whole("batch_size", batch_size) < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1")
    check_run(network, images, steps)
    labels = check_labels(network, labels, len(images))
    logs = []
    for chunk, recording in run_chunks(network, images, steps, runner=runner, until_silent=until_silent, report=report):
        each(chunk, recording.counts)
        recording.counts = {}
        known = None if labels is None else labels[chunk]
        log = SimulationLog.from_recording(recording, known, batch_size=batch_size, unit=network.readout.unit)
        logs.append(log.until_silent() if until_silent else log)
    return SimulationLog.join(logs)


def most_timesteps(network: SpikingNetwork, timesteps: int | str, *, cap: int = MOST_STEPS) -> int:
    """The time steps to simulate: a number as it is, ``until_silent`` as the bound or the cap.

    One step more than the certified latency shows the silence.

    Raises:
        InputError: it is neither, or below 1.
    """
    if isinstance(timesteps, str):
        if timesteps != UNTIL_SILENT:
            raise InputError(f"timesteps is {timesteps!r}: it must be a number or {UNTIL_SILENT!r}")
        bound = network.latency_bound
        return cap if bound is None else min(bound + 1, cap)
    if whole("timesteps", timesteps) < 1:
        raise InputError(f"timesteps is {timesteps}: it must be at least 1")
    return whole("timesteps", timesteps)


def check_run(network: SpikingNetwork, images: np.ndarray, timesteps: int) -> None:
    """Check all images, and prove that no integer of the run can overflow.

    Raises:
        InputError: there is no image, they do not fit the network, or the proof fails.
    """
    largest = [
        np.abs(network.encode(images[first : first + CHECKED_IMAGES])).max(initial=0)
        for first in range(0, max(len(images), 1), CHECKED_IMAGES)
    ]
    if len(images) == 0:
        raise InputError("there is no image to simulate")
    check_potentials(network, timesteps=timesteps, largest_pixel=int(max(largest)))


def run_chunks(
    network: SpikingNetwork,
    images: np.ndarray,
    timesteps: int,
    *,
    runner: Engine,
    until_silent: bool = False,
    report: Callable[[str], None] | None = None,
) -> Iterator[tuple[slice, Recording]]:
    """Simulate chunk after chunk, of as many images as the engine likes and as the recorded steps leave memory for.

    Args:
        network: the integer spiking network.
        images: (N, C, H, W) floats, checked by :func:`check_run`.
        timesteps: T.
        runner: made for this network by :func:`make_engine`.
        until_silent: no more steps than it takes, roughly, until nothing spikes any more.
        report: takes progress lines.

    Yields:
        The images' slice and their recording.
    """
    progress = Progress(len(images), "images", REPORT_SECONDS)
    start, steps = 0, min(FIRST_STEPS, timesteps) if until_silent else timesteps
    while start < len(images):
        size = max(1, min(runner.chunk_size, RECORDED_BYTES // (steps * Recording.bytes_per_step(network))))
        chunk = slice(start, min(start + size, len(images)))
        recording = runner.run(network.encode(images[chunk]), steps)
        if until_silent and recording.still_spiking and steps < timesteps:
            steps = min(steps * MORE_STEPS, timesteps)  # for this chunk and all behind it
            continue
        yield chunk, recording
        start = chunk.stop
        if report is not None and (progress.due() or chunk.stop == len(images)):
            report(f"image {chunk.stop}/{len(images)}: {progress.pace(chunk.stop)}")


def check_labels(network: SpikingNetwork, labels: Any, images: int) -> np.ndarray | None:
    """Labels as (N,) int64, or None.

    Raises:
        InputError: there are not as many as images, or one is not a class.
    """
    if labels is None:
        return None
    array = as_array("labels", labels)
    if array.shape != (images,):
        raise InputError(f"{images} images need as many labels, not shape {array.shape}")
    if array.dtype.kind not in "iub" or (array.size and not 0 <= array.min() <= array.max() < network.classes):
        found = f"from {array.min()} to {array.max()}" if array.dtype.kind in "iu" and array.size else str(array.dtype)
        raise InputError(f"labels are {found}: they are whole numbers, classes 0 to {network.classes - 1}")
    return array.astype(np.int64)
