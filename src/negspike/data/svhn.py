"""Street View House Numbers, cropped digits: ``train_32x32.mat`` and ``test_32x32.mat``."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from negspike.data.foreign import refuse_bomb
from negspike.data.registry import DatasetSpec
from negspike.errors import InputError, foreign_file


def read_svhn(_: DatasetSpec, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Images ``X`` (32, 32, 3, N) and labels ``y`` (N, 1), where 10 stands for the digit 0."""
    arrays = {}
    for split in ("train", "test"):
        images, labels = _read(files[split])
        arrays[f"{split}_images"] = np.ascontiguousarray(images.transpose(3, 2, 0, 1))
        arrays[f"{split}_labels"] = np.where(labels[:, 0] == 10, 0, labels[:, 0])
    return arrays


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    from scipy.io import loadmat, whosmat

    with foreign_file(path, "a complete MATLAB file"), open(path, "rb") as stream:
        found = {name: (shape, kind) for name, shape, kind in whosmat(stream)}
        shape, kind = found.get("X", ((), "absent"))
        if len(shape) != 4 or shape[:3] != (32, 32, 3) or kind != "uint8":
            raise InputError(f"{path}: X is {kind} {shape}, expected uint8 (32, 32, 3, N): SVHN's cropped digits")
        if found.get("y") != ((shape[3], 1), "uint8"):
            raise InputError(f"{path}: y is {found.get('y', 'absent')}, expected uint8 ({shape[3]}, 1)")
        refuse_bomb(path, prod(shape), path.stat().st_size)
        stream.seek(0)
        arrays = loadmat(stream, variable_names=("X", "y"))
        return arrays["X"], arrays["y"]
