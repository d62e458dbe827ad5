"""A process for each contestant, since memory and threads belong to a process."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.contestants import Task
from negspike.errors import InputError, one_line

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class Worker:
    """This side of a contestant's process, which prints to ``log`` and gets the variables of ``environment``.

    Attributes:
        prepared: setup_seconds, variant, imported_bytes.
        measurements: seconds, images, steps, peak_bytes of each repetition.

    Raises:
        InputError: the contestant failed, or its process ended. So does every method.
    """

    def __init__(self, task: Task, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.task, self.measurements = task, list[dict[str, Any]]()
        variables = dict.fromkeys(THREADS, str(task.threads)) | dict(environment or {})
        # A forked process would begin with the memory and the threads of this one.
        spawn = multiprocessing.get_context("spawn")
        self._process = ProcessPoolExecutor(1, spawn, _begin, (variables, log))
        self.prepared: dict[str, Any] = self._ask(_prepare, task)

    def repeat(self) -> None:
        """One repetition."""
        self.measurements.append(self._ask(_repeat))

    def recording(self) -> dict[str, Any]:
        """What the last repetition computed."""
        recording: dict[str, Any] = self._ask(_recorded)
        return recording

    def close(self) -> None:
        """End the process."""
        self._process.shutdown()

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return self._process.submit(function, *arguments).result()
        except Exception as error:  # whatever a library raises, and a process that was killed
            self.close()
            raise InputError(f"{self.task.contestant.name}: {type(error).__name__}: {one_line(error)}") from error


# The other side.
_runner: Iterator[dict[str, Any]] = iter(())
_recording: dict[str, Any] = {}


def _begin(variables: Mapping[str, str], log: Path) -> None:
    os.environ.update(variables)  # before anything is imported that looks at them
    with open(log, "a", encoding="utf-8") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)


def _prepare(task: Task) -> dict[str, Any]:
    global _runner
    from benchmarks.runners import RUNNERS

    imported = peak_memory()
    _runner = RUNNERS[task.contestant.kind](task, _recording)
    return next(_runner) | {"imported_bytes": imported}


def _repeat() -> dict[str, Any]:
    return next(_runner) | {"peak_bytes": peak_memory()}


def _recorded() -> dict[str, Any]:
    return _recording


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    with suppress(OSError):
        # Linux hands getrusage's number on from the parent through fork and exec; this one starts anew.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
