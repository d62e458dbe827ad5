"""Writing files so that a reader never sees half of one, and that a power cut leaves the old one or the new one."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# A file that is being written changes more often than this, in seconds; one that does not was left by a killed process.
ABANDONED_SECONDS = 3600.0
# What a file system says that knows no fsync or no permissions (exFAT, CIFS, object stores); a full or broken disk
# says something else.
_UNKNOWN = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY)


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and in those below it, through links too, but for one to a folder that led to it."""
    led: dict[str, list[Path]] = {}
    for root, folders, names in os.walk(folder, followlinks=True):
        here = [*led.pop(root, []), Path(root).resolve()]
        folders[:] = [one for one in folders if not any(way.is_relative_to(Path(root, one).resolve()) for way in here)]
        led |= {os.path.join(root, one): here for one in folders}  # noqa: PTH118
        yield from (path for name in names if (path := Path(root, name)).is_file())


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes the place of ``path`` when the block ends, or is removed.

    The suffix is kept, since writers such as matplotlib choose the format by it. What killed processes left of earlier
    attempts is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent, f".{glob.escape(path.stem)}-????????{glob.escape(path.suffix)}")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # nobody has heard of the temporary one
        raise
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        with _where_known(), open(temporary, "rb+") as stream:
            # Renamed before its content is on the disk, a file can be empty after a power cut.
            os.fsync(stream.fileno())
        with _where_known():
            temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
        with _where_known():
            _flush_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # a disk that is full does not say whose file it was
        raise


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Remove files that no process is writing any more."""
    for abandoned in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if time.time() - abandoned.stat().st_mtime > ABANDONED_SECONDS:
                abandoned.unlink()


@contextmanager
def _where_known() -> Iterator[None]:
    """Leave out what this file system does not know; what is wrong with the disk is raised."""
    try:
        yield
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise


def _flush_folder(folder: Path) -> None:
    """Bring a rename to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path | str, text: str) -> None:
    """Write a text file atomically, UTF-8 with ``\\n`` line ends."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_bytes(path: Path | str, content: bytes | memoryview) -> None:
    """Write a file atomically.

    For what libraries write through a stream of ours: on a full disk some of them end in an error of their own.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path | str, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, indented, in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def file_sha256(path: Path | str) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
