"""Cores and memory within the limits of a container or a cluster's job, in both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from negspike.machine import available_cores, available_memory, read_machine

GIB = 1 << 30


def root(folder: Path, cgroup: str, **files: str) -> Path:
    """A file system with /proc/self/cgroup and files under /sys/fs/cgroup."""
    for name, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 cores and 256 GiB, 200 of them available."""
    memory = psutil.virtual_memory()._replace(total=256 * GIB, available=200 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda process: list(range(64)))


def test_without_limits_it_is_the_whole_machine(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == 64 and available_memory(tmp_path) == (256 * GIB, 200 * GIB)
    unlimited = {
        "memory.max": "max\n",
        "cpu.max": "max 100000\n",
        "memory/memory.limit_in_bytes": f"{(1 << 63) - 4096}",
    }
    found = root(tmp_path, "4:memory:/\n1:cpu,cpuacct:/\n0::/\n", **unlimited, **{"cpu/cpu.cfs_quota_us": "-1\n"})
    assert available_cores(found) == 64 and available_memory(found) == (256 * GIB, 200 * GIB)


def test_version_2_limits_of_every_folder_above_count(tmp_path: Path) -> None:
    found = root(
        tmp_path,
        "0::/slurm/job/step\n",
        **{
            "slurm/job/memory.max": f"{8 * GIB}\n",
            "slurm/job/memory.current": f"{3 * GIB}\n",
            "slurm/job/memory.stat": f"anon 5\ninactive_file {1 * GIB}\n",
            "slurm/job/step/memory.max": "max\n",
            "slurm/job/step/cpu.max": "max 100000\n",
            "slurm/cpu.max": "350000 100000\n",
        },
    )
    assert available_memory(found) == (8 * GIB, 6 * GIB)  # files that were read can be dropped
    assert available_cores(found) == 3


def test_version_1_limits_of_a_container_that_sees_its_own_folder_as_the_mount(tmp_path: Path) -> None:
    found = root(
        tmp_path,
        "9:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n",
        **{
            "memory/memory.limit_in_bytes": f"{GIB}\n",
            "memory/memory.usage_in_bytes": f"{2 * GIB}\n",
            "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert available_memory(found) == (GIB, 0) and available_cores(found) == 1  # half a core is one thread


def test_this_machine_is_read() -> None:
    machine = read_machine()
    assert machine.cores >= 1 and 0 <= machine.available <= machine.memory and machine.load >= 0
