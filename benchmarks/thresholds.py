"""What narrow thresholds and bases cost: predictions and activations that differ, and accuracy.

snakemake --cores 2 --configfile presets/digits.yaml
python -m benchmarks.thresholds results/digits/digits/seed0/k1/spiking.npz

Each network of the workflow is narrowed to each width, and its integer ANN, which is what it computes when it is
silent, compared with that of the network as it was, on the whole test set.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from negspike.conversion.narrow import narrow_thresholds
from negspike.data.dataset import load_dataset
from negspike.data.images import prepare_images
from negspike.data.registry import dataset_spec
from negspike.errors import InputError
from negspike.results.differences import BATCH, differences
from negspike.spiking.graph import SpikingNetwork

BITS = (32, 24, 20, 16, 12, 10)
HEAD = ("network", "bits", "of the image", "predictions that differ", "activations that differ", "accuracy")


def rows(path: Path, data: Path, bits: list[int]) -> list[list[str]]:
    """One for the network as it is and one for each width."""
    network = SpikingNetwork.load(path)
    images = load_dataset(dataset_spec(str(network.origin["dataset"])), data).test
    prepared = prepare_images(dataset_spec(str(network.origin["dataset"])), images.pixels)
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
                f"{(np.concatenate(predicted) == images.labels).mean():.2%}",
            ]
        )
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, nargs="+", metavar="spiking.npz", help="networks of the workflow")
    parser.add_argument("--data", type=Path, default=Path("data"), help="the folder of the prepared images")
    parser.add_argument("--bits", type=int, nargs="+", default=[*BITS], metavar="N", help="widths")
    options = parser.parse_args(arguments)
    try:
        print(f"| {' | '.join(HEAD)} |\n| --- |{' ---: |' * (len(HEAD) - 1)}")
        for path in options.networks:
            data = options.data / f"{SpikingNetwork.load(path).origin['dataset']}.npz"
            for row in rows(path, data, options.bits):
                print(f"| {' | '.join(row)} |", flush=True)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
