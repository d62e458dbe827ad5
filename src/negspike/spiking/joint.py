"""Which net count met which activation of the integer ANN, of how many neurons, and how many neurons differ."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

# Activations that are further apart are sorted instead of tallied.
MOST_BINS = 1 << 20


class JointHistogram:
    """Gathers activations and net counts, population by population."""

    def __init__(self) -> None:
        self._columns = [np.zeros((3, 0), np.int64)]
        self._pairs = np.zeros((2, 1 << 16), np.int64)

    def add(self, activations: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Add (N, height, width, channels) integers, both; says how many neurons of each image differ, (N,) int64."""
        self._add_activations(activations.reshape(-1))
        differing = np.zeros(len(activations), np.int64)
        for image, (activation, count) in enumerate(zip(activations, counts, strict=True)):
            differs = activation != count
            differing[image] = np.count_nonzero(differs)
            if differing[image]:
                should, found = activation[differs].astype(np.int64), count[differs].astype(np.int64)
                one = np.ones(len(found), np.int64)
                self._columns += [np.stack([should, should, -one]), np.stack([should, found, one])]
        return differing

    def total(self) -> np.ndarray:
        """(3, M) int64, as :func:`join_histograms` makes it."""
        square = self._pairs.sum(0).reshape(256, 256)
        values = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64)
        return join_histograms([*self._columns, np.stack([values, values, square.sum(0) + square.sum(1)])])

    def _add_activations(self, values: np.ndarray) -> None:
        if values.dtype == np.int8:
            from negspike.spiking.settling import tally  # the compiler takes a second to import

            even = len(values) // 2 * 2
            tally(values[:even].view(np.uint16), self._pairs)
            values = values[even:]
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        if high - low < MOST_BINS:
            neurons = np.bincount(values.astype(np.int64) - low, minlength=high - low + 1)
            found = np.arange(low, high + 1)
        else:
            found, neurons = np.unique(values, return_counts=True)
        self._columns.append(np.stack([found, found, neurons]).astype(np.int64))


def join_histograms(parts: Iterable[np.ndarray]) -> np.ndarray:
    """One joint histogram of several, (3, M) int64: columns of an activation, a net count, and how many have both.

    Columns are sorted and none is empty, so that the order of the parts makes no difference.
    """
    columns = np.concatenate([np.zeros((3, 0), np.int64), *parts], 1)
    pairs, places = np.unique(columns[:2], axis=1, return_inverse=True)
    neurons = np.zeros(pairs.shape[1], np.int64)
    np.add.at(neurons, places.ravel(), columns[2])
    return np.vstack([pairs, neurons])[:, neurons > 0]
