"""How fast training is: whole epochs, set against what the machine's own matrix product allows.

python -m benchmarks.training presets/cifar10_cpu.yaml --net cnn1 --precision fp32 k1 --recipe published fast

One epoch after the other is trained as the workflow does it: images augmented and standardised, forward and backward
passes, the test set, the checkpoint, the log. Its floating-point operations, of convolutions and matrix products alone,
are set against the rate of one large float32 matrix product. The prepared images must be there:
snakemake --cores 2 data/cifar10.npz --configfile CONFIG
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.command import command
from negspike.arithmetic import prepare_training
from negspike.commands.configuration import read_configuration
from negspike.config import Experiment
from negspike.console import aligned
from negspike.data.dataset import Dataset, Images, load_dataset
from negspike.devices import choose_device
from negspike.errors import InputError
from negspike.precision import Precision
from negspike.stages.run import Run
from negspike.training.phase import train_phase
from negspike.training.schedule import Phase, Recipe

SIDE, TRIES = 2048, 20
HEADER = ("net", "precision", "recipe", "images/s", "epoch, s", "GFLOP/s", "of the matrix product")


def matrix_product_rate(device: torch.device) -> float:
    """Floating-point operations a second of a square float32 matrix product, the best of some tries."""
    factors = torch.randn(2, SIDE, SIDE, device=device)
    best = float("inf")
    for _ in range(TRIES):
        started = time.perf_counter()
        product = factors[0] @ factors[1]
        product.sum().item()  # a GPU has finished
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best


def epoch_operations(network: nn.Module, dataset: Dataset) -> int:
    """Floating-point operations of all convolutions and matrix products of an epoch, as PyTorch counts them."""
    example = torch.zeros(2, *dataset.spec.input_shape)  # batch norm trains on no single image
    with FlopCounterMode(display=False) as training:
        network.train()(example).sum().backward()
    with FlopCounterMode(display=False) as testing, torch.no_grad():
        network.eval()(example)
    trained, tested = len(dataset.train.labels), len(dataset.test.labels) + len(dataset.validation.labels)
    operations: int = trained * training.get_total_flops() + tested * testing.get_total_flops()
    return operations // len(example)


def part(dataset: Dataset, images: int) -> Dataset:
    """So many images to train with, and as large a share of the others."""
    share = images / len(dataset.train.labels)

    def some(split: Images) -> Images:
        count = round(share * len(split.labels))
        return Images(split.pixels[:count], split.labels[:count])

    return replace(dataset, train=some(dataset.train), validation=some(dataset.validation), test=some(dataset.test))


def measure(
    experiment: Experiment,
    net: str,
    precision: str,
    recipe: Recipe,
    *,
    epochs: int,
    images: int | None,
    device: torch.device,
) -> tuple[float, float, float]:
    """Images a second, seconds of an epoch and operations a second; the fastest epoch."""
    if net not in experiment.definitions:
        raise InputError(f"--net {net}: there are {', '.join(experiment.definitions)}")
    definition, parsed = experiment.definitions[net], Precision.parse(precision)
    run = Run(net, definition.science(), 0, precision, None if parsed.kind == "fp32" else experiment.weight_bits)
    dataset = load_dataset(definition.spec, Path(experiment.data) / f"{definition.dataset}.npz")
    dataset = part(dataset, images) if images else dataset
    phase = Phase(1, epochs, 1e-3, definition.batch_size, recipe)
    moments = [time.perf_counter()]

    def report(line: str) -> None:
        if " done: " in line:
            moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        train_phase(run.network().to(device), dataset, phase, 0, Path(folder) / "checkpoint", report)
    # the first epoch also has what is done once: images prepared, the optimiser imported
    seconds = min(later - earlier for earlier, later in pairwise(moments[1:]))
    return len(dataset.train.labels) / seconds, seconds, epoch_operations(run.network(), dataset) / seconds


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table, one line for each training."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("configuration", type=Path)
    parser.add_argument("--net", nargs="+", help="default: all of the configuration")
    parser.add_argument("--precision", nargs="+", default=["fp32", "k1"], metavar="P")
    parser.add_argument("--recipe", nargs="+", default=["published", "fast"], choices=("published", "fast"))
    parser.add_argument("--epochs", type=int, default=3, help="the fastest but the first counts; at least 2")
    parser.add_argument("--images", type=int, help="train with so many images only")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    options = parser.parse_args(arguments)
    if options.epochs < 2:
        raise InputError(f"--epochs {options.epochs}: at least 2, the first is not counted")
    prepare_training(options.threads)
    device, experiment = choose_device(options.device), read_configuration(options.configuration)
    limit = matrix_product_rate(device)
    where = f"{device.type}, {options.threads} threads"
    print(f"a {SIDE} x {SIDE} float32 matrix product on {where}: {limit / 1e9:.0f} GFLOP/s")
    rows = [HEADER]
    for case in product(options.net or experiment.nets, options.precision, options.recipe):
        images, seconds, operations = measure(
            experiment, *case, epochs=options.epochs, images=options.images, device=device
        )
        rows.append((*case, f"{images:,.0f}", f"{seconds:.1f}", f"{operations / 1e9:.0f}", f"{operations / limit:.2f}"))
    print(*aligned(rows, left=3), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
