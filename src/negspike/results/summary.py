"""What a run found, for people: one line a network, as a table in Markdown that is read as it is on a terminal, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from negspike.files import write_text
from negspike.results.collect import Results

HEADER = ("net", "seed", "precision", "ANN", "spiking", "lossless images", "settled step", "SOPs an image", "of ANN's")


def write_summary(results: Results, evaluations: Sequence[Path], figures: str, path: Path) -> None:
    """Write the table.

    Args:
        results: the networks.
        evaluations: the ``evaluation.json`` of each of them, in the same order.
        figures: where they are, for the last line.
        path: of the Markdown file.
    """
    rows = sorted([*_full_precision(results), *_simulated(results, evaluations)], key=lambda row: row[:2])
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
    write_text(path, "\n".join([*lines, "", note, ""]))


def _full_precision(results: Results) -> Iterator[tuple[str, ...]]:
    for net, accuracies in results.fp32.items():
        seeds = dict.fromkeys(run.seed for run in results.curves if run.net == net)
        for seed, accuracy in zip(seeds, accuracies, strict=False):
            yield (net, str(seed), "fp32", f"{accuracy:.2%}", *[""] * 5)


def _simulated(results: Results, evaluations: Sequence[Path]) -> Iterator[tuple[str, ...]]:
    for run, path in zip(results.curves, evaluations, strict=True):
        facts = json.loads(path.read_text(encoding="utf-8"))
        equal = facts["lossless_check"]["silent_images_equal_to_integer_ann"]
        yield (
            *(run.net, str(run.seed), run.precision.name),
            f"{facts['accuracy']['integer_ann']:.2%}",
            f"{run.final_accuracy:.2%}",
            f"{equal:,} of {run.images:,}",
            f"{run.settled_step}{' *' if run.still_spiking else ''}",
            f"{run.sops[-1]:,.0f}",
            f"{run.sops_over_reference:.1%}",
        )
