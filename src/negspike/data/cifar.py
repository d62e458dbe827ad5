"""CIFAR-10's binary archive."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

import numpy as np

from negspike.errors import InputError, one_line


def read_cifar10(archive: Path) -> dict[str, np.ndarray]:
    """Only the six members that the format names are read, straight into memory, whatever else the archive holds."""
    record = 1 + 3 * 32 * 32
    folder = "cifar-10-batches-bin"
    wanted = [f"{folder}/data_batch_{i}.bin" for i in range(1, 6)] + [f"{folder}/test_batch.bin"]
    found: dict[str, np.ndarray] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if name not in wanted:
                    continue
                stream = tar.extractfile(member) if member.isfile() and member.size <= 10_000 * record else None
                if stream is None or member.size % record:
                    raise InputError(
                        f"{archive}: member {name} is not a file of at most 10,000 records of {record} bytes"
                    )
                content = stream.read()
                if len(content) != member.size:
                    raise InputError(f"{archive}: member {name} is truncated; download the archive again")
                found[name] = np.frombuffer(content, np.uint8).reshape(-1, record)
    except FileNotFoundError as error:
        raise InputError(f"{archive}: there is no such file") from error
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{archive}: not a complete gzipped tar archive ({one_line(error)}); download it again"
        ) from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(
            f"{archive}: member {missing[0]} is missing; expected CIFAR-10's binary archive, cifar-10-binary.tar.gz"
        )
    train = np.concatenate([found[name] for name in wanted[:5]])
    splits = {"train": train, "test": found[wanted[5]]}
    arrays = {f"{split}_images": rows[:, 1:].reshape(-1, 3, 32, 32) for split, rows in splits.items()}
    return arrays | {f"{split}_labels": rows[:, 0] for split, rows in splits.items()}
