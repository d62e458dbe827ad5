"""Writing files whole or not at all, and what a rule tells its user."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import OneLine

from negspike.console import Progress, format_duration, rule_log
from negspike.errors import InputError
from negspike.files import ABANDONED_SECONDS, atomic_path, files_below, write_json, write_text
from negspike.user_files import find_file


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "table.csv"
    with atomic_path(path) as temporary:
        temporary.write_text("content")
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"
        assert not path.exists()
    assert path.read_text() == "content"
    assert [entry.name for entry in path.parent.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_old_file_stays_when_writing_fails(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a power cut could leave an empty file where a good one was."""
    path, steps = tmp_path / "table.csv", list[str]()
    fsync, replace = os.fsync, Path.replace

    def recorded_fsync(handle: int) -> None:
        kind = os.fstat(handle)
        steps.append("folder" if stat.S_ISDIR(kind.st_mode) else f"{kind.st_size} bytes")
        fsync(handle)

    def recorded_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    write_text(path, "content")
    assert steps == ["7 bytes", "rename", "folder"]


def test_what_a_killed_process_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    for name, age in ((".table-abcdefgh.csv", 2), (".table-ijklmnop.csv", 0.5), (".other-abcdefgh.csv", 2)):
        (tmp_path / name).write_text("half")
        then = time.time() - age * ABANDONED_SECONDS
        os.utime(tmp_path / name, (then, then))
    write_text(tmp_path / "table.csv", "whole")
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"table.csv", ".table-ijklmnop.csv", ".other-abcdefgh.csv"}


def test_an_error_of_the_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*table\.csv'"), atomic_path(tmp_path / "table.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("owner, name", [(os, "fsync"), (Path, "chmod"), (os, "open")])
def test_a_file_system_that_knows_no_fsync_or_permissions(
    number: int, owner: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """exFAT, CIFS, object stores. os.open is how folders are opened here."""
    with atomic_path(tmp_path / "text") as temporary:
        temporary.write_text("content")
        monkeypatch.setattr(owner, name, failing(number))
    monkeypatch.undo()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("text", "content")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("owner, name", [(os, "fsync"), (Path, "chmod"), (Path, "replace")])
def test_a_full_or_broken_disk_is_reported(
    number: int, owner: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("old")
    with pytest.raises(OSError, match=os.strerror(number)), atomic_path(tmp_path / "text") as temporary:
        temporary.write_text("new")
        monkeypatch.setattr(owner, name, failing(number))
    monkeypatch.undo()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("text", "old")]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_folders_that_link_to_each_other_are_read_once_each_way(tmp_path: Path) -> None:
    for here, other in (("a", "b"), ("b", "a")):
        (tmp_path / here).mkdir()
        (tmp_path / here / "file").write_text(here)
        (tmp_path / here / "other").symlink_to(tmp_path / other)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path))
    assert found == ["a/file", "a/other/file", "b/file", "b/other/file"]


def test_the_home_of_nobody() -> None:
    with OneLine(InputError, "~nobody-of-this-name/t.csv", "there is no such file"):
        find_file("~nobody-of-this-name/t.csv")


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "text", "a")
    finally:
        assert os.umask(before) == 0o027
    assert stat.S_IMODE((tmp_path / "text").stat().st_mode) == 0o640


def test_text_and_json_are_the_same_bytes_everywhere(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "ü\nb\n")
    assert (tmp_path / "text").read_bytes() == b"\xc3\xbc\nb\n"
    write_json(tmp_path / "a.json", {"b": 1, "a": [0.1, None, "ü"]})
    content = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(content) == {"b": 1, "a": [0.1, None, "ü"]}
    assert content.index('"b"') < content.index('"a"') and "ü" in content and content.endswith("}\n")


def test_lines_go_to_the_log_and_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with rule_log(tmp_path / "logs" / "phase1.log") as report:
        report("half way")
        assert "half way" in (tmp_path / "logs" / "phase1.log").read_text(), "at once, not at the end"
    assert capsys.readouterr().err == "phase1: half way\n"


def test_what_the_package_logs_goes_there_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("negspike")
    with rule_log(tmp_path / "phase0.log"):
        logger.info("reconstruction, step %d/%d", 3, 400)
    logger.info("after it")
    assert capsys.readouterr().err == "phase0: reconstruction, step 3/400\n"
    assert (tmp_path / "phase0.log").read_text().count("\n") == 1


def test_lines_name_the_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with rule_log(tmp_path / "logs" / "cnn1" / "seed0" / "k1" / "phase2.log") as report:
        report("half way")
    assert capsys.readouterr().err == "cnn1/seed0/k1/phase2: half way\n"


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="only Linux has pipes that keep writes apart")
def test_a_line_is_written_in_one_piece(tmp_path: Path) -> None:
    """Or what other jobs and Snakemake say at the same moment comes into the middle of it."""
    code = "import sys; from negspike.console import rule_log\nwith rule_log(sys.argv[1]) as report: report('half way')"
    for unbuffered in ("", "1"):
        reader, writer = os.pipe2(os.O_DIRECT)
        environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
        subprocess.run([sys.executable, "-c", code, tmp_path / "rule.log"], stderr=writer, env=environment, check=True)
        os.close(writer)
        assert os.read(reader, 4096) == b"rule: half way\n"
        os.close(reader)


@pytest.mark.parametrize(
    "error",
    [InputError("k is 9"), FileNotFoundError(2, "No such file", "a.npz"), MemoryError("Unable to allocate 9 TB")],
)
def test_a_mistake_of_the_user_is_one_line(
    error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, rule_log(tmp_path / "rule.log"):
        raise error
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"rule: error: {error}\n"
    assert (tmp_path / "rule.log").read_text().splitlines()[-1].endswith(f"error: {error}")


@pytest.fixture
def not_ignored() -> Iterator[None]:
    """Signals as in the foreground: shells start background jobs with SIGINT ignored, and nohup ignores SIGHUP."""
    wanted: dict[str, Any] = {"SIGTERM": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL, "SIGINT": signal.default_int_handler}
    before = {name: signal.signal(getattr(signal, name), handler) for name, handler in wanted.items()}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.mark.skipif(os.name != "posix", reason="the signals are those of POSIX")
@pytest.mark.usefixtures("not_ignored")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as caught, rule_log(tmp_path / "rule.log"), atomic_path(tmp_path / "half"):
        os.kill(os.getpid(), number)
        time.sleep(10)
    assert caught.value.code == 128 + number
    assert capsys.readouterr().err == (
        f"rule: stopped by {name}; the same command goes on, a training after its last finished epoch\n"
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["rule.log"]
    assert signal.getsignal(number) == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_nohup_is_respected(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with rule_log(tmp_path / "rule.log"):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_log_that_cannot_be_written_ends_no_job(capsys: pytest.CaptureFixture[str]) -> None:
    with rule_log("/dev/full") as report:
        report("half way")
    assert capsys.readouterr().err.endswith("half way\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_terminal_that_is_gone_ends_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        with rule_log(tmp_path / "rule.log") as report:
            report("half way")
            report("done")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), gone.fileno())  # or closing it would fail
    assert (tmp_path / "rule.log").read_text().endswith("done\n")


def test_a_mistake_of_ours_leaves_its_traceback_in_the_log(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), rule_log(tmp_path / "rule.log"):
        _ = 1 / 0
    log = (tmp_path / "rule.log").read_text()
    assert "Traceback" in log and "ZeroDivisionError" in log


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 00 min"),
        (3900, "1 h 05 min"),
        (360_000, "100 h 00 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


class Clock:
    """A clock that moves when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("negspike.console.time.monotonic", clock)
    return clock


@pytest.mark.parametrize(
    ("total", "already", "done", "seconds", "text"),
    [
        (100, 0, 25, 2.0, "12.5 images/s, 6 s left"),
        (5000, 0, 3000, 2.0, "1,500 images/s, 1 s left"),
        (100, 50, 75, 2.0, "12.5 images/s, 2 s left"),  # what was done before took no time of this run
        (100, 0, 100, 2.0, "50.0 images/s, 0 s left"),
        (100, 0, 101, 2.0, "50.5 images/s, 0 s left"),  # more than was promised
        (None, 0, 25, 2.0, "12.5 images/s"),
        (100, 50, 50, 2.0, "0.0 images/s"),
        (0, 0, 0, 2.0, "0.0 images/s, 0 s left"),
        # a clock too coarse to have moved
        (100, 0, 25, 0.0, "just begun"),
        (None, 0, 25, 0.0, "just begun"),
        (100, 0, 100, 0.0, "0 s left"),
    ],
)
def test_progress(total: float | None, already: float, done: float, seconds: float, text: str, clock: Clock) -> None:
    progress = Progress(total, "images", already=already)
    clock.now += seconds
    assert progress.pace(done) == text


def test_progress_is_due_every_few_seconds(clock: Clock) -> None:
    progress = Progress(10, "images", every_seconds=5.0)
    due = []
    for _ in range(12):
        clock.now += 1
        due.append(progress.due())
    assert [second for second, now in enumerate(due, 1) if now] == [6, 12]
