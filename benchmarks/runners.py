"""What a contestant's process does: it prepares itself, warms up, and is then timed again and again.

A runner is a generator. It first yields what is known before the first repetition, ``setup_seconds`` and which of its
``variant``s was chosen, and then a measurement each time: ``seconds`` for so many ``images``, each for so many
``steps``. What it computed it puts into the recording. Imports, building and warming up are not part of a time.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from benchmarks.contestants import LIBRARIES, PER_STEP, Task
from benchmarks.rivals import FloatNetwork, ForwardPass, make_neuron, present
from negspike import SpikingNetwork
from negspike.errors import InputError, one_line
from negspike.spiking.simulation import check_run, make_engine

Answers = Iterator[dict[str, Any]]
Recording = dict[str, Any]
Advance = Callable[[], Any]
BATCH_SIZES = (1, 2, 4, 8, 16, 32)


def _load(task: Task) -> tuple[SpikingNetwork, np.ndarray]:
    torch.set_num_threads(task.threads)
    return SpikingNetwork.load(task.network), np.load(task.images)


def _measured(started: float, images: int, steps: int) -> dict[str, Any]:
    return {"seconds": time.perf_counter() - started, "images": images, "steps": steps}


def run_engine(task: Task, recording: Recording) -> Answers:
    """An exact engine; its recording is what the engines are compared by."""
    (network, images), limits = _load(task), task.contestant
    started = time.perf_counter()
    # The default device would be a GPU where there is one; this is a comparison on a CPU.
    engine = make_engine(network, limits.engine, threads=task.threads, device="cpu")
    setup, size = time.perf_counter() - started, engine.chunk_size
    encoded = network.encode(images)[: size if limits.images == 0 else limits.images]
    steps = min(task.timesteps, limits.timesteps or task.timesteps)
    check_run(network, images, steps)
    engine.run(encoded[:size], min(2, steps))
    yield {"setup_seconds": setup, "variant": ""}
    while True:
        started = time.perf_counter()
        parts = [engine.run(encoded[first : first + size], steps) for first in range(0, len(encoded), size)]
        measured = _measured(started, len(encoded), steps)
        for name in (*PER_STEP, "logits"):
            recording[name] = np.concatenate([getattr(part, name) for part in parts])
        for name in parts[0].counts:
            recording[f"counts of {name}"] = np.concatenate([part.counts[name] for part in parts])
        yield measured


def run_first_call(task: Task, recording: Recording) -> Answers:
    """The first image of a process, compilation or the reading of compiled code included, imports not."""
    network, images = _load(task)
    encoded = network.encode(images)[:1]
    yield {"setup_seconds": 0.0, "variant": ""}
    started = time.perf_counter()
    make_engine(network, task.contestant.engine, threads=task.threads, device="cpu").run(encoded, task.timesteps)
    yield _measured(started, 1, task.timesteps)


def run_check(task: Task, recording: Recording) -> Answers:
    """The lossless check: every net count compared with the integer ANN; without the simulation that has counted."""
    network, images = _load(task)
    engine = make_engine(network, task.contestant.engine, threads=task.threads, device="cpu")
    counts = engine.run(network.encode(images), task.timesteps).counts
    network.compare(images, counts)
    yield {"setup_seconds": 0.0, "variant": ""}
    while True:
        started = time.perf_counter()
        network.compare(images, counts)
        yield _measured(started, len(images), task.timesteps)


class Variant(NamedTuple):
    """One way to write a contestant, for a batch size and the time steps of a call; ``build`` returns what is called.

    A repetition has so many ``calls``, each with other images; or, if None, as many as fill the time, with the same.
    """

    way: str
    size: int
    steps: int
    build: Callable[[], Advance]
    calls: int | None = None


def run_fastest(task: Task, recording: Recording) -> Answers:
    """A contestant that may be written in several ways: all are tried, the fastest is measured."""
    network, images = _load(task)
    sizes = [size for size in BATCH_SIZES[: 2 if task.quick else None] if size <= len(images)]
    seconds = 0.02 if task.quick else 2.0
    tried: dict[float, Variant] = {}
    for variant in VARIANTS[task.contestant.kind](task, network, images, sizes, recording, tried):
        name, started = f"{variant.way}, batch {variant.size}", time.perf_counter()
        try:
            advance = variant.build()
            advance()
            advance()
        except Exception as error:  # what cannot be compiled here is out of the race, and the log says so
            print(f"{task.contestant.name}, {name}: {type(error).__name__}: {one_line(error)}", flush=True)
            continue
        setup, needed = time.perf_counter() - started, _median_seconds(advance, seconds / 4)
        rate = variant.size * variant.steps / needed
        tried[rate] = variant
        print(f"{task.contestant.name}, {name}: {rate:.4g} image-steps/s", flush=True)
        if rate == max(tried):
            best, call, answer = variant, advance, {"setup_seconds": setup, "variant": name}
            calls = variant.calls or max(1, round(seconds / needed))
    if not tried:
        raise InputError("no variant works here; the log says why")
    yield answer
    while True:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        yield _measured(started, best.size * (best.calls or 1), best.steps * (1 if best.calls else calls))


def _median_seconds(call: Advance, seconds: float, least: int = 3) -> float:
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < until:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return median(times)


def module_variants(
    task: Task, network: SpikingNetwork, images: np.ndarray, sizes: list[int], _: Recording, tried: dict[float, Variant]
) -> Iterator[Variant]:
    """As it is, and compiled by TorchInductor with frozen weights.

    One time step of the float32 or bfloat16 simulation, nothing left out; or one forward pass of the network's own ANN,
    which stands for all time steps.
    """
    module: ForwardPass | FloatNetwork
    if task.contestant.kind == "ann":
        module, steps = ForwardPass(network), task.timesteps
    else:
        module, steps = FloatNetwork(network, getattr(torch, task.contestant.engine)), 1

    def build(size: int, compiled: bool) -> Advance:
        # Compiled code refuses inference mode's tensors.
        mode: Any = torch.no_grad if compiled else torch.inference_mode
        call: Any = module
        with mode():
            given = module.start(images[:size])
            if compiled:
                torch.compiler.reset()
                # Traced to one graph of tensors first: of a network's own objects the compiler takes pieces only.
                call = torch.compile(make_fx(module)(*module.start(images[:size])), dynamic=False, fullgraph=True)
        advance: Advance = mode()(partial(call, *given))
        return advance

    yield from (Variant("eager", size, steps, partial(build, size, False)) for size in sizes)
    if not task.quick:
        import torch._inductor.config as inductor

        inductor.freezing = True
        # A compilation takes long, so it is only tried where the others do well.
        for rate in sorted(tried)[-2:]:
            yield Variant("compiled", tried[rate].size, steps, partial(build, tried[rate].size, True))


def skipping_variants(
    task: Task, network: SpikingNetwork, images: np.ndarray, sizes: list[int], recording: Recording, _: Any
) -> Iterator[Variant]:
    """Float32, whole simulations of T time steps; a layer at rest in a whole batch is left out."""
    floats = FloatNetwork(network)

    def build(size: int, calls: int) -> Advance:
        final, starts = np.zeros(calls * size, np.int64), itertools.cycle(range(0, calls * size, size))

        def advance() -> None:
            chunk = slice(first := next(starts), first + size)
            final[chunk] = floats.run(images[chunk], task.timesteps)[0][:, -1]
            recording["final_predictions"] = final

        return advance

    for size in sizes:
        calls = len(images) // size  # images differ in how long they spike, so every repetition simulates all of them
        yield Variant("eager", size, task.timesteps, partial(build, size, calls), calls)


def library_variants(
    task: Task, network: SpikingNetwork, images: np.ndarray, sizes: list[int], *_: Any
) -> Iterator[Variant]:
    """Another library, step by step or several steps at once, whichever is faster."""
    library, floats = task.contestant.engine, FloatNetwork(network)
    make_neuron(library)  # if it is not installed, that is the reason to be told

    def build(size: int, at_once: int) -> Advance:
        # Presented in every step, not once, the image needs no factor of 2^k.
        pixels = images[:size] * network.populations[0].step
        return present(floats, library, pixels, at_once)

    for at_once, size in itertools.product(LIBRARIES[library][1], sizes):
        if at_once * size <= 40:  # more activations than that leave the caches by far
            yield Variant(f"{at_once} steps at once", size, at_once, partial(build, size, at_once))


VARIANTS: dict[str, Callable[..., Iterator[Variant]]] = {
    "dense": module_variants,
    "ann": module_variants,
    "skipping": skipping_variants,
    "library": library_variants,
}
RUNNERS: dict[str, Callable[[Task, Recording], Answers]] = {
    "engine": run_engine,
    "first call": run_first_call,
    "check": run_check,
    **dict.fromkeys(VARIANTS, run_fastest),
}
