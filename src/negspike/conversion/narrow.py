"""Thresholds, bases and biases of so many bits, for hardware whose registers are not wider (docs/conversion.md).

What a neuron compares may be divided by anything: scales, threshold and base alike. A divisor that leaves a remainder
rounds, so that the result is another integer network. Each channel gets the divisor that rounds least.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, gcd

import numpy as np

from negspike.arguments import within
from negspike.errors import InputError
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.nodes import INPUT, Layer, MaxPool, Neurons, Readout, Sum, Synapses

WIDEST = 64
# A channel of a sum: its name and the number there.
Place = tuple[str, int]


def narrow_thresholds(network: SpikingNetwork, threshold_bits: int) -> SpikingNetwork:
    """The network with thresholds, bases and biases of the logits of at most so many bits, sign included.

    It is another network where something had to be rounded, and lossless for its own integer ANN. Weights keep their
    width at most, and their rounding where the divisor allows it; the image may get fewer fractional bits.

    Args:
        network: any; returned as it is if it fits.
        threshold_bits: 2 to 64.

    Raises:
        InputError: a threshold would be rounded to nothing; it names the node and the least number that would do.
    """
    if not isinstance(network, SpikingNetwork):
        raise InputError(f"{type(network).__name__}: expected a SpikingNetwork; convert it first")
    bits = within("threshold_bits", threshold_bits, 2, WIDEST)
    return network if network.threshold_bits <= bits else _Narrowing(network, bits).narrowed()


@dataclass(eq=False)
class _Rows:
    """The output channels of synapses while they are divided.

    Attributes:
        synapses: as they were.
        scale, weight: as they become.
        size: (O,) what the largest weight of a channel adds for each unit that arrives; 0: nothing does.
        grain: (O,) of what everything that it adds is a multiple.
    """

    synapses: Synapses
    scale: list[int]
    weight: np.ndarray | None
    size: list[int]
    grain: list[int]

    @classmethod
    def of(cls, synapses: Synapses) -> _Rows:
        scale, weight = synapses.scale.tolist(), synapses.weight
        largest = common = np.ones(len(scale), np.int64)
        if weight is not None:
            absolute = np.abs(weight.reshape(len(weight), -1).astype(np.int64))
            largest, common = absolute.max(1), np.gcd.reduce(absolute, 1)
        size, grain = ([abs(a) * b for a, b in zip(scale, one.tolist(), strict=True)] for one in (largest, common))
        return cls(synapses, scale, None if weight is None else weight.copy(), size, grain)

    def place(self, row: int) -> Place:
        """The one channel of its source that an output channel reads, (source, -1) with weights."""
        channels = self.synapses.channels
        if self.weight is not None:
            return self.synapses.source, -1
        return self.synapses.source, row if channels is None else int(channels[row])

    def multiply(self, row: int, factor: Fraction, bits: int) -> None:
        """With a factor for what is added, rounded only where it must be; weights stay within ``bits``."""
        scale, grain = self.scale[row] * factor, self.grain[row] * factor
        if self.weight is None or scale.denominator == 1:
            self.scale[row] = round(scale)
        elif grain.denominator == 1:
            sign = 1 if scale > 0 else -1
            self.weight[row] //= sign * (self.grain[row] // abs(self.scale[row]))
            self.scale[row] = int(grain)
        else:
            # As few units of scale as the width of the weights allows: they are rounded to multiples of it.
            self.scale[row] = max(1, ceil(self.size[row] * factor / ((1 << bits - 1) - 1)))
            self.weight[row] = np.rint(self.weight[row] * float(scale / self.scale[row]))

    def made(self) -> Synapses:
        return replace(self.synapses, scale=np.array(self.scale, np.int64), weight=self.weight)


Row = tuple[_Rows, int]


class _Narrowing:
    """One network on its way.

    Attributes:
        image: what the image is divided by, a power of two.
        sums: what each channel of each sum is divided by.
    """

    def __init__(self, network: SpikingNetwork, bits: int) -> None:
        self.network, self.bits, self.limit = network, bits, (1 << bits - 1) - 1
        self.parts = {node.name: [_Rows.of(one) for one in node.synapses] for node in network.layers}
        self.rows = {node.name: _alive(node, self.parts[node.name]) for node in network.layers}
        self.image, self.sums = 1, dict[Place, int]()
        self._refuse()
        self.sums = self._divide_sums()
        self.image = self._divide_image()

    def narrowed(self) -> SpikingNetwork:
        """The network, divided."""
        nodes = tuple(node if isinstance(node, MaxPool) else self._divided(node) for node in self.network.nodes)
        fraction_bits = self.network.image_fraction_bits - self.image.bit_length() + 1
        origin = {**self.network.origin, "threshold_bits": self.bits}
        return replace(self.network, nodes=nodes, image_fraction_bits=fraction_bits, origin=origin)

    def _refuse(self) -> None:
        least = []
        for node in self.network.populations:
            for channel, (theta, base) in enumerate(zip(node.theta.tolist(), node.base.tolist(), strict=True)):
                if self.rows[node.name][channel]:
                    thresholds = -(-max(theta, abs(base)) // theta)
                else:
                    thresholds = abs(_constant(node, channel))
                least.append((thresholds.bit_length() + 1, node.name, channel))
        bits, name, channel = max(least, key=lambda one: one[0], default=(2, "", 0))
        if bits > self.bits:
            raise InputError(
                f"{name}: threshold and base of channel {channel} do not fit {self.bits} bits; "
                f"threshold_bits must be at least {bits} for this network"
            )

    def _rounded(self) -> Iterator[tuple[list[Row], Fraction]]:
        """What is added to channels whose weights cannot keep their rounding, and by what it is divided at least."""
        for node in self.network.layers:
            if isinstance(node, Sum):
                groups = [(rows, Fraction(self.sums.get((node.name, one), 1))) for one, rows in self._each(node)]
            elif isinstance(node, Readout):
                groups = [([row for rows in self.rows[node.name] for row in rows], self._least(*node.bias.tolist()))]
            else:
                groups = [
                    (rows, self._least(int(node.theta[one]), int(node.base[one]))) for one, rows in self._each(node)
                ]
            yield from ((rows, least) for rows, least in groups if least > max(1, self._common(rows)))

    def _each(self, node: Layer) -> Iterator[tuple[int, list[Row]]]:
        return enumerate(self.rows[node.name])

    def _least(self, *numbers: int) -> Fraction:
        """By what these numbers must be divided to fit."""
        return Fraction(max(map(abs, numbers)), self.limit)

    def _common(self, rows: list[Row]) -> int:
        """Of what everything that is added is a multiple."""
        return gcd(*(part.grain[row] * self._factor(part, row) for part, row in rows))

    def _divide_sums(self) -> dict[Place, int]:
        """Divisors that split the bits: half for what is in a sum, half for the scales through which it is read.

        The image, where it is added, takes a third. Sums that pass on their changes have one divisor, so that this
        takes no factor; so have all channels of a sum, since what it can come to is proved for all of them together.
        """
        joined = {
            (node.name, channel): (node.name, 0)
            for node in self.network.layers
            if isinstance(node, Sum)
            for channel in range(node.shape[0])
        }

        def first(place: Place) -> Place:
            while joined[place] != place:
                place = joined[place]
            return place

        size, grain, shares = (dict.fromkeys(joined, one) for one in (0, 0, 2))
        added = [(place, row) for place in joined for row in self.rows[place[0]][place[1]]]
        for place, (part, row) in added:
            if part.place(row) in joined:
                joined[first(part.place(row))] = first(place)
        for place, (part, row) in added:
            if part.place(row) not in joined:
                image = part.synapses.source == INPUT
                place = first(place)
                size[place] = max(size[place], part.size[row] << self.network.image_fraction_bits * image)
                grain[place], shares[place] = gcd(grain[place], part.grain[row]), 3 if image else shares[place]
        wanted: dict[Place, int] = {}
        for rows, least in self._rounded():
            for part, row in rows:
                if part.place(row) in joined:
                    place = first(part.place(row))
                    unit = least / part.size[row]
                    divisor = int(unit * (1 << int(size[place] / unit).bit_length() // shares[place]))
                    wanted[place] = min(wanted.get(place, divisor), divisor)
        divisors = {place: max(1, divisor, grain[place]) for place, divisor in wanted.items()}
        return {place: divisors.get(first(place), 1) for place in joined}

    def _divide_image(self) -> int:
        """A power of two that splits the bits between the image and the weights on it."""
        fraction_bits = self.network.image_fraction_bits
        squares = [
            least * (1 << fraction_bits) / part.size[row]
            for rows, least in self._rounded()
            for part, row in rows
            if part.synapses.source == INPUT
        ]
        square = int(min(squares, default=Fraction(1)))
        return 1 << min(max(square.bit_length() - 1, 0) // 2, fraction_bits)

    def _factor(self, part: _Rows, row: int) -> int:
        """What the source of a row is divided by."""
        return self.image if part.synapses.source == INPUT else self.sums.get(part.place(row), 1)

    def _divisor(self, rows: list[Row], numbers: list[int], theta: int | None) -> Fraction:
        """What a group's rows are divided by."""
        least = self._least(*numbers)
        if least <= 1:
            return Fraction(1)
        common = self._common(rows)
        if gcd(common, *numbers) >= least:
            return Fraction(gcd(common, *numbers))  # nothing rounds
        if common >= least and (theta is None or theta >= Fraction(common, common // least)):
            return Fraction(common, common // least)  # the weights keep their rounding
        return least

    def _divided(self, node: Layer) -> Layer:
        rows = self.rows[node.name]
        if isinstance(node, Sum):
            for channel, found in enumerate(rows):
                self._multiply(found, Fraction(self.sums[node.name, channel]))
            return replace(node, synapses=self._made(node))
        if isinstance(node, Readout):
            every = [one for found in rows for one in found]
            divisor = self._divisor(every, node.bias.tolist(), None)
            self._multiply(every, divisor)
            bias = np.array([round(one / divisor) for one in node.bias.tolist()], np.int64)
            return replace(node, synapses=self._made(node), bias=bias, unit=float(Fraction(node.unit) * divisor))
        theta, base = node.theta.copy(), node.base.copy()
        for channel, found in enumerate(rows):
            one, other = int(theta[channel]), int(base[channel])
            if found:
                divisor = self._divisor(found, [one, other], one)
                self._multiply(found, divisor)
                theta[channel], base[channel] = round(one / divisor), round(other / divisor)
            elif self._least(one, other) > 1:
                theta[channel], base[channel] = 1, -_constant(node, channel)
        return replace(node, synapses=self._made(node), theta=theta, base=base)

    def _multiply(self, rows: list[Row], divisor: Fraction) -> None:
        for part, row in rows:
            part.multiply(row, self._factor(part, row) / divisor, self.network.weight_bits)

    def _made(self, node: Layer) -> tuple[Synapses, ...]:
        return tuple(part.made() for part in self.parts[node.name])


def _alive(node: Layer, parts: list[_Rows]) -> list[list[Row]]:
    """For each channel what is added there, if it can be anything."""
    rows: list[list[Row]] = [[] for _ in range(node.shape[0])]
    for part in parts:
        targets = part.synapses.targets
        for row, size in enumerate(part.size):
            if size:
                rows[row if targets is None else int(targets[row])].append((part, row))
    return rows


def _constant(node: Neurons, channel: int) -> int:
    """The count of a channel that nothing arrives at."""
    level = -int(node.base[channel]) // int(node.theta[channel])
    level = level if node.low is None else max(level, node.low)
    return level if node.high is None else min(level, node.high)
