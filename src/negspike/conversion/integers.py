"""From real numbers to integers: weights, scales, thresholds and bases, channel by channel, in exact rationals.

A neuron's potential counts units of its channel. With a unit U, a synapse whose weighted sum counts for u each has the
scale u / U, the threshold is step / U and the base -(bias + step / 2) / U (docs/exactness.md). Each is rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from math import ceil, gcd, lcm

import numpy as np

from negspike.conversion.branches import EXTRA, SMALLEST_EXPONENT, Branch, Emission
from negspike.conversion.signals import Term
from negspike.conversion.values import FloatNode
from negspike.errors import InputError
from negspike.fixed_point import IMAGE_FRACTION_BITS, LARGEST_BASE, LARGEST_THETA
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Node, Readout, Sum, Synapses

# Potentials stay below this where more digits than necessary are to be had, and below 2^63 in any case.
LARGEST_POTENTIAL = 1 << 61
# So many spikes of a neuron without a bound, and so large pixels, are reckoned with there.
MOST_COUNTS, MOST_PIXEL = 1 << 11, 1 << 21
# Beyond 16 more bits than the weights have, so many where branches of different scales meet.
SPARE = 12
# A threshold has 16 more bits than such a count, or than the neuron's largest.
LARGE_COUNT = 255

Row = tuple[Branch, int]


def common_unit(rows: list[Row], step: Fraction, offset: Fraction, most: int) -> Fraction:
    """The unit of a channel's potential, in which scales, threshold and base are rounded.

    Weights of a channel with a tiny gain become coarser here. Where a rounding would change a number that another unit
    represents, the other unit is taken: networks whose numbers are all dyadic stay exact, ties included.

    Args:
        rows: the branches of a channel and their output channel there; none of them is without effect.
        step: of the neuron.
        offset: bias + step / 2.
        most: largest count of the neuron.
    """
    smallest = max(step / LARGEST_THETA, abs(offset) / LARGEST_BASE)
    fine = []
    for branch, row in rows:
        finest = branch.finest(row, step)
        if finest is not None and finest < smallest and branch.weight is not None:
            branch.coarser(row, smallest / finest)
            finest = branch.finest(row, step)
        if finest is not None:
            fine.append(finest)
    units = [abs(branch.unit(row)) for branch, row in rows]
    unit = max(smallest, min(fine) if fine else max(units) / (1 << 2 * EXTRA))
    # The potential in real numbers, at most.
    reach = sum(one * branch.largest(row) for one, (branch, row) in zip(units, rows, strict=True)) + (most + 1) * step
    if len(rows) > 1 and fine:
        # A sum brings the bits that its weights need, and none yet for the factor through which it is read.
        unit = finer(unit, SPARE + EXTRA * any(branch.is_sum for branch, _ in rows), reach, smallest)
    values = [*units, step, *([offset] if offset else [])]
    if all((value / unit).denominator == 1 for value in values):
        return unit
    common = common_divisor(values)
    if common >= smallest and reach < common * LARGEST_POTENTIAL:
        return common
    # Weights of few bits bring few to the threshold, which is in the potential as many times as the neuron counts.
    wanted = EXTRA + min(most, LARGE_COUNT).bit_length()
    unit = finer(unit, wanted + 1 - int(step / unit).bit_length(), reach, smallest)
    # The smallest scale would lose most by rounding: as a power of two it loses nothing.
    least = min(units)
    while least >= 2 * unit:
        least /= 2
    return max(unit, least)


def finer(unit: Fraction, bits: int, reach: Fraction, smallest: Fraction) -> Fraction:
    """A unit divided by a power of two: by so many bits as are wanted, and as there is room for.

    Args:
        unit: what potentials count, for now.
        bits: wanted; below 1: none.
        reach: the potential in real numbers, at most.
        smallest: the unit at which threshold and base fit.
    """
    room = min(LARGEST_POTENTIAL // max(1, ceil(reach / unit)), unit // smallest)
    return unit / (1 << max(0, min(bits, room.bit_length() - 1)))


def common_divisor(values: list[Fraction]) -> Fraction:
    """The largest number of which all are whole multiples."""
    denominator = lcm(*(value.denominator for value in values))
    return Fraction(gcd(*(int(value * denominator) for value in values)), denominator)


def _rows(branches: list[Branch], channels: int) -> list[list[tuple[int, int]]]:
    """For each channel, (branch, output channel of it) of what is added there."""
    rows: list[list[tuple[int, int]]] = [[] for _ in range(channels)]
    for number, branch in enumerate(branches):
        for row, target in enumerate(branch.term.targets):
            rows[target].append((number, row))
    return rows


class IntegerBuilder:
    """Turns nodes in real numbers into nodes in integers.

    Args:
        nodes: in order, the readout last.
        input_channels: of the image.
        weight_bits: width of the weights, sign included.
    """

    def __init__(self, nodes: list[FloatNode], input_channels: int, weight_bits: int) -> None:
        self.nodes, self.bits = nodes, weight_bits
        image = Fraction(1, 1 << IMAGE_FRACTION_BITS)
        self.emissions = {INPUT: Emission([image] * input_channels, IMAGE_FRACTION_BITS, MOST_PIXEL)}
        for node in nodes:
            if node.kind == "neurons":
                self.emissions[node.name] = Emission([Fraction(node.step)] * node.shape[0], None, _most(node))
            elif node.kind == "maxpool":
                self.emissions[node.name] = self.emissions[node.signal.terms[0].source]
        self.sums = {node.name: node for node in nodes if node.kind == "sum"}

    def build(self) -> tuple[Node, ...]:
        """All nodes.

        Raises:
            InputError: a number is out of proportion, or a sum is read in a way that it cannot be; it names the node.
        """
        makers: dict[str, Callable[[FloatNode], Node]] = {
            "neurons": self._neurons,
            "maxpool": lambda one: MaxPool(one.name, one.shape, one.signal.terms[0].source, one.window),
            "sum": self._sum,
            "readout": self._readout,
        }
        return tuple(makers[node.kind](node) for node in self.nodes)

    def _branches(self, node: FloatNode, *, per_channel: bool = True) -> list[Branch]:
        branches = []
        for term in node.signal.terms:
            if term.source in self.sums and not term.is_point:
                raise InputError(
                    f"{node.name}: it reads {term.source}, which is not quantised and read elsewhere, too, through a "
                    f"linear map; put a QuantIdentity behind {term.source}"
                )
            branches.append(Branch.of(term, self.emissions[term.source], self.bits, per_channel=per_channel))
        return branches

    def _synapses(self, node: FloatNode, branches: list[Branch], scales: list[list[int]]) -> tuple[Synapses, ...]:
        return tuple(
            branch.synapses(scale, self.bits, node.shape[0], len(self.emissions[branch.term.source].units))
            for branch, scale in zip(branches, scales, strict=True)
        )

    def _neurons(self, node: FloatNode) -> Neurons:
        branches, channels, step = self._branches(node), node.shape[0], Fraction(node.step)
        scales = [[0] * len(branch.gains) for branch in branches]
        theta, base = [1 << EXTRA] * channels, [0] * channels
        for channel, places in enumerate(_rows(branches, channels)):
            bias = Fraction(float(node.signal.bias[channel]))
            offset = bias + step / 2
            rows = [(branches[number], row) for number, row in places]
            alive = [one for one in rows if one[0].alive(one[1])]
            unit = common_unit(alive, step, offset, _most(node)) if alive else None
            if unit is None or not any(branch.alive(row) for branch, row in alive):
                # No input can change the outcome: a constant.
                base[channel] = -_bounded(offset // step, node) << EXTRA
                for branch, row in rows:
                    branch.exponents[row] = SMALLEST_EXPONENT
                continue
            for (number, row), (branch, _) in zip(places, rows, strict=True):
                scales[number][row] = _scale(node, branch, row, unit)
            theta[channel], base[channel] = round(step / unit), round(-offset / unit)
            if not 1 <= theta[channel] <= LARGEST_THETA or abs(base[channel]) > LARGEST_BASE:
                raise InputError(f"{node.name}: the threshold or base of channel {channel} is out of proportion")
        synapses = self._synapses(node, branches, scales)
        arrays = (np.array(theta, np.int64), np.array(base, np.int64))
        return Neurons(node.name, node.shape, synapses, *arrays, node.low, node.high, node.step)

    def _sum(self, node: FloatNode) -> Sum:
        if node.name not in self.emissions:
            self._fix_stream(node)
        branches, units = self._branches(node), self.emissions[node.name].units
        scales = [
            [_scale(node, branch, row, units[target]) for row, target in enumerate(branch.term.targets)]
            for branch in branches
        ]
        reach = [0] * node.shape[0]
        for branch, scale in zip(branches, scales, strict=True):
            for row, target in enumerate(branch.term.targets):
                reach[target] += abs(scale[row]) * branch.largest(row)
        self.emissions[node.name] = replace(self.emissions[node.name], most=max(reach))
        return Sum(node.name, node.shape, self._synapses(node, branches, scales))

    def _fix_stream(self, first: FloatNode) -> None:
        """One unit a channel for all sums that pass their changes on as they are, so that this takes no factor."""
        stream = [first]
        for node in self.sums.values():
            if any(_relays(term, node) and term.source in {one.name for one in stream} for term in node.signal.terms):
                stream.append(node)
        several = len(stream) > 1 or len(first.signal.terms) > 1
        extra = EXTRA if several else self.emissions[first.signal.terms[0].source].extra or 0
        # Of each channel: units, and the finest that those with weights want.
        wanted, weighted, spikes = (list[list[Fraction]]([] for _ in range(first.shape[0])) for _ in range(3))
        for term in (term for node in stream for term in node.signal.terms if term.source in self.emissions):
            branch = Branch.of(term, self.emissions[term.source], self.bits)
            for row, target in enumerate(term.targets):
                unit, finest = abs(branch.unit(row)), branch.finest(row, Fraction(1))
                if not branch.alive(row):
                    continue
                if finest is None:
                    spikes[target].append(unit)
                else:
                    weighted[target].append(unit)
                    wanted[target].append(finest if several else unit)
        # Where whole spikes alone arrive, there are no weights whose fractional bits to keep, but potentials that read
        # such channels have room for values of one size: a unit like that of the others.
        like = max((min(fine) for fine in wanted if fine), default=None)
        units = []
        for fine, least, counts in zip(wanted, weighted, spikes, strict=True):
            if fine:
                # The smallest scale, which would lose most by rounding, is a power of two.
                unit = min(least)
                while unit > min(fine):
                    unit /= 2
            else:
                unit = min(counts, default=Fraction(1))
                while like is not None and unit > like:
                    unit /= 2
            units.append(unit)
        for node in stream:
            self.emissions[node.name] = Emission(units, extra, 0)

    def _readout(self, node: FloatNode) -> Readout:
        branches = self._branches(node, per_channel=False)
        biases = [Fraction(float(bias)) for bias in node.signal.bias]
        rows = [(branch, row) for branch in branches for row in range(len(branch.gains)) if branch.gains[row]]
        units = [abs(branch.unit(row)) for branch, row in rows] or [Fraction(1)]
        # One unit for all logits, since argmax compares them.
        unit = min(units)
        values = [*units, *(bias for bias in biases if bias)]
        if any((value / unit).denominator != 1 for value in values):
            reach = [abs(bias) for bias in biases]
            for branch, row in rows:
                reach[branch.term.targets[row]] += abs(branch.unit(row)) * branch.largest(row)
            least, unit = unit, max(unit / (1 << 2 * EXTRA), max(reach) / LARGEST_POTENTIAL)
            common = common_divisor(values)
            # The smallest scale would lose most by rounding: a whole number of units, it loses nothing.
            unit = common if common >= unit else least / (least // unit) if least >= unit else unit
        scales = [[round(branch.unit(row) / unit) for row in range(len(branch.gains))] for branch in branches]
        bias = np.array([round(bias / unit) for bias in biases], np.int64)
        return Readout(node.name, node.shape, self._synapses(node, branches, scales), bias, float(unit))


def _scale(node: FloatNode, branch: Branch, row: int, unit: Fraction) -> int:
    """The factor of an output channel in whole units; of a sum, or to one, it must not lose what its weights bring."""
    wanted = branch.unit(row) / unit
    scale = round(wanted)
    lost = bool(wanted) and abs(scale / wanted - 1) > Fraction(1, 1 << EXTRA - 1)
    if lost and (branch.is_sum or node.kind == "sum"):
        raise InputError(
            f"{node.name}: factors on a residual stream are out of proportion; put a QuantIdentity behind "
            f"{branch.term.source}, or convert with fewer weight_bits"
        )
    return scale


def _relays(term: Term, node: FloatNode) -> bool:
    """Whether a sum passes on another's changes as they are, channel by channel."""
    every = np.arange(node.shape[0])
    whole = np.array_equal(term.channels, every) and np.array_equal(term.targets, every)
    return term.is_point and whole and bool((term.numerator == term.denominator).all())


def _most(node: FloatNode) -> int:
    """Largest absolute count of neurons that potentials have room for."""
    bounds = [MOST_COUNTS if bound is None else abs(bound) for bound in (node.low, node.high)]
    return min(max(bounds), MOST_COUNTS)


def _bounded(level: int, node: FloatNode) -> int:
    low = -(1 << 40) if node.low is None else node.low
    return min(max(level, low), 1 << 40 if node.high is None else node.high)
