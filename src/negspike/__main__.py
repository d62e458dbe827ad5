"""The command line: ``python -m negspike figures LOGS --out DIR`` draws logs in the published format."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from negspike.config import Definition, resolve_config
from negspike.errors import InputError, one_line
from negspike.figures import FORMATS, KINDS, draw
from negspike.results.collect import collect
from negspike.results.metrics import write_table

# The published experiment, which a preset is laid over as Snakemake does it; beside the package in a checkout.
PUBLISHED = Path(__file__).resolve().parents[2] / "config.yaml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what the user got wrong is one line on standard error."""
    parser = argparse.ArgumentParser(prog="python -m negspike", description="Integer networks with negative spikes.")
    commands = parser.add_subparsers(dest="command", required=True)
    figures = commands.add_parser(
        "figures",
        help="draw logs in the published format",
        description="Draw accuracy versus speed, firing sparsity and computing operations from logs in the published"
        " format (<net>/k<k>/*.txt or <net>/seed<seed>/k<k>/*.txt), and write a table of what they reach.",
    )
    figures.add_argument("logs", type=Path, metavar="LOGS", help="folder with a folder for each net")
    figures.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the figures and table.csv go")
    figures.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration that defines the nets of logs without evaluation.json, a preset say (default: config.yaml)",
    )
    figures.add_argument(
        "--batch-size", type=_positive, default=50, metavar="N", help="images a batch of the logs (default: 50)"
    )
    figures.add_argument(
        "--images", type=_positive, metavar="N", help="images in all, where the last batch is not full"
    )
    figures.add_argument(
        "--fp32",
        type=_accuracy,
        action="append",
        default=[],
        metavar="NET=ACCURACY",
        help="accuracy of a net's full-precision version as a fraction, drawn for comparison; may be repeated",
    )
    options = parser.parse_args(arguments)
    try:
        _figures(options)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _figures(options: argparse.Namespace) -> None:
    results = collect(
        options.logs,
        definitions=_definitions(options.config),
        batch_size=options.batch_size,
        images=options.images,
    )
    fp32 = dict(results.fp32)
    for net, accuracy in options.fp32:
        if all(run.net != net for run in results.curves):
            raise InputError(f"--fp32 {net}={accuracy}: {options.logs} has no net '{net}'")
        fp32[net] = (accuracy,)
    for kind in KINDS:
        draw(kind, results.curves, fp32, {suffix: options.out / f"{kind}.{suffix}" for suffix in (*FORMATS, "csv")})
    write_table(results.curves, options.out / "table.csv")


def _definitions(path: Path | None) -> Mapping[str, Definition]:
    """The nets of a configuration that is laid over the published one, or of that alone."""
    config = _read_yaml(PUBLISHED) if PUBLISHED.is_file() else {}
    if path is not None:
        config = _laid_over(config, _read_yaml(path))
    try:
        return resolve_config(config).definitions if config or path else {}
    except InputError as error:
        raise InputError(f"{path or PUBLISHED}: {error}") from error


def _read_yaml(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the configuration that defines the nets with --config")
    content = path.read_bytes()
    try:
        return yaml.safe_load(content)
    except RecursionError:
        raise InputError(f"{path}: nested too deeply") from None
    except Exception as error:  # what a scalar does not convert to decides which
        raise InputError(f"{path}: not YAML: {one_line(error)}") from None


def _laid_over(below: Any, above: Any) -> Any:
    """As Snakemake does it: mappings merge key by key, anything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return below | {key: _laid_over(below.get(key), entry) for key, entry in above.items()}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _accuracy(text: str) -> tuple[str, float]:
    net, _, value = text.rpartition("=")
    try:
        accuracy = float(value)
    except ValueError:
        accuracy = -1.0
    if not net or not 0 <= accuracy <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a net and a fraction, such as cnn1=0.9266")
    return net, accuracy


if __name__ == "__main__":
    sys.exit(main())
