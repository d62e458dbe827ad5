"""What few quantisation levels cost: accuracy, time steps and synaptic operations, before and after fine-tuning.

snakemake --cores 2 results/resnet20_cifar10/resnet20/seed0/fp32/ann.json --configfile presets/resnet20_cifar10.yaml
python -m benchmarks.levels presets/resnet20_cifar10.yaml

The FP32 network that the workflow has trained is quantised, and fine-tuned, to each number of levels as the workflow
does it. Weights and rows that are finished are kept: the same command goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.command import command, say
from benchmarks.report import save
from negspike.commands.configuration import read_configuration
from negspike.console import logged
from negspike.data.dataset import Dataset, load_dataset
from negspike.data.images import prepare_images
from negspike.errors import InputError
from negspike.figures.style import DASHED, DOTTED, GREY, canvas, styled
from negspike.precision import Precision
from negspike.results.evaluation import evaluate
from negspike.results.metrics import settled_step
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.simulation import UNTIL_SILENT, make_engine
from negspike.stages.convert import convert
from negspike.stages.run import Hardware, Run
from negspike.stages.train import train
from negspike.tables import write_csv
from negspike.training.schedule import Phase

LEVELS = (1, 2, 3, 7, 15, 31)
# levels, epochs of fine-tuning -> the table's row
Rows = dict[tuple[int, int], dict[str, str]]


class Study:
    """The only net of a configuration, what the workflow has made of it, and where the results go.

    Args:
        options: of the command line.

    Raises:
        InputError: there are several nets, or the workflow has not trained it.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        experiment = read_configuration(options.configuration)
        if len(experiment.nets) > 1:
            raise InputError(f"{options.configuration} has {len(experiment.nets)} nets: name one that has one")
        results = Path(experiment.results)
        self.net, self.seed = experiment.nets[0], experiment.seeds[0]
        self.definition = experiment.definitions[self.net]
        self.dataset = Path(experiment.data) / f"{self.definition.dataset}.npz"
        self.fp32 = results / self.net / f"seed{self.seed}" / "fp32" / "weights.pt"
        self.out, self.images, self.finetuned = options.out or results / "levels", options.images, options.finetune
        self.hardware = Hardware(options.device, options.threads)
        for needed in (self.dataset, self.fp32):
            if not needed.is_file():
                raise InputError(
                    f"{needed} is missing: snakemake --cores 2 {needed} --configfile {options.configuration}"
                )

    @property
    def table(self) -> Path:
        """One row for each network."""
        return self.out / f"{self.net}.csv"

    def run(self, levels: int) -> Run:
        """The network of so many levels."""
        return Run(self.net, self.definition.science(), self.seed, f"levels{levels}", 24)

    def schedule(self, levels: int) -> tuple[Phase, ...]:
        """The phases of fine-tuning."""
        phases = self.definition.phases(Precision.parse(f"levels{levels}"))
        return phases if self.finetuned is None or levels in self.finetuned else ()

    def weights(self, levels: int) -> list[Path]:
        """Weights before any training, and after every phase; what is missing is made."""
        folder, phases = self.out / f"{self.net}-levels{levels}", self.schedule(levels)
        made = [folder / f"phase{number}" / "weights.pt" for number in range(len(phases) + 1)]
        for number, weights in enumerate(made):
            if weights.is_file():
                continue
            train(
                self.run(levels),
                phases[:number],
                source=self.fp32,
                reconstruction_steps=self.definition.reconstruction,
                dataset=self.dataset,
                folder=folder,
                hardware=self.hardware,
                report=say,
            )
            weights.parent.mkdir(exist_ok=True)
            for name in ("ann.json", "weights.pt"):
                (folder / name).replace(weights.with_name(name))
        return made

    def row(self, levels: int, epochs: int, weights: Path, data: Dataset) -> dict[str, str]:
        """Convert a network, simulate evenly spread test images until they are silent, and count."""
        spiking = weights.with_suffix(".npz")
        convert(self.run(levels), weights=weights, output=spiking, report=say)
        network = SpikingNetwork.load(spiking)
        count = len(data.test.labels)
        chosen = np.linspace(0, count - 1, min(self.images, count)).round().astype(int)
        evaluation = evaluate(
            network,
            prepare_images(data.spec, data.test.pixels[chosen]),
            data.test.labels[chosen],
            timesteps=UNTIL_SILENT,
            runner=make_engine(network, "auto", threads=self.hardware.threads, device=self.hardware.device),
            report=say,
        )
        log, checked = evaluation.log, evaluation.lossless_check()
        assert log.correct is not None, "labels were given"
        row = {
            "levels": levels,
            "epochs": epochs,
            "fp32_accuracy": accuracy(self.fp32),
            "accuracy": accuracy(weights),
            "test_images": count,
            "simulated_images": len(chosen),
            "silent_images": checked["silent_images"],
            "equal_images": checked["silent_images_equal_to_integer_ann"],
            "settled_step": settled_step(log.correct.sum(0)),
            "latest_silent_step": int(log.silent.max()),
            "latency_bound": network.latency_bound,
            "sops_per_image": float(log.sops[:, -1].mean()),
            "ann_operations": network.reference_operations,
        }
        return {name: str(value) for name, value in row.items()}


def accuracy(weights: Path) -> str:
    """Of all test images, as the file beside the weights has it."""
    return str(json.loads(weights.with_name("ann.json").read_text(encoding="utf-8"))["test_accuracy"])


def read(table: Path) -> Rows:
    """The rows that are there."""
    if not table.is_file():
        return {}
    with open(table, encoding="utf-8", newline="") as stream:
        return {(int(row["levels"]), int(row["epochs"])): row for row in csv.DictReader(stream)}


def draw(rows: Rows, study: Study) -> None:
    """Accuracy, operations and time steps against levels, as PDF and PNG beside the table."""
    levels = sorted({one for one, _ in rows})
    after = max(epochs for _, epochs in rows)
    kinds = {
        "quantised without labels": ("#0072B2", "o", sorted(key for key in rows if key[1] == 0)),
        f"and fine-tuned for {after} epochs": ("#D55E00", "s", sorted(key for key in rows if key[1] == after)),
    }
    first = next(iter(rows.values()))
    fp32 = 100 * float(first["fp32_accuracy"])
    with styled():
        figure = canvas()
        figure.set_size_inches(7.2, 2.6)
        figure.set_layout_engine("constrained")
        accuracies, operations, steps = figure.subplots(1, 3)
        accuracies.axhline(fp32, color=GREY, linestyle=DASHED, label=f"FP32: {fp32:.2f} %; ANN: 3 operations a MAC")
        operations.axhline(1.0, color=GREY, linestyle=DASHED)
        bounds = [float(rows[one, 0]["latency_bound"]) for one in levels]
        for axes in (steps, accuracies):
            axes.plot(levels, bounds, color="black", linestyle=DOTTED, marker="^", label="certified latency")
            bounds = [np.nan] * len(levels)  # once more for the legend alone
        for label, (colour, marker, keys) in kinds.items():
            for axes, values in (
                (accuracies, [100 * float(rows[key]["accuracy"]) for key in keys]),
                (operations, [float(rows[key]["sops_per_image"]) / int(first["ann_operations"]) for key in keys]),
                (steps, [int(rows[key]["latest_silent_step"]) for key in keys]),
            ):
                axes.plot([one for one, _ in keys], values, color=colour, marker=marker, label=label)
        titles = ("test accuracy (%)", "SOPs / operations of the ANN", "steps until all are silent")
        for axes, title in zip((accuracies, operations, steps), titles, strict=True):
            axes.set_title(title, loc="left", fontsize=8)
            axes.set_xscale("log", base=2)
            axes.set_xticks(levels, [str(one) for one in levels])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("quantisation levels")
            axes.grid(True)
        operations.set_ylim(bottom=0)
        steps.set_yscale("log")
        steps.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        figure.legend(*accuracies.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save(figure, study.table, ("pdf", "png"))


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the table, one row after the other, and draw it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.levels", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("configuration", type=Path, help="of one net with init: fp32, whose FP32 training is finished")
    parser.add_argument("--levels", type=int, nargs="+", default=LEVELS, metavar="L")
    parser.add_argument("--finetune", type=int, nargs="*", metavar="L", help="these levels only (default: all)")
    parser.add_argument("--images", type=int, default=1000, help="test images to simulate, evenly spread")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--out", type=Path, help="folder; default: levels/ in the folder of the results")
    options = parser.parse_args(arguments)
    study = Study(options)
    data, rows = load_dataset(study.definition.spec, study.dataset), read(study.table)
    for levels in options.levels:
        with logged(say):
            made = study.weights(levels)
        for number, weights in enumerate(made):
            epochs = sum(phase.epochs for phase in study.schedule(levels)[:number])
            if weights in (made[0], made[-1]) and (levels, epochs) not in rows:
                rows[levels, epochs] = study.row(levels, epochs, weights, data)
                write_csv(study.table, [rows[key] for key in sorted(rows)])
    draw(rows, study)


if __name__ == "__main__":
    sys.exit(main())
