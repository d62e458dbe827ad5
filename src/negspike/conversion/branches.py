"""Weights on their way to integers: what a node emits, and what of it another one weighs, in exact rationals."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, log2

import numpy as np
import torch

from negspike.conversion.rounding import common_steps
from negspike.conversion.signals import Term
from negspike.fixed_point import THRESHOLD_EXTRA_BITS
from negspike.spiking.nodes import INPUT, Synapses
from negspike.training.quantization import weight_exponents

EXTRA = THRESHOLD_EXTRA_BITS
SMALLEST_EXPONENT = -1000
# Weights of more bits than these take engines longer.
WIDE_BITS = 16


@dataclass(frozen=True, eq=False)
class Emission:
    """What a node emits, channel by channel.

    Attributes:
        units: the real value of one.
        extra: fractional bits beyond those of the weights in it, 16 for the image; None: whole spikes.
        most: largest absolute sum of what it emits that potentials have room for.
    """

    units: list[Fraction]
    extra: int | None
    most: int


@dataclass(eq=False)
class Branch:
    """One term on its way to become synapses.

    Attributes:
        term: where it comes from.
        weight: (O, ...) float64 with the signs of the gains, or None.
        exponents: (O,) int64 of the weights.
        gains: (O,) value of a sum of 1, before the weights' exponents; above 0 where there are weights.
        extra: fractional bits of the source beyond those of the weights; None: whole spikes, without weights.
        most: as the source's.
    """

    term: Term
    weight: np.ndarray | None
    exponents: np.ndarray
    gains: list[Fraction]
    extra: int | None
    most: int

    @classmethod
    def of(cls, term: Term, emission: Emission, bits: int, *, per_channel: bool = True) -> Branch:
        """The branch of a term whose source emits that."""
        ratios = [Fraction(a) / Fraction(b) for a, b in zip(term.numerator, term.denominator, strict=True)]
        exponents = np.zeros(len(ratios), np.int64)
        if term.weight is None:
            gains = [ratio * emission.units[channel] for ratio, channel in zip(ratios, term.channels, strict=True)]
            return cls(term, None, exponents, gains, emission.extra, emission.most)
        # A channel with a negative gain would spike on small inputs: its weights are negated instead.
        sign = np.array([-1.0 if ratio < 0 else 1.0 for ratio in ratios])
        weight = term.weight * sign[:, None, None, None]
        weight[[ratio == 0 for ratio in ratios]] = 0
        exponents += weight_exponents(torch.from_numpy(weight), bits, per_channel).numpy()
        if not per_channel and _rounds(weight, exponents).any():
            own = weight_exponents(torch.from_numpy(weight), bits, True).numpy().astype(np.int64)
            if not _rounds(weight, own).any():
                exponents = own  # those of a layer that was taken for another one when its weights were rounded
        # What weights read counts alike in all channels: only sums do not, and they are read without weights.
        gains = [abs(ratio) * emission.units[0] for ratio in ratios]
        # Those that were small integers times a scale become these integers again, where powers of two would round them
        # or make them wide.
        rounds = _rounds(weight, exponents)
        rows = np.flatnonzero(rounds | (bits > WIDE_BITS))
        for row, step in zip(rows, common_steps(weight[rows], bits), strict=True):
            if not step:
                continue
            counts = np.rint(weight[row] / step)
            # a few weights can be near to multiples by chance, and are to stay what they are
            if rounds[row] or len(np.unique(np.abs(counts[counts != 0]))) > 2 or (counts * step == weight[row]).all():
                weight[row], exponents[row] = counts, 0
                gains[row] *= Fraction(step)
        return cls(term, weight, exponents, gains, emission.extra or 0, emission.most)

    @property
    def is_sum(self) -> bool:
        """Whether it reads a sum."""
        return self.weight is None and self.extra is not None

    def unit(self, row: int) -> Fraction:
        """The value that one unit of the term's sum stands for."""
        exponent = int(self.exponents[row])
        return self.gains[row] / (1 << exponent) if exponent >= 0 else self.gains[row] * (1 << -exponent)

    def alive(self, row: int) -> bool:
        """Whether it can add anything."""
        return bool(self.gains[row]) and (self.weight is None or bool(self.integer_row(row).any()))

    def integer_row(self, row: int) -> np.ndarray:
        """round(weight * 2^exponent) of one output channel, float64."""
        assert self.weight is not None
        rounded: np.ndarray = np.rint(np.ldexp(self.weight[row], int(self.exponents[row])))
        return rounded

    def largest(self, row: int) -> int:
        """What its sum can come to."""
        taps = self.term.window.kernel[0] * self.term.window.kernel[1]
        if self.weight is None:
            return taps * self.most
        shared = taps if self.weight.shape[2:] == (1, 1) else 1
        return int(np.abs(self.integer_row(row)).sum()) * shared * self.most

    def finest(self, row: int, step: Fraction) -> Fraction | None:
        """The coarsest unit of a potential that keeps 16 more fractional bits than the weights; None: any does."""
        if self.extra is None:
            return None
        # The image brings 16 bits; what is missing is the step's share, since weights are on activations of about 1.
        missing = max(0, ceil(-log2(step))) if self.term.source == INPUT else max(0, EXTRA - self.extra)
        return abs(self.unit(row)) / (1 << missing)

    def coarser(self, row: int, ratio: Fraction) -> None:
        """Fewer fractional bits for the weights, so that a unit grows by at least this ratio."""
        self.exponents[row] = max(int(self.exponents[row]) - (ceil(ratio) - 1).bit_length(), SMALLEST_EXPONENT)

    def synapses(self, scale: list[int], bits: int, channels: int, sources: int) -> Synapses:
        """With a scale for each output; ``channels`` and ``sources``: of the target and the source."""
        term, weight = self.term, None
        if self.weight is not None:
            rounded = np.rint(np.ldexp(self.weight, self.exponents[:, None, None, None]))
            weight = rounded.astype(np.int16 if bits <= 16 else np.int32)
        return Synapses(
            term.source,
            term.window,
            np.array(scale, np.int64),
            weight,
            1 if weight is None else term.groups,
            None if np.array_equal(term.channels, np.arange(sources)) else term.channels.astype(np.int64),
            None if np.array_equal(term.targets, np.arange(channels)) else term.targets.astype(np.int64),
        )


def _rounds(weight: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    """(O,) whether integers with these exponents are not what the weights of an output channel are."""
    scaled = np.ldexp(weight, exponents[:, None, None, None])
    found: np.ndarray = (scaled != np.rint(scaled)).any((1, 2, 3))
    return found
