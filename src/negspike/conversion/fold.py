"""From operations to the nodes of a network, still in real numbers: one handler for each kind of operation."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from math import floor, prod
from typing import Any

import numpy as np

from negspike.conversion.calls import Operation
from negspike.conversion.signals import Signal, Term, Unquantised
from negspike.conversion.values import FloatNode, Value
from negspike.errors import InputError
from negspike.spiking.nodes import INPUT, Pair, Shape, Window, image_shape

# Where Brevitas and PyTorch's quantisation-aware training keep the quantiser of a module.
_INSIDE = re.compile(r"\.(act_quant(\..*)?|activation_post_process)$")
# What a value passes through without being used.
_ROUTING = ("pick", "reshape", "permute")


class Folder:
    """Works through the operations of a model and collects the nodes they come to."""

    def __init__(self) -> None:
        self.nodes: list[FloatNode] = []
        self.values: dict[str, Value] = {}
        self._names: Counter[str] = Counter([INPUT])
        self._pools: dict[tuple[str, Window], FloatNode] = {}
        self._ones: dict[Pair, str] = {}

    def fold(self, operations: list[Operation]) -> list[FloatNode]:
        """Nodes in order, the readout last.

        Raises:
            InputError: an operation cannot be converted; it names the module.
        """
        uses = Counter(name for operation in operations for name in operation.inputs)
        for operation in operations:
            try:
                value = self._evaluate(operation)
                if uses[operation.name] > 1 and operation.kind not in _ROUTING:
                    value = self._shared(value, operation)
            except InputError as error:
                raise _located(error, operation) from None
            self.values[operation.name] = value
        last = operations[-1]
        try:
            self._readout(last)
        except InputError as error:
            raise _located(error, last) from None
        return self._used()

    def _evaluate(self, operation: Operation) -> Value:
        if operation.kind == "input":
            return Value.of(Signal.of(INPUT, image_shape(operation.shape)), axes=len(operation.shape) - 1)
        values = [self.values[name] for name in operation.inputs]
        if operation.kind not in ("quantize", "maxpool", "clip", "affine", *_ROUTING):
            for value in values:
                _check_settled(value.signal, operation.kind)
        result = _HANDLERS[operation.kind](self, operation, *values)
        dims = result.index.shape + result.signal.out_shape[3 - result.axes :]
        size = prod(result.signal.out_shape)
        if operation.shape != ((size,) if result.flat else dims):
            raise InputError(f"{operation.kind} gives {dims}, the model {operation.shape}; it cannot be converted")
        return result

    # --- nodes

    def _free(self, base: str) -> str:
        """A name that no node has yet."""
        name, number = base, 1
        while self._names[name]:
            number += 1
            name = f"{base}_{number}"
        self._names[name] += 1
        return name

    def unbiased(self, signal: Signal) -> Signal:
        """A signal with its bias as a term, for maps that pad with zeros, which are no bias, or weigh places unequally.

        The term is the bias times a population of one channel that is always 1: it spikes once, whatever the image.
        """
        if not signal.bias.any():
            return signal
        size = signal.shape[1:]
        if size not in self._ones:
            # It has to read something, without effect: a window of the image that comes to this size.
            image = self.values["input"].signal.shape
            window = Window(
                kernel=(max(image[1] - size[0], 0) + 1, max(image[2] - size[1], 0) + 1),
                padding=((0, max(size[0] - image[1], 0)), (0, max(size[1] - image[2], 0))),
            )
            first, no, one = np.zeros(1, int), np.zeros(1), np.ones(1)
            nothing = Term(INPUT, image, first, first, numerator=no, denominator=one, window=window)
            name = self._ones[size] = self._free("ones")
            self.nodes.append(FloatNode("neurons", name, Signal((1, *size), (nothing,), bias=one), 1.0, 0, 1))
        return signal.unbiased(self._ones[size])

    def _shared(self, value: Value, operation: Operation) -> Value:
        """A sum of weights that several read becomes a node, so that the weights are added once."""
        signal = value.signal
        if not signal.weighted or signal.clip is not None or signal.pools:
            return value
        terms = tuple(_finished(term, signal.shape) for term in signal.terms)
        node = FloatNode("sum", self._free(_named(operation, operation.name)), replace(signal, terms=terms))
        self.nodes.append(node)
        return replace(value, signal=replace(Signal.of(node.name, signal.shape), bias=signal.bias))

    def quantize(self, operation: Operation, value: Value) -> Value:
        """A population of neurons, and the max pools that waited for it."""
        signal, pools = value.plain(), value.signal.pools
        low, high, step, tie = (operation.values[name] for name in ("low", "high", "step", "tie"))
        if signal.clip is not None:
            # rounding and clipping are both monotone
            bounds = [None if bound is None else floor(bound / step + tie) for bound in signal.clip[:2]]
            low = bounds[0] if low is None else low if bounds[0] is None else max(low, bounds[0])
            high = bounds[1] if high is None else high if bounds[1] is None else min(high, bounds[1])
        if (low or 0) > 0 or (high or 0) < 0:
            raise InputError(f"counts from {low} to {high}: 0 must be one of them, where neurons begin")
        terms = tuple(_finished(term, signal.shape) for term in signal.terms)
        name = self._free(_named(operation, "quantize"))
        bias = signal.bias + (tie - 0.5) * step  # neurons round at halves
        made = Signal(signal.shape, terms, bias)
        self.nodes.append(FloatNode("neurons", name, made, step, low, high, operation=operation.name, pools=pools))
        result = Signal.of(name, signal.shape)
        for window, largest in pools:
            # the smallest of some numbers is what the largest of the opposite numbers is the opposite of
            signs, one = np.where(largest, 1.0, -1.0), np.ones(signal.shape[0])
            term = self._largest(result.scaled(signs, one, 0 * one).terms[0], window, name + ".pool")
            result = Signal((signal.shape[0], *term.shape[1:]), (term,), 0 * one).scaled(signs, one, 0 * one)
        return value.like(result)

    def maxpool(self, operation: Operation, value: Value) -> Value:
        """A max pool of quantised values is a node for each source; others wait for their quantiser."""
        signal, window = value.plain(), operation.values["window"]
        counted = self._counted()
        covered = np.concatenate([term.targets for term in signal.terms]) if signal.terms else np.zeros(0, int)
        alone = len(covered) == signal.shape[0] == len(np.unique(covered))
        points = [_without_zeros(term, signal, counted.get(term.source)) for term in signal.terms]
        if signal.clip is None and not signal.pools and alone and None not in points:
            terms = []
            for found in points:
                assert found is not None
                term, padding = found
                own = replace(window, padding=_added(window.padding, padding))
                terms.append(self._largest(term, own, _named(operation, operation.name)))
            size = window.out_size(*signal.shape[1:])
            result = Signal((signal.shape[0], *size), tuple(terms), signal.bias)
        else:
            result = replace(signal, pools=(*signal.pools, (window, np.ones(signal.shape[0], bool))))
        return Value.of(result, axes=value.axes).reshaped(operation.shape)

    def _counted(self) -> dict[str, FloatNode]:
        """What emits counts, with the neurons whose counts they are."""
        found: dict[str, FloatNode] = {}
        for node in self.nodes:
            if node.kind == "neurons":
                found[node.name] = node
            elif node.kind == "maxpool":
                found[node.name] = found[node.signal.terms[0].source]
        return found

    def _largest(self, term: Term, window: Window, name: str) -> Term:
        """The largest values in windows of a term that passes on counts, place by place.

        Where a factor is negative, neurons of the opposite counts come between: they lose nothing.
        """
        signs = np.where(term.numerator / term.denominator < 0, -1.0, 1.0)
        if (signs < 0).any():
            read, channels, one = self._counted()[term.source], np.arange(len(signs)), np.ones(len(signs))
            low, high = read.low, read.high
            if low is not None and high is not None:
                low, high = min(low, -high), max(high, -low)
            else:
                low = high = None
            turned = replace(term, targets=channels, numerator=signs, denominator=one)
            signal = Signal((len(signs), *term.shape[1:]), (turned,), 0 * one)
            node = FloatNode("neurons", self._free(f"{name}.signs"), signal, read.step, low, high)
            self.nodes.append(node)
            term = replace(term, source=node.name, shape=node.shape, channels=channels)
            term = replace(term, numerator=abs(term.numerator), denominator=abs(term.denominator))
        key = (term.source, window)
        if key not in self._pools:
            pool = FloatNode("maxpool", self._free(name), Signal.of(term.source, term.shape), window=window)
            self.nodes.append(pool)
            self._pools[key] = pool
        return replace(term, source=self._pools[key].name, shape=self._pools[key].shape)

    def _readout(self, last: Operation) -> None:
        value = self.values[last.name]
        signal = value.plain()
        _check_settled(signal, "the readout")
        if value.index.ndim != 1 or signal.shape[1:] != (1, 1) or value.flat:
            raise InputError(
                f"the model's result is of shape (N, {', '.join(map(str, last.shape))}), expected (N, classes), which "
                "a linear map over all positions gives"
            )
        if not signal.terms:
            raise InputError("the logits do not depend on the image")
        terms = tuple(_finished(term, signal.shape) for term in signal.terms)
        self.nodes.append(FloatNode("readout", self._free(_named(last, "readout")), replace(signal, terms=terms)))

    def _used(self) -> list[FloatNode]:
        needed, kept = {self.nodes[-1].name}, []
        for node in reversed(self.nodes):
            if node.name in needed:
                kept.append(node)
                needed |= {term.source for term in node.signal.terms}
        return kept[::-1]


# --- the handlers -----------------------------------------------------------------------------------------------------


def _affine(_: Folder, operation: Operation, value: Value) -> Value:
    given, signal = [operation.values[name] for name in ("numerator", "denominator", "shift")], value.plain()
    if value.flat:
        if any(len(np.unique(one)) > 1 for one in given):
            raise InputError("batch norm or a factor for each position cannot be converted; flatten after it")
        given = [np.full(signal.shape[0], one[0]) for one in given]
    if len(given[0]) != signal.shape[0]:
        raise InputError(f"{len(given[0])} factors for {signal.shape[0]} channels")
    return value.like(signal.scaled(*given))


def _add(_: Folder, operation: Operation, *values: Value) -> Value:
    signals = []
    for value, factor in zip(values, operation.values["factors"], strict=True):
        signal = value.plain()
        ones = np.ones(signal.shape[0])
        signals.append(signal if factor == 1 else signal.scaled(factor * ones, ones, 0 * ones))
    return values[0].like(reduce(Signal.plus, signals))


def _convolution(folder: Folder, operation: Operation, value: Value) -> Value:
    values = operation.values
    _check_channels(value, spatial=True)
    signal, window = value.plain(), values["window"]
    signal = folder.unbiased(signal) if window.is_padded else signal
    return Value.of(signal.convolved(values["weight"], values["bias"], window, values["groups"]), axes=value.axes)


def _linear(_: Folder, operation: Operation, value: Value) -> Value:
    weight, bias = operation.values["weight"], operation.values["bias"]
    if not value.flat:
        _check_channels(value, spatial=False)
    signal = value.plain()
    weight = weight.reshape(len(weight), *signal.shape)
    return Value.of(signal.convolved(weight, bias, Window(signal.shape[1:])), axes=0)


def _concatenate(_: Folder, operation: Operation, *values: Value) -> Value:
    for value in values:
        _check_channels(value, spatial=bool(values[0].axes))
    return Value.of(Signal.joined([value.plain() for value in values]), axes=values[0].axes)


def _pool(folder: Folder, operation: Operation, value: Value) -> Value:
    _check_channels(value, spatial=True)
    signal, window = value.plain(), operation.values["window"]
    signal = folder.unbiased(signal) if window.is_padded else signal
    pooled = signal.pooled(window, operation.values.get("divisor", 1.0))
    return Value.of(pooled, axes=value.axes).reshaped(operation.shape)


def _spread(folder: Folder, operation: Operation, value: Value) -> Value:
    _check_channels(value, spatial=True)
    signal, matrices = value.plain(), (operation.values["rows"], operation.values["columns"])
    if not all(np.allclose(matrix.sum(1), 1) for matrix in matrices):
        signal = folder.unbiased(signal)
    return Value.of(signal.spread(*matrices), axes=value.axes).reshaped(operation.shape)


def _permute(_: Folder, operation: Operation, value: Value) -> Value:
    axes = operation.values["axes"]
    count = value.index.ndim
    if value.flat or axes[count:] != tuple(range(count, len(axes))):
        raise InputError("a permutation that moves height or width cannot be converted")
    return replace(value, index=value.index.transpose(axes[:count]))


def _pick(_: Folder, operation: Operation, value: Value) -> Value:
    axis, index = operation.values["axis"], operation.values["index"]
    if value.flat or axis >= value.index.ndim:
        raise InputError("a slice of height or width cannot be converted")
    chosen = value.index.take(index, axis)
    if chosen.size == 0:
        raise InputError("a slice without any channel")
    # Only what is chosen is kept, so that nothing else is copied along.
    signal = value.signal.picked(chosen.reshape(-1))
    return Value(signal, np.arange(chosen.size).reshape(chosen.shape), value.axes)


def _clip(_: Folder, operation: Operation, value: Value) -> Value:
    low, high, what = (operation.values[name] for name in ("low", "high", "what"))
    return replace(value, signal=value.signal.clipped(low, high, f"{operation.path or operation.name}: {what}"))


_HANDLERS: dict[str, Callable[..., Value]] = {
    "affine": _affine,
    "add": _add,
    "avgpool": _pool,
    "clip": _clip,
    "concat": _concatenate,
    "conv": _convolution,
    "linear": _linear,
    "maxpool": Folder.maxpool,
    "pad": _pool,
    "permute": _permute,
    "pick": _pick,
    "quantize": Folder.quantize,
    "reshape": lambda _, operation, value: value.reshaped(operation.shape),
    "spread": _spread,
}


# --- checks -----------------------------------------------------------------------------------------------------------


def _located(error: InputError, operation: Operation) -> InputError:
    known = isinstance(error, Unquantised)
    return InputError(str(error) if known else f"{operation.path or operation.name}: {error}")


def _check_settled(signal: Signal, reader: str) -> None:
    if signal.clip is not None:
        raise Unquantised(signal.clip)
    if signal.pools:
        raise InputError(
            f"{reader} reads a max pool of values that are not quantised; put a quantiser before or behind the pool"
        )


def _named(operation: Operation, otherwise: str) -> str:
    """What a node is called: the module's path, without what a library has in it, with the letters of a name."""
    path = _INSIDE.sub("", operation.path)
    base = "".join(letter if letter.isalnum() or letter in "_.-" else "_" for letter in path)
    return base if base and base.isascii() else otherwise


def _check_channels(value: Value, *, spatial: bool) -> None:
    if value.flat:
        raise InputError("what was flattened over height and width can be read by a linear layer alone")
    if value.index.ndim != 1 or bool(value.axes) != spatial:
        expected = "(N, channels, height, width) or (N, channels, length)" if spatial else "(N, features)"
        raise InputError(f"expected an input of shape {expected}")


def _added(first: Any, second: Any) -> Any:
    return tuple((a[0] + b[0], a[1] + b[1]) for a, b in zip(first, second, strict=True))


def _without_zeros(term: Term, signal: Signal, read: FloatNode | None) -> tuple[Term, Any] | None:
    """A term that passes on counts, and the zeros around it, which no maximum of counts from 0 on can notice.

    Args:
        term: of the signal.
        signal: what a max pool reads.
        read: the neurons that the term's source has its counts from; None: it has none.
    """
    padding = term.window.padding
    if read is None or not replace(term, window=replace(term.window, padding=((0, 0), (0, 0)))).is_point:
        return None
    falls = (term.numerator / term.denominator < 0).any()
    if term.window.is_padded and (read.low != 0 or signal.bias.any() or falls):
        return None
    return replace(term, window=Window()), padding


def _finished(term: Term, shape: Shape) -> Term:
    """A term as synapses can be: no spread left.

    Raises:
        InputError: a pool with windows of different sizes, which only a linear layer can take up.
    """
    if term.spread is None:
        return term
    if shape[1:] != (1, 1):
        raise InputError(
            "windows of different sizes, or a pool behind other windows, cannot be converted unless a linear layer "
            "follows at once"
        )
    signal = Signal(
        (len(term.targets), 1, 1), (replace(term, targets=np.arange(len(term.targets))),), np.zeros(len(term.targets))
    )
    made = signal.convolved(np.ones((len(term.targets), 1, 1, 1)), None, Window(), len(term.targets))
    return replace(made.terms[0], targets=term.targets)
