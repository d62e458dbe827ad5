"""What a run found, for people: one line a network, as a table in Markdown that is read as it is on a terminal, too.

Beside it ``summary.csv``: each number's statistics over the seeds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel

from negspike.files import write_text
from negspike.results.collect import Accuracy, LosslessCheck, Results, read_json
from negspike.results.comparison import HEADER as COMPARED
from negspike.results.comparison import Table, beside_published, read_named, shown
from negspike.results.statistics import (
    CHECKS,
    FACTS,
    Key,
    Statistics,
    last_epochs,
    ordered,
    statistics_of,
    write_statistics,
)
from negspike.tables import markdown

HEADER = (
    *("net", "seed", "precision", "ANN", "10 epochs", "spiking", "lossless images", "settled step", "SOPs an image"),
    *("of ANN's", "spikes a synapse", "energy"),
)


def write_summary(
    results: Results, evaluations: Sequence[Path], figures: str, path: Path, published: str | None = None
) -> None:
    """Write the table, and statistics beside it: of every number how many seeds, mean, deviation and range.

    Args:
        results: the networks.
        evaluations: the ``evaluation.json`` of each of them, in the same order.
        figures: where they are, for the last line.
        path: of the Markdown file, in the folder of the results; the other one has its name and ends in ``.csv``.
        published: what it is set beside, see :func:`negspike.results.comparison.read_named`.

    Raises:
        InputError: a file is missing or wrong.
    """
    facts = [read_json(one, _Evaluation) for one in evaluations]
    rows = [*_full_precision(results, path.parent), *_simulated(results, facts, path.parent)]
    rows.sort(key=lambda row: (row[0], int(row[1])))
    lines = markdown([HEADER, *rows])
    note = (
        "ANN: accuracy after the last epoch; 10 epochs: mean of the last ten. Lossless: images whose network fell\n"
        "silent, with each neuron's net spike count its activation in the ANN.\n"
        "Settled: the step from which on the accuracy stays; a star: some image still spiked at the end. SOPs:\n"
        "synaptic operations, set against the ANN's, 3 for each multiply-accumulate. Spikes a synapse: below, within\n"
        "or above the break-even with an ANN. Energy: over that of a quantised ANN of the same bits, by the model of\n"
        f"docs/metrics.md: arithmetic alone / with memory. Figures: {figures}"
    )
    statistics = _statistics(results, facts, path.parent)
    lines += _over_seeds(statistics, read_named(published) if published else {})
    write_statistics(path.with_suffix(".csv"), statistics)
    write_text(path, "\n".join([*lines, "", _proof([one.lossless_check for one in facts]), note, ""]))


def _over_seeds(statistics: Table, theirs: Table) -> list[str]:
    """A table of what several seeds have, or what is published; no line where there is neither."""
    rows: list[tuple[str, ...]] = []
    for key, one in ordered(statistics):
        beside = beside_published(key, one, theirs)
        if key[2] not in CHECKS and (one.seeds > 1 or beside):
            rows.append((*key, *shown(one, key[2]), *((beside or ("", "", "")) if theirs else ())))
    header = COMPARED if theirs else COMPARED[:-3]
    return ["", *markdown([header, *rows])] if rows else []


def _proof(checks: Sequence[_LosslessCheck]) -> str:
    """What was found equal in all networks together."""
    equal = sum(one.equal for one in checks)
    images, neurons = sum(one.images for one in checks), sum(one.neurons for one in checks)
    same = sum(one.neurons_equal_to_integer_ann for one in checks)
    return f"All nets: {equal:,} of {images:,} images, {same:,} of {neurons:,} neurons equal to the ANN's."


def _full_precision(results: Results, directory: Path) -> Iterator[tuple[str, ...]]:
    for net, accuracies in results.fp32.items():
        seeds = dict.fromkeys(run.seed for run in results.curves if run.net == net)
        for seed, accuracy in zip(seeds, accuracies, strict=False):
            epochs = _mean(last_epochs(directory, net, seed, "fp32"))
            yield (net, str(seed), "fp32", f"{accuracy:.2%}", epochs, *[""] * (len(HEADER) - 5))


def _mean(accuracies: Sequence[float]) -> str:
    return f"{fmean(accuracies):.2%}" if accuracies else ""


def _simulated(results: Results, evaluations: Sequence[_Evaluation], directory: Path) -> Iterator[tuple[str, ...]]:
    for run, facts in zip(results.curves, evaluations, strict=True):
        energy, ratio = facts.energy, facts.energy.over_quantised_ann
        yield (
            *(run.net, str(run.seed), run.precision.name),
            f"{facts.accuracy.integer_ann:.2%}",
            _mean(last_epochs(directory, run.net, run.seed, run.precision.name)),
            f"{run.final_accuracy:.2%}",
            f"{facts.lossless_check.silent_images_equal_to_integer_ann:,} of {run.images:,}",
            f"{run.settled_step}{' *' if run.still_spiking else ''}",
            f"{run.sops[-1]:,.0f}",
            f"{run.sops_over_reference:.1%}",
            f"{energy.spikes_per_synapse:.2f}, {energy.spikes_per_synapse_break_even}",
            f"{ratio.arithmetic:.2f} / {ratio.with_memory:.2f}",
        )


def _statistics(results: Results, evaluations: Sequence[_Evaluation], directory: Path) -> dict[Key, Statistics]:
    """Of each number of each net and precision."""
    numbers: dict[Key, list[float]] = defaultdict(list)
    for run, facts in zip(results.curves, evaluations, strict=True):
        ratio, check, differing = facts.energy.over_quantised_ann, facts.lossless_check, facts.differing_predictions
        found = (
            facts.accuracy.integer_ann,
            check.silent_images_equal_to_integer_ann,
            run.sops_over_reference,
            facts.energy.spikes_per_synapse,
            ratio.arithmetic,
            ratio.with_memory,
            check.images,
            check.silent_images,
            check.neurons,
            check.neurons_equal_to_integer_ann,
            differing.float32_ann_and_integer_ann,
            differing.integer_ann_and_spiking_network,
        )
        for name, value in zip(FACTS | CHECKS, found, strict=True):
            numbers[run.net, run.precision.name, name].append(float(value))
    return statistics_of(results, directory) | {key: Statistics.of(values) for key, values in numbers.items()}


class _LosslessCheck(LosslessCheck):
    images: int
    silent_images: int
    neurons: int
    neurons_equal_to_integer_ann: int


class _Differing(BaseModel):
    float32_ann_and_integer_ann: int
    integer_ann_and_spiking_network: int


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
    differing_predictions: _Differing
    energy: _Energy
