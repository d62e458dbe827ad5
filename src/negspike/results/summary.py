"""What a run found, for people: one line a network, as a table in Markdown that is read as it is on a terminal, too.

Beside it ``summary.csv``: each number's statistics over the seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pydantic import BaseModel

from negspike.files import write_text
from negspike.results.collect import Accuracy, LosslessCheck, Results, read_json
from negspike.results.comparison import METRICS, numbers_of
from negspike.tables import write_csv

HEADER = (
    *("net", "seed", "precision", "ANN", "spiking", "lossless images", "settled step", "SOPs an image", "of ANN's"),
    *("spikes a synapse", "energy"),
)
# How numbers are written that evaluation.json has beside those of METRICS.
_FACTS = {
    "integer_ann_accuracy": ".2%",
    "lossless_images": ",.1f",
    "sops_over_reference": ".1%",
    "spikes_per_synapse": ".3f",
    "energy_arithmetic": ".2f",
    "energy_with_memory": ".2f",
}


def write_summary(results: Results, evaluations: Sequence[Path], figures: str, path: Path) -> None:
    """Write the table, and statistics beside it: of every number how many seeds, mean, deviation and range.

    Args:
        results: the networks.
        evaluations: the ``evaluation.json`` of each of them, in the same order.
        figures: where they are, for the last line.
        path: of the Markdown file; the other one has its name and ends in ``.csv``.
    """
    facts = [read_json(one, _Evaluation) for one in evaluations]
    rows = sorted([*_full_precision(results), *_simulated(results, facts)], key=lambda row: row[:2])
    lines = _markdown([HEADER, *rows])
    note = (
        "Lossless: images whose network fell silent, with each neuron's net spike count its activation in the ANN.\n"
        "Settled: the step from which on the accuracy stays; a star: some image still spiked at the end. SOPs:\n"
        "synaptic operations, set against the ANN's, 3 for each multiply-accumulate. Spikes a synapse: below, within\n"
        "or above the break-even with an ANN. Energy: over that of a quantised ANN of the same bits, by the model of\n"
        f"docs/metrics.md: arithmetic alone / with memory. Figures: {figures}"
    )
    statistics = _statistics(results, facts)
    if any(row["seeds"] > 1 for row in statistics):
        forms = METRICS | _FACTS
        shown = [
            (*(str(row[name]) for name in ("net", "precision", "number", "seeds")), *_shown(row, forms[row["number"]]))
            for row in statistics
            if row["seeds"] > 1
        ]
        header = ("net", "precision", "number", "seeds", "mean", "deviation", "least", "largest")
        lines += ["", *_markdown([header, *shown])]
    write_csv(path.with_suffix(".csv"), statistics)
    write_text(path, "\n".join([*lines, "", _proof([one.lossless_check for one in facts]), note, ""]))


def _proof(checks: Sequence[_LosslessCheck]) -> str:
    """What was found equal in all networks together."""
    equal = sum(one.equal for one in checks)
    images, neurons = sum(one.images for one in checks), sum(one.neurons for one in checks)
    same = sum(one.neurons_equal_to_integer_ann for one in checks)
    return f"All nets: {equal:,} of {images:,} images, {same:,} of {neurons:,} neurons equal to the ANN's."


def _markdown(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of a table, header first, with three columns of text."""
    widths, left = [max(map(len, column)) for column in zip(*rows, strict=True)], 3
    rule = tuple("-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths))
    return [
        "| " + " | ".join([*map(str.ljust, row[:left], widths), *map(str.rjust, row[left:], widths[left:])]) + " |"
        for row in (rows[0], rule, *rows[1:])
    ]


def _full_precision(results: Results) -> Iterator[tuple[str, ...]]:
    for net, accuracies in results.fp32.items():
        seeds = dict.fromkeys(run.seed for run in results.curves if run.net == net)
        for seed, accuracy in zip(seeds, accuracies, strict=False):
            yield (net, str(seed), "fp32", f"{accuracy:.2%}", *[""] * (len(HEADER) - 4))


def _simulated(results: Results, evaluations: Sequence[_Evaluation]) -> Iterator[tuple[str, ...]]:
    for run, facts in zip(results.curves, evaluations, strict=True):
        energy, ratio = facts.energy, facts.energy.over_quantised_ann
        yield (
            *(run.net, str(run.seed), run.precision.name),
            f"{facts.accuracy.integer_ann:.2%}",
            f"{run.final_accuracy:.2%}",
            f"{facts.lossless_check.silent_images_equal_to_integer_ann:,} of {run.images:,}",
            f"{run.settled_step}{' *' if run.still_spiking else ''}",
            f"{run.sops[-1]:,.0f}",
            f"{run.sops_over_reference:.1%}",
            f"{energy.spikes_per_synapse:.2f}, {energy.spikes_per_synapse_break_even}",
            f"{ratio.arithmetic:.2f} / {ratio.with_memory:.2f}",
        )


def _statistics(results: Results, evaluations: Sequence[_Evaluation]) -> list[dict[str, Any]]:
    """A row for each number of each net and precision; the deviation is the sample's, empty for one seed."""
    numbers = defaultdict(list, {key: list(values) for key, values in numbers_of(results).items()})
    for run, facts in zip(results.curves, evaluations, strict=True):
        ratio = facts.energy.over_quantised_ann
        found = (
            facts.accuracy.integer_ann,
            float(facts.lossless_check.silent_images_equal_to_integer_ann),
            run.sops_over_reference,
            facts.energy.spikes_per_synapse,
            ratio.arithmetic,
            ratio.with_memory,
        )
        for name, value in zip(_FACTS, found, strict=True):
            numbers[run.net, run.precision.name, name].append(value)
    return [
        {
            **{"net": net, "precision": precision, "number": name, "seeds": len(values), "mean": fmean(values)},
            "standard_deviation": stdev(values) if len(values) > 1 else "",
            **{"least": min(values), "largest": max(values)},
        }
        for (net, precision, name), values in sorted(numbers.items(), key=lambda item: item[0][:2])
    ]


def _shown(row: dict[str, Any], form: str) -> list[str]:
    return [format(row[name], form) for name in ("mean", "standard_deviation", "least", "largest")]


class _LosslessCheck(LosslessCheck):
    images: int
    neurons: int
    neurons_equal_to_integer_ann: int


class _Ratio(BaseModel):
    arithmetic: float
    with_memory: float


class _Energy(BaseModel):
    spikes_per_synapse: float
    spikes_per_synapse_break_even: str
    over_quantised_ann: _Ratio


class _Evaluation(BaseModel):
    """What is needed of evaluation.json."""

    accuracy: Accuracy
    lossless_check: _LosslessCheck
    energy: _Energy
