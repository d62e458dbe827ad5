"""A data set as the workflow keeps it: one ``.npz`` of pixels and labels, and its splits in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from negspike.data.npz import read_npz
from negspike.data.registry import DATASETS, DatasetSpec, dataset_spec
from negspike.errors import InputError
from negspike.files import atomic_path

ARRAYS = ("test_images", "test_labels", "train_images", "train_labels")


@dataclass(frozen=True, eq=False)
class Images:
    """Images and labels of one split.

    Attributes:
        pixels: (N, C, H, W) uint8 as stored.
        labels: (N,) int64, 0 to classes - 1.
    """

    pixels: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset in memory.

    Attributes:
        spec: how its images are presented.
        train, validation, test: the splits; validation may hold no image.
        checksum: sha256 of all pixels and labels, whatever archive they came from.
    """

    spec: DatasetSpec
    train: Images
    validation: Images
    test: Images
    checksum: str


def save_dataset(spec: DatasetSpec, arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Check parsed arrays and write them as one uncompressed ``.npz``, atomically.

    Raises:
        InputError: shapes or labels that do not belong to the dataset.
    """
    _check_shapes(spec, arrays, spec.name)
    _check_labels(spec, arrays, spec.name)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]


def load_dataset(dataset: str | DatasetSpec, path: Path) -> Dataset:
    """Read a dataset that :func:`save_dataset` wrote.

    Args:
        dataset: its name, or the spec of one of your own.
        path: the ``.npz``.

    Raises:
        InputError: the dataset is unknown, the file cannot be read, or it has no more images than are to be held out.
    """
    spec = dataset_spec(dataset)
    where = f"{path}: not {spec.name}"

    def choose(promised: Mapping[str, np.ndarray]) -> Iterable[str]:
        _check_shapes(spec, promised, where)
        return ARRAYS

    arrays = read_npz(path, choose, "a dataset written by this workflow", "delete it and run again")
    _check_labels(spec, arrays, where)
    images, labels = arrays["train_images"], arrays["train_labels"].astype(np.int64)
    test = Images(arrays["test_images"], arrays["test_labels"].astype(np.int64))
    held_out = validation_images(spec, len(images))
    shown = np.setdiff1d(np.arange(len(images)), held_out, assume_unique=True)
    return Dataset(
        spec,
        Images(images[shown], labels[shown]),
        Images(images[held_out], labels[held_out]),
        test,
        _checksum(arrays),
    )


def validation_images(spec: DatasetSpec, count: int) -> np.ndarray:
    """Which of the training images are held out, int64 in order; the last ones of the datasets that are known here.

    A dataset of one's own may lie sorted by class, as folders do: from it they are taken evenly.

    Args:
        spec: the dataset.
        count: of its training images, the held-out ones among them. A known dataset that was cut down for a trial holds
            out a sixth at most, as the whole one does.

    Raises:
        InputError: none would be left to train with.
    """
    if spec == DATASETS.get(spec.name):
        return np.arange(count - min(spec.validation, count // 6), count)
    if spec.validation >= count:
        raise InputError(
            f"config key 'datasets.{spec.name}.validation' is {spec.validation}, but there are {count} training images"
        )
    return (2 * np.arange(spec.validation) + 1) * count // (2 * max(spec.validation, 1))


def _check_shapes(spec: DatasetSpec, arrays: Mapping[str, np.ndarray], where: str) -> None:
    for split in ("train", "test"):
        for name, dtype in ((f"{split}_images", np.dtype(np.uint8)), (f"{split}_labels", spec.label_type)):
            if name not in arrays:
                raise InputError(f"{where}: array {name} is missing")
            if arrays[name].dtype != dtype:
                raise InputError(f"{where}: {name} are {arrays[name].dtype}, expected {dtype}")
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.shape[1:] != spec.image_shape:
            raise InputError(f"{where}: {split} images have shape {images.shape[1:]}, expected {spec.image_shape}")
        if len(images) == 0:
            raise InputError(f"{where}: there is no {split} image")
        if labels.shape != (len(images),):
            raise InputError(f"{where}: {len(images)} {split} images, but labels of shape {labels.shape}")


def _check_labels(spec: DatasetSpec, arrays: Mapping[str, np.ndarray], where: str) -> None:
    for split in ("train", "test"):
        largest = arrays[f"{split}_labels"].max()
        if largest >= spec.classes:
            raise InputError(f"{where}: {split} label {largest} is not a class, which are 0 to {spec.classes - 1}")


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
