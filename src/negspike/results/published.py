"""Published curves to set ours beside: those of the paper, a table of somebody's, or a folder of logs."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from negspike.config_sections import LARGEST_COUNT
from negspike.errors import InputError, foreign_file, one_line
from negspike.precision import Precision
from negspike.results.collect import Results, collect
from negspike.results.metrics import Curves, Series
from negspike.user_files import published_file

# C. Zou et al., "Towards a Lossless Conversion for Spiking Neural Networks with Negative-Spike Dynamics", 2023.
SOURCES = {"zou2023": "Zou et al. 2023"}
# What can be published of a step. Spikes are drawn a neuron, so their number of neurons must be known.
COLUMNS = ("accuracy", "spikes_per_image", "net_spikes_per_image", "sops_per_image")


@dataclass(frozen=True, eq=False)
class PublishedCurve:
    """One published network, over time.

    Attributes:
        net, precision: which network it was.
        steps: (P,) int64, time steps counted from 1, rising; not all need be known.
        series: (P,) float64 each, by the names in the tables beside figures: ``accuracy``, a fraction;
            ``spikes_per_image`` and so on, cumulative; ``spikes_per_neuron`` and ``net_spikes_per_neuron`` where the
            neurons are known. What is not published is missing.
        neurons: outputs of all spiking layers; None if not known.
        seed: none; there is one of each.
    """

    net: str
    precision: Precision
    steps: np.ndarray
    series: Mapping[str, Series]
    neurons: int | None = None
    seed: str = ""


@dataclass(frozen=True, eq=False)
class Published:
    """Published networks.

    Attributes:
        source: who published them, for a legend.
        curves: of each net, its networks.
        fp32: of each net, the accuracy in full precision, a fraction, where it is known.
    """

    source: str
    curves: Mapping[str, Mapping[Precision, PublishedCurve]]
    fp32: Mapping[str, float]


def read_published(name: str, **reading: Any) -> Published:
    """Read published curves.

    Args:
        name: one of :data:`SOURCES`; a table of comma-separated values with the columns ``net``, ``precision`` (or
            ``k``), ``timestep`` and some of :data:`COLUMNS` and ``neurons``, whose lines without a time step are of
            ``fp32``; or a folder of logs.
        reading: how logs are read, see :func:`negspike.results.collect.collect`.

    Raises:
        InputError: it is missing, or wrong.
    """
    path = published_file(name)
    curves: dict[str, dict[Precision, PublishedCurve]] = {}
    if path.is_dir():
        results = collect(path, **reading)
        for run in results.curves:
            if run.precision in curves.setdefault(run.net, {}):
                raise InputError(f"{path}: {run.net}, {run.precision}, has several seeds; a published network has one")
            curves[run.net][run.precision] = _of_logs(run)
        return Published(path.name, curves, {net: float(np.mean(known)) for net, known in results.fp32.items()})
    steps, fp32 = _read_table(path)
    for (net, precision), rows in steps.items():
        curves.setdefault(net, {})[precision] = _of_table(path, net, precision, rows)
    return Published(SOURCES.get(name, path.stem), curves, fp32)


def beside(results: Results, published: Published) -> Results:
    """The same results, drawn beside published ones.

    Raises:
        InputError: no net is in both.
    """
    shared_nets(published, dict.fromkeys(run.net for run in results.curves))
    return replace(results, published=published)


def shared_nets(published: Published, nets: Iterable[str]) -> list[str]:
    """Those of the nets that are published.

    Raises:
        InputError: none is.
    """
    ours = [*nets]
    if not (shared := [net for net in ours if net in published.curves]):
        theirs = ", ".join(published.curves)
        raise InputError(f"{published.source} has {theirs}, the results are about {', '.join(ours)}: no net in common")
    return shared


def row_precision(row: Mapping[str, str | None]) -> Precision | None:
    """Of a line of a table with a column ``precision``, ``k`` or ``levels``; None where none is filled in.

    Raises:
        InputError: it is none.
    """
    for column, prefix in (("precision", ""), ("k", "k"), ("levels", "levels")):
        if row.get(column):
            return Precision.parse(f"{prefix}{row[column]}")
    return None


def number(text: str | None) -> float:
    """A finite number.

    Raises:
        ValueError: it is none.
    """
    value = float(text or "")
    if not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value


_Rows = dict[int, dict[str, float]]


def _read_table(path: Path) -> tuple[dict[tuple[str, Precision], _Rows], dict[str, float]]:
    """The numbers of each network by step, and the accuracies in full precision."""
    steps: dict[tuple[str, Precision], _Rows] = {}
    fp32: dict[str, float] = {}
    with foreign_file(path, "a table of published curves", "columns net, precision and timestep are expected"):
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        rows = list(reader)
        columns = [name for name in COLUMNS if name in (reader.fieldnames or ())]
    if "timestep" not in (reader.fieldnames or ()) or not columns:
        raise InputError(f"{path}: expected the columns net, precision, timestep and some of {', '.join(COLUMNS)}")
    for line, row in enumerate(rows, 2):
        where = f"{path}, line {line}"
        try:
            precision = row_precision(row)
            numbers = {name: published_number(name, row[name]) for name in (*columns, "neurons") if row.get(name)}
            step = int(row["timestep"]) if row["timestep"] else None
        except ValueError as error:  # an InputError is one
            raise InputError(f"{where}: {one_line(error)}") from error
        complete = row.get("net") and precision is not None and (step is None) == (precision.kind == "fp32")
        if not complete or precision is None or (step is not None and not 1 <= step <= LARGEST_COUNT):
            raise InputError(f"{where}: expected a net, its precision and a time step from 1 on; fp32 has no time step")
        if step is None:
            if row["net"] in fp32:
                raise InputError(f"{where}: {row['net']} in full precision is there twice")
            fp32 |= {row["net"]: numbers["accuracy"]} if "accuracy" in numbers else {}
        elif steps.setdefault((row["net"], precision), {}).setdefault(step, numbers) is not numbers:
            raise InputError(f"{where}: step {step} of {row['net']}, {precision}, is there twice")
    if not steps:
        raise InputError(f"{path}: no line with a time step")
    return steps, fp32


def published_number(column: str, text: str | None) -> float:
    """A number of a column: no less than 0, unless of net spikes, and of an accuracy no more than 1.

    Raises:
        ValueError: it is none.
    """
    value = number(text)
    if (value < 0 and not column.startswith("net_")) or (column == "accuracy" and value > 1):
        raise ValueError(f"{column} is {text}, expected {'a fraction' if column == 'accuracy' else 'no less than 0'}")
    return value


def _of_table(path: Path, net: str, precision: Precision, rows: _Rows) -> PublishedCurve:
    ordered = dict(sorted(rows.items()))
    known = {name for numbers in ordered.values() for name in numbers}
    where = f"{path}: {net}, {precision}"
    for step, numbers in ordered.items():
        if missing := known - numbers.keys():
            raise InputError(f"{where}, step {step}: {', '.join(sorted(missing))} is missing, other steps have it")
    series = {name: np.array([numbers[name] for numbers in ordered.values()]) for name in known}
    sizes = set(series.pop("neurons", np.empty(0)).tolist())
    if len(sizes) > 1 or any(size < 1 for size in sizes):
        raise InputError(f"{where}: neurons are {', '.join(f'{size:g}' for size in sizes)}; expected one number")
    if not sizes and known & {*COLUMNS[1:3]}:
        raise InputError(f"{where}: spikes are drawn a neuron, so a column neurons is expected")
    neurons = int(sizes.pop()) if sizes else None
    return PublishedCurve(net, precision, np.array([*ordered]), _a_neuron(series, neurons), neurons)


def _of_logs(run: Curves) -> PublishedCurve:
    values = (run.accuracy, run.spikes, run.net_spikes, run.sops)
    series = _a_neuron(dict(zip(COLUMNS, values, strict=True)), run.neurons)
    return PublishedCurve(run.net, run.precision, np.arange(1, run.timesteps + 1), series, run.neurons)


def _a_neuron(series: dict[str, Series], neurons: int | None) -> dict[str, Series]:
    """With the spikes of a neuron beside those of an image."""
    if neurons is None:
        return series
    spikes = {name: series[name] for name in COLUMNS[1:3] if name in series}
    return series | {name.replace("image", "neuron"): values / neurons for name, values in spikes.items()}
