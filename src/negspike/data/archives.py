"""From a data set's downloaded files to arrays. Archives are parsed in memory: nothing is unpickled or extracted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from negspike.data.cifar import read_cifar10
from negspike.data.digits import read_digits
from negspike.data.idx import read_idx
from negspike.data.registry import DatasetSpec


def read_archives(spec: DatasetSpec, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Parse the downloaded files of a dataset.

    Args:
        spec: the dataset.
        files: path of each of ``spec.files``.

    Returns:
        ``train_images``, ``test_images`` (N, C, H, W) uint8 and ``train_labels``, ``test_labels`` (N,) uint8.

    Raises:
        InputError: a file is truncated or does not hold what the dataset's format says.
    """
    if spec.name == "digits":
        return read_digits()
    if spec.name == "cifar10":
        return read_cifar10(Path(files["archive"]))
    return {name: read_idx(Path(files[name]), 3 if name.endswith("images") else 1) for name in spec.files}
