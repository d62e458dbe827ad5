"""What trainings cost and reach: accuracy against training images, operations and minutes.

snakemake --cores 2 --configfile presets/recipes.yaml
python -m benchmarks.recipes presets/recipes.yaml

One row for each net and precision of a configuration, from what the workflow wrote. What a training started from counts
with it: a quantised net of the FP32 net's weights has the epochs of both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch
from pydantic import BaseModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.command import command
from negspike.commands.configuration import read_configuration
from negspike.config import Experiment
from negspike.console import aligned
from negspike.data.dataset import load_dataset
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


def rows(experiment: Experiment) -> Iterator[tuple[str, ...]]:
    """One for each net and precision.

    Raises:
        InputError: a training is not there.
    """
    for net in experiment.nets:
        definition = experiment.definitions[net]
        images = len(load_dataset(definition.spec, Path(experiment.data) / f"{definition.dataset}.npz").train.labels)
        each = multiply_accumulates(experiment, net)
        for precision in (Precision("fp32"), *definition.quantization):
            chain = [Precision("fp32"), precision] if definition.from_fp32(precision) else [precision]
            found = [
                [
                    read_json(run_folder(Path(experiment.results), net, seed, one.name) / "ann.json", Trained)
                    for one in chain
                ]
                for seed in experiment.seeds
            ]
            epochs = sum(one.epochs for one in found[0])
            accuracies = [100 * trained[-1].test_accuracy for trained in found]
            spread = f" ± {stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
            yield (
                net,
                precision.name,
                str(len(found)),
                str(epochs),
                f"{epochs * images:,}",
                f"{epochs * images * each:.1e}",
                f"{fmean(sum(one.wall_seconds for one in trained) for trained in found) / 60:.1f}",
                f"{fmean(accuracies):.2f}{spread} %",
            )


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("configuration", type=Path)
    options = parser.parse_args(arguments)
    print(*aligned([HEADER, *rows(read_configuration(options.configuration))], left=2), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
