"""Say what a file of a spiking network holds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a network written by convert or by the workflow")


def run(options: argparse.Namespace) -> int:
    """Print the network, its populations and where it comes from."""
    from negspike.console import aligned
    from negspike.spiking.graph import SpikingNetwork

    network = SpikingNetwork.load(options.file)
    print(network)
    rows = [("population", "neurons", "from", "to", "step")]
    for one in network.populations:
        low, high = ("unbounded" if bound is None else str(bound) for bound in (one.low, one.high))
        rows.append((one.name, f"{one.neurons:,}", low, high, f"{one.step:.6g}"))
    print(*aligned(rows), sep="\n")
    if network.origin:
        print("origin", json.dumps(dict(network.origin), ensure_ascii=False))
    return 0
