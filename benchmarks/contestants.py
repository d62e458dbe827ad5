"""What is measured: each contestant prepares itself, warms up, and is then timed again and again.

Every class here runs in a process of its own (:mod:`benchmarks.worker`), since memory and threads belong to a process.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.float_network import FloatNetwork
from benchmarks.other_libraries import LIBRARIES, LibraryNetwork, missing
from negspike import SpikingNetwork
from negspike.errors import InputError
from negspike.fixed_point import integer_images
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
        Contestant("reference", "engine", "reference", threads=1, images=1, timesteps=3),
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
    """Time of one repetition of so many images, each for so many time steps."""

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


@dataclass(frozen=True)
class Variant:
    """One way to write a contestant.

    Attributes:
        way: how; with the batch size it is the variant's name.
        images: batch size.
        steps: time steps of one call.
        build: returns what is called.
    """

    way: str
    images: int
    steps: int
    build: Callable[[], Advance]

    @property
    def name(self) -> str:
        return f"{self.way}, batch {self.images}"


class VariantRunner(Runner):
    """A contestant that may be written in several ways: all are tried, the fastest is measured."""

    def variants(self, tried: Mapping[str, float | str]) -> Iterable[Variant]:
        """What there is to try; later ones may depend on what the earlier ones reached, in image-steps/s."""
        raise NotImplementedError

    def prepare(self) -> Prepared:
        tried: dict[str, float | str] = {}
        best = Prepared(0.0, tried=tried)
        fastest = 0.0
        for variant in self.variants(tried):
            started = time.perf_counter()
            try:
                advance = variant.build()
                advance()
                advance()
            except Exception as error:  # what cannot be compiled here is out of the race, and the results say so
                tried[variant.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
                continue
            setup = time.perf_counter() - started
            seconds = _median_seconds(advance, self.task.seconds / 4)
            rate = variant.images * variant.steps / seconds
            tried[variant.name] = rate
            if rate > fastest:
                fastest, best.setup_seconds, best.variant = rate, setup, variant.name
                self.advance, self.chosen = advance, variant
                self.calls = max(1, round(self.task.seconds / seconds))
        if not fastest:
            raise InputError(f"{self.contestant.name}: no variant works here: {tried}")
        return best

    def repeat(self) -> Measurement:
        started = time.perf_counter()
        for _ in range(self.calls):
            self.advance()
        seconds = time.perf_counter() - started
        return Measurement(seconds, self.chosen.images, self.calls * self.chosen.steps)

    def batch_sizes(self) -> list[int]:
        return [size for size in self.task.batch_sizes if size <= len(self.images)] or [len(self.images)]


def _median_seconds(call: Advance, seconds: float, least: int = 3) -> float:
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < until:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


class DenseRunner(VariantRunner):
    """Float32, or bfloat16, every layer in every step: eager, traced and frozen, or compiled."""

    def variants(self, tried: Mapping[str, float | str]) -> Iterable[Variant]:
        self.floats = FloatNetwork(self.network, getattr(torch, self.contestant.engine))
        for way, build in (("eager", self._eager), ("frozen", self._frozen)):
            for size in self.batch_sizes():
                yield Variant(way, size, 1, partial(build, size))
        if self.task.compile:
            # A compilation takes long, so it is only tried where the others do well.
            reached: dict[int, float] = dict.fromkeys(self.batch_sizes(), 0.0)
            for name, rate in tried.items():
                if isinstance(rate, float):
                    size = int(name.rsplit(" ", 1)[1])
                    reached[size] = max(reached[size], rate)
            for size in sorted(reached, key=lambda size: -reached[size])[:2]:
                yield Variant("compiled", size, 1, partial(self._compiled, size))

    def _state(self, size: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Residuals and debts as ordinary tensors: compilers refuse those made in inference mode."""
        residuals, debts = self.floats.start(self.images[:size])
        return _ordinary(residuals), _ordinary(debts)

    def _eager(self, size: int) -> Advance:
        residuals, debts = self.floats.start(self.images[:size])
        return partial(_advance, torch.inference_mode, self.floats.step, residuals, debts)

    def _frozen(self, size: int) -> Advance:
        """TorchScript with constants folded and oneDNN's weights in the layout it likes best."""
        residuals, debts = self._state(size)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(self.floats.step, self._state(size), check_trace=False)  # type: ignore[no-untyped-call]
            frozen = torch.jit.optimize_for_inference(torch.jit.freeze(traced.eval()))
        return partial(_advance, torch.no_grad, frozen, residuals, debts)

    def _compiled(self, size: int) -> Advance:
        """TorchInductor, weights frozen and prepacked."""
        import torch._inductor.config as inductor

        inductor.freezing = True
        torch.compiler.reset()
        compiled = torch.compile(self.floats.step, dynamic=False)
        return partial(_advance, torch.no_grad, compiled, *self._state(size))


def _ordinary(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return [torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor) for tensor in tensors]


def _advance(mode: Any, step: Any, residuals: list[torch.Tensor], debts: list[torch.Tensor]) -> Any:
    with mode():
        return step(residuals, debts)


class SkippingRunner(VariantRunner):
    """Float32, whole simulations of T time steps; a layer at rest in a whole batch is left out."""

    def variants(self, tried: Mapping[str, float | str]) -> Iterable[Variant]:
        self.floats = FloatNetwork(self.network)
        self.predictions: dict[int, np.ndarray] = {}
        for size in self.batch_sizes():
            yield Variant("eager", size, self.timesteps, partial(self._build, size))

    def _build(self, size: int) -> Advance:
        starts = itertools.cycle(range(0, len(self.images) - size + 1, size))

        def advance() -> None:
            start = next(starts)
            recording = self.floats.run(self.images[start : start + size], self.timesteps)
            self.predictions |= dict(zip(range(start, start + size), recording.predictions[:, -1], strict=True))

        return advance

    def repeat(self) -> Measurement:
        # Images differ in how long they spike, so every repetition simulates all of them.
        size = self.chosen.images
        starts = range(0, len(self.images) - size + 1, size)
        self.advance = self._build(size)
        self.calls = len(starts)
        measured = super().repeat()
        self.recording = {"final_predictions": np.array([self.predictions[i] for i in range(len(starts) * size)])}
        return Measurement(measured.seconds, len(starts) * size, self.timesteps)


class LibraryRunner(VariantRunner):
    """Another library, step by step or several steps at once, whichever is faster."""

    def variants(self, tried: Mapping[str, float | str]) -> Iterable[Variant]:
        library = self.contestant.engine
        for at_once in LIBRARIES[library][1]:
            for size in self.batch_sizes():
                if at_once * size <= 40:  # more activations than that leave the caches by far
                    yield Variant(f"{at_once} steps at once", size, at_once, partial(self._build, at_once, size))

    def _build(self, at_once: int, size: int) -> Advance:
        network = LibraryNetwork(self.network, self.contestant.engine, at_once)
        network.start(self.images[:size])
        return network.advance


RUNNERS: dict[str, type[Runner]] = {
    "engine": EngineRunner,
    "first call": FirstCallRunner,
    "dense": DenseRunner,
    "skipping": SkippingRunner,
    "library": LibraryRunner,
}
