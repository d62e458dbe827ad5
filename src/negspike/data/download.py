"""Downloading a file: streamed to disk, checked for size and checksum, put in its place only when it is right."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import urllib3

from negspike.console import Progress
from negspike.data.registry import Source
from negspike.errors import InputError
from negspike.files import atomic_path, file_sha256

CHUNK = 1 << 20
ATTEMPTS = 3
RETRY_SECONDS = 2.0
TIMEOUT_SECONDS = 30
PROGRESS_SECONDS = 5.0

# Answers of a server that is busy or restarting; everything else but 200 stays the same when asked again.
_TEMPORARY = (429, 500, 502, 503, 504)


class _BrokenTransferError(Exception):
    """Something that may go better the next time."""


def download(source: Source, path: Path, report: Callable[[str], None] = print) -> None:
    """Bring ``source`` to ``path``; what was there before stays until the new file has been checked.

    A broken transfer is started again, twice. A file at ``path`` with the right checksum is left alone.

    Args:
        source: URL (https, http or file), sha256 and size.
        path: the file to write.
        report: takes progress lines.

    Raises:
        InputError: the URL cannot be reached, or what it gives has the wrong size or checksum.
    """
    if path.is_file() and file_sha256(path) == source.sha256:
        return
    with atomic_path(path) as temporary:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                found = _transfer(source, temporary, report)
                break
            except _BrokenTransferError as error:
                if attempt == ATTEMPTS:
                    raise InputError(
                        f"{source.url}: cannot be reached, {ATTEMPTS} attempts ({error});"
                        " give another url under 'datasets' in the config"
                    ) from error
                report(f"{source.url}: transfer broke off ({error}), starting again")
                time.sleep(RETRY_SECONDS * 2 ** (attempt - 1))
        received = temporary.stat().st_size
        if source.size is not None and received != source.size:
            raise _wrong_size(source, str(received))
        if found != source.sha256:
            raise InputError(
                f"{source.url}: wrong checksum: sha256 is {found}, the config expects {source.sha256}; "
                "the file is damaged or another one"
            )


def _wrong_size(source: Source, found: str) -> InputError:
    return InputError(
        f"{source.url}: {found} bytes received, the config expects {source.size}; "
        "it is not that file (for a file of your own, set its size or null beside its sha256)"
    )


def _transfer(source: Source, target: Path, report: Callable[[str], None]) -> str:
    """Write the source to ``target`` from its beginning; sha256 of what was written."""
    try:
        parts = urlsplit(source.url)
    except ValueError as error:
        raise InputError(f"{source.url}: not a URL ({error})") from error
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise InputError(f"{source.url}: a file URL has three slashes and an absolute path, file:///folder/name")
        file = Path(url2pathname(parts.path))
        return _copy(_file_chunks(source.url, file), target, source, source.size, report)
    # Compressed a second time on the way, a .gz would not be the file any more.
    headers = {"Accept-Encoding": "identity"}
    try:
        with requests.get(source.url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers) as response:
            status = f"the server answers {response.status_code} {response.reason}"
            if response.status_code in _TEMPORARY:
                raise _BrokenTransferError(status)
            if response.status_code != 200:
                raise InputError(f"{source.url}: {status}; correct the url under 'datasets' in the config")
            length = response.headers.get("Content-Length", "")
            promised = int(length) if length.isdecimal() else None
            if promised is not None and source.size is not None and promised != source.size:
                raise _wrong_size(source, str(promised))
            found = _copy(_raw_chunks(response), target, source, promised or source.size, report)
            if promised is not None and target.stat().st_size < promised:
                raise _BrokenTransferError(f"{target.stat().st_size} of {promised} bytes received")
            return found
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _BrokenTransferError(_reason(error)) from error
    except requests.RequestException as error:
        raise InputError(f"{source.url}: cannot be requested ({_reason(error)})") from error


def _file_chunks(url: str, file: Path) -> Iterator[bytes]:
    try:
        with open(file, "rb") as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except OSError as error:
        raise InputError(f"{url}: cannot be read ({error.strerror or error})") from error


def _raw_chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        # undecoded: a server that marks .gz files as encoded must not have them unpacked on the way
        yield from response.raw.stream(CHUNK, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:  # requests wraps these only in iter_content
        raise _BrokenTransferError(_reason(error)) from error


def _copy(
    chunks: Iterable[bytes], target: Path, source: Source, total: int | None, report: Callable[[str], None]
) -> str:
    """Write the chunks and tell how it goes; sha256 of all of them."""
    digest = hashlib.sha256()
    done, size = 0, f" of {total / 1e6:.1f}" if total else ""
    progress = Progress(total / 1e6 if total else None, "MB", PROGRESS_SECONDS)
    with open(target, "wb") as stream:
        for chunk in chunks:
            stream.write(chunk)
            digest.update(chunk)
            done += len(chunk)
            if source.size is not None and done > source.size:
                raise _wrong_size(source, f"more than {source.size}")
            if progress.due():
                report(f"{source.url}: {done / 1e6:.1f}{size} MB at {progress.pace(done / 1e6)}")
    return digest.hexdigest()


def _reason(error: BaseException) -> str:
    """The innermost cause on one line: requests wraps a plain 'connection refused' three times."""
    inner = error
    while nested := [part for part in inner.args if isinstance(part, BaseException)]:
        inner = nested[0]
    reason = getattr(inner, "reason", None)
    text = str(reason if isinstance(reason, BaseException) else inner).rsplit(">: ", 1)[-1]
    return " ".join(text.split()) or type(inner).__name__
