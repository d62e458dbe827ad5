"""What narrow thresholds and bases cost: predictions and activations that differ, and accuracy.

snakemake --cores 2 --configfile presets/digits.yaml
python -m benchmarks.thresholds results/digits/digits/seed0/k1/spiking.npz

Each network of the workflow is narrowed to each width, and its integer ANN, which is what it computes when it is
silent, compared with that of the network as it was, on the whole test set.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.command import command
from negspike.conversion.narrow import narrow_thresholds
from negspike.data.dataset import load_dataset
from negspike.data.images import prepare_images
from negspike.errors import InputError
from negspike.results.differences import BATCH, differences
from negspike.spiking.graph import SpikingNetwork

BITS = (32, 24, 20, 16, 12, 10)
HEAD = ("network", "bits", "of the image", "predictions that differ", "activations that differ", "accuracy")


def rows(path: Path, data: Path, bits: list[int]) -> list[list[str]]:
    """One for the network as it is and one for each width."""
    network = SpikingNetwork.load(path)
    if missing := {"dataset", "net", "precision"} - network.origin.keys():
        raise InputError(f"{path}: not of the workflow, its {min(missing)} is unknown")
    dataset = str(network.origin["dataset"])
    loaded = load_dataset(dataset, data / f"{dataset}.npz")
    prepared = prepare_images(loaded.spec, loaded.test.pixels)
    name, found = f"{network.origin['net']}, {network.origin['precision']}", []
    for narrow in [network] + [narrow_thresholds(network, one) for one in bits]:
        compared = differences(network, narrow, prepared)
        predicted = [
            narrow.activations(prepared[first : first + BATCH])[narrow.readout.name].argmax(1)
            for first in range(0, len(prepared), BATCH)
        ]
        found.append(
            [
                name,
                str(narrow.threshold_bits),
                str(narrow.image_fraction_bits),
                f"{compared.differing_predictions:,} of {compared.images:,}",
                f"{compared.differing_activations:,} of {compared.activations:,}",
                f"{(np.concatenate(predicted) == loaded.test.labels).mean():.2%}",
            ]
        )
    return found


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, nargs="+", metavar="spiking.npz", help="networks of the workflow")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder of the prepared images")
    parser.add_argument("--bits", type=int, nargs="+", default=[*BITS], metavar="N", help="widths")
    options = parser.parse_args(arguments)
    print(f"| {' | '.join(HEAD)} |\n| --- |{' ---: |' * (len(HEAD) - 1)}")
    for path in options.networks:
        for row in rows(path, options.data, options.bits):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
