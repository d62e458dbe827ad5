"""``trace.npz``: single neurons of a network while it is shown one test image."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from negspike.data.npz import read_npz
from negspike.errors import foreign_file
from negspike.files import atomic_path
from negspike.precision import Precision
from negspike.results.folders import run_files
from negspike.spiking.trace import Trace

_ARRAYS = tuple(field.name for field in fields(Trace) if field.name != "populations")


@dataclass(frozen=True, eq=False)
class TracedImage:
    """One network and one test image.

    Attributes:
        net, seed, precision: which network it is.
        image: number of the test image, counted from 0.
        label: its class.
        trace: of its neurons.
    """

    net: str
    seed: int
    precision: Precision
    image: int
    label: int
    trace: Trace


def write_trace(traced: TracedImage, path: Path) -> None:
    """Write ``trace.npz``, atomically."""
    about = {"image": traced.image, "label": traced.label, "populations": traced.trace.populations}
    arrays = {name: getattr(traced.trace, name) for name in _ARRAYS}
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, about=np.array(json.dumps(about)), **arrays)


def read_traces(directory: Path, runs: Iterable[tuple[str, int, str]]) -> list[TracedImage]:
    """Read what :func:`write_trace` wrote.

    Args:
        directory: the folder of the nets' folders.
        runs: (net, seed, folder) of each network, such as ``("cnn1", 0, "k1")``.

    Raises:
        InputError: a file is missing or damaged.
    """
    found = []
    for run, path in run_files(directory, runs, "trace.npz"):
        arrays = read_npz(path, lambda promised: (*_ARRAYS, "about"), "a trace of neurons", "delete it and run again")
        with foreign_file(path, "a trace of neurons", "delete it and run again"):
            about = json.loads(str(arrays.pop("about")))
            trace = Trace(populations=tuple(about["populations"]), **arrays)
            _check(trace)
            found.append(TracedImage(*run, about["image"], about["label"], trace))
    return found


def _check(trace: Trace) -> None:
    """Raises ValueError: shapes or numbers do not go with one another."""
    populations, (watched, steps) = len(trace.populations), trace.counts.shape
    shapes = {"sizes": (populations,), "potentials": (watched, steps)}
    shapes |= dict.fromkeys(("positive", "negative"), (populations, steps))
    shapes |= dict.fromkeys(("population", "neuron", "theta", "base", "activations"), (watched,))
    if any(getattr(trace, name).shape != shape for name, shape in shapes.items()):
        raise ValueError("its arrays are of different sizes")
    if not steps or not np.isin(trace.population, range(populations)).all() or (trace.theta < 1).any():
        raise ValueError("its numbers are none of a trace")
