"""Linear algebra between quantisers: what a tensor of the model is made of, in real numbers.

A signal is a sum of terms, each a linear map of what one node of the network emits, and a bias a channel. Every linear
operation turns signals into signals; only quantisers, max pools, sums and the readout become nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from negspike.conversion import windows
from negspike.conversion.calls import composed_bounds
from negspike.errors import InputError
from negspike.spiking.nodes import Shape, Window

Spread = tuple[np.ndarray, np.ndarray]
Clip = tuple[float | None, float | None, str]
POINT = Window()


@dataclass(frozen=True, eq=False)
class Term:
    """numerator / denominator * (weight * source), channel by channel.

    Attributes:
        source: name of a node, or the image.
        shape: of the source.
        channels: (I,) the source's channel that each input channel is.
        targets: (O,) the signal's channel that each output channel is added to.
        numerator, denominator: (O,) gain; apart, so that a divisor of 9 stays exact.
        window: which positions of the source an output sees.
        weight: (O, I / groups, kernel height, kernel width), or (..., 1, 1) if all taps of the window share theirs;
            None: the sum of the window (I = O).
        groups: of the weights.
        spread: (rows, columns): matrices that the result is multiplied with, (out, in) each: pools that no window is.
    """

    source: str
    shape: Shape
    channels: np.ndarray
    targets: np.ndarray
    numerator: np.ndarray
    denominator: np.ndarray
    window: Window = POINT
    weight: np.ndarray | None = None
    groups: int = 1
    spread: Spread | None = None

    @property
    def is_point(self) -> bool:
        """Whether it passes on its source's values, place by place."""
        return self.weight is None and self.spread is None and self.window.is_point

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) before a spread."""
        return self.window.out_size(*self.shape[1:])

    def taps(self) -> np.ndarray:
        """(O, I / groups, kernel height, kernel width) weights with the gain, a shared one repeated for each tap."""
        gain = (self.numerator / self.denominator)[:, None, None, None]
        weight = np.ones((len(self.targets), 1, 1, 1)) if self.weight is None else self.weight
        return np.broadcast_to(weight * gain, (*weight.shape[:2], *self.window.kernel))

    def rows(self, order: np.ndarray) -> Iterator[Term]:
        """The same with only these outputs, in as few terms as it takes."""
        picked = {name: getattr(self, name)[order] for name in ("targets", "numerator", "denominator")}
        if self.weight is None:
            yield replace(self, channels=self.channels[order], **picked)
        elif self.groups == 1:
            yield replace(self, weight=self.weight[order], **picked)
        else:
            inputs, outputs = self.weight.shape[1], len(self.targets) // self.groups
            for columns in _alike(order // outputs):
                rows = order[columns].reshape(-1)
                channels = self.channels.reshape(self.groups, inputs)[rows.reshape(columns.shape)[:, 0] // outputs]
                part = {name: values[columns.reshape(-1)] for name, values in picked.items()}
                weight, groups = self.weight[rows], len(columns)
                yield replace(self, weight=weight, groups=groups, channels=channels.reshape(-1), **part)


def _alike(groups: np.ndarray) -> list[np.ndarray]:
    """Places by group, (groups, members) for each number of members that occurs."""
    members: dict[int, list[np.ndarray]] = {}
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        members.setdefault(len(places), []).append(places)
    return [np.array(places) for places in members.values()]


class Unquantised(InputError):
    """A nonlinear function without a quantiser, whose module it names itself."""

    def __init__(self, clip: Clip) -> None:
        super().__init__(
            f"{clip[2]} without a quantiser; call negspike.quantize(model, images) first, or use a QuantReLU"
        )


@dataclass(frozen=True, eq=False)
class Signal:
    """A tensor of the model, (channels, height, width).

    Attributes:
        shape: (channels, height, width), before the pools.
        terms: what is added up.
        bias: (channels,) float64.
        clip: bounds of a ReLU that waits for its quantiser: (low, high, what it is); None bounds are none.
        pools: max pools that wait for a quantiser, in order, each with (channels,) bool: whether the largest value of a
            window is meant or, behind a negative factor, the smallest.
    """

    shape: Shape
    terms: tuple[Term, ...]
    bias: np.ndarray
    clip: Clip | None = None
    pools: tuple[tuple[Window, np.ndarray], ...] = ()

    @classmethod
    def of(cls, source: str, shape: Shape) -> Signal:
        """What a node emits."""
        channels = np.arange(shape[0])
        return cls(shape, (Term(source, shape, channels, channels, *np.ones((2, shape[0]))),), np.zeros(shape[0]))

    @property
    def out_shape(self) -> Shape:
        """(channels, height, width) of the tensor, after the pools that wait."""
        size = self.shape[1:]
        for window, _ in self.pools:
            size = window.out_size(*size)
        return (self.shape[0], *size)

    @property
    def weighted(self) -> bool:
        """Whether it holds weights that no quantiser has followed."""
        return any(term.weight is not None for term in self.terms)

    def scaled(self, numerator: np.ndarray, denominator: np.ndarray, shift: np.ndarray) -> Signal:
        """numerator / denominator * signal + shift, (channels,) each."""
        terms = tuple(
            replace(
                term,
                numerator=term.numerator * numerator[term.targets],
                denominator=term.denominator * denominator[term.targets],
            )
            for term in self.terms
        )
        gain = numerator / denominator
        pools = tuple((window, largest == (gain >= 0)) for window, largest in self.pools)
        bias = self.bias * numerator / denominator + shift
        return replace(self, terms=terms, bias=bias, pools=pools, clip=self._scaled_clip(gain, shift))

    def _scaled_clip(self, gain: np.ndarray, shift: np.ndarray) -> Clip | None:
        """The bounds that wait, behind a factor and a shift that must leave them the same for all channels."""
        if self.clip is None:
            return None
        low, high, what = self.clip
        if (low, high) == (0.0, None) and (gain > 0).all() and not shift.any():
            return self.clip
        if len(np.unique(gain)) > 1 or len(np.unique(shift)) > 1 or gain[0] == 0:
            raise Unquantised(self.clip)
        low, high = (None if end is None else float(end * gain[0] + shift[0]) for end in (low, high))
        return (low, high, what) if gain[0] > 0 else (high, low, what)

    def clipped(self, low: float | None, high: float | None, what: str) -> Signal:
        """With bounds that wait for a quantiser: these, behind those that wait already."""
        if self.clip is not None:
            low, high = composed_bounds(self.clip[:2], (low, high))
        return replace(self, clip=(low, high, what))

    def picked(self, index: np.ndarray) -> Signal:
        """The channels ``index``, in that order."""
        terms: list[Term] = []
        for term in self.terms:
            row = np.full(self.shape[0], -1)
            row[term.targets] = np.arange(len(term.targets))
            present = np.flatnonzero(row[index] >= 0)
            if len(present):
                places = np.full(len(term.targets), 0)
                places[row[index[present]]] = present
                terms += [replace(part, targets=places[_places(part, term)]) for part in term.rows(row[index[present]])]
        pools = tuple((window, largest[index]) for window, largest in self.pools)
        return replace(
            self, shape=(len(index), *self.shape[1:]), terms=tuple(terms), bias=self.bias[index], pools=pools
        )

    def plus(self, other: Signal) -> Signal:
        """The sum of two signals of one shape."""
        return replace(self, terms=self.terms + other.terms, bias=self.bias + other.bias)

    @staticmethod
    def joined(signals: list[Signal]) -> Signal:
        """Signals beside each other, channel after channel."""
        starts = np.cumsum([0, *(one.shape[0] for one in signals)])
        terms = tuple(
            replace(term, targets=term.targets + start)
            for one, start in zip(signals, starts[:-1], strict=True)
            for term in one.terms
        )
        return Signal((int(starts[-1]), *signals[0].shape[1:]), terms, np.concatenate([one.bias for one in signals]))

    def unbiased(self, ones: str) -> Signal:
        """The same with its bias as a term: so many times the one channel, always 1, of the node ``ones``.

        At the edge zeros take the place of a bias, so that the next map makes another sum of it there.
        """
        places = np.flatnonzero(self.bias)
        shape, channels = (1, *self.shape[1:]), np.zeros_like(places)
        term = Term(ones, shape, channels, places, self.bias[places], np.ones(len(places)))
        return replace(self, terms=(*self.terms, term), bias=np.zeros(self.shape[0]))

    def convolved(self, weight: np.ndarray, bias: np.ndarray | None, window: Window, groups: int = 1) -> Signal:
        """A convolution of it, which has no bias where the window is padded (:meth:`unbiased`).

        Raises:
            InputError: it is linear but not the same at the edge, where padding meets a pool.
        """
        size = window.out_size(*self.shape[1:])
        terms = [part for term in self.terms for part in _convolve(term, self.shape, weight, window, groups)]
        sums = np.zeros(len(weight))
        if self.bias.any():
            inputs = self.bias.reshape(groups, 1, -1)
            sums = (weight.sum((2, 3)).reshape(groups, -1, weight.shape[1]) * inputs).sum(2).reshape(-1)
        return Signal((len(weight), *size), tuple(terms), sums if bias is None else sums + bias)

    def pooled(self, window: Window, divisor: float) -> Signal:
        """Sums over windows, divided; without a bias where the window is padded.

        Raises:
            InputError: as for :meth:`convolved`.
        """
        size = window.out_size(*self.shape[1:])
        terms: list[Term] = []
        for term in self.terms:
            term = replace(term, denominator=term.denominator * divisor)
            if term.window.is_point and term.spread is None:
                # A pool behind a map of points: its taps share the weights.
                terms.append(replace(term, window=window))
            elif term.weight is None or term.spread is not None:
                axes = [windows.matrix(window, axis, self.shape[1 + axis], size[axis]) for axis in (0, 1)]
                terms.append(_spread(term, axes[0], axes[1]))
            else:
                eye = np.ones((len(term.targets), 1, *window.kernel))
                terms += _compose(term, eye, self.shape, window, len(eye), term.targets)
        bias = self.bias * np.prod(window.kernel) / divisor
        return Signal((self.shape[0], *size), tuple(terms), bias)

    def spread(self, rows: np.ndarray, columns: np.ndarray) -> Signal:
        """(out, in) matrices along height and width: averages over windows of different sizes; without a bias."""
        terms = tuple(_spread(term, rows, columns) for term in self.terms)
        return Signal((self.shape[0], len(rows), len(columns)), terms, self.bias)


def _places(part: Term, whole: Term) -> np.ndarray:
    """Which outputs of ``whole`` those of ``part`` are."""
    order = np.argsort(whole.targets)
    places: np.ndarray = order[np.searchsorted(whole.targets, part.targets, sorter=order)]
    return places


def _spread(term: Term, rows: np.ndarray, columns: np.ndarray) -> Term:
    if term.spread is not None:
        rows, columns = rows @ term.spread[0], columns @ term.spread[1]
    elif term.weight is None and not term.window.is_point:
        inner = [windows.matrix(term.window, axis, term.shape[1 + axis], term.size[axis]) for axis in (0, 1)]
        rows, columns = rows @ inner[0], columns @ inner[1]
        term = replace(term, window=Window())
    return replace(term, spread=(rows, columns))


def _convolve(term: Term, shape: Shape, weight: np.ndarray, window: Window, groups: int) -> Iterator[Term]:
    """One term's share of a convolution: the weights are cut to its channels, group by group."""
    inputs, outputs = weight.shape[1], len(weight) // groups
    for places in _alike(term.targets // inputs):
        touched = term.targets[places[:, 0]] // inputs
        order = places.reshape(-1)
        columns = (term.targets[order] % inputs).reshape(places.shape)
        cut = weight  # not copied where all of it is needed: it can be large
        if len(touched) < groups or not np.array_equal(columns, np.tile(np.arange(inputs), (groups, 1))):
            blocks = weight.reshape(groups, outputs, *weight.shape[1:])[touched]
            cut = np.concatenate([block[:, column] for block, column in zip(blocks, columns, strict=True)])
        targets = (touched[:, None] * outputs + np.arange(outputs)).reshape(-1)
        if term.weight is None and (term.channels == term.channels[0]).all():
            # All inputs are one channel of the source: their weights are added up.
            gain = (term.numerator / term.denominator)[order].reshape(len(touched), 1, -1, 1, 1)
            cut = (cut.reshape(len(touched), outputs, -1, *cut.shape[2:]) * gain).sum(2).reshape(-1, 1, *cut.shape[2:])
            one = np.ones(1)
            part = replace(term, channels=term.channels[:1], targets=targets[:1], numerator=one, denominator=one)
            yield from _compose(part, cut, shape, window, 1, targets)
            continue
        if term.weight is None or term.groups == 1:
            part = next(term.rows(order))
        else:
            part = replace(_dense(term), targets=term.targets)
            part = next(part.rows(order))
        yield from _compose(part, cut, shape, window, len(touched), targets)


def _dense(term: Term) -> Term:
    """Grouped weights as one group, with zeros."""
    assert term.weight is not None
    size = len(term.targets) // term.groups
    full = np.zeros((len(term.targets), len(term.channels), *term.weight.shape[2:]))
    for group in range(term.groups):
        rows = slice(group * size, (group + 1) * size)
        full[rows, group * term.weight.shape[1] : (group + 1) * term.weight.shape[1]] = term.weight[rows]
    return replace(term, weight=full, groups=1)


def _compose(
    term: Term, weight: np.ndarray, shape: Shape, window: Window, groups: int, targets: np.ndarray
) -> Iterator[Term]:
    """The term that a convolution of a term is; input channel i of the weights is output i of the term."""
    ones = np.ones((2, len(weight)))
    if term.weight is None:
        ratio = (term.numerator, term.denominator)
        if all((values == values[0]).all() for values in ratio):
            ones *= np.array([values[0] for values in ratio])[:, None]
        else:
            # Input channels with gains of their own: those are part of the weights.
            gain = (term.numerator / term.denominator).reshape(groups, 1, -1, 1, 1)
            weight = (weight.reshape(groups, -1, *weight.shape[1:]) * gain).reshape(weight.shape)
    made = replace(term, targets=targets, numerator=ones[0], denominator=ones[1], groups=groups)
    whole = window.kernel == shape[1:] and window.out_size(*shape[1:]) == (1, 1) and window.dilation == (1, 1)
    whole = whole and not window.is_padded
    if term.spread is not None:
        if not whole:
            raise InputError("only a linear layer over all positions can follow this pool; put a QuantIdentity between")
        weight = windows.spread_weight(weight, *term.spread)
        window = Window(weight.shape[2:])
        made, term = replace(made, spread=None), replace(term, spread=None)
    if term.is_point:
        yield replace(made, window=window, weight=weight)
        return
    pointwise = window.kernel == (1, 1) and not window.is_padded
    if term.weight is None and pointwise:
        # The taps of a pool share their weight, so that it keeps its rounding.
        yield replace(made, window=windows.composed(term.window, window, term.shape), weight=weight)
        return
    taps = np.ones((len(term.targets), 1, *term.window.kernel)) if term.weight is None else term.taps()
    inner_groups = len(taps) if term.weight is None else term.groups
    if term.weight is not None and groups > 1 and groups != len(term.targets):
        raise InputError("grouped convolutions after each other without a quantiser between; put a QuantIdentity there")
    if whole:
        full = windows.transposed(weight, taps, term.window, term.shape, inner_groups, groups)
        yield replace(made, window=Window(full.shape[2:]), weight=full, groups=_groups(term, groups))
        return
    joint = windows.composed(term.window, window, term.shape)
    full = windows.expanded(weight, taps, term.window, window, inner_groups, groups)
    yield replace(made, window=joint, weight=full, groups=_groups(term, groups))


def _groups(term: Term, groups: int) -> int:
    """Groups of a composition: those of the outer map where the inner one has no weights, or is pooled by it."""
    if term.weight is None:
        return groups
    return term.groups if groups == len(term.targets) and groups > 1 else 1
