"""What is measured: each contestant prepares itself, warms up, and is then timed again and again.

Every class here runs in a process of its own (:mod:`benchmarks.worker`), since memory and threads belong to a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.float_network import FloatNetwork
from benchmarks.other_libraries import LIBRARIES, LibraryNetwork, missing
from negspike import SpikingNetwork
from negspike.errors import InputError
from negspike.images import integer_images
from negspike.spiking.simulation import ENGINES, make_engine

BATCH_SIZES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Contestant:
    """One series of the comparison.

    Attributes:
        name: on the command line and in the tables.
        kind: ``engine`` (exact), ``dense`` (float32, every layer in every step), ``skipping`` (float32, layers at
            rest left out), ``library``, or ``first call``.
        engine: name of the engine or of the library.
        threads: of its own, or None for the command's.
        weight_bits: of the network.
        longer: simulate so many times as many time steps.
        images: at most so many, or None for all, 0 for one chunk of the engine.
        timesteps: at most so many; the rest is scaled.
    """

    name: str
    kind: str
    engine: str = ""
    threads: int | None = None
    weight_bits: int = 16
    longer: int = 1
    images: int | None = None
    timesteps: int | None = None


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("event", "engine", "event"),
        Contestant("event-1thread", "engine", "event", threads=1),
        Contestant("event-24bits", "engine", "event", weight_bits=24),
        Contestant("event-2T", "engine", "event", longer=2),
        Contestant("event-first-call", "first call", "event"),
        Contestant("dense", "engine", "dense", images=0),
        Contestant("dense-24bits", "engine", "dense", weight_bits=24, images=0),
        Contestant("reference", "engine", "reference", images=1, timesteps=3),
        Contestant("torch-float32", "dense", "float32"),
        Contestant("torch-bfloat16", "dense", "bfloat16"),
        Contestant("torch-float32-skipping", "skipping", "float32"),
        *(Contestant(library, "library", library) for library in LIBRARIES),
    )
}


@dataclass
class Task:
    """What a worker is told.

    Attributes:
        contestant: its name.
        network, images: paths of a spiking network and of an ``.npy`` of standardised images.
        timesteps: T.
        threads: of the command.
        seconds: how long a repetition of a contestant in float32 lasts, at least.
        batch_sizes: that these choose from.
        compile: whether they may try torch.compile.
    """

    contestant: str
    network: str
    images: str
    timesteps: int
    threads: int
    seconds: float = 2.0
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    compile: bool = True

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Measurement:
    """Time of one repetition, and how much work it was; ``note`` says what else was chosen."""

    seconds: float
    images: int
    steps: int


@dataclass
class Prepared:
    """What is known before the first repetition: setup time and, where variants were tried, what each reached."""

    setup_seconds: float
    variant: str = ""
    tried: dict[str, float | str] = field(default_factory=dict)


def unavailable(contestant: Contestant) -> str | None:
    """Why a contestant cannot take part here, or None if it can."""
    if contestant.kind in ("engine", "first call") and contestant.engine not in ENGINES:
        return f"this version has no engine '{contestant.engine}'"
    if contestant.kind == "library":
        return missing(contestant.engine)
    return None


class Runner:
    """What a worker does with a task."""

    def __init__(self, task: Task) -> None:
        self.task, self.contestant = task, CONTESTANTS[task.contestant]
        self.threads = self.contestant.threads or task.threads
        torch.set_num_threads(self.threads)
        self.network = SpikingNetwork.load(task.network)
        self.images = np.load(task.images)
        self.timesteps = task.timesteps * self.contestant.longer
        self.recording: dict[str, np.ndarray] = {}

    def prepare(self) -> Prepared:
        """Build, warm up, choose; none of it is part of a repetition."""
        raise NotImplementedError

    def repeat(self) -> Measurement:
        """One repetition."""
        raise NotImplementedError


class EngineRunner(Runner):
    """An exact engine; its recording is kept so that the engines can be compared with each other."""

    def prepare(self) -> Prepared:
        started = time.perf_counter()
        # The default device would be a GPU where there is one; this is a comparison on a CPU.
        self.engine = make_engine(self.network, self.contestant.engine, self.threads, "cpu")
        setup = time.perf_counter() - started
        limit = self.contestant.images
        limit = self.engine.chunk_size if limit == 0 else limit
        self.encoded = integer_images(self.images)[:limit]
        if self.contestant.timesteps is not None:
            self.timesteps = min(self.timesteps, self.contestant.timesteps)
        self.network.check_potentials(self.encoded, self.timesteps)
        self.engine.run(self.encoded[: self.engine.chunk_size], min(2, self.timesteps))
        return Prepared(setup)

    def repeat(self) -> Measurement:
        chunks = [slice(start, start + self.engine.chunk_size) for start in self._starts()]
        started = time.perf_counter()
        recordings = [self.engine.run(self.encoded[chunk], self.timesteps) for chunk in chunks]
        seconds = time.perf_counter() - started
        for name in ("predictions", "positive", "negative", "sops"):
            self.recording[name] = np.concatenate([getattr(part, name) for part in recordings])
        layers = zip(*(part.counts for part in recordings), strict=True)
        self.recording |= {f"counts{i}": np.concatenate(layer) for i, layer in enumerate(layers)}
        return Measurement(seconds, len(self.encoded), self.timesteps)

    def _starts(self) -> Iterable[int]:
        return range(0, len(self.encoded), self.engine.chunk_size)


class FirstCallRunner(EngineRunner):
    """The first image of a process, compilation or the reading of compiled code included, imports not."""

    def prepare(self) -> Prepared:
        self.encoded = integer_images(self.images)[:1]
        return Prepared(0.0)

    def repeat(self) -> Measurement:
        started = time.perf_counter()
        engine = make_engine(self.network, self.contestant.engine, self.threads, "cpu")
        engine.run(self.encoded, self.timesteps)
        return Measurement(time.perf_counter() - started, 1, self.timesteps)


Advance = Callable[[], Any]


def _rate(advance: Advance, image_steps: int, seconds: float, least: int = 3) -> tuple[float, float]:
    """Image-steps per second of the best call, and seconds of a call, in about so many seconds."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < until:
        started = time.perf_counter()
        advance()
        times.append(time.perf_counter() - started)
    return image_steps / min(times), float(np.median(times))


class VariantRunner(Runner):
    """A contestant that may be written in several ways: all are tried, the fastest is measured."""

    calls = 1
    steps_a_call = 1

    def variants(self) -> Iterable[tuple[str, int, int, Callable[[], Advance]]]:
        """Name, images, time steps a call, and how to build what is called."""
        raise NotImplementedError

    def prepare(self) -> Prepared:
        tried: dict[str, float | str] = {}
        best = 0.0
        setup = chosen = 0.0, ""
        for name, images, steps, build in self.variants():
            if images > len(self.images):
                continue
            started = time.perf_counter()
            try:
                advance = build()
                advance()
                advance()
            except Exception as error:  # what cannot be compiled here is out of the race, and the table says so
                tried[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                continue
            built = time.perf_counter() - started
            rate, seconds = _rate(advance, images * steps, self.task.seconds / 10)
            tried[name] = rate
            if rate > best:
                best, setup = rate, (built, name)
                self.advance, self.count, self.steps_a_call = advance, images, steps
                self.calls = max(1, round(self.task.seconds / seconds))
        chosen = setup
        if not best:
            raise InputError(f"{self.contestant.name}: no variant works here: {tried}")
        return Prepared(chosen[0], chosen[1], tried)

    def repeat(self) -> Measurement:
        started = time.perf_counter()
        for _ in range(self.calls):
            self.advance()
        seconds = time.perf_counter() - started
        return Measurement(seconds, self.count, self.calls * self.steps_a_call)


class DenseRunner(VariantRunner):
    """Float32, or bfloat16, every layer in every step; eager, frozen with prepacked weights, or compiled."""

    def variants(self) -> Iterable[tuple[str, int, int, Callable[[], Advance]]]:
        dtype = getattr(torch, self.contestant.engine)
        self.floats = FloatNetwork(self.network, dtype)
        # TODO
        for way in ("eager", "prepacked", "compiled"):
            for batch in self.task.batch_sizes:
                yield f"{way}, batch {batch}", batch, 1, lambda way=way, batch=batch: self.build(way, batch)
