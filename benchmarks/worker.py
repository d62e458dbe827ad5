"""A process that runs one contestant: a task as its argument, then a line ``repeat`` for every repetition.

It answers every line with one line of JSON on standard output; whatever libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    try:
        # Linux hands getrusage's number on from the parent through fork and exec; this one starts anew.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Import, prepare, and repeat until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        from benchmarks.contestants import CONTESTANTS, RUNNERS, Task

        task = Task(**json.loads(sys.argv[1]))
        imported = peak_memory()
        runner = RUNNERS[CONTESTANTS[task.contestant].kind](task)
        answer(imported_bytes=imported, **asdict(runner.prepare()))
        for line in sys.stdin:
            if line.startswith("repeat"):
                answer(**asdict(runner.repeat()), peak_bytes=peak_memory())
            elif line.startswith("save "):
                np.savez(line.removeprefix("save ").rstrip("\n"), **runner.recording)  # type: ignore[arg-type]
                answer(saved=True)
    except Exception as error:
        answer(error=f"{type(error).__name__}: {' '.join(str(error).split())}")
        raise


if __name__ == "__main__":
    main()
