"""Downloads from a real server on this machine: what goes right, and everything that goes wrong on a network."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import OneLine

from negspike.data import download as module
from negspike.data.download import download
from negspike.data.registry import Source
from negspike.errors import InputError

CONTENT = gzip.compress(bytes(range(256)) * 400, mtime=0)
Answer = Callable[[BaseHTTPRequestHandler, int], None]


class Server:
    """Answers every path with ``answer(handler, number of this request, from 1)``."""

    def __init__(self) -> None:
        self.requests: list[BaseHTTPRequestHandler] = []
        self.answer: Answer = whole
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.requests.append(self)
                self.close_connection = True
                server.answer(self, len(server.requests))

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/file.gz"


def send(
    handler: BaseHTTPRequestHandler, body: bytes, promised: int | None = None, status: int = 200, **headers: str
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if promised is None else promised))
    handler.send_header("Connection", "close")
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler: BaseHTTPRequestHandler, _: int) -> None:
    send(handler, CONTENT)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    thread = threading.Thread(target=running.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield running
    running.http.shutdown()
    running.http.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "cifar10" / "archive.gz"


def source(url: str, content: bytes = CONTENT, size: int | None = None) -> Source:
    return Source(url, hashlib.sha256(content).hexdigest(), size)


def quiet(_: str) -> None:
    pass


def names(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_success(size: int | None, server: Server, target: Path) -> None:
    download(source(server.url, size=size), target, quiet)
    assert target.read_bytes() == CONTENT
    assert names(target) == ["archive.gz"]
    assert len(server.requests) == 1


def test_the_file_is_readable_by_whom_the_umask_lets(server: Server, target: Path) -> None:
    download(source(server.url), target, quiet)
    reference = target.with_name("reference")
    reference.touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(reference.stat().st_mode)


def test_a_right_file_is_left_alone(server: Server, target: Path) -> None:
    download(source(server.url), target, quiet)
    before = target.stat().st_mtime_ns
    download(source(server.url), target, quiet)
    assert len(server.requests) == 1
    assert target.stat().st_mtime_ns == before


def test_a_wrong_file_is_replaced(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(b"old")
    download(source(server.url), target, quiet)
    assert target.read_bytes() == CONTENT


def fails(wanted: Source, target: Path, *words: str, report: Callable[[str], None] = quiet) -> None:
    """The download is refused with one line; the file that was there stays, and nothing else is left behind."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(b"the old one")
    with OneLine(InputError, wanted.url, *words):
        download(wanted, target, report)
    assert target.read_bytes() == b"the old one"
    assert names(target) == [target.name]


def test_wrong_checksum(server: Server, target: Path) -> None:
    wanted = source(server.url, b"another")
    fails(wanted, target, "wrong checksum", hashlib.sha256(CONTENT).hexdigest(), wanted.sha256)
    assert len(server.requests) == 1, "a wrong file does not become right by asking again"


def test_wrong_size_is_noticed_before_the_transfer(server: Server, target: Path) -> None:
    fails(source(server.url, size=5), target, f"{len(CONTENT)} bytes", "the config expects 5")


def test_wrong_size_of_a_transfer_without_length(server: Server, target: Path) -> None:
    def endless(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(200):
                handler.wfile.write(bytes(1 << 20))
        except OSError:
            return

    server.answer = endless
    fails(source(server.url, size=1000), target, "more than 1000 bytes", "the config expects 1000")

    def nothing(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.end_headers()

    server.answer = nothing
    fails(source(server.url, size=1000), target, "0 bytes", "the config expects 1000")


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_final(status: int, server: Server, target: Path) -> None:
    server.answer = lambda handler, _: send(handler, b"<html>not here</html>", status=status)
    fails(source(server.url), target, f"answers {status}", "url")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status: int, server: Server, target: Path) -> None:
    server.answer = lambda handler, number: send(handler, CONTENT, status=status if number < 3 else 200)
    lines: list[str] = []
    download(source(server.url), target, lines.append)
    assert target.read_bytes() == CONTENT
    assert len(lines) == 2 and all(str(status) in line for line in lines)


def test_connection_refused(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.gz"
        lines: list[str] = []
        fails(source(url), target, "cannot be reached", "refused", "'datasets'", report=lines.append)
    assert len(lines) == module.ATTEMPTS - 1
    assert all("starting again" in line and "\n" not in line for line in lines)


def test_a_host_that_does_not_exist(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    monkeypatch.setenv("NO_PROXY", "*")
    fails(source("http://no-such-host.invalid/file.gz"), target, "cannot be reached")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://[::1/file.gz",
        "http://127.0.0.1:99999/file.gz",
        "http://a..b/file.gz",
        f"http://{'a' * 70}.invalid/file.gz",
        "file:///a%00b",
        "ftp://127.0.0.1/file.gz",
    ],
)
def test_a_url_that_is_none(url: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    fails(source(url), target)


def test_a_server_that_breaks_off_twice(server: Server, target: Path) -> None:
    def breaking(handler: BaseHTTPRequestHandler, number: int) -> None:
        send(handler, CONTENT[: len(CONTENT) // 2] if number < 3 else CONTENT, promised=len(CONTENT))

    server.answer = breaking
    lines: list[str] = []
    download(source(server.url, size=len(CONTENT)), target, lines.append)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 3 and len(lines) == 2
    assert names(target) == ["archive.gz"]


def test_a_body_that_is_always_cut_short(server: Server, target: Path) -> None:
    server.answer = lambda handler, _: send(handler, CONTENT[:100], promised=len(CONTENT))
    target.parent.mkdir(parents=True)
    target.write_bytes(b"the old one")
    with OneLine(InputError, server.url, "cannot be reached"):
        download(source(server.url), target, quiet)
    assert len(server.requests) == module.ATTEMPTS
    assert target.read_bytes() == b"the old one"
    assert part(target).read_bytes() == CONTENT[:100]
    assert names(target) == [part(target).name, target.name]


def test_a_chunked_body_that_is_cut_short(server: Server, target: Path) -> None:
    def chunked(handler: BaseHTTPRequestHandler, number: int) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(CONTENT), CONTENT) + (b"0\r\n\r\n" if number == 2 else b""))

    server.answer = chunked
    lines: list[str] = []
    download(source(server.url), target, lines.append)
    assert target.read_bytes() == CONTENT
    assert len(lines) == 1


# Going on after what came before


def part(target: Path, content: bytes = CONTENT) -> Path:
    return target.with_name(f".{target.name}-{hashlib.sha256(content).hexdigest()[:16]}.part")


def keep(target: Path, content: bytes) -> None:
    """What an earlier run left of the file."""
    target.parent.mkdir(parents=True)
    part(target).write_bytes(content)


class Ranges:
    """Sends the rest that is asked for, but cuts the line after so many bytes."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self.sent: list[tuple[int, int]] = []

    def __call__(self, handler: BaseHTTPRequestHandler, _: int) -> None:
        asked = handler.headers.get("Range")
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        rest = CONTENT[first:]
        self.sent.append((first, len(rest[: self.most])))
        if asked and not rest:
            return send(handler, b"", status=416, Content_Range=f"bytes */{len(CONTENT)}")
        span = {"Content_Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"} if asked else {}
        send(handler, rest[: self.most], promised=len(rest), status=206 if asked else 200, **span)


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_it_goes_on_where_it_broke_off(
    size: int | None, server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as need be, while it gets on."""
    monkeypatch.setattr(module, "CHUNK", len(CONTENT) // 10)
    server.answer = ranges = Ranges(len(CONTENT) // 7)
    lines: list[str] = []
    download(source(server.url, size=size), target, lines.append)
    assert target.read_bytes() == CONTENT
    assert len(ranges.sent) > module.ATTEMPTS and sum(count for _, count in ranges.sent) == len(CONTENT)
    assert len(lines) == len(ranges.sent) - 1 and all("asking for the rest after 0.0 MB" in line for line in lines)
    assert names(target) == [target.name]


def test_it_goes_on_in_the_next_run(server: Server, target: Path) -> None:
    server.answer = Ranges(100)
    with OneLine(InputError, "cannot be reached"):
        download(source(server.url), target, quiet)
    kept = part(target).stat().st_size
    assert kept == 100 * module.ATTEMPTS and not target.exists()
    server.answer = ranges = Ranges()
    download(source(server.url), target, quiet)
    assert target.read_bytes() == CONTENT
    assert ranges.sent == [(kept, len(CONTENT) - kept)]
    assert names(target) == [target.name]


def test_it_goes_on_after_the_process_was_stopped(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", -1.0)
    monkeypatch.setattr(module, "CHUNK", 300)

    def stop(_: str) -> None:
        raise KeyboardInterrupt

    server.answer = ranges = Ranges()
    with pytest.raises(KeyboardInterrupt):
        download(source(server.url), target, stop)
    kept = part(target).stat().st_size
    download(source(server.url), target, quiet)
    assert target.read_bytes() == CONTENT
    assert 0 < kept < len(CONTENT) and ranges.sent[1:] == [(kept, len(CONTENT) - kept)]


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_file_that_was_complete_but_for_its_name(size: int | None, server: Server, target: Path) -> None:
    keep(target, CONTENT)
    server.answer = Ranges()
    download(source(server.url, size=size), target, quiet)
    assert target.read_bytes() == CONTENT and names(target) == [target.name]
    assert len(server.requests) == (1 if size is None else 0)


@pytest.mark.parametrize("kept", [b"x" * 100, b"x" * len(CONTENT), CONTENT + b"x", b"x" * 10_000_000])
@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_what_was_kept_is_not_of_this_file(kept: bytes, size: int | None, server: Server, target: Path) -> None:
    keep(target, kept)
    server.answer = ranges = Ranges()
    lines: list[str] = []
    download(source(server.url, size=size), target, lines.append)
    assert target.read_bytes() == CONTENT and names(target) == [target.name]
    assert ranges.sent[-1] == (0, len(CONTENT))
    assert len(lines) == 1 and "once more from the beginning" in lines[0] and "\n" not in lines[0]


def test_a_wrong_file_in_parts_is_refused_after_one_more_try(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    wanted = source(server.url, b"another")
    part(target, b"another").write_bytes(CONTENT[:100])
    server.answer = ranges = Ranges()
    fails(wanted, target, "wrong checksum", wanted.sha256)
    assert [first for first, _ in ranges.sent] == [100, 0]


def test_the_rest_of_a_file_of_another_size_is_refused_unread(server: Server, target: Path) -> None:
    keep(target, CONTENT[:100])
    server.answer = Ranges()
    fails(source(server.url, size=5000), target, f"{len(CONTENT)} bytes", "the config expects 5000")
    assert len(server.requests) == 1


def test_a_server_that_knows_no_ranges_or_the_wrong_ones(server: Server, target: Path) -> None:
    keep(target, CONTENT[:100])
    download(source(server.url), target, quiet)
    assert server.requests[0].headers["Range"] == "bytes=100-" and target.read_bytes() == CONTENT
    target.unlink()
    part(target).write_bytes(CONTENT[:100])
    server.answer = lambda handler, number: send(
        handler, CONTENT, status=206 if number == 2 else 200, Content_Range=f"bytes 0-{len(CONTENT)}/{len(CONTENT)}"
    )
    lines: list[str] = []
    download(source(server.url), target, lines.append)
    assert target.read_bytes() == CONTENT and names(target) == [target.name]
    assert len(lines) == 1 and "another range" in lines[0]


def test_a_refusal_keeps_what_came_before(server: Server, target: Path) -> None:
    keep(target, CONTENT[:100])
    server.answer = lambda handler, _: send(handler, b"", status=404)
    with OneLine(InputError, "answers 404"):
        download(source(server.url), target, quiet)
    assert part(target).read_bytes() == CONTENT[:100]


def test_a_part_that_another_process_is_writing_is_left_alone(server: Server, target: Path) -> None:
    keep(target, CONTENT[:100])
    server.answer = ranges = Ranges()
    with open(part(target), "ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        download(source(server.url), target, quiet)
    assert target.read_bytes() == CONTENT and ranges.sent == [(0, len(CONTENT))]
    assert part(target).read_bytes() == CONTENT[:100]


def test_parts_of_other_files_do_not_stay_for_ever(server: Server, target: Path) -> None:
    target.parent.mkdir(parents=True)
    old, new = part(target, b"old"), part(target, b"new")
    old.write_bytes(b"old")
    new.write_bytes(b"new")
    os.utime(old, (0, 0))
    download(source(server.url), target, quiet)
    assert names(target) == sorted([new.name, target.name])


def test_a_server_that_goes_silent(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)

    def silent(handler: BaseHTTPRequestHandler, number: int) -> None:
        if number == 2:
            return send(handler, CONTENT)
        send(handler, CONTENT[:50], promised=len(CONTENT))
        handler.wfile.flush()
        time.sleep(0.6)

    server.answer = silent
    lines: list[str] = []
    download(source(server.url), target, lines.append)
    assert target.read_bytes() == CONTENT
    assert len(lines) == 1 and "timed out" in lines[0]


def test_a_server_that_marks_gz_files_as_encoded(server: Server, target: Path) -> None:
    server.answer = lambda handler, _: send(handler, CONTENT, Content_Encoding="gzip", Content_Type="application/x-tar")
    download(source(server.url, size=len(CONTENT)), target, quiet)
    assert target.read_bytes() == CONTENT


def test_a_server_that_compresses_for_whom_it_may(server: Server, target: Path) -> None:
    def compressing(handler: BaseHTTPRequestHandler, _: int) -> None:
        if "gzip" in handler.headers.get("Accept-Encoding", ""):
            send(handler, gzip.compress(CONTENT), Content_Encoding="gzip")
        else:
            send(handler, CONTENT)

    server.answer = compressing
    download(source(server.url), target, quiet)
    assert target.read_bytes() == CONTENT


def test_redirection(server: Server, target: Path) -> None:
    def moved(handler: BaseHTTPRequestHandler, number: int) -> None:
        send(handler, CONTENT if number > 1 else b"", status=200 if number > 1 else 302, Location="/elsewhere.gz")

    server.answer = moved
    download(source(server.url), target, quiet)
    assert target.read_bytes() == CONTENT
    assert server.requests[1].path == "/elsewhere.gz"


def test_endless_redirection(server: Server, target: Path) -> None:
    server.answer = lambda handler, _: send(handler, b"", status=302, Location="/file.gz")
    fails(source(server.url), target, "cannot be requested")


def test_redirection_to_a_file_is_refused(server: Server, target: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    server.answer = lambda handler, _: send(handler, b"", status=302, Location=secret.as_uri())
    fails(source(server.url), target, "cannot be requested")


def test_a_url_with_percent_escapes(server: Server, target: Path) -> None:
    url = server.url.replace("file.gz", quote("a folder/100% ü.gz"))
    download(source(url), target, quiet)
    assert server.requests[0].path == "/a%20folder/100%25%20%C3%BC.gz"


def test_progress_with_the_time_left(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(module, "CHUNK", 10_000)
    content = bytes(200_000)

    def slow(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        for start in range(0, len(content), 20_000):
            handler.wfile.write(content[start : start + 20_000])
            time.sleep(0.03)

    server.answer = slow
    lines: list[str] = []
    download(source(server.url, content), target, lines.append)
    assert 2 <= len(lines) <= 10
    for line in lines:
        assert re.fullmatch(re.escape(server.url) + r": 0\.\d of 0\.2 MB at \d+\.\d MB/s, \d+ s left", line), line


def test_progress_where_the_length_is_unknown(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.02)

    def slow(handler: BaseHTTPRequestHandler, _: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        for start in range(0, len(CONTENT), 200):
            handler.wfile.write(CONTENT[start : start + 200])
            handler.wfile.flush()
            time.sleep(0.02)

    monkeypatch.setattr(module, "CHUNK", 200)
    server.answer = slow
    lines: list[str] = []
    download(source(server.url), target, lines.append)
    assert lines and not any("left" in line for line in lines)


# file URLs


def test_a_file_url(tmp_path: Path, target: Path) -> None:
    copy = tmp_path / "a folder" / "100% ü#?.gz"
    copy.parent.mkdir()
    copy.write_bytes(CONTENT)
    for url in (copy.as_uri(), copy.as_uri().replace("file://", "file://localhost")):
        download(source(url, size=len(CONTENT)), target, quiet)
        assert target.read_bytes() == CONTENT
        target.unlink()
    assert copy.read_bytes() == CONTENT


def test_a_file_url_of_nothing(tmp_path: Path, target: Path) -> None:
    fails(source((tmp_path / "absent.gz").as_uri()), target, "cannot be read", "No such file")


def test_a_file_url_of_a_folder(tmp_path: Path, target: Path) -> None:
    fails(source(tmp_path.as_uri()), target, "cannot be read", "directory")


def test_a_file_url_of_another_file(tmp_path: Path, target: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"other")
    fails(source(other.as_uri()), target, "wrong checksum")
    fails(source(other.as_uri(), size=3), target, "more than 3 bytes")
    fails(source(other.as_uri(), size=30), target, "5 bytes", "the config expects 30")


def test_a_file_url_with_a_relative_path(target: Path) -> None:
    fails(source("file://data/archive.gz"), target, "three slashes", "absolute path")


def test_a_full_disk_is_not_blamed_on_the_source(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy.gz"
    copy.write_bytes(CONTENT)

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(OSError, match="No space left"):
        download(source(copy.as_uri()), target, quiet)
    assert names(target) == []
