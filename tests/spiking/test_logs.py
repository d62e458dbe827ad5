"""The four log files: what is written is read again, sums over batches, and one clear line for whatever is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import OneLine
from hypothesis import given
from hypothesis import strategies as st

from negspike.errors import InputError
from negspike.spiking.logs import NAMES, Logs, batch_logs, read_logs, write_logs

T = 3


def image_counts(images: int, timesteps: int, seed: int, largest: int = 50) -> dict[str, Any]:
    """Counts for each image that a simulation could have: cumulative, without a negative spike in the first step."""
    random = np.random.default_rng(seed)
    positive = random.integers(0, largest, (images, timesteps)).cumsum(1)
    negative = np.zeros_like(positive)
    negative[:, 1:] = positive[:, :-1] // 2
    return {
        "correct": random.random((images, timesteps)) < 0.7,
        "spikes": positive + negative,
        "net_spikes": positive - negative,
        "sops": random.integers(0, largest**2, (images, timesteps)).cumsum(1),
    }


def same(first: Logs, second: Logs) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in NAMES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Logs of 10 images in batches of 4, T = 3."""
    write_logs(batch_logs(**image_counts(10, T, 0), batch_size=4), tmp_path)
    return tmp_path


sizes = {
    "images": st.integers(1, 30),
    "timesteps": st.integers(1, 6),
    "batch_size": st.integers(1, 12),
    "seed": st.integers(0, 2**32 - 1),
    "largest": st.sampled_from([1, 50, 2**27]),  # 64 bits hold the sum over all images
}


@given(**sizes)
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, images: int, timesteps: int, batch_size: int, seed: int, largest: int
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    logs = batch_logs(**image_counts(images, timesteps, seed, largest), batch_size=batch_size)
    write_logs(logs, folder)
    assert same(read_logs(folder, timesteps, batch_size), logs)
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.txt" for name in NAMES)


@given(**sizes)
def test_sums_do_not_depend_on_the_batches(
    images: int, timesteps: int, batch_size: int, seed: int, largest: int
) -> None:
    counts = image_counts(images, timesteps, seed, largest)
    logs = batch_logs(**counts, batch_size=batch_size)
    assert (logs.batches, logs.timesteps) == (-(-images // batch_size), timesteps)
    sources = ("correct", "spikes", "net_spikes", "sops")
    for name, source in zip(NAMES, sources, strict=True):
        assert np.array_equal(getattr(logs, name).sum(0), counts[source].sum(0))
        for batch in range(logs.batches):
            part = counts[source][batch * batch_size : (batch + 1) * batch_size]
            assert np.array_equal(getattr(logs, name)[batch], part.sum(0))


def test_lines_are_batch_major_and_written_as_published(tmp_path: Path) -> None:
    logs = Logs(*(np.array([[1, 2], [3, 4]]) * factor for factor in (1, 20, 10, 10**12)))
    write_logs(logs, tmp_path)
    assert (tmp_path / "accuracy.txt").read_bytes() == b"1\n2\n3\n4\n"
    assert (tmp_path / "spike_num.txt").read_bytes() == b"20\n40\n60\n80\n"
    assert (tmp_path / "spike_collect.txt").read_bytes() == b"10.0\n20.0\n30.0\n40.0\n"
    assert (tmp_path / "sop_num.txt").read_bytes() == b"1000000000000\n2000000000000\n3000000000000\n4000000000000\n"


def test_counts_above_the_mantissa_of_a_float_are_exact(tmp_path: Path) -> None:
    count = np.array([[2**53 + 1]])
    write_logs(Logs(np.array([[1]]), count, count, count), tmp_path)
    assert same(read_logs(tmp_path, 1), Logs(np.array([[1]]), count, count, count))


def test_sums_over_all_batches_of_more_than_64_bits_are_refused(tmp_path: Path) -> None:
    """Each count fits, but tables and figures sum them."""
    count = np.full((3, 1), 2**63 - 1)
    write_logs(Logs(count * 0, count, count, count * 0), tmp_path)
    with OneLine(InputError, "spike_num.txt", "64 bits"):
        read_logs(tmp_path, 1)


def test_net_spikes_may_be_written_in_other_ways(folder: Path) -> None:
    expected = read_logs(folder, T)
    path = folder / "spike_collect.txt"
    np.savetxt(path, np.loadtxt(path))
    assert "e+" in path.read_text()
    assert same(read_logs(folder, T), expected)
    path.write_text("".join(f"{int(count)}\r\n" for count in np.loadtxt(path)), newline="")
    assert same(read_logs(folder, T), expected)


@pytest.mark.parametrize(
    "form",
    [
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode("utf-16"),
        lambda text: text.encode("utf-16-be").join([b"\xfe\xff", b""]),
        lambda text: f"{text}\n".encode(),
        lambda text: f"{text} \r\n\t\r\n".encode(),
    ],
    ids=["line ends", "byte-order mark", "UTF-16", "UTF-16 BE", "blank last line", "blank last lines"],
)
def test_logs_that_were_written_on_windows(form: Callable[[str], bytes], folder: Path) -> None:
    expected = read_logs(folder, T)
    for name in NAMES:
        (folder / f"{name}.txt").write_bytes(form((folder / f"{name}.txt").read_text()))
    assert same(read_logs(folder, T), expected)
    content = (folder / "sop_num.txt").read_bytes().rstrip(b"\r\n \t\0")
    (folder / "sop_num.txt").write_bytes(content + b"\0" * (len(content) % 2))
    with OneLine(InputError, "sop_num.txt", "cut off"):
        read_logs(folder, T)


@pytest.mark.parametrize("form", ["{}", "{}.", "{}.0", "{}.00", "{}0e-1"])
def test_large_counts_are_not_rounded(form: str, tmp_path: Path) -> None:
    count = 2**53 + 1
    one = np.array([[1]])
    write_logs(Logs(one, one, one, np.array([[count]])), tmp_path)
    (tmp_path / "sop_num.txt").write_text(form.format(count) + "\n")
    assert read_logs(tmp_path, 1).sop_num[0, 0] == count


def test_no_time_steps(folder: Path) -> None:
    with OneLine(InputError, "0 time steps"):
        read_logs(folder, 0)


def replace_line(name: str, line: int, text: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / f"{name}.txt"
        lines = path.read_text().splitlines()
        lines[line - 1] = text
        path.write_text("\n".join(lines) + "\n")

    return change


def keep_lines(name: str, count: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / f"{name}.txt"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))

    return change


def cut(name: str, count: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / f"{name}.txt"
        path.write_bytes(path.read_bytes()[:-count])

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "sop_num.txt").unlink(), ("sop_num.txt", "no such file")),
        (keep_lines("accuracy", 0), ("accuracy.txt", "empty")),
        (cut("sop_num", 1), ("sop_num.txt", "last line has no end")),
        (cut("sop_num", 2), ("sop_num.txt", "last line has no end")),
        (keep_lines("spike_num", 8), ("spike_num.txt", "8 lines", "3 time steps")),
        (keep_lines("spike_num", 6), ("spike_num.txt", "6 lines", "accuracy.txt", "9")),
        (replace_line("sop_num", 5, "many"), ("sop_num.txt, line 5", "'many'")),
        (replace_line("sop_num", 5, ""), ("sop_num.txt, line 5", "''")),
        (replace_line("spike_collect", 2, "3.5"), ("spike_collect.txt, line 2", "'3.5'")),
        (replace_line("spike_collect", 2, "nan"), ("spike_collect.txt, line 2", "'nan'")),
        (replace_line("spike_collect", 2, "1e400"), ("spike_collect.txt, line 2", "'1e400'")),
        (replace_line("spike_num", 2, "9.0.0"), ("spike_num.txt, line 2", "'9.0.0' is not a whole number")),
        (replace_line("spike_num", 2, "1e1.0"), ("spike_num.txt, line 2", "'1e1.0' is not a whole number")),
        (replace_line("spike_num", 2, "9" * 30), ("spike_num.txt, line 2", "not a whole number")),
        (replace_line("spike_num", 4, "1_000"), ("spike_num.txt, line 4", "'1_000'")),
        (replace_line("accuracy", 7, "-1"), ("accuracy.txt, line 7", "below 0")),
        (replace_line("accuracy", 7, "5"), ("accuracy.txt, line 7", "4 images")),
        (replace_line("spike_num", 6, "0"), ("spike_num.txt, line 6", "goes down", "3 time steps")),
        (replace_line("sop_num", 8, "0"), ("sop_num.txt, line 8", "goes down", "3 time steps")),
        (replace_line("spike_collect", 4, "0.0"), ("spike_collect.txt, line 4", "first time step")),
        (replace_line("spike_collect", 5, "9999.0"), ("spike_collect.txt, line 5", "more net spikes")),
    ],
)
def test_wrong_logs_are_refused_with_one_line(
    folder: Path, change: Callable[[Path], None], words: tuple[str, ...]
) -> None:
    change(folder)
    with OneLine(InputError, *words):
        read_logs(folder, T, batch_size=4)


def test_an_odd_difference_of_spikes_is_refused(folder: Path) -> None:
    first = read_logs(folder, T).spike_collect[0, 1]
    replace_line("spike_collect", 2, f"{first - 1}.0")(folder)
    with OneLine(InputError, "spike_collect.txt, line 2", "odd"):
        read_logs(folder, T)


@pytest.mark.parametrize("wrong", [2, 8])
def test_a_wrong_number_of_time_steps_is_noticed(tmp_path: Path, wrong: int) -> None:
    write_logs(batch_logs(**image_counts(20, 4, 1), batch_size=5), tmp_path)
    with OneLine(InputError, f"{wrong} time steps"):
        read_logs(tmp_path, wrong)


def test_logs_of_different_shapes_are_refused() -> None:
    array = np.zeros((2, 3), np.int64)
    with pytest.raises(ValueError, match="sop_num"):
        Logs(array, array, array, array[:1])
    with pytest.raises(ValueError, match="spike_num"):
        Logs(array, array.astype(np.float64), array, array)
    with pytest.raises(ValueError, match="same shape"):
        batch_logs(np.ones((2, 3), bool), array, array, array[:, :2], 5)
    with pytest.raises(ValueError, match="batch_size"):
        batch_logs(np.ones((2, 3), bool), array, array, array, 0)
