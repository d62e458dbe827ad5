"""Checking that a network fits together: names, order, shapes, types and ranges, node by node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from negspike.errors import InputError
from negspike.fixed_point import IMAGE_FRACTION_BITS
from negspike.spiking.nodes import INPUT, MaxPool, Neurons, Node, Readout, Shape, Sum, Synapses, Window

if TYPE_CHECKING:
    from negspike.spiking.graph import SpikingNetwork

LARGEST_BITS = 24
MOST_NEURONS = 1 << 31
MOST_ROWS = 1 << 24  # and columns: what a check of a window may take in memory
_NAME = re.compile(r"[A-Za-z0-9_.\-]+")
_WEIGHTS = (np.int16, np.int32)


def validate(network: SpikingNetwork) -> None:
    """Refuse a network that the engines could not simulate.

    Raises:
        InputError: the first thing that is wrong, and in which node.
    """
    if type(network.weight_bits) is not int or not 2 <= network.weight_bits <= LARGEST_BITS:
        raise InputError(f"weight_bits is {network.weight_bits!r}: expected 2 to {LARGEST_BITS}")
    fraction = network.image_fraction_bits
    if type(fraction) is not int or not 0 <= fraction <= IMAGE_FRACTION_BITS:
        raise InputError(f"image_fraction_bits is {fraction!r}: expected 0 to {IMAGE_FRACTION_BITS}")
    _check_shape(INPUT, network.input_shape)
    known: dict[str, Node | None] = {INPUT: None}
    shapes = {INPUT: network.input_shape}
    for node in network.nodes:
        if node.name in known or not isinstance(node.name, str) or not _NAME.fullmatch(node.name):
            raise InputError(
                f"node {node.name!r}: a name is made of letters, digits, '_', '-' and '.', and occurs once"
            )
        _check_shape(node.name, node.shape)
        if isinstance(node, MaxPool):
            _check_pool(node, known, shapes)
        else:
            if not node.synapses:
                raise InputError(f"{node.name}: it listens to nothing")
            for number, synapses in enumerate(node.synapses):
                _check_synapses(f"{node.name}, synapse {number}", node.shape, synapses, known, shapes)
                _check_width(f"{node.name}, synapse {number}", synapses, network.weight_bits)
        if isinstance(node, Neurons):
            _check_neurons(node)
        known[node.name], shapes[node.name] = node, node.shape
    if sum(isinstance(node, Readout) for node in network.nodes) != 1 or not isinstance(network.nodes[-1], Readout):
        raise InputError("a network has one readout, its last node")
    readout = network.nodes[-1]
    if readout.shape[1:] != (1, 1) or not 0 < readout.unit < inf:
        raise InputError(f"{readout.name}: expected shape (classes, 1, 1) and a unit above 0")
    check_integers(f"{readout.name}: bias", readout.bias, (readout.shape[0],), (np.int64,))


def _check_shape(name: str, shape: Shape) -> None:
    if not isinstance(shape, tuple) or len(shape) != 3 or not all(type(size) is int and size >= 1 for size in shape):
        raise InputError(f"{name}: shape {shape!r} is not (channels, height, width), all at least 1")
    if max(shape[1:]) > MOST_ROWS:
        raise InputError(f"{name}: {shape[1]} x {shape[2]} is too large, expected at most {MOST_ROWS:,} each")
    if prod(shape) >= MOST_NEURONS:
        raise InputError(f"{name}: {prod(shape):,} neurons are too many, expected fewer than {MOST_NEURONS:,}")


def _check_pool(node: MaxPool, known: dict[str, Node | None], shapes: dict[str, Shape]) -> None:
    if not isinstance(known.get(node.source), Neurons | MaxPool):
        raise InputError(f"{node.name}: a max pool listens to neurons or a max pool before it, not to {node.source!r}")
    shape = shapes[node.source]
    _check_window(node.name, node.window, shape, node.shape)
    if node.shape[0] != shape[0]:
        raise InputError(f"{node.name}: {node.shape[0]} channels, its source has {shape[0]}")
    for axis in (0, 1):
        window, size = node.window, shape[axis + 1]
        starts = np.arange(node.shape[axis + 1]) * window.stride[axis] - window.padding[axis][0]
        first = np.maximum(0, -(starts // window.dilation[axis]))  # tap that is not in the padding before the input
        if not ((first < window.kernel[axis]) & (starts + first * window.dilation[axis] < size)).all():
            raise InputError(f"{node.name}: a window of the max pool sees nothing but padding")


def _check_window(where: str, window: Window, source: Shape, target: Shape) -> None:
    numbers, zeros = [*window.kernel, *window.stride, *window.dilation], [*window.padding[0], *window.padding[1]]
    if not all(type(number) is int for number in numbers + zeros) or min(numbers) < 1 or min(zeros) < 0:
        raise InputError(f"{where}: kernel, stride and dilation are at least 1, padding at least 0, not {window}")
    if window.out_size(*source[1:]) != target[1:]:
        raise InputError(
            f"{where}: windows over {source[1]}x{source[2]} give {window.out_size(*source[1:])}, expected {target[1:]}"
        )
    if max(numbers + zeros) >= MOST_NEURONS:  # a step that is never taken can be anything so far
        raise InputError(f"{where}: kernel, stride, dilation and padding are below {MOST_NEURONS:,}")


def _check_synapses(
    where: str, target: Shape, synapses: Synapses, known: dict[str, Node | None], shapes: dict[str, Shape]
) -> None:
    if synapses.source not in known:
        raise InputError(f"{where}: its source {synapses.source!r} is none of the nodes before it")
    if type(synapses.groups) is not int or not isinstance(synapses.window, Window):
        raise InputError(f"{where}: groups are {synapses.groups!r} and its window is {synapses.window!r}")
    if synapses.weight is None and synapses.groups != 1:
        raise InputError(f"{where}: {synapses.groups} groups, expected 1 without weights")
    source = shapes[synapses.source]
    _check_window(where, synapses.window, source, target)
    check_integers(f"{where}: scale", synapses.scale, (np.size(synapses.scale),), (np.int64,))
    if isinstance(known[synapses.source], Sum) and (
        synapses.weight is not None or synapses.window.kernel != (1, 1) or synapses.window.padding != ((0, 0), (0, 0))
    ):
        raise InputError(f"{where}: a sum is read point by point and without weights")
    if synapses.weight is not None:
        shape = np.shape(synapses.weight)
        if len(shape) != 4 or shape[2:] not in (synapses.window.kernel, (1, 1)) or synapses.groups < 1:
            raise InputError(f"{where}: weights of shape {shape} do not fit windows of {synapses.window.kernel}")
        if shape[0] != synapses.outputs or shape[0] % synapses.groups:
            raise InputError(
                f"{where}: {shape[0]} outputs, {synapses.outputs} scales and {synapses.groups} groups do not fit"
            )
        check_integers(f"{where}: weight", synapses.weight, shape, _WEIGHTS)
    if not synapses.outputs or not synapses.inputs:
        raise InputError(f"{where}: it has no channels")
    for name, channels, count, limit in (
        ("channels", synapses.channels, synapses.inputs, source[0]),
        ("targets", synapses.targets, synapses.outputs, target[0]),
    ):
        if channels is None:
            if count != limit:
                raise InputError(f"{where}: {count} {name}, expected {limit}")
            continue
        check_integers(f"{where}: {name}", channels, (count,), (np.int64,))
        if channels.min(initial=0) < 0 or channels.max(initial=0) >= limit:
            raise InputError(f"{where}: {name} are from 0 to {limit - 1}")
        if name == "targets" and len(np.unique(channels)) != count:
            raise InputError(f"{where}: a target channel occurs twice")


def _check_width(where: str, synapses: Synapses, bits: int) -> None:
    if synapses.weight is not None and np.abs(synapses.weight.astype(np.int64)).max(initial=0) >= 1 << (bits - 1):
        raise InputError(f"{where}: a weight is wider than {bits} bits")


def _check_neurons(node: Neurons) -> None:
    for name, values in (("theta", node.theta), ("base", node.base)):
        check_integers(f"{node.name}: {name}", values, (node.shape[0],), (np.int64,))
    if node.theta.min() < 1:
        raise InputError(f"{node.name}: a threshold is below 1")
    for bound in (node.low, node.high):
        if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool) or abs(bound) >= 1 << 31):
            raise InputError(f"{node.name}: a bound is {bound!r}, expected a whole number of 32 bits or none")
    if (node.low or 0) > 0 or (node.high or 0) < 0:
        raise InputError(f"{node.name}: bounds {node.low} and {node.high} must have 0 between them")
    if not 0 < node.step < inf:
        raise InputError(f"{node.name}: step is {node.step!r}, it must be above 0 and finite")


def check_integers(name: str, array: Any, shape: tuple[int, ...], types: Sequence[type[np.integer]]) -> None:
    """Refuse an array of another shape or type.

    Raises:
        InputError: it is one.
    """
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype not in types:
        expected = " or ".join(np.dtype(kind).name for kind in types)
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(f"{name} is {found}, expected {expected} of shape {shape}")
