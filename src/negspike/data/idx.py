"""IDX files, the format of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from negspike.data.foreign import refuse_bomb
from negspike.data.registry import DatasetSpec
from negspike.errors import InputError, foreign_file


def read_idx_files(spec: DatasetSpec, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Images and labels of both splits, each in a file of its own."""
    return {name: read_idx(files[name], 3 if name.endswith("images") else 1) for name in spec.files}


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes; images become (N, 1, H, W)."""
    with foreign_file(path, "a complete gzip file"), gzip.open(path) as stream:
        header = stream.read(4 + 4 * dimensions)
        if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, 8, dimensions)):
            raise InputError(f"{path}: not an IDX file of unsigned bytes with {dimensions} dimensions")
        shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
        expected = prod(shape)
        refuse_bomb(path, expected, path.stat().st_size)
        content = stream.read(expected + 1)
    if len(content) != expected:
        held = "more" if len(content) > expected else len(content)
        raise InputError(f"{path}: its header promises {expected} bytes of data, it holds {held}")
    array = np.frombuffer(content, np.uint8).reshape(shape)
    return array[:, None] if dimensions == 3 else array
