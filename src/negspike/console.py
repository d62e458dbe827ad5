"""What a rule tells its user: progress on the terminal and in its log, one line for an error that is the user's."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from negspike.errors import InputError


class Stopped(BaseException):
    """The process was asked to end: by a cluster whose time limit is over, by Ctrl-C, by a terminal that was closed."""


@contextmanager
def rule_log(path: Path | str) -> Iterator[Callable[[str], None]]:
    """Yield a function that writes a line to the log and to standard error.

    An :class:`InputError` or an ``OSError`` ends the process with exit code 1 and one line; anything but an
    InputError leaves its traceback in the log too. SIGTERM, SIGHUP and Ctrl-C end it with one line as well, after
    files that are being written have been removed, and with the exit code that shells give to that signal.
    """
    path = Path(path)
    folders = path.with_suffix("").parts
    # results/logs/cnn1/seed0/k1/phase1.log speaks as cnn1/seed0/k1/phase1
    job = "/".join(folders[folders.index("logs") + 1 :] if "logs" in folders else folders[-1:])

    def log(text: str, mode: str = "a") -> None:
        # A disk that is full is no reason to end a job that does not need its log, or to hide its last line.
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, mode, encoding="utf-8") as stream:
                stream.write(text)

    def report(line: str) -> None:
        log(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
        try:
            print(f"{job}: {line}", file=sys.stderr, flush=True)
        except OSError:  # the terminal is gone
            sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    log("", "w")
    try:
        with _stoppable():
            yield report
    except InputError as error:
        report(f"error: {error}")
        sys.exit(1)
    except OSError as error:
        log(traceback.format_exc())
        report(f"error: {error}")
        sys.exit(1)
    except (Stopped, KeyboardInterrupt) as error:
        number = error.args[0] if isinstance(error, Stopped) else signal.SIGINT
        name = signal.Signals(number).name
        report(f"stopped by {name}; the same command goes on, a training after its last finished epoch")
        sys.exit(128 + number)
    except Exception:
        log(traceback.format_exc())
        raise


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
