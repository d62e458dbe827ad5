"""What a rule tells its user: progress on the terminal and in its log, one line for an error that is the user's."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from negspike.errors import InputError


@contextmanager
def rule_log(path: Path | str) -> Iterator[Callable[[str], None]]:
    """Yield a function that writes a line to the log and to standard error.

    An :class:`InputError` or an ``OSError`` ends the process with exit code 1 and one line; anything but an
    InputError leaves its traceback in the log too.
    """
    path = Path(path)
    folders = path.with_suffix("").parts
    # results/logs/cnn1/seed0/k1/phase1.log speaks as cnn1/seed0/k1/phase1
    job = "/".join(folders[folders.index("logs") + 1 :] if "logs" in folders else folders[-1:])
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as log:

        def report(line: str) -> None:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}\n")
            log.flush()
            print(f"{job}: {line}", file=sys.stderr, flush=True)

        try:
            yield report
        except InputError as error:
            report(f"error: {error}")
            sys.exit(1)
        except OSError as error:
            log.write(traceback.format_exc())
            report(f"error: {error}")
            sys.exit(1)
        except Exception:
            log.write(traceback.format_exc())
            raise


def format_duration(seconds: float) -> str:
    """``1 h 05 min``, ``3 min 20 s`` or ``12 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"
