"""What this process may use of the machine: cores and memory, within the limits of its container or cluster job.

psutil knows the whole machine; a control group (cgroup, version 1 or 2) may allow less, and ends who takes more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

# Version 1 writes "no limit" as the largest multiple of the page size; nobody has that much memory.
NO_LIMIT = 1 << 60


@dataclass(frozen=True)
class Machine:
    """Readings of one moment.

    Attributes:
        cores: CPU cores that this process may use.
        load: processes that want a core, mean of the last minute.
        memory: bytes of main memory that this process may use.
        available: bytes of it that are free or can be freed.
    """

    cores: int
    load: float
    memory: int
    available: int


def read_machine() -> Machine:
    """Look at this machine."""
    memory, available = available_memory()
    try:
        load = psutil.getloadavg()[0]
    except OSError:  # a container without /proc/loadavg
        load = 0.0
    return Machine(available_cores(), load, memory, available)


def available_cores(root: Path = Path("/")) -> int:
    """CPU cores that this process may use: its affinity or the CPU quota of its cgroups, whichever is less.

    Args:
        root: of the file system; another one for tests.
    """
    try:
        cores = len(psutil.Process().cpu_affinity())
    except (AttributeError, OSError, psutil.Error):  # macOS has no affinity, a sandbox may forbid to ask
        cores = psutil.cpu_count() or 1
    for folder in _cgroups("cpu", root):
        old = (_first(folder / f"cpu.cfs_{name}_us", 0) for name in ("quota", "period"))
        quota, period = _numbers(folder / "cpu.max") or old
        if quota > 0 and period > 0:
            cores = min(cores, quota // period)
    return max(cores, 1)


def available_memory(root: Path = Path("/")) -> tuple[int, int]:
    """Bytes of main memory that this process may use, and how many of them are free or can be freed.

    Args:
        root: of the file system; another one for tests.
    """
    machine = psutil.virtual_memory()
    memory, available = machine.total, machine.available
    for folder in _cgroups("memory", root):
        names = ("memory.max", "memory.high", "memory.limit_in_bytes")
        limit = min(_first(folder / name, NO_LIMIT) for name in names)
        if limit < NO_LIMIT:
            used = max(_first(folder / name, 0) for name in ("memory.current", "memory.usage_in_bytes"))
            memory, available = min(memory, limit), min(available, limit - used + _page_cache(folder))
    return memory, max(0, min(available, memory))


def _cgroups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's cgroup and of all above it, each of which sets limits."""
    mounts = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        for mount in (mounts / controllers, mounts / controller) if controllers else (mounts, mounts / "unified"):
            # what is mounted in a container may begin at its own cgroup: the last one, the mount itself, is that
            folder = mount / path.lstrip("/")
            yield from (above for above in (folder, *folder.parents) if above.is_relative_to(mount))


def _page_cache(folder: Path) -> int:
    """Bytes of files that were read and can be dropped, which count as used."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        sizes = {name: int(size) for name, size in map(str.split, lines)}
    except (OSError, ValueError):
        return 0
    return sizes.get("total_inactive_file", sizes.get("inactive_file", 0))


def _numbers(path: Path) -> list[int]:
    """The whole numbers that a file begins with; none where it is missing or says ``max``."""
    try:
        return [int(word) for word in path.read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []


def _first(path: Path, missing: int) -> int:
    return next(iter(_numbers(path)), missing)
