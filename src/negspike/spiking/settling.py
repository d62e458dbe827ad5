"""Compiled loops of the integer ANN: sums in 64 bits, the net counts at which neurons come to rest, their tally."""

from __future__ import annotations

import numpy as np

from negspike.spiking.event.compiled import kept


def _add(total, part, factors, targets):
    """Add the products of (rows, D * channels) integers and (D * channels,) factors to (rows, channels) int64.

    What follows behind the D * channels columns is added to the channels ``targets``.
    """
    rows, channels = total.shape
    wide = len(factors) - len(targets)
    for row in range(rows):
        to, numbers = total[row], part[row]
        for first in range(0, wide, channels):
            here, times = numbers[first : first + channels], factors[first : first + channels]
            for channel in range(channels):
                to[channel] += here[channel] * times[channel]
        for index in range(len(targets)):
            to[targets[index]] += numbers[wide + index] * factors[wide + index]


def _settle(total, base, theta, bounds, counts):
    """clip(floor((total - base) / theta), bounds) of (rows, channels) int64, to ``counts`` of any integer type.

    Quotients must be below 2^50 within the bounds.
    """
    rows, channels = total.shape
    inverse, low, high = 1.0 / theta, bounds[0], bounds[1]
    for row in range(rows):
        current, here = total[row], counts[row]
        for channel in range(channels):
            residual = current[channel] - base[channel]
            # A quotient of floats is off by less than one; the integers put it right.
            count = np.int64(np.floor(min(max(residual * inverse[channel], low - 1.0), high + 1.0)))
            rest = residual - count * theta[channel]
            count += np.int64(rest >= theta[channel]) - np.int64(rest < 0)
            here[channel] = min(max(count, low), high)


def _tally(pairs, tallied):
    """Tally (M,) uint16, pairs of int8, in (2, 65536) int64.

    Two at a time, and in turns: most are zeros, and an addition waits for the one before it in the same place.
    """
    for index in range(len(pairs)):
        tallied[index & 1, pairs[index]] += 1


add, settle, tally = kept(_add), kept(_settle), kept(_tally)
