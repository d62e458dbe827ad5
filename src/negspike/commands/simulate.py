"""Run a spiking network over images.

With labels (folders of images, one a class, or an .npz with labels) and --out, the four log files are written as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from negspike.commands.images import add_simulation_options, read_prepared, simulation_options
from negspike.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_simulation_options(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the four log files go")
    parser.add_argument(
        "--batch-size", type=int, default=50, metavar="N", help="images a batch of the logs (default: 50)"
    )


def run(options: argparse.Namespace) -> int:
    """Print what was counted, and what it would cost."""
    from negspike.results.energy import energy
    from negspike.spiking.graph import SpikingNetwork
    from negspike.spiking.simulation import simulate

    network = SpikingNetwork.load(options.network)
    samples, _ = read_prepared(options.data, options, split="test", network=network)
    if samples.folders is not None and len(samples.folders) != network.classes:
        raise InputError(
            f"{options.data}: {len(samples.folders)} folders of classes, the network has {network.classes}; labels "
            "number the folders in alphabetical order, so all must be there"
        )
    if options.out and samples.labels is None:
        raise InputError(f"{options.data}: logs have an accuracy, so images need labels: a folder a class, or an .npz")
    batch_size, settings = options.batch_size, simulation_options(options)
    log = simulate(network, samples.images, samples.labels, batch_size=batch_size, **settings)
    print(log, energy(network, log), sep="\n")
    if options.out:
        log.write(options.out)
        print(f"{options.out}: accuracy.txt, spike_num.txt, spike_collect.txt, sop_num.txt")
    return 0
