"""CIFAR-10's and CIFAR-100's binary archives."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from negspike.data.foreign import BoundedTarInfo, tar_members
from negspike.data.registry import DatasetSpec
from negspike.errors import InputError, foreign_file

PIXELS = 3 * 32 * 32


def read_cifar10(_: DatasetSpec, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Six members of 10,000 records, each a label and an image."""
    folder = "cifar-10-batches-bin"
    members = {"train": [f"{folder}/data_batch_{i}.bin" for i in range(1, 6)], "test": [f"{folder}/test_batch.bin"]}
    return _read(files["archive"], "CIFAR-10", members, labels=1, most=10_000)


def read_cifar100(_: DatasetSpec, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Two members, of 50,000 and 10,000 records: a coarse label, which is left out, a fine one and an image."""
    members = {split: [f"cifar-100-binary/{split}.bin"] for split in ("train", "test")}
    return _read(files["archive"], "CIFAR-100", members, labels=2, most=50_000)


def _read(
    archive: Path, name: str, members: Mapping[str, list[str]], *, labels: int, most: int
) -> dict[str, np.ndarray]:
    """Only the members that the format names are read, straight into memory, whatever else the archive holds."""
    record = labels + PIXELS
    wanted = [member for names in members.values() for member in names]
    found: dict[str, np.ndarray] = {}
    with (
        foreign_file(archive, "a complete gzipped tar archive"),
        tarfile.open(archive, "r:gz", tarinfo=BoundedTarInfo) as tar,
    ):
        for info in tar_members(tar, archive):
            member = info.name.removeprefix("./")
            if member not in wanted:
                continue
            stream = tar.extractfile(info) if info.isfile() and info.size <= most * record else None
            if stream is None or info.size % record:
                raise InputError(
                    f"{archive}: member {member} is not a file of at most {most:,} records of {record} bytes"
                )
            content = stream.read()
            if len(content) != info.size:
                raise InputError(f"{archive}: member {member} is truncated; download the archive again")
            found[member] = np.frombuffer(content, np.uint8).reshape(-1, record)
    missing = [member for member in wanted if member not in found]
    if missing:
        file = f"{name.lower()}-binary.tar.gz"
        raise InputError(f"{archive}: member {missing[0]} is missing; expected {name}'s binary archive, {file}")
    rows = {split: np.concatenate([found[member] for member in names]) for split, names in members.items()}
    arrays = {f"{split}_images": row[:, labels:].reshape(-1, 3, 32, 32) for split, row in rows.items()}
    return arrays | {f"{split}_labels": row[:, labels - 1] for split, row in rows.items()}
