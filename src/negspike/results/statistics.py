"""Each number of a run over its seeds: which there are, how they are written, and ``summary.csv``, which holds them."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated

from pydantic import BaseModel, Field

from negspike.errors import InputError, foreign_file
from negspike.precision import Precision
from negspike.results.collect import Results, read_json
from negspike.results.folders import run_folder
from negspike.results.published import number
from negspike.tables import write_csv

# Numbers that others publish, too, and how they are written.
METRICS = {
    "accuracy": ".2%",
    "settled_step": ",.1f",
    "spikes_per_image": ",.1f",
    "net_spikes_per_image": ",.1f",
    "sops_per_image": ",.0f",
}
# Of the ANN, in the last ten epochs of its training: the mean of each training, and each of these epochs alone.
EPOCHS = {"accuracy_mean_of_last_ten_epochs": ".2%", "accuracy_each_of_last_ten_epochs": ".2%"}
# What evaluation.json has beside them.
FACTS = {
    "integer_ann_accuracy": ".2%",
    "lossless_images": ",.1f",
    "sops_over_reference": ".1%",
    "spikes_per_synapse": ".3f",
    "energy_arithmetic": ".2f",
    "energy_with_memory": ".2f",
}
# Of the lossless check, whole numbers.
CHECKS = {
    "images": ",.1f",
    "silent_images": ",.1f",
    "neurons": ",.1f",
    "neurons_equal": ",.1f",
    "predictions_of_float32_and_integer_ann_differ": ",.1f",
    "predictions_of_integer_ann_and_spiking_network_differ": ",.1f",
}
# in the order in which they are shown
FORMS = {"accuracy": METRICS["accuracy"]} | EPOCHS | METRICS | FACTS | CHECKS
# Net, precision (fp32, k0, ...) and number.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Statistics:
    """Of one number: over how many seeds, and what it is in them; the deviation is the sample's, None of one value."""

    seeds: int
    mean: float
    standard_deviation: float | None
    least: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float], seeds: int | None = None) -> Statistics:
        """Of the values, one a seed if nothing else is said."""
        deviation = stdev(values) if len(values) > 1 else None
        return cls(len(values) if seeds is None else seeds, fmean(values), deviation, min(values), max(values))

    @property
    def one_value(self) -> bool:
        """Whether there is nothing that could spread."""
        return self.standard_deviation is None


def statistics_of(results: Results, directory: Path) -> dict[Key, Statistics]:
    """Of a run's numbers: those of :data:`METRICS`, and of :data:`EPOCHS` where ``ann.json`` is in its folder."""
    numbers: dict[Key, list[float]] = defaultdict(list)
    trainings: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for net, accuracies in results.fp32.items():
        numbers[net, "fp32", "accuracy"] += accuracies
    for run in results.curves:
        values = (run.final_accuracy, run.settled_step, run.spikes[-1], run.net_spikes[-1], run.sops[-1])
        for metric, value in zip(METRICS, values, strict=True):
            numbers[run.net, run.precision.name, metric].append(float(value))
    wanted = [(run.net, run.seed, name) for run in results.curves for name in ("fp32", run.precision.name)]
    for net, seed, name in dict.fromkeys(wanted):
        if epochs := last_epochs(directory, net, seed, name):
            trainings[net, name].append(epochs)
    found = {key: Statistics.of(values) for key, values in numbers.items()}
    mean, each = EPOCHS
    for (net, name), lists in trainings.items():
        found[net, name, mean] = Statistics.of([fmean(epochs) for epochs in lists])
        found[net, name, each] = Statistics.of([value for epochs in lists for value in epochs], len(lists))
    return found


def last_epochs(directory: Path, net: str, seed: int, precision: str) -> list[float]:
    """Test accuracies, fractions, after each of the last ten epochs of a training; empty where they are not known."""
    path = run_folder(directory, net, seed, precision) / "ann.json"
    if not path.is_file():
        return []
    ann = read_json(path, _Ann)
    # the first entry of a short training may be from before it: phase 0, which has no epochs
    return ann.test_accuracy_last_ten_epochs[-trained:] if (trained := sum(one.epochs for one in ann.phases)) else []


def write_statistics(path: Path, statistics: Mapping[Key, Statistics]) -> None:
    """Write a line for each number."""
    names = ("net", "precision", "number")
    write_csv(path, [dict(zip(names, key, strict=True)) | asdict(one) for key, one in ordered(statistics)])


def ordered(statistics: Mapping[Key, Statistics]) -> list[tuple[Key, Statistics]]:
    """By net, precision and number."""
    places = [*FORMS]
    return sorted(
        statistics.items(), key=lambda item: (item[0][0], Precision.parse(item[0][1]), places.index(item[0][2]))
    )


def read_statistics(path: Path) -> dict[Key, Statistics]:
    """Read what :func:`write_statistics` wrote.

    Raises:
        InputError: it is missing, or no such table.
    """
    found: dict[Key, Statistics] = {}
    with foreign_file(path, "a summary.csv", "write it again"):
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
        for line, row in enumerate(rows, 2):
            key = (row["net"], row["precision"], row["number"])
            deviation = row["standard_deviation"]
            numbers = (number(row["mean"]), number(deviation) if deviation else None)
            Precision.parse(key[1])
            if key[2] not in FORMS or key in found:
                what = "is there twice" if key in found else "is unknown"
                raise InputError(f"{path}, line {line}: {' '.join(key)!a} {what}")
            found[key] = Statistics(int(row["seeds"]), *numbers, number(row["least"]), number(row["largest"]))
    if not found:
        raise InputError(f"{path}: no line with a number")
    return found


class _Phase(BaseModel):
    epochs: Annotated[int, Field(ge=0)]


class _Ann(BaseModel):
    """What is needed of ann.json; older ones have no epochs."""

    phases: list[_Phase] = []
    test_accuracy_last_ten_epochs: list[Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]] = []
