"""From a data set's files to arrays. Archives are parsed in memory: nothing is unpickled or extracted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from negspike.data.cifar import read_cifar10, read_cifar100
from negspike.data.digits import read_digits
from negspike.data.idx import read_idx_files
from negspike.data.image_folder import read_image_folder
from negspike.data.npz import read_npz_dataset
from negspike.data.registry import DatasetSpec
from negspike.data.resize import resize_images
from negspike.data.svhn import read_svhn
from negspike.errors import InputError

# From the files to {train,test}_images, (N, C, H, W) uint8, and {train,test}_labels, (N,) integers; one a format.
Reader = Callable[[DatasetSpec, Mapping[str, Path]], dict[str, np.ndarray]]
READERS: dict[str, Reader] = {
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "digits": read_digits,
    "idx": read_idx_files,
    "image_folder": read_image_folder,
    "npz": read_npz_dataset,
    "svhn": read_svhn,
}


def read_archives(spec: DatasetSpec, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Parse the files of a dataset.

    Args:
        spec: the dataset.
        files: path of each of ``spec.files``; for images in folders, a folder or an archive of it.

    Returns:
        ``train_images``, ``test_images`` (N, C, H, W) uint8 and ``train_labels``, ``test_labels`` (N,),
        of ``spec.label_type`` where they fit.

    Raises:
        InputError: a file is truncated or does not hold what the dataset's format says.
    """
    arrays = READERS[spec.format](spec, {name: Path(path) for name, path in files.items()})
    for split in ("train", "test"):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if spec.resize and images.ndim == 4:
            arrays[f"{split}_images"] = resize_images(images, spec.image_shape[1:])
        if labels.size and not 0 <= labels.min() <= labels.max() < spec.classes:
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise InputError(f"{spec.name}: {split} label {wrong} is not a class, which are 0 to {spec.classes - 1}")
        arrays[f"{split}_labels"] = labels.astype(spec.label_type, copy=False)
    return arrays
