"""Draw logs in the published format.

Accuracy versus speed, firing sparsity and computing operations from <net>/k<k>/*.txt or <net>/seed<seed>/k<k>/*.txt,
and a table of what they reach.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from negspike.commands.images import positive
from negspike.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("logs", type=Path, metavar="LOGS", help="folder with a folder for each net")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the figures and table.csv go")
    add_log_options(parser)
    parser.add_argument("--style", choices=("paper", "talk"), default="paper", help="talk: larger, with thicker lines")
    parser.add_argument(
        "--fp32",
        type=_accuracy,
        action="append",
        default=[],
        metavar="NET=ACCURACY",
        help="accuracy of a net's full-precision version as a fraction, drawn for comparison; may be repeated",
    )
    parser.add_argument(
        "--published",
        metavar="NAME",
        help="published curves to draw beside: zou2023, a table (docs/metrics.md), or a folder of logs",
    )


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """What it takes to read logs that have no evaluation.json beside them."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration that defines the nets of logs without evaluation.json, a preset say",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=50, metavar="N", help="images a batch of the logs (default: 50)"
    )
    parser.add_argument("--images", type=positive, metavar="N", help="images in all, where the last batch is not full")


def run(options: argparse.Namespace) -> int:
    """Write the figures and the table."""
    from negspike.commands.configuration import read_configuration
    from negspike.figures import CURVES, FORMATS, draw
    from negspike.results.collect import Results, collect
    from negspike.results.metrics import write_table
    from negspike.results.published import beside, read_published

    definitions = read_configuration(options.config).definitions
    reading = {"definitions": definitions, "batch_size": options.batch_size}
    results = collect(options.logs, images=options.images, **reading)
    fp32 = dict(results.fp32)
    for net, accuracy in options.fp32:
        if all(run.net != net for run in results.curves):
            raise InputError(f"--fp32 {net}={accuracy}: {options.logs} has no net '{net}'")
        fp32[net] = (accuracy,)
    results = Results(results.curves, fp32)
    if options.published:
        results = beside(results, read_published(options.published, **reading))
    for kind in CURVES:
        outputs = {suffix: options.out / f"{kind}.{suffix}" for suffix in (*FORMATS, "csv")}
        draw(kind, results, outputs, style=options.style)
    write_table(results.curves, options.out / "table.csv")
    return 0


def _accuracy(text: str) -> tuple[str, float]:
    net, _, value = text.rpartition("=")
    try:
        accuracy = float(value)
    except ValueError:
        accuracy = -1.0
    if not net or not 0 <= accuracy <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a net and a fraction, such as cnn1=0.9266")
    return net, accuracy
