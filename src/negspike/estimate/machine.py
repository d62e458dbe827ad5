"""What this machine has: cores, memory, disk, GPUs, a cluster, and the files that a run would download."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import torch

from negspike.data.registry import Source
from negspike.files import file_sha256


@dataclass(frozen=True)
class Machine:
    """Readings of one moment.

    Attributes:
        cores: CPU cores that this process may use.
        load: processes that want a core, mean of the last minute; None where the system does not say.
        memory: bytes of main memory; None where the system does not say.
        available: bytes of it that are free or can be freed; None where the system does not say.
        gpus: names of the CUDA devices that PyTorch finds.
        driver: whether there is an ``nvidia-smi``.
        cluster: whether there is an ``sbatch``.
    """

    cores: int
    load: float | None
    memory: int | None
    available: int | None
    gpus: tuple[str, ...]
    driver: bool
    cluster: bool


def read_machine() -> Machine:
    """Look at this machine."""
    memory, available = read_memory()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        memory=memory,
        available=available,
        gpus=tuple(torch.cuda.get_device_name(number) for number in range(gpus)),
        driver=shutil.which("nvidia-smi") is not None,
        cluster=shutil.which("sbatch") is not None,
    )


def read_memory(path: Path = Path("/proc/meminfo")) -> tuple[int | None, int | None]:
    """Bytes of main memory, and of it available; each None where the system does not say."""
    try:
        lines = dict(line.split(":", 1) for line in path.read_text(encoding="ascii").splitlines() if ":" in line)
    except (OSError, UnicodeDecodeError):
        return None, None
    sizes = {name: int(value.split()[0]) * 1024 for name, value in lines.items() if value.split()[:1]}
    return sizes.get("MemTotal"), sizes.get("MemAvailable")


def existing_folder(folder: Path | str) -> Path:
    """The folder, or the nearest above it that is there."""
    path = Path(folder).absolute()
    return next(candidate for candidate in (path, *path.parents) if _exists(candidate))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False  # inside a folder that cannot be entered


def free_bytes(folder: Path | str) -> int:
    """Bytes that can be written where ``folder`` is or will be."""
    return shutil.disk_usage(existing_folder(folder)).free


def cannot_write(folder: Path | str) -> str | None:
    """Why nothing can be written into ``folder``, or None; nothing is left behind."""
    existing = existing_folder(folder)
    if not existing.is_dir():
        return f"{existing} is a file"
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return error.strerror or str(error)


@dataclass(frozen=True)
class DataFile:
    """One file of a dataset that is still to be downloaded or read.

    Attributes:
        name: dataset and file.
        source: where it comes from.
        state: what will happen to it, in words.
        problem: what will make the run fail, in words, or None.
    """

    name: str
    source: Source
    state: str
    problem: str | None


def look_for(name: str, source: Source, path: Path) -> DataFile:
    """Whether a file is there, or where it will come from; no server is asked.

    Args:
        name: dataset and file.
        source: URL, sha256 and size.
        path: where the download puts it.
    """
    size = "size unknown" if source.size is None else f"{source.size:,} bytes"
    if path.is_file():
        if _is(path, source):
            return DataFile(name, source, f"{path} is there, its checksum is right", None)
        return DataFile(
            name, source, f"{path} is there", f"{path}: another checksum than the config's; delete it to download again"
        )
    parts = urlsplit(source.url)
    if parts.scheme != "file":
        return DataFile(name, source, f"to be downloaded from {source.url}, {size}", None)
    local = Path(url2pathname(parts.path))
    if not local.is_file():
        return DataFile(name, source, f"to be copied from {local}", f"{source.url}: there is no such file")
    if not _is(local, source):
        return DataFile(
            name, source, f"to be copied from {local}", f"{source.url}: another size or checksum than the config's"
        )
    return DataFile(name, source, f"to be copied from {local}, {size}, its checksum is right", None)


def _is(path: Path, source: Source) -> bool:
    try:
        return source.size in (None, path.stat().st_size) and file_sha256(path) == source.sha256
    except OSError:
        return False
