"""What trainings cost and reach: accuracy against training images, operations and minutes.

snakemake --cores 2 --configfile presets/recipes.yaml
python -m benchmarks.recipes presets/recipes.yaml
python -m benchmarks.recipes presets/epochs.yaml --figure docs/epochs.png    (docs/training.md)

One row for each net and precision of a configuration, from what the workflow wrote. What a training started from counts
with it: a quantised net of the FP32 net's weights has the epochs of both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from matplotlib.ticker import NullLocator
from pydantic import BaseModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.command import command
from benchmarks.report import save
from negspike.commands.configuration import read_configuration
from negspike.config import Experiment
from negspike.console import aligned
from negspike.data.dataset import load_dataset
from negspike.figures.style import DASHED, canvas, look, styled
from negspike.precision import Precision
from negspike.results.collect import read_json
from negspike.results.folders import run_folder
from negspike.stages.run import Run

HEADER = ("net", "precision", "seeds", "epochs", "images", "multiply-accumulates", "minutes", "test accuracy")


class Phase(BaseModel):
    """A phase of a training."""

    epochs: int


class Trained(BaseModel):
    """What ``ann.json`` says of a training."""

    test_accuracy: float
    wall_seconds: float
    phases: list[Phase]

    @property
    def epochs(self) -> int:
        """Of all of its phases."""
        return sum(phase.epochs for phase in self.phases)


def multiply_accumulates(experiment: Experiment, net: str) -> int:
    """Of the forward and the backward pass of one image."""
    definition = experiment.definitions[net]
    network = Run(net, definition.science(), 0, "fp32", None).network()
    with FlopCounterMode(display=False) as counted:
        network.train()(torch.zeros(2, *definition.spec.input_shape)).sum().backward()
    operations: int = counted.get_total_flops()
    return operations // 4  # two images, two operations each


class Row(NamedTuple):
    """What one kind of network has cost and reached.

    Attributes:
        precision: what its activations are.
        from_fp32: it was quantised from the FP32 network, whose epochs count with its own.
        epochs, images, operations: of one training in all; operations are multiply-accumulates.
        minutes: mean over seeds.
        accuracies: of the test set, in per cent, one a seed.
    """

    net: str
    precision: Precision
    from_fp32: bool
    epochs: int
    images: int
    operations: int
    minutes: float
    accuracies: list[float]

    def cells(self) -> tuple[str, ...]:
        """As in the table."""
        spread = f" ± {stdev(self.accuracies):.2f}" if len(self.accuracies) > 1 else ""
        return (
            self.net,
            self.precision.name,
            str(len(self.accuracies)),
            str(self.epochs),
            f"{self.images:,}",
            f"{self.operations:.1e}",
            f"{self.minutes:.1f}",
            f"{fmean(self.accuracies):.2f}{spread} %",
        )


def rows(experiment: Experiment) -> Iterator[Row]:
    """One for each net and precision.

    Raises:
        InputError: a training is not there.
    """
    for net in experiment.nets:
        definition = experiment.definitions[net]
        images = len(load_dataset(definition.spec, Path(experiment.data) / f"{definition.dataset}.npz").train.labels)
        each = multiply_accumulates(experiment, net)
        for precision in (Precision("fp32"), *definition.quantization):
            from_fp32 = precision.kind != "fp32" and definition.from_fp32(precision)
            chain = [Precision("fp32"), precision] if from_fp32 else [precision]
            found = [
                [
                    read_json(run_folder(Path(experiment.results), net, seed, one.name) / "ann.json", Trained)
                    for one in chain
                ]
                for seed in experiment.seeds
            ]
            epochs = sum(one.epochs for one in found[0])
            yield Row(
                net,
                precision,
                from_fp32,
                epochs,
                epochs * images,
                epochs * images * each,
                fmean(sum(one.wall_seconds for one in trained) for trained in found) / 60,
                [100 * trained[-1].test_accuracy for trained in found],
            )


def draw(found: Sequence[Row], path: Path) -> None:
    """Accuracy against epochs in all, PNG: k left, levels right, each from scratch and from FP32 weights.

    FP32 networks that others start from are left out: they are in the middle of a training.
    """
    begun = {row.net for row in found if row.from_fp32}
    found = [row for row in found if row.precision.kind != "fp32" or row.net not in begun]
    precisions = sorted({row.precision for row in found})
    with styled():
        figure = canvas()
        figure.set_size_inches(7.2, 3.0)
        figure.set_layout_engine("constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for precision in precisions:
            for from_fp32 in (False, True):
                mine = sorted(
                    (row for row in found if (row.precision, row.from_fp32) == (precision, from_fp32)),
                    key=lambda row: row.epochs,
                )
                if not mine:
                    continue
                style = look(precision, precisions) | {"linestyle": "-" if from_fp32 else DASHED}
                label = f"{precision} {'from FP32' if from_fp32 else 'from scratch'}"
                for axes in panels if precision.kind == "fp32" else [panels[int(precision.kind == "levels")]]:
                    axes.errorbar(
                        [row.epochs for row in mine],
                        [fmean(row.accuracies) for row in mine],
                        [stdev(row.accuracies) if len(row.accuracies) > 1 else 0.0 for row in mine],
                        label=label if axes is panels[0] or precision.kind == "levels" else None,
                        markerfacecolor=None if from_fp32 else "white",
                        capsize=2,
                        **style,
                    )
        for axes in panels:
            axes.set_xscale("log", base=2)
            epochs = sorted({row.epochs for row in found})
            axes.set_xticks(epochs, [str(one) for one in epochs])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("epochs in all")
            axes.grid(True)
        panels[0].set_ylabel("test accuracy (%)")
        figure.legend(loc="outside lower center", ncols=4)
        save(figure, path, ("png",))


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("configuration", type=Path)
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw accuracy against epochs")
    options = parser.parse_args(arguments)
    found = list(rows(read_configuration(options.configuration)))
    if options.figure:
        draw(found, options.figure)
    print(*aligned([HEADER, *(row.cells() for row in found)], left=2), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
