"""Downloading a file: streamed to disk, checked for size and checksum, put in its place only when it is right."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pooch
import requests

from negspike.config import Source
from negspike.errors import InputError

CHUNK = 1 << 20
ATTEMPTS = 3
TIMEOUT_SECONDS = 30
PROGRESS_SECONDS = 5.0


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

    def fetch(url: str, output: str, _: Any) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with open(output, "wb") as target:
                    _transfer(url, target, source.size, report)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                if attempt == ATTEMPTS:
                    raise InputError(
                        f"{url}: cannot be reached ({_reason(error)}); give another url under 'datasets' in the config"
                    ) from error
                report(f"{url}: transfer broke off ({_reason(error)}), starting again")
                time.sleep(2**attempt)
        received = Path(output).stat().st_size
        if source.size is not None and received != source.size:
            raise InputError(f"{url}: {received} bytes received, expected {source.size}; the file is not the right one")

    path.parent.mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("ERROR")
    try:
        pooch.retrieve(source.url, f"sha256:{source.sha256}", path.name, path.parent, downloader=fetch)
    except InputError:
        raise
    except ValueError as error:  # pooch names neither the URL nor the remedy
        found = str(error).rsplit("but got", 1)[-1].strip().split(":")[-1].split(".")[0]
        raise InputError(
            f"{source.url}: wrong checksum: sha256 is {found}, the config expects {source.sha256}"
        ) from error


def _transfer(url: str, target: IO[bytes], size: int | None, report: Callable[[str], None]) -> None:
    if urlsplit(url).scheme == "file":
        file = Path(url2pathname(urlsplit(url).path))
        try:
            with open(file, "rb") as stream:
                _copy(iter(lambda: stream.read(CHUNK), b""), target, size or file.stat().st_size, url, report)
        except OSError as error:
            raise InputError(f"{url}: cannot be read ({error.strerror or error})") from error
        return
    with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code != 200:
            raise InputError(f"{url}: the server answers {response.status_code} {response.reason}")
        total = int(response.headers.get("Content-Length", 0)) or size
        # raw and undecoded: a server that marks .gz files as encoded must not have them unpacked on the way
        _copy(_raw_chunks(response), target, total, url, report)


def _raw_chunks(response: requests.Response) -> Any:
    try:
        yield from response.raw.stream(CHUNK, decode_content=False)
    except Exception as error:  # urllib3's, which requests wraps only in iter_content
        raise requests.exceptions.ChunkedEncodingError(error) from error


def _copy(chunks: Any, target: IO[bytes], total: int | None, url: str, report: Callable[[str], None]) -> None:
    done, started, last = 0, time.monotonic(), time.monotonic()
    for chunk in chunks:
        target.write(chunk)
        done += len(chunk)
        if time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            rate = done / (last - started)
            left = f", {max(0.0, (total - done) / rate):.0f} s left" if total else ""
            report(f"{url}: {done / 1e6:.1f} MB at {rate / 1e6:.1f} MB/s{left}")


def _reason(error: Exception) -> str:
    """The innermost cause: requests wraps a plain 'connection refused' three times."""
    inner: BaseException = error
    while inner.args and isinstance(inner.args[0], BaseException):
        inner = inner.args[0]
    reason = getattr(inner, "reason", None)
    return str(reason if isinstance(reason, BaseException) else inner).rsplit(">: ", 1)[-1]
