"""The published log format: four text files that hold a simulation's counts, batch by batch and step by step.

A line is batch-major: batch 0 steps 1..T, then batch 1, and so on (docs/counting.md). Counts are cumulative over the
time steps and summed over the images of a batch.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt

from negspike.errors import InputError
from negspike.files import write_text

Counts = npt.NDArray[np.int64]

# what numpy.savetxt writes is a number too
_NUMBER = re.compile(r"-?\d+(\.\d*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_LARGEST = np.iinfo(np.int64).max
# byte-order marks, as editors and shells of Windows write them
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@dataclass(frozen=True, eq=False)
class Logs:
    """The four logs of one simulation. Every array is int64 of shape (batches, T), T time steps.

    Each attribute is also the name of its file, ``accuracy.txt`` and so on.

    Attributes:
        accuracy: images of the batch whose prediction is right at this step.
        spike_num: spikes so far, positive and negative, of all spiking layers.
        spike_collect: net spikes so far, positive minus negative.
        sop_num: synaptic operations so far.

    Raises:
        ValueError: the arrays are not int64, not two-dimensional, empty, or differ in shape.
    """

    accuracy: Counts
    spike_num: Counts
    spike_collect: Counts
    sop_num: Counts

    def __post_init__(self) -> None:
        for name in NAMES:
            array = getattr(self, name)
            if array.dtype != np.int64 or array.ndim != 2 or array.size == 0 or array.shape != self.accuracy.shape:
                raise ValueError(f"{name}: expected int64 (batches, T), got {array.dtype} {array.shape}")

    @property
    def batches(self) -> int:
        """Number of batches; the last may hold fewer images than the others."""
        return int(self.accuracy.shape[0])

    @property
    def timesteps(self) -> int:
        """T, the number of time steps."""
        return int(self.accuracy.shape[1])


NAMES = tuple(field.name for field in fields(Logs))


def batch_logs(
    correct: npt.NDArray[np.bool_], spikes: Counts, net_spikes: Counts, sops: Counts, batch_size: int
) -> Logs:
    """Sum what was counted for each image over consecutive batches.

    Args:
        correct: (N, T) bool, whether the prediction is right at each step.
        spikes: (N, T) int64, spikes so far, positive and negative.
        net_spikes: (N, T) int64, positive minus negative spikes so far.
        sops: (N, T) int64, synaptic operations so far.
        batch_size: images a batch; the last batch holds what is left.

    Raises:
        ValueError: the shapes differ, there is no image, or ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected at least 1")
    if not correct.shape == spikes.shape == net_spikes.shape == sops.shape or correct.ndim != 2 or correct.size == 0:
        shapes = ", ".join(str(array.shape) for array in (correct, spikes, net_spikes, sops))
        raise ValueError(f"expected four arrays of the same shape (N, T), got {shapes}")
    starts = np.arange(0, len(correct), batch_size)

    def total(counts: npt.NDArray[np.bool_] | Counts) -> Counts:
        return np.add.reduceat(counts.astype(np.int64, copy=False), starts, axis=0)

    return Logs(accuracy=total(correct), spike_num=total(spikes), spike_collect=total(net_spikes), sop_num=total(sops))


def write_logs(logs: Logs, directory: Path | str) -> None:
    """Write the four files into ``directory``, each atomically: one count a line, net spikes with ``.0``."""
    for name in NAMES:
        end = ".0\n" if name == "spike_collect" else "\n"
        lines = [f"{count}{end}" for count in getattr(logs, name).ravel().tolist()]
        write_text(Path(directory) / f"{name}.txt", "".join(lines))


def read_logs(directory: Path | str, timesteps: int, batch_size: int | None = None, *, signed: bool = False) -> Logs:
    """Read the four files from ``directory`` and check that a simulation can have written them.

    Args:
        directory: the folder of ``accuracy.txt``, ``spike_num.txt``, ``spike_collect.txt`` and ``sop_num.txt``.
        timesteps: T, lines a batch.
        batch_size: images of a full batch, where it is known: then no batch may have more right answers.
        signed: whether net spike counts may go below zero, as those of signed quantisers do.

    Raises:
        InputError: a file is missing, empty or cut off, a line is not a whole number, the lines are not a multiple of
            T or differ in number between the files, or the counts are impossible: negative, going down, more net
            spikes than spikes, negative spikes in the first step (a sign that T is wrong), more right answers than
            images.
    """
    directory = Path(directory)
    if timesteps < 1:
        raise InputError(f"{directory}: {timesteps} time steps, expected at least 1")
    arrays: dict[str, Counts] = {}
    for name in NAMES:
        path = directory / f"{name}.txt"
        counts = _read_counts(path)
        if len(counts) % timesteps:
            raise InputError(
                f"{path}: {len(counts)} lines are not a multiple of {timesteps} time steps;"
                " the file is cut off, or was written with another number of time steps"
            )
        if arrays and len(counts) != arrays[NAMES[0]].size:
            raise InputError(f"{path}: {len(counts)} lines, but {NAMES[0]}.txt beside it has {arrays[NAMES[0]].size}")
        arrays[name] = counts.reshape(-1, timesteps)
    logs = Logs(**arrays)
    _check(logs, directory, batch_size, signed=signed)
    return logs


def _read_counts(path: Path) -> Counts:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; a log is four files: {', '.join(f'{n}.txt' for n in NAMES)}") from None
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    text = content.decode(encoding, errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    if not text:
        raise InputError(f"{path}: the file is empty")
    if not text.endswith("\n"):  # 12 cut off after the 1 would be another number
        raise InputError(f"{path}: its last line has no end; the file is cut off")
    lines = text.rstrip().split("\n")
    counts = np.empty(len(lines), np.int64)
    for index, line in enumerate(lines):
        try:
            counts[index] = _count(line)
        except (ValueError, ArithmeticError):
            raise InputError(f"{path}, line {index + 1}: {line[:40]!r} is not a whole number") from None
    return counts


def _count(line: str) -> int:
    text = line.strip()
    whole = text.removesuffix(".0")
    if whole.isdecimal() and whole.isascii():
        return int(whole)
    if not _NUMBER.fullmatch(text):
        raise ValueError
    number = Decimal(text)  # a float would round counts above 2^53
    if not -_LARGEST <= number <= _LARGEST or number != int(number):
        raise ValueError
    return int(number)


def _check(logs: Logs, directory: Path, batch_size: int | None, *, signed: bool) -> None:
    """Raise an InputError that names the first line at which the counts are impossible."""
    for name in NAMES:
        if name != "spike_collect" or not signed:
            _refuse(getattr(logs, name) < 0, directory, name, "a count below 0")
        if np.abs(getattr(logs, name).sum(0, dtype=np.float64)).max() >= _LARGEST:
            raise InputError(f"{directory / f'{name}.txt'}: counts that add up to more than 64 bits over the batches")
    for name in ("spike_num", "sop_num"):
        falls = np.zeros(logs.accuracy.shape, np.bool_)
        falls[:, 1:] = np.diff(getattr(logs, name), axis=1) < 0
        _refuse(
            falls,
            directory,
            name,
            f"the count goes down within a batch, but it is cumulative; does a batch have {logs.timesteps} time steps?",
        )
    early = np.zeros(logs.accuracy.shape, np.bool_)
    early[:, 0] = (logs.spike_collect[:, 0] != logs.spike_num[:, 0]) & (not signed)
    _refuse(
        early,
        directory,
        "spike_collect",
        "negative spikes in the first time step, where there can be none;"
        f" does a batch have {logs.timesteps} time steps?",
    )
    _refuse(np.abs(logs.spike_collect) > logs.spike_num, directory, "spike_collect", "more net spikes than spikes")
    _refuse(
        (logs.spike_num - logs.spike_collect) % 2 != 0,
        directory,
        "spike_collect",
        "spikes and net spikes differ by an odd number, but their difference is twice the negative spikes",
    )
    if batch_size is not None:
        _refuse(
            logs.accuracy > batch_size,
            directory,
            "accuracy",
            f"more right answers than the {batch_size} images of a batch",
        )


def _refuse(wrong: npt.NDArray[np.bool_], directory: Path, name: str, reason: str) -> None:
    if wrong.any():
        line = int(np.flatnonzero(wrong)[0]) + 1
        raise InputError(f"{directory / f'{name}.txt'}, line {line}: {reason}")
