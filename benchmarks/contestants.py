"""Who takes part, and what their processes are told. Nothing large is imported here: processes are measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Contestant:
    """One series of the comparison.

    Attributes:
        name: on the command line and in the tables.
        kind: of its runner in :mod:`benchmarks.runners`: ``engine`` (exact), ``first call``, ``check`` (of what the
            engine has counted), ``ann`` (one forward pass), ``dense`` (float32, every layer in every step),
            ``skipping`` (float32, layers at rest left out) or ``library``.
        engine: name of the engine, of the number format or of the library.
        threads: of its own, or None for the command's.
        weight_bits: of the network.
        longer: simulate so many times as many time steps.
        images: at most so many, or None for all, 0 for one chunk of the engine.
        timesteps: at most so many; the rest is scaled.
    """

    name: str
    kind: str
    engine: str
    threads: int | None = None
    weight_bits: int = 16
    longer: int = 1
    images: int | None = None
    timesteps: int | None = None


# The module that each must be able to import, and how many time steps its neurons may be given at once.
LIBRARIES = {
    "spikingjelly": ("spikingjelly.activation_based.neuron", (1, 10)),
    "sinabs": ("sinabs.layers", (1, 10)),
    "snntorch": ("snntorch", (1,)),
}
# What recordings hold step by step, (N, T, ...) each.
PER_STEP = ("predictions", "positive", "negative", "sops", "relays")
_ALL = (
    Contestant("event", "engine", "event"),
    Contestant("event-1thread", "engine", "event", threads=1),
    Contestant("event-8bits", "engine", "event", weight_bits=8),
    Contestant("event-24bits", "engine", "event", weight_bits=24),
    Contestant("event-2T", "engine", "event", longer=2),
    Contestant("event-first-call", "first call", "event"),
    Contestant("lossless-check", "check", "event"),
    Contestant("lossless-check-8bits", "check", "event", weight_bits=8),
    Contestant("dense", "engine", "dense", images=0),
    Contestant("dense-8bits", "engine", "dense", weight_bits=8, images=0),
    Contestant("dense-24bits", "engine", "dense", weight_bits=24, images=0),
    Contestant("reference", "engine", "reference", threads=1, images=1, timesteps=3),
    Contestant("ann-float32", "ann", "float32"),
    Contestant("torch-float32", "dense", "float32"),
    Contestant("torch-bfloat16", "dense", "bfloat16"),
    Contestant("torch-float32-skipping", "skipping", "float32"),
    *(Contestant(library, "library", library) for library in LIBRARIES),
)
CONTESTANTS = {contestant.name: contestant for contestant in _ALL}


@dataclass(frozen=True)
class Task:
    """What a process is told: who it is, paths of a network and of (N, C, H, W) images, T, threads, few variants?"""

    contestant: Contestant
    network: Path
    images: Path
    timesteps: int
    threads: int
    quick: bool = False
