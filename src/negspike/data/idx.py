"""IDX files, the format of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path

import numpy as np

from negspike.errors import InputError, one_line

# Fashion-MNIST's training images are 47 MB; a damaged header must not make us ask for more memory than this.
_LARGEST_IDX = 1 << 28


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes; images become (N, 1, H, W)."""
    try:
        with gzip.open(path) as stream:
            header = stream.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, 8, dimensions)):
                raise InputError(f"{path}: not an IDX file of unsigned bytes with {dimensions} dimensions")
            shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
            expected = prod(shape)
            if expected > _LARGEST_IDX:
                raise InputError(f"{path}: its header promises {expected} bytes of data, more than any dataset has")
            content = stream.read(expected + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a complete gzip file ({one_line(error)}); download it again") from error
    if len(content) != expected:
        held = "more" if len(content) > expected else len(content)
        raise InputError(f"{path}: its header promises {expected} bytes of data, it holds {held}")
    array = np.frombuffer(content, np.uint8).reshape(shape)
    return array[:, None] if dimensions == 3 else array
