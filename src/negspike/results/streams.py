"""``stream.csv``: what each frame of a stream of images cost."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from negspike.errors import foreign_file
from negspike.precision import Precision
from negspike.results.folders import run_files

_NUMBERS = ("changed_pixels", "sops", "fresh_sops", "equal")


@dataclass(frozen=True, eq=False)
class Streamed:
    """One network; F frames of each of N streams.

    Attributes:
        net, seed, precision: which network it is.
        kinds: (F,) what happened: ``first``, ``still``, ``moves``, ``cut``, ``moves in parts``.
        changed: (F, N) int64, pixels that differ from the frame before.
        sops: (F, N) int64, synaptic operations since the change, until silent.
        fresh: (F, N) int64, of a simulation of this frame from the beginning.
        equal: (F, N) bool, whether every net count is that of the fresh simulation.
    """

    net: str
    seed: int
    precision: Precision
    kinds: tuple[str, ...]
    changed: np.ndarray
    sops: np.ndarray
    fresh: np.ndarray
    equal: np.ndarray


def read_streams(directory: Path, runs: Iterable[tuple[str, int, str]]) -> list[Streamed]:
    """Read the workflow's tables.

    Args:
        directory: the folder of the nets' folders.
        runs: (net, seed, folder) of each network, such as ``("cnn1", 0, "k1")``.

    Raises:
        InputError: a file is missing or damaged.
    """
    found = []
    for run, path in run_files(directory, runs, "stream.csv"):
        with foreign_file(path, "a table of frames", "delete it and run again"):
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            streams = max(int(row["stream"]) for row in rows) + 1
            numbers = [np.array([int(row[name]) for row in rows]).reshape(-1, streams) for name in _NUMBERS]
            kinds = tuple(row["kind"] for row in rows[::streams])
        changed, sops, fresh, equal = numbers
        found.append(Streamed(*run, kinds, changed, sops, fresh, equal == 1))
    return found
