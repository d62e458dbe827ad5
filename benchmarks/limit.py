"""The machine's own limit for an event-driven engine: how fast rows of int16 weights can be added to int32 sums.

Nothing else is done: no spikes are looked for, no thresholds compared. The rows come out of the L2 cache. Two ways: a
plain loop, whose sums stand in the first-level cache, and the engine's own inner operation, whose sums stand in
registers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from negspike.spiking.event.arrange import aligned
from negspike.spiking.event.rows import ROWS_AT_ONCE, make_accumulate, stored_order
from negspike.spiking.event.state import LARGEST_INT32

ROWS_BYTES = 256 << 10  # of each thread, beside its sums well inside a typical L2 cache
ADDITIONS = 1 << 20  # of a thread in one pass, whose order stays in the caches
PASSES = 64  # of a call, so that starting threads does not count
WIDTHS = (256, 384, 512, 1024)  # of the plain loop, which may choose
IN_REGISTERS = 64  # sums that the engine keeps in registers
LIST_ROWS = 64  # spikes of one window and step, say
_accumulate = make_accumulate(IN_REGISTERS, False)


@numba.njit(nogil=True)
def _plain(rows: np.ndarray, order: np.ndarray, sums: np.ndarray) -> None:
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
    """Add rows (R, 64) int16 in the given order to sums (64,) int32, list after list as the engine does."""
    state, threshold = np.int64(sums.ctypes.data), np.int64(theta.ctypes.data)
    for _ in range(PASSES):
        for first in range(0, len(order), LIST_ROWS):
            count = min(LIST_ROWS, len(order) - first)
            _accumulate(state, rows, 0, order, first, count, 0, threshold)


def row_additions_per_second(threads: int, width: int, seconds: float = 0.5) -> float:
    """The plain loop: additions of an int16 weight to an int32 sum, on so many threads at once, the best of many tries.

    Args:
        threads: each has rows and sums of its own.
        width: weights in a row.
        seconds: how long to try.
    """
    rows, order, sums = _numbers(threads, width)
    return _rate(lambda thread: _plain(rows[thread], order, sums[thread]), rows, order, sums, seconds)


def additions_in_registers_per_second(threads: int, seconds: float = 0.5) -> float:
    """The same for the engine's inner operation: :data:`IN_REGISTERS` weights a row."""
    rows, order, sums = _numbers(threads, IN_REGISTERS)
    stored = aligned(rows.shape, np.int16)
    stored[:] = rows[..., stored_order(IN_REGISTERS, 16)]
    names = order.astype(np.uint16)
    theta = aligned(IN_REGISTERS, np.int32)
    theta[:] = LARGEST_INT32
    flat = stored.reshape(threads, -1)
    return _rate(lambda thread: _in_registers(flat[thread], names, sums[thread], theta), rows, order, sums, seconds)


def _numbers(threads: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (threads, R, width) int16, the order in which they are added, and sums (threads, width) int32."""
    random = np.random.default_rng(0)
    count = max(ROWS_BYTES // (2 * width), ROWS_AT_ONCE)
    rows = aligned((threads, count, width), np.int16)
    rows[:] = random.integers(-100, 100, rows.shape)
    order = random.integers(0, count, ADDITIONS // width // ROWS_AT_ONCE * ROWS_AT_ONCE)
    return rows, order, aligned((threads, width), np.int32)


def _rate(add: Callable[[int], None], rows: np.ndarray, order: np.ndarray, sums: np.ndarray, seconds: float) -> float:
    """Additions a second of all threads together, at best; each call of ``add`` does one thread's share."""
    threads, count, width = rows.shape
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(add, range(threads)))  # compiles
        sums[:] = 0
        list(pool.map(add, range(threads)))
        times = PASSES * np.bincount(order, minlength=count)
        if not np.array_equal(sums, [times @ own.astype(np.int64) for own in rows]):
            raise ArithmeticError("the micro-benchmark does not add what it should")
        best, until = np.inf, time.perf_counter() + seconds
        while time.perf_counter() < until:
            started = time.perf_counter()
            list(pool.map(add, range(threads)))
            best = min(best, time.perf_counter() - started)
    return float(threads * PASSES * len(order) * width / best)
