"""What a run found, for people: one line a network, as a table in Markdown that is read as it is on a terminal, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from negspike.files import write_text
from negspike.results.collect import Accuracy, LosslessCheck, Results, read_json

HEADER = ("net", "seed", "precision", "ANN", "spiking", "lossless images", "settled step", "SOPs an image", "of ANN's")


def write_summary(results: Results, evaluations: Sequence[Path], figures: str, path: Path) -> None:
    """Write the table.

    Args:
        results: the networks.
        evaluations: the ``evaluation.json`` of each of them, in the same order.
        figures: where they are, for the last line.
        path: of the Markdown file.
    """
    facts = [read_json(one, _Evaluation) for one in evaluations]
    rows = sorted([*_full_precision(results), *_simulated(results, facts)], key=lambda row: row[:2])
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    left = 3  # columns of text
    rule = ["-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    lines = [
        "| " + " | ".join([*map(str.ljust, row[:left], widths), *map(str.rjust, row[left:], widths[left:])]) + " |"
        for row in (HEADER, rule, *rows)
    ]
    note = (
        "Lossless: images whose network fell silent, with each neuron's net spike count its activation in the ANN.\n"
        "Settled: the step from which on the accuracy stays; a star: some image still spiked at the end. SOPs:\n"
        f"synaptic operations, set against the ANN's, 3 for each multiply-accumulate. Figures: {figures}"
    )
    write_text(path, "\n".join([*lines, "", _proof([one.lossless_check for one in facts]), note, ""]))


def _proof(checks: Sequence[_LosslessCheck]) -> str:
    """What was found equal in all networks together."""
    equal = sum(one.equal for one in checks)
    images, neurons = sum(one.images for one in checks), sum(one.neurons for one in checks)
    same = sum(one.neurons_equal_to_integer_ann for one in checks)
    return f"All nets: {equal:,} of {images:,} images, {same:,} of {neurons:,} neurons equal to the ANN's."


def _full_precision(results: Results) -> Iterator[tuple[str, ...]]:
    for net, accuracies in results.fp32.items():
        seeds = dict.fromkeys(run.seed for run in results.curves if run.net == net)
        for seed, accuracy in zip(seeds, accuracies, strict=False):
            yield (net, str(seed), "fp32", f"{accuracy:.2%}", *[""] * 5)


def _simulated(results: Results, evaluations: Sequence[_Evaluation]) -> Iterator[tuple[str, ...]]:
    for run, facts in zip(results.curves, evaluations, strict=True):
        yield (
            *(run.net, str(run.seed), run.precision.name),
            f"{facts.accuracy.integer_ann:.2%}",
            f"{run.final_accuracy:.2%}",
            f"{facts.lossless_check.silent_images_equal_to_integer_ann:,} of {run.images:,}",
            f"{run.settled_step}{' *' if run.still_spiking else ''}",
            f"{run.sops[-1]:,.0f}",
            f"{run.sops_over_reference:.1%}",
        )


class _LosslessCheck(LosslessCheck):
    images: int
    neurons: int
    neurons_equal_to_integer_ann: int


class _Evaluation(BaseModel):
    """What is needed of evaluation.json."""

    accuracy: Accuracy
    lossless_check: _LosslessCheck
