"""Set a run's results beside published ones.

RUN is a folder of results or logs, or a summary.csv. PUBLISHED is one of these, or a table of theirs (columns net,
precision, accuracy, settled_step_from_log, spikes_per_image, net_spikes_per_image, sops_per_image); left out, the
numbers of Zou et al. 2023.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from negspike.commands.figures import add_log_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("run_folder", type=Path, nargs="?", metavar="RUN", help="folder, or a summary.csv")
    parser.add_argument(
        "published", nargs="?", default="zou2023", metavar="PUBLISHED", help="default: zou2023, Zou et al. 2023"
    )
    parser.add_argument("--markdown", action="store_true", help="as tables in Markdown, the lossless check with them")
    parser.add_argument(
        "--update",
        type=Path,
        metavar="FILE",
        help="instead, write the tables of a Markdown document anew, between '<!-- negspike compare RUN [PUBLISHED]"
        " -->' and '<!-- end -->', paths from its folder",
    )
    add_log_options(parser)


def run(options: argparse.Namespace) -> int:
    """Print a line for each number that both have, or write a document's tables."""
    from negspike.commands.configuration import read_configuration
    from negspike.console import aligned
    from negspike.errors import InputError
    from negspike.results.comparison import compare, in_markdown, read_named, read_numbers, update_document

    if (options.update is None) == (options.run_folder is None):
        raise InputError("compare: give either RUN or --update FILE")
    if options.update:
        print(f"{options.update}: {update_document(options.update)} blocks of tables are as their results say")
        return 0
    reading = {"definitions": read_configuration(options.config).definitions, "batch_size": options.batch_size}
    ours = read_numbers(options.run_folder, images=options.images, **reading)
    theirs = read_named(options.published, **reading)
    rows = compare(ours, theirs, str(options.run_folder), options.published)
    print(in_markdown(rows, ours) if options.markdown else "\n".join(aligned(rows, left=3)))
    return 0
