"""The one exception that means "the input is wrong", and how whatever a library says of a file becomes one of it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST_REASON = 200
# The file may be as good as ever: nobody should delete it.
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.ESTALE, errno.ENXIO)


class InputError(ValueError):
    """Something the user gave is wrong: a config key, a topology token, a file.

    The message is one line that says what was wrong, where, and what would be right, whatever values are shown in it.
    Entry points print it without a traceback and exit with a non-zero code.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))


def one_line(error: BaseException) -> str:
    """What an error says, on one line; its type where it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


# What PyTorch says in a RuntimeError, and what would be right.
_LIMITS = {
    "allocate memory": "out of memory; a smaller batch_size or width takes less",
    "out of memory": "out of memory; a smaller batch_size or width takes less",
    "deterministic implementation": "on this device it would not repeat itself to the bit; device: cpu does",
}


def limit_reached(error: BaseException) -> str | None:
    """One line where a library has met a limit of the machine, such as its memory; None of any other error."""
    if isinstance(error, MemoryError):
        return str(error) or "out of memory"
    reason = next((line for text, line in _LIMITS.items() if text in str(error)), None)
    return f"{reason} ({one_line(error)})" if reason and isinstance(error, RuntimeError) else None


@contextmanager
def foreign_file(path: Path | str, kind: str, advice: str = "download it again") -> Iterator[None]:
    """Turn whatever a library says of a damaged file into one line.

    Libraries raise nearly anything on a header that somebody has made up (OverflowError, tokenize.TokenError,
    MemoryError, RecursionError), so that a list of exceptions would always be too short.

    Raises:
        InputError: the file is not there, cannot be read, or is not ``kind``.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _UNREADABLE:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        raise InputError(f"{path}: not {kind} ({one_line(error)}); {advice}") from error
