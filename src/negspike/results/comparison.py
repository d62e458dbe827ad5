"""A run's numbers beside published ones: ours, theirs, and whether theirs lie within the spread of our seeds."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from negspike.errors import InputError
from negspike.results.collect import Results

# Columns of a table of results, and how their numbers are written; a later name of the same stands in for it.
METRICS = {
    "accuracy": ".2%",
    "settled_step": ",.1f",
    "spikes_per_image": ",.1f",
    "net_spikes_per_image": ",.1f",
    "sops_per_image": ",.0f",
}
_ALSO = {"settled_step": ("settled_step_from_log", "settled_step", "settled_step_stated")}
# By net, precision (fp32, k0, ...) and metric: a number of each seed.
Numbers = Mapping[tuple[str, str, str], Sequence[float]]


def numbers_of(results: Results) -> Numbers:
    """The numbers of a run."""
    numbers: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for net, accuracies in results.fp32.items():
        numbers[net, "fp32", "accuracy"] += accuracies
    for run in results.curves:
        values = (run.final_accuracy, run.settled_step, run.spikes[-1], run.net_spikes[-1], run.sops[-1])
        for metric, value in zip(METRICS, values, strict=True):
            numbers[run.net, run.precision.name, metric].append(float(value))
    return numbers


def read_published(path: Path) -> Numbers:
    """The numbers of a table: columns ``net``, ``precision`` (or ``k``) and any of :data:`METRICS`.

    Raises:
        InputError: it is missing or no such table, or a cell is not a number.
    """
    numbers: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such table or folder of logs") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table of comma-separated values ({error})") from None
    for line, row in enumerate(rows, 2):
        precision = row.get("precision") or (f"k{row['k']}" if row.get("k") else None)
        if not row.get("net") or not precision:
            raise InputError(f"{path}, line {line}: columns net and precision (or k) are expected, and filled in")
        for metric in METRICS:
            cell = next((row[name] for name in _ALSO.get(metric, (metric,)) if row.get(name)), None)
            if cell is None:
                continue
            try:
                numbers[row["net"], precision, metric].append(float(cell))
            except ValueError:
                raise InputError(f"{path}, line {line}: {metric} is {cell!r}, expected a number") from None
    if not numbers:
        raise InputError(f"{path}: no line with a number in columns {', '.join(METRICS)}")
    return numbers


def compare(ours: Numbers, theirs: Numbers, run: str, published: str) -> list[tuple[str, ...]]:
    """A table, header first: a line for each number that both have.

    Raises:
        InputError: there is none.
    """
    both = [key for key in ours if key in theirs]
    if not both:
        mine, others = (sorted({net for net, _, _ in numbers}) for numbers in (ours, theirs))
        raise InputError(f"{run} has {', '.join(mine)}, {published} has {', '.join(others)}: no net in common")
    header = ("net", "precision", "number", "seeds", "ours", "least", "largest", "published", "difference", "within")
    rows: list[tuple[str, ...]] = [header]
    for net, precision, metric in both:
        found, form = ours[net, precision, metric], METRICS[metric]
        mean, least, most, other = fmean(found), min(found), max(found), fmean(theirs[net, precision, metric])
        within = "one seed" if len(found) == 1 else "yes" if least <= other <= most else "no"
        shown = [format(value, form) for value in (mean, least, most, other)]
        points, share = 100 * (mean - other), mean / other - 1 if other else 0.0
        shown.append(f"{points:+z.2f} points" if form == ".2%" else f"{share:+z.1%}")
        rows.append((net, precision, metric, str(len(found)), *shown, within))
    return rows
