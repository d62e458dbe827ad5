"""What accuracy costs, step by step: operations, and energy by the model of :mod:`negspike.results.energy`."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, Field

from negspike.errors import InputError, foreign_file
from negspike.precision import Precision
from negspike.results.collect import collect, read_json
from negspike.results.energy import layer_energy
from negspike.results.folders import run_folder
from negspike.results.metrics import Curves
from negspike.spiking.graph import SpikingNetwork

_COLUMNS = ("sops", "positive_spikes", "negative_spikes")


@dataclass(frozen=True, eq=False)
class Efficiency:
    """One simulated network.

    Attributes:
        net, seed, precision: which network it was.
        curves: over time.
        energy: (2, T) float64, picojoules an image up to each step: of arithmetic alone, and with memory.
        ann_energy: the same two of the quantised ANN.
    """

    net: str
    seed: int
    precision: Precision
    curves: Curves
    energy: np.ndarray
    ann_energy: tuple[float, float]


def read_efficiency(directory: Path, runs: Iterable[tuple[str, int, str]]) -> list[Efficiency]:
    """Read the workflow's logs, tables of layers and networks.

    Args:
        directory: the folder of the nets' folders.
        runs: (net, seed, folder) of each network, such as ``("cnn1", 0, "k1")``.

    Raises:
        InputError: a file is missing, damaged, or of another network than the others.
    """
    found = []
    for curves in collect(directory, runs).curves:
        folder = run_folder(directory, curves.net, curves.seed, curves.precision.name)
        network = SpikingNetwork.load(folder / "spiking.npz")
        path, layers = folder / "layer_steps.csv", len(network.layers)
        with foreign_file(path, "a table of layers and steps", "evaluate again"):
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            each = {name: np.array([int(row[name]) for row in rows]).reshape(layers, -1) for name in _COLUMNS}
            counts = {name: values.cumsum(1) / curves.images for name, values in each.items()}
            steps = len(rows) // layers
            named = [row["layer"] for row in rows] == [layer.name for layer in network.layers for _ in range(steps)]
        same = named and 1 <= steps <= curves.timesteps
        if not same or not np.isclose(counts["sops"][:, -1].sum(), curves.sops[-1]):
            raise InputError(f"{path}: not of the same run as the logs; evaluate again")
        spikes = counts["positive_spikes"] + counts["negative_spikes"]
        spent = zip(network.layers, counts["sops"], spikes, strict=True)
        costs = [layer_energy(network, layer, sops, fired) for layer, sops, fired in spent]
        energy = np.sum(costs, 0)
        more = ((0, 0), (0, curves.timesteps - energy.shape[1]))
        ann = read_json(folder / "evaluation.json", _Evaluation).energy.quantised_ann
        run = (curves.net, curves.seed, curves.precision, curves)
        found.append(Efficiency(*run, np.pad(energy, more, "edge"), (ann.arithmetic, ann.with_memory)))
    return found


_Picojoules = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Cost(BaseModel):
    arithmetic: _Picojoules
    with_memory: _Picojoules


class _Energy(BaseModel):
    quantised_ann: _Cost


class _Evaluation(BaseModel):
    """What is needed of evaluation.json."""

    energy: _Energy
