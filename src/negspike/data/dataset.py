"""A data set as the workflow keeps it: one ``.npz`` of pixels and labels, and its splits in memory."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from negspike.data.registry import CLASSES, DatasetSpec, dataset_spec
from negspike.errors import InputError, one_line
from negspike.files import atomic_path


@dataclass(frozen=True)
class Images:
    """Images and labels of one split.

    Attributes:
        pixels: (N, C, H, W) uint8 as stored.
        labels: (N,) int64, 0 to 9.
    """

    pixels: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
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
    _check_arrays(spec, arrays, spec.name)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]


def load_dataset(name: str, path: Path) -> Dataset:
    """Read a dataset that :func:`save_dataset` wrote.

    Raises:
        InputError: the dataset is unknown or the file cannot be read.
    """
    spec = dataset_spec(name)
    try:
        # an .npz is a zip archive; np.load would take other files too
        with zipfile.ZipFile(path) as archive:
            names = [entry.removesuffix(".npy") for entry in archive.namelist()]
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: np.asarray(stored[key]) for key in names}
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path}: not a dataset written by this workflow ({one_line(error)}); delete it and run again"
        ) from error
    _check_arrays(spec, arrays, f"{path}: not {name}")
    images, labels = arrays["train_images"], arrays["train_labels"].astype(np.int64)
    test = Images(arrays["test_images"], arrays["test_labels"].astype(np.int64))
    # A dataset cut down for a trial keeps its proportions.
    held_out = min(spec.validation, len(images) // 6)
    split = len(images) - held_out
    return Dataset(
        spec,
        Images(images[:split], labels[:split]),
        Images(images[split:], labels[split:]),
        test,
        _checksum(arrays),
    )


def _check_arrays(spec: DatasetSpec, arrays: Mapping[str, np.ndarray], where: str) -> None:
    for split in ("train", "test"):
        for name in (f"{split}_images", f"{split}_labels"):
            if name not in arrays:
                raise InputError(f"{where}: array {name} is missing")
            if arrays[name].dtype != np.uint8:
                raise InputError(f"{where}: {name} are {arrays[name].dtype}, expected uint8")
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.shape[1:] != spec.image_shape:
            raise InputError(f"{where}: {split} images have shape {images.shape[1:]}, expected {spec.image_shape}")
        if len(images) == 0:
            raise InputError(f"{where}: there is no {split} image")
        if labels.shape != (len(images),):
            raise InputError(f"{where}: {len(images)} {split} images, but labels of shape {labels.shape}")
        if labels.max() >= CLASSES:
            raise InputError(f"{where}: {split} label {labels.max()} is not a class, which are 0 to {CLASSES - 1}")


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
