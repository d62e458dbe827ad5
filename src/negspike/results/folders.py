"""Where the workflow keeps what it found out about each network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from negspike.precision import Precision


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
