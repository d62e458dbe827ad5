"""Arrays of an ``.npz``, looked at before they are read, and data sets in one."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from negspike.data.foreign import refuse_bomb
from negspike.data.registry import DatasetSpec
from negspike.errors import InputError, foreign_file

# What the arrays of a data set are called: as in this workflow and MedMNIST, and as in Keras.
_NAMES = (
    {name: name for name in ("train_images", "train_labels", "test_images", "test_labels")},
    {"train_images": "x_train", "train_labels": "y_train", "test_images": "x_test", "test_labels": "y_test"},
)


def read_npz(
    path: Path,
    choose: Callable[[Mapping[str, np.ndarray]], Iterable[str]],
    kind: str = "a complete .npz archive",
    advice: str = "make it again",
) -> dict[str, np.ndarray]:
    """Some arrays of an ``.npz``. Nothing is unpickled.

    Args:
        path: the file.
        choose: gets all arrays without their content (any element of one is the same zero) and gives the names of
            those to be read, or raises InputError.
        kind: what the file should be.
        advice: what to do if it is not.

    Raises:
        InputError: the file is damaged or is none, or an array holds objects or would take far more memory than was
            stored of it.
    """
    with foreign_file(path, kind, advice), zipfile.ZipFile(path) as archive:
        promised = {}
        for entry in archive.infolist():
            if entry.filename.endswith(".npy"):
                with archive.open(entry) as stream:
                    name = entry.filename.removesuffix(".npy")
                    promised[name] = _header(stream, name)
        arrays = {}
        for name in choose(promised):
            entry = archive.getinfo(f"{name}.npy")
            size = prod(promised[name].shape) * promised[name].dtype.itemsize
            refuse_bomb(f"{path}: {name}", size, entry.compress_size)
            if size > entry.file_size:
                raise InputError(
                    f"{path}: the header of {name} promises {size} bytes of data, it holds {entry.file_size}"
                )
            with archive.open(entry) as stream:
                arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
        return arrays


def _header(stream: IO[bytes], name: str) -> np.ndarray:
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):  # later ones have headers of up to 4 GB, which only arrays with many fields need
        raise ValueError(f"{name} has format version {version}")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError(f"{name} holds objects, which would have to be unpickled")
    return np.broadcast_to(np.zeros((), dtype), shape)


def read_npz_dataset(spec: DatasetSpec, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """A data set in one file: ``train_images``, ``train_labels``, ``test_images``, ``test_labels``, or Keras' names.

    Images are (N, C, H, W), (N, H, W, C) or, of one channel, (N, H, W), uint8; labels (N,) or (N, 1), integers.

    Raises:
        InputError: an array is missing or of another type or shape.
    """
    path = files["archive"]

    def choose(promised: Mapping[str, np.ndarray]) -> Iterable[str]:
        names = next((names for names in _NAMES if promised.keys() >= set(names.values())), None)
        if names is None:
            wanted = " or ".join(", ".join(names.values()) for names in _NAMES)
            raise InputError(f"{path}: it holds {', '.join(sorted(promised)) or 'no array'}; expected {wanted}")
        for name, stored in names.items():
            array = promised[stored]
            if name.endswith("images"):
                if array.dtype != np.uint8:
                    raise InputError(f"{path}: {stored} are {array.dtype}, expected uint8")
                _channels_first(spec, array, f"{path}: {stored}")
            elif array.dtype.kind not in "iu":
                raise InputError(f"{path}: {stored} are {array.dtype}, expected integers")
        return names.values()

    arrays = read_npz(path, choose)
    names = next(names for names in _NAMES if arrays.keys() == set(names.values()))
    found = {name: arrays[stored] for name, stored in names.items()}
    for split in ("train", "test"):
        images, labels = found[f"{split}_images"], found[f"{split}_labels"]
        found[f"{split}_images"] = np.ascontiguousarray(_channels_first(spec, images, str(path)))
        found[f"{split}_labels"] = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    return found


def _channels_first(spec: DatasetSpec, images: np.ndarray, where: str) -> np.ndarray:
    """(N, C, H, W), from whichever order it is that has the right channels, and the right size unless resized."""
    channels = spec.image_shape[0]
    candidates = [images] if images.ndim == 4 else [images[:, None]] if images.ndim == 3 else []
    if images.ndim == 4:
        candidates.append(images.transpose(0, 3, 1, 2))
    for candidate in candidates:
        shape = candidate.shape[1:]
        if shape == spec.image_shape or (spec.resize and shape[0] == channels and min(shape) > 0):
            return candidate
    expected = ", ".join(str(size) for size in ("N", *spec.image_shape))
    hint = "" if spec.resize else ", unless 'resize' is set"
    raise InputError(f"{where} have shape {images.shape}, expected ({expected}), channels last as well{hint}")
