"""The machine's own limit for an event-driven engine: how fast rows of int16 weights can be added to int32 sums.

Nothing else is done: no spikes are looked for, no thresholds compared. The rows come out of the L2 cache. Two ways: a
plain loop, whose sums stand in the first-level cache, and the engine's own inner operation, whose sums stand in
registers.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from negspike.spiking.event.arrange import aligned
from negspike.spiking.event.rows import make_accumulate, stored_order
from negspike.spiking.event.state import LARGEST_INT32

ROWS_BYTES = 256 << 10  # of each thread, beside its sums well inside a typical L2 cache
ADDITIONS = 1 << 20  # of a thread in one pass, whose order stays in the caches
PASSES = 64  # of a call, so that starting threads does not count
IN_REGISTERS = 64  # sums that the engine keeps in registers
WAYS = ("plain loop", 256), ("plain loop", 384), ("plain loop", 512), ("plain loop", 1024), ("registers", IN_REGISTERS)
LIST_ROWS = 64  # spikes of one window and step, say; a multiple of the rows that either way adds at once
_accumulate = make_accumulate(IN_REGISTERS, False)


@numba.njit(nogil=True)
def _plain(rows: np.ndarray, order: np.ndarray, sums: np.ndarray, theta: np.ndarray) -> None:
    """Add rows (R, width) int16 in the given order to sums (width,) int32, eight rows at a time, over and over."""
    for _ in range(PASSES):
        for start in range(0, len(order), 8):
            a, b, c, d = rows[order[start]], rows[order[start + 1]], rows[order[start + 2]], rows[order[start + 3]]
            e, f, g, h = rows[order[start + 4]], rows[order[start + 5]], rows[order[start + 6]], rows[order[start + 7]]
            for j in range(len(sums)):
                left = (np.int32(a[j]) + np.int32(b[j])) + (np.int32(c[j]) + np.int32(d[j]))
                right = (np.int32(e[j]) + np.int32(f[j])) + (np.int32(g[j]) + np.int32(h[j]))
                sums[j] += np.int32(left) + np.int32(right)


@numba.njit(nogil=True)
def _in_registers(rows: np.ndarray, order: np.ndarray, sums: np.ndarray, theta: np.ndarray) -> None:
    """The same as the engine does it, list after list; the rows are in its order."""
    state, threshold, flat = np.int64(sums.ctypes.data), np.int64(theta.ctypes.data), rows.reshape(-1)
    for _ in range(PASSES):
        for first in range(0, len(order), LIST_ROWS):
            _accumulate(state, flat, 0, order, first, LIST_ROWS, 0, threshold)


def additions_per_second(threads: int, way: str, width: int, seconds: float = 0.5) -> float:
    """Additions of an int16 weight to an int32 sum, all threads together, the best of many tries.

    Args:
        threads: each has rows and sums of its own.
        way, width: one of :data:`WAYS`, and weights in a row.
        seconds: how long to try.
    """
    random, count = np.random.default_rng(0), ROWS_BYTES // (2 * width)
    rows, sums = aligned((threads, count, width), np.int16), aligned((threads, width), np.int32)
    rows[:] = random.integers(-100, 100, rows.shape)
    order = random.integers(0, count, ADDITIONS // width // LIST_ROWS * LIST_ROWS).astype(np.uint16)
    expected = [PASSES * np.bincount(order, minlength=count) @ own.astype(np.int64) for own in rows]
    if way == "registers":
        rows[:] = rows[..., stored_order(width, 16)]
    add, theta = _in_registers if way == "registers" else _plain, aligned(width, np.int32)
    theta[:] = LARGEST_INT32
    with ThreadPoolExecutor(threads) as pool:

        def call() -> float:
            sums[:] = 0
            started = time.perf_counter()
            list(pool.map(lambda thread: add(rows[thread], order, sums[thread], theta), range(threads)))
            return time.perf_counter() - started

        call()  # compiles
        best, until = call(), time.perf_counter() + seconds
        if not np.array_equal(sums, expected):
            raise ArithmeticError("the micro-benchmark does not add what it should")
        while time.perf_counter() < until:
            best = min(best, call())
    return threads * PASSES * len(order) * width / best


def limit(threads: int, seconds: float = 0.5) -> float:
    """The better of both ways."""
    return max(additions_per_second(threads, way, width, seconds) for way, width in WAYS)
