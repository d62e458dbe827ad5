"""How trainings went: the tables that they leave behind, ``history.csv``."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from negspike.errors import foreign_file
from negspike.precision import Precision
from negspike.results.folders import run_files


@dataclass(frozen=True, eq=False)
class History:
    """One training of E epochs, all phases after one another.

    Attributes:
        net, seed, precision: what was trained.
        loss: (E,) float64, mean cross-entropy over an epoch's training images; NaN before any training.
        accuracy: (E,) float64, of the test set after the epoch, a fraction.
        epochs: (E,) int64; 0 is the network before any training of its own.
    """

    net: str
    seed: int
    precision: Precision
    loss: np.ndarray
    accuracy: np.ndarray
    epochs: np.ndarray


def read_histories(directory: Path, runs: Iterable[tuple[str, int, str]]) -> list[History]:
    """Read the histories of some trainings, named as in :func:`negspike.results.collect.collect`.

    Raises:
        InputError: one is missing or no history.
    """
    found = []
    for run, path in run_files(directory, runs, "history.csv"):
        with foreign_file(path, "a training's history", "train it again"):
            rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
            loss = np.array([float(row["loss"] or "nan") for row in rows])
            accuracy = np.array([float(row["test_accuracy"]) for row in rows])
            first = int(rows[0]["phase"] != "0")
        found.append(History(*run, loss, accuracy, np.arange(len(rows)) + first))
    return found
