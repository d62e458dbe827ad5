"""What a rule tells its user: progress on the terminal and in its log, one line for an error that is the user's."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from negspike.errors import InputError, limit_reached, one_line


class Stopped(BaseException):
    """The process was asked to end: by a cluster whose time limit is over, by Ctrl-C, by a terminal that was closed."""


@contextmanager
def rule_log(path: Path | str) -> Iterator[Callable[[str], None]]:
    """Yield a function that writes a line to the log and to standard error.

    What the package logs meanwhile goes the same way. An :class:`InputError`, an ``OSError`` or a lack of memory ends
    the process with exit code 1 and one line; anything but an InputError leaves its traceback in the log too. SIGTERM,
    SIGHUP and Ctrl-C end it with one line as well, after files that are being written have been removed, and with the
    exit code that shells give to that signal.
    """
    path = Path(path)
    folders = path.with_suffix("").parts
    # results/logs/cnn1/seed0/k1/phase1.log speaks as cnn1/seed0/k1/phase1
    job = "/".join(folders[folders.index("logs") + 1 :] if "logs" in folders else folders[-1:])

    def log(text: str, mode: str = "a") -> None:
        # A disk that is full is no reason to end a job that does not need its log, or to hide its last line.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, mode, encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)

    def report(line: str) -> None:
        log(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
        try:
            # In one piece: other jobs and Snakemake write to the same terminal, print may write a line's end by itself.
            sys.stderr.write(f"{job}: {line}\n")
            sys.stderr.flush()
        except (OSError, ValueError):  # the terminal is gone, or was closed
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    log("", "w")
    # What was imported lives as long as the process: looking for garbage in it takes a quarter of a small job's time.
    gc.freeze()
    try:
        with _stoppable(), logged(report):
            yield report
    except InputError as error:
        report(f"error: {error}")
        sys.exit(1)
    except OSError as error:
        log(traceback.format_exc())
        report(f"error: {one_line(error)}")
        sys.exit(1)
    except (Stopped, KeyboardInterrupt) as error:
        number = error.args[0] if isinstance(error, Stopped) else signal.SIGINT
        name = signal.Signals(number).name
        report(f"stopped by {name}; the same command goes on, a training after its last finished epoch")
        sys.exit(128 + number)
    except Exception as error:
        log(traceback.format_exc())
        if limit := limit_reached(error):
            report(f"error: {limit}")
            sys.exit(1)
        raise


@contextmanager
def logged(report: Callable[[str], None]) -> Iterator[None]:
    """What the package logs, progress included, is reported line by line."""

    class Reported(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            report(record.getMessage())

    logger, handler = logging.getLogger("negspike"), Reported()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Turn signals that would end the process on the spot into an exception, so that nothing is left half-written."""

    def stop(number: int, _: FrameType | None) -> NoReturn:
        raise Stopped(number)

    # nohup has SIGHUP ignored, and so it stays
    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handled = [number for number in wanted if signal.getsignal(number) == signal.SIG_DFL]
    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def format_duration(seconds: float) -> str:
    """``1 h 05 min``, ``3 min 20 s`` or ``12 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"


def aligned(rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    """Columns of text: the first ones to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [[*map(str.ljust, row[:left], widths), *map(str.rjust, row[left:], widths[left:])] for row in rows]
    return ["  ".join(row).rstrip() for row in cells]


class Progress:
    """How fast a long piece of work goes, and how long the rest of it will take.

    The rate is that of the work since this object was made, so that what an earlier run has done does not count.

    Args:
        total: all of the work in ``unit``, what was done before included; None where nobody knows.
        unit: such as ``images``.
        every_seconds: :meth:`due` is true about this often.
        already: how much of the work was done before.
    """

    def __init__(self, total: float | None, unit: str, every_seconds: float = 0.0, already: float = 0.0) -> None:
        self.total, self.unit, self.every_seconds, self.already = total, unit, every_seconds, already
        self.started = self.reported = time.monotonic()

    def due(self) -> bool:
        """Whether the last line was long enough ago; then the next one is counted from now."""
        now = time.monotonic()
        if now - self.reported <= self.every_seconds:
            return False
        self.reported = now
        return True

    def rate(self, done: float) -> float | None:
        """Units per second; None before the clock has moved."""
        spent = time.monotonic() - self.started
        return (done - self.already) / spent if spent > 0 else None

    def left(self, done: float) -> str | None:
        """``3 min 20 s left``; None where it cannot be told."""
        rate = self.rate(done)
        if self.total is None or (done < self.total and not rate):
            return None
        return f"{format_duration((self.total - done) / rate if rate and done < self.total else 0.0)} left"

    def pace(self, done: float) -> str:
        """``12.3 images/s, 3 min 20 s left``, or as much of it as can be told."""
        rate = self.rate(done)
        speed = None if rate is None else f"{rate:,.{1 if rate < 100 else 0}f} {self.unit}/s"
        return ", ".join(part for part in (speed, self.left(done)) if part) or "just begun"
