"""Where the workflow keeps what it found out about each network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from negspike.precision import Precision

# A network's folder below that of the nets' folders; one repetition may have none for its seed.
RUN = re.compile(r"(?P<net>[^/]+)/(seed(?P<seed>\d+)/)?(?P<name>k\d{1,2}|levels\d{1,8})")


def run_folder(directory: Path, net: str, seed: int, precision: str) -> Path:
    """The folder of one network, such as ``cnn1/seed0/k1``, below the folder of the nets' folders."""
    return directory / net / f"seed{seed}" / precision


def run_files(
    directory: Path, runs: Iterable[tuple[str, int, str]], name: str
) -> Iterator[tuple[tuple[str, int, Precision], Path]]:
    """The file of that name of each network, with its net, seed and precision.

    Args:
        directory: the folder of the nets' folders.
        runs: (net, seed, folder) of each network, such as ``("cnn1", 0, "k1")``.
        name: of the file.
    """
    for net, seed, precision in runs:
        yield (net, seed, Precision.parse(precision)), run_folder(directory, net, seed, precision) / name


def run_named(folder: Path) -> tuple[str, int, Precision] | None:
    """Net, seed and precision that the logs in a folder are about, by its name; None if it says nothing of it."""
    parts = folder.resolve().parts
    with_seed = len(parts) > 2 and re.fullmatch(r"seed\d+", parts[-2])
    match = RUN.fullmatch("/".join(parts[-3 if with_seed else -2 :]))
    return match and (match["net"], int(match["seed"] or 0), Precision.parse(match["name"]))
