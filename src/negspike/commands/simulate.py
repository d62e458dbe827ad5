"""Run a spiking network over images.

With labels (folders of images, one a class, or an .npz with labels) and --out, the four log files are written as well.
Into DIR/NET/levels15, or k1, they are what `negspike figures DIR` draws, beside those of other networks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from negspike.commands.images import add_simulation_options, read_prepared, simulation_options
from negspike.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    add_simulation_options(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the four log files go, DIR/NET/levels15 say")
    parser.add_argument(
        "--batch-size", type=int, default=50, metavar="N", help="images a batch of the logs (default: 50)"
    )


def run(options: argparse.Namespace) -> int:
    """Print what was counted, and what it would cost."""
    from negspike.files import write_json
    from negspike.results.energy import energy
    from negspike.results.evaluation import log_facts
    from negspike.results.folders import run_named
    from negspike.spiking.graph import SpikingNetwork
    from negspike.spiking.simulation import simulate

    if options.out and options.out.exists() and not options.out.is_dir():
        raise InputError(f"{options.out}: a file; the four log files go into a folder")
    if options.out and (options.out / "evaluation.npz").exists():
        raise InputError(f"{options.out}: an evaluation of the workflow is in it; name another folder")
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
        written = "accuracy.txt, spike_num.txt, spike_collect.txt, sop_num.txt"
        if run := run_named(options.out):
            net, seed, precision = run
            about = {"net": net, "seed": seed, "k": precision.k, "levels": precision.levels}
            write_json(options.out / "evaluation.json", about | log_facts(network, log))
            written += ", and evaluation.json, by which negspike figures knows them"
        print(f"{options.out}: {written}")
    return 0
