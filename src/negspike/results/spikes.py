"""What ``evaluation.npz`` knows beyond the logs: spikes of each population, and which count met which activation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from negspike.data.npz import read_npz
from negspike.errors import InputError, foreign_file
from negspike.precision import Precision
from negspike.results.collect import read_json
from negspike.results.folders import run_files

_ARRAYS = ("positive", "negative", "differing_neurons", "joint")


@dataclass(frozen=True, eq=False)
class Spikes:
    """One simulated network; P populations, T time steps, N images.

    Attributes:
        net, seed, precision: which network it was.
        layers: (P,) names of the populations.
        positive, negative: (P, T) float64, spikes of each step, mean of a neuron and an image.
        differing: (N,) int64, neurons whose net count is not the integer ANN's activation.
        joint: (3, M) int64, columns of an activation, a net count, and how many neurons of all images have both.
    """

    net: str
    seed: int
    precision: Precision
    layers: tuple[str, ...]
    positive: np.ndarray
    negative: np.ndarray
    differing: np.ndarray
    joint: np.ndarray


def read_spikes(directory: Path, runs: Iterable[tuple[str, int, str]]) -> list[Spikes]:
    """Read evaluations of the workflow.

    Args:
        directory: the folder of the nets' folders.
        runs: (net, seed, folder) of each, such as ``("cnn1", 0, "k1")``.

    Raises:
        InputError: a file is missing, damaged or of an earlier version.
    """
    found = []
    for run, path in run_files(directory, runs, "evaluation.npz"):
        net, _, precision = run
        kind = "an evaluation with a joint histogram, as of this version"
        advice = f"evaluate {net}, {precision.name} again"
        arrays = read_npz(path, lambda promised: _ARRAYS, kind, advice)
        layers = read_json(path.with_suffix(".json"), _Layers).layers
        with foreign_file(path, kind, advice):
            neurons = np.array([layer.neurons for layer in layers])[:, None] * len(arrays["differing_neurons"])
            positive, negative = (arrays[sign] / neurons for sign in ("positive", "negative"))
            if arrays["joint"].shape[:1] != (3,) or arrays["joint"][2].sum() != neurons.sum():
                raise InputError(f"{path}: not of the same network as evaluation.json; {advice}")
        names = tuple(layer.name for layer in layers)
        found.append(Spikes(*run, names, positive, negative, arrays["differing_neurons"], arrays["joint"]))
    return found


class _Layer(BaseModel):
    name: str
    neurons: Annotated[int, Field(ge=1, le=1 << 53)]


class _Layers(BaseModel):
    """What is needed of evaluation.json."""

    model_config = ConfigDict(strict=True)
    layers: list[_Layer]
