"""The machine's own limit for an event-driven engine: how fast rows of int16 weights can be added to int32 sums.

Nothing else is done: no spikes are looked for, no thresholds compared. The rows come out of the L2 cache.
"""

from __future__ import annotations

import time

import numba
import numpy as np

ROWS_BYTES = 256 << 10  # of each thread, beside its sums well inside a typical L2 cache
ROWS_AT_ONCE = 8


@numba.njit(parallel=True, nogil=True)
def _add_rows(rows: np.ndarray, order: np.ndarray, sums: np.ndarray) -> None:
    """Add rows (threads, R, width) int16 in the given order to sums (threads, width) int32, eight rows a pass."""
    for thread in numba.prange(len(sums)):
        mine, total = rows[thread], sums[thread]
        for start in range(0, len(order), 8):
            a, b, c, d = mine[order[start]], mine[order[start + 1]], mine[order[start + 2]], mine[order[start + 3]]
            e, f, g, h = mine[order[start + 4]], mine[order[start + 5]], mine[order[start + 6]], mine[order[start + 7]]
            for j in range(len(total)):
                left = (np.int32(a[j]) + np.int32(b[j])) + (np.int32(c[j]) + np.int32(d[j]))
                right = (np.int32(e[j]) + np.int32(f[j])) + (np.int32(g[j]) + np.int32(h[j]))
                total[j] += np.int32(left) + np.int32(right)


def row_additions_per_second(threads: int, width: int, seconds: float = 0.5) -> float:
    """Additions of one int16 weight to one int32 sum, on so many threads at once, the best of many tries.

    Args:
        threads: each has rows and sums of its own.
        width: weights in a row.
        seconds: how long to try.
    """
    random = np.random.default_rng(0)
    count = max(ROWS_BYTES // (2 * width), ROWS_AT_ONCE)
    rows = random.integers(-100, 100, (threads, count, width)).astype(np.int16)
    order = random.integers(0, count, (1 << 22) // width // ROWS_AT_ONCE * ROWS_AT_ONCE)
    sums = np.zeros((threads, width), np.int32)
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        _add_rows(rows, order[:ROWS_AT_ONCE], sums)
        sums[:] = 0
        _add_rows(rows, order, sums)
        expected = np.bincount(order, minlength=count) @ rows[0].astype(np.int64)
        if not np.array_equal(sums[0], expected):
            raise ArithmeticError("the micro-benchmark does not add what it should")
        best, until = np.inf, time.perf_counter() + seconds
        while time.perf_counter() < until:
            started = time.perf_counter()
            _add_rows(rows, order, sums)
            best = min(best, time.perf_counter() - started)
    finally:
        numba.set_num_threads(before)
    return threads * len(order) * width / best
