"""Set a run's results beside published ones.

PUBLISHED is a table of theirs (columns net, precision, accuracy, settled_step_from_log, spikes_per_image,
net_spikes_per_image, sops_per_image), a table.csv, or a folder of logs; left out, the numbers of Zou et al. 2023.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from negspike.commands.figures import add_log_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a run's results, or of logs")
    parser.add_argument("published", type=Path, nargs="?", metavar="PUBLISHED", help="default: Zou et al. 2023")
    add_log_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print a line for each number that both have."""
    from negspike.commands.configuration import ZOU_2023, read_configuration
    from negspike.console import aligned
    from negspike.results.collect import collect
    from negspike.results.comparison import compare, numbers_of, read_published

    reading = {"definitions": read_configuration(options.config).definitions, "batch_size": options.batch_size}
    ours = numbers_of(collect(options.run_folder, images=options.images, **reading))
    path = options.published or ZOU_2023
    theirs = numbers_of(collect(path, **reading)) if path.is_dir() else read_published(path)
    print(*aligned(compare(ours, theirs, str(options.run_folder), str(path)), left=3), sep="\n")
    return 0
