"""Downloading a file: streamed to disk, checked for size and checksum, put in its place only when it is right.

A transfer that breaks off goes on where it broke off, within a run and in the next one, if the server can do that.
"""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3

from negspike.console import Progress
from negspike.data.registry import Source
from negspike.errors import InputError
from negspike.files import atomic_path, file_sha256, remove_abandoned

CHUNK = 1 << 20
# In a row, without getting on by a chunk.
ATTEMPTS = 3
RETRY_SECONDS = 2.0
TIMEOUT_SECONDS = 30
PROGRESS_SECONDS = 5.0

# Answers of a server that is busy or restarting; everything else stays the same when asked again.
_TEMPORARY = (429, 500, 502, 503, 504)


class _BrokenTransferError(Exception):
    """Something that may go better the next time."""


class _WrongFileError(InputError):
    """What came is not what was wanted: no part of it is worth keeping."""


def download(source: Source, path: Path, report: Callable[[str], None] = print) -> None:
    """Bring ``source`` to ``path``; what was there before stays until the new file has been checked.

    A file at ``path`` with the right checksum is left alone. What came before a transfer broke off for good is kept
    beside ``path`` for the next call, named after the checksum.

    Args:
        source: URL (https, http or file), sha256 and size.
        path: the file to write.
        report: takes progress lines.

    Raises:
        InputError: the URL cannot be reached, or what it gives has the wrong size or checksum.
    """
    if path.is_file() and file_sha256(path) == source.sha256:
        return
    with atomic_path(path) as temporary, _kept_part(path, source.sha256) as kept:
        part = kept or temporary
        resumed = _fetch(source, part, report)
        wrong = _difference(source, part)
        if wrong and resumed:  # its beginning may be damaged, or of another file that the server had then
            report(f"{wrong}; once more from the beginning")
            os.truncate(part, 0)
            _fetch(source, part, report)
            wrong = _difference(source, part)
        if wrong:
            raise wrong
        if kept:
            kept.replace(temporary)
    remove_abandoned(path.parent, f".{glob.escape(path.name)}-*.part")


@contextmanager
def _kept_part(path: Path, sha256: str) -> Iterator[Path | None]:
    """A file that outlives a broken transfer, for one process at a time; None where another one has it."""
    part = path.with_name(f".{path.name}-{sha256[:16]}.part")
    with open(part, "ab") as stream:
        try:
            import fcntl  # not on Windows

            # gone with the process, however that ends; two that append to one file would spoil it
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(stream.fileno()), part.stat())
        except (ImportError, OSError):  # or the file system knows no locks
            mine = False
        if not mine:
            yield None
            return
        try:
            yield part
        except (_WrongFileError, OSError):  # a disk that is full needs the space
            part.unlink(missing_ok=True)
            raise
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _difference(source: Source, part: Path) -> InputError | None:
    """What is wrong with the whole file."""
    received = part.stat().st_size
    if source.size is not None and received != source.size:
        return _wrong_size(source, str(received))
    found = file_sha256(part)
    if found == source.sha256:
        return None
    return _WrongFileError(
        f"{source.url}: wrong checksum: sha256 is {found}, the config expects {source.sha256}; "
        "the file is damaged or another one"
    )


def _wrong_size(source: Source, found: str) -> InputError:
    return _WrongFileError(
        f"{source.url}: {found} bytes received, the config expects {source.size}; "
        "it is not that file (for a file of your own, set its size or null beside its sha256)"
    )


def _fetch(source: Source, part: Path, report: Callable[[str], None]) -> bool:
    """Bring what is missing of ``part``, in as many attempts as get on; whether it was put together from several."""
    failures, most = 0, part.stat().st_size
    while True:
        try:
            return _transfer(source, part, report)
        except _BrokenTransferError as error:
            size = part.stat().st_size
            failures = 1 if size >= most + CHUNK else failures + 1
            most = max(most, size)
            if failures == ATTEMPTS:
                raise InputError(
                    f"{source.url}: cannot be reached, {ATTEMPTS} attempts ({error});"
                    " give another url under 'datasets' in the config"
                ) from error
            then = f"asking for the rest after {size / 1e6:.1f} MB" if size else "starting again"
            report(f"{source.url}: transfer broke off ({error}), {then}")
            time.sleep(RETRY_SECONDS * 2 ** (failures - 1))


def _transfer(source: Source, part: Path, report: Callable[[str], None]) -> bool:
    """One attempt; whether what was in ``part`` before is still its beginning."""
    try:
        parts = urlsplit(source.url)
    except ValueError as error:
        raise InputError(f"{source.url}: not a URL ({error})") from error
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise InputError(f"{source.url}: a file URL has three slashes and an absolute path, file:///folder/name")
        file = Path(url2pathname(parts.path))
        _copy(_file_chunks(source.url, file), part, 0, source, source.size, report)
        return False
    offset = part.stat().st_size
    if offset and offset == source.size:
        return True
    with _answer(source.url, offset) as response:
        if offset and response.status_code == 416:
            return True  # there is nothing behind it
        if response.status_code != 206:
            offset = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            os.truncate(part, 0)
            raise _BrokenTransferError("the server answers with another range than it was asked for")
        length = response.headers.get("Content-Length", "")
        promised = offset + int(length) if length.isdecimal() else None
        if promised is not None and source.size is not None and promised != source.size:
            raise _wrong_size(source, str(promised))
        _copy(_raw_chunks(response), part, offset, source, promised or source.size, report)
        received = part.stat().st_size
        if promised is not None and received < promised:
            raise _BrokenTransferError(f"{received} of {promised} bytes received")
        return offset > 0


def _answer(url: str, offset: int) -> requests.Response:
    """The server's answer to a request for all bytes from ``offset``: 200, or 206 or 416 where ``offset`` is not 0."""
    # Compressed a second time on the way, a .gz would not be the file any more.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    try:
        response = requests.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _BrokenTransferError(_reason(error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:  # not all are wrapped
        raise InputError(f"{url}: cannot be requested ({_reason(error)})") from error
    if response.status_code in ((200, 206, 416) if offset else (200,)):
        return response
    response.close()
    status = f"the server answers {response.status_code} {response.reason}"
    if response.status_code in _TEMPORARY:
        raise _BrokenTransferError(status)
    raise InputError(f"{url}: {status}; correct the url under 'datasets' in the config")


def _file_chunks(url: str, file: Path) -> Iterator[bytes]:
    try:
        with open(file, "rb") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        raise InputError(f"{url}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _raw_chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        # undecoded: a server that marks .gz files as encoded must not have them unpacked on the way
        yield from response.raw.stream(CHUNK, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:  # requests wraps these only in iter_content
        raise _BrokenTransferError(_reason(error)) from error


def _copy(
    chunks: Iterable[bytes],
    part: Path,
    offset: int,
    source: Source,
    total: int | None,
    report: Callable[[str], None],
) -> None:
    """Write the chunks to ``part`` from ``offset`` on and tell how it goes."""
    done, size = offset, f" of {total / 1e6:.1f}" if total else ""
    progress = Progress(total / 1e6 if total else None, "MB", PROGRESS_SECONDS, already=offset / 1e6)
    with open(part, "r+b") as stream:
        stream.truncate(offset)
        stream.seek(offset)
        for chunk in chunks:
            stream.write(chunk)
            done += len(chunk)
            if source.size is not None and done > source.size:
                raise _wrong_size(source, f"more than {source.size}")
            if progress.due():
                report(f"{source.url}: {done / 1e6:.1f}{size} MB at {progress.pace(done / 1e6)}")


def _reason(error: BaseException) -> str:
    """The innermost cause on one line: requests wraps a plain 'connection refused' three times."""
    inner = error
    while nested := [part for part in inner.args if isinstance(part, BaseException)]:
        inner = nested[0]
    reason = getattr(inner, "reason", None)
    text = str(reason if isinstance(reason, BaseException) else inner).rsplit(">: ", 1)[-1]
    return " ".join(text.split()) or type(inner).__name__
