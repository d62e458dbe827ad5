"""One window after another: the window, and the weights, that do the same in one go."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from negspike.errors import InputError
from negspike.spiking.nodes import Pair, Shape, Window


def matrix(window: Window, axis: int, size: int, outputs: int) -> np.ndarray:
    """(outputs, size) float64: how often each output sees each input along an axis."""
    seen = np.zeros((outputs, size))
    for tap in range(window.kernel[axis]):
        places = np.arange(outputs) * window.stride[axis] - window.padding[axis][0] + tap * window.dilation[axis]
        inside = (places >= 0) & (places < size)
        seen[np.flatnonzero(inside), places[inside]] += 1
    return seen


def composed(first: Window, second: Window, shape: Shape) -> Window:
    """The window over a source of ``shape`` that ``second`` over ``first`` sees.

    Raises:
        InputError: it differs at the edge, where the second pads with zeros what the first would see, or it would have
            to be cropped.
    """
    between = first.out_size(*shape[1:])
    outputs = second.out_size(*between)
    kernel, stride, padding, dilation = [], [], [], []
    for axis in (0, 1):
        size = shape[1 + axis]
        _check_edge(first, second, axis, size, between[axis], outputs[axis])
        taps, gap = _joint(first, second, axis)
        step = first.stride[axis] * second.stride[axis]
        before = first.padding[axis][0] + second.padding[axis][0] * first.stride[axis]
        after = (outputs[axis] - 1) * step + gap * (taps - 1) + 1 - size - before
        kernel.append(taps)
        dilation.append(gap)
        stride.append(step)
        padding.append((before, max(after, 0)))
    window = Window(_two(kernel), _two(stride), (padding[0], padding[1]), _two(dilation))
    if window.out_size(*shape[1:]) != outputs:
        raise InputError("two windows after each other leave out the source's edge; put a QuantIdentity between them")
    return window


def _two(values: list[int]) -> Pair:
    return (values[0], values[1])


def _joint(first: Window, second: Window, axis: int) -> tuple[int, int]:
    """Taps and the step between them of both windows in one."""
    k1, k2 = first.kernel[axis], second.kernel[axis]
    inner, outer = first.dilation[axis], second.dilation[axis] * first.stride[axis]
    if k1 == 1:
        return k2, outer
    if k2 == 1:
        return k1, inner
    return (k2 - 1) * outer + (k1 - 1) * inner + 1, 1


def _check_edge(first: Window, second: Window, axis: int, size: int, between: int, outputs: int) -> None:
    starts = np.arange(outputs) * second.stride[axis] - second.padding[axis][0]
    middle = np.unique(starts[:, None] + np.arange(second.kernel[axis]) * second.dilation[axis])
    outside = middle[(middle < 0) | (middle >= between)]
    places = outside[:, None] * first.stride[axis] - first.padding[axis][0]
    places = places + np.arange(first.kernel[axis]) * first.dilation[axis]
    if ((places >= 0) & (places < size)).any():
        raise InputError("a padded window over another window differs at the edge; put a QuantIdentity between them")


def expanded(
    weight: np.ndarray, taps: np.ndarray, first: Window, second: Window, inner_groups: int, groups: int
) -> np.ndarray:
    """Weights of the joint window: ``weight`` (O, M / groups, ...) over ``taps`` (M, I / inner groups, ...)."""
    steps = _two([a * b for a, b in zip(first.stride, second.dilation, strict=True)])
    gaps = [_joint(first, second, axis)[1] for axis in (0, 1)]
    return _through(weight, taps, steps, first.dilation, inner_groups, groups)[:, :, :: gaps[0], :: gaps[1]]


def transposed(
    weight: np.ndarray, taps: np.ndarray, first: Window, shape: Shape, inner_groups: int, groups: int
) -> np.ndarray:
    """Weights over a whole source of ``shape`` of a map over all of what ``first`` gives; exact, edges included."""
    full = _through(weight, taps, first.stride, first.dilation, inner_groups, groups)
    (top, _), (left, _) = first.padding
    result = np.zeros((*full.shape[:2], *shape[1:]))
    seen = full[:, :, top : top + shape[1], left : left + shape[2]]
    result[:, :, : seen.shape[2], : seen.shape[3]] = seen
    return result


def _through(
    weight: np.ndarray, taps: np.ndarray, stride: Pair, dilation: Pair, inner_groups: int, groups: int
) -> np.ndarray:
    """``weight`` spread over the inputs of ``taps``, whose windows are ``stride`` apart."""
    blocks = [
        F.conv_transpose2d(*block, stride=stride, dilation=dilation, groups=max(1, inner_groups // groups)).numpy()
        for block in zip(
            torch.from_numpy(np.array(weight)).chunk(groups),
            torch.from_numpy(np.array(taps)).chunk(groups),
            strict=True,
        )
    ]
    return np.concatenate(blocks)


def spread_weight(weight: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(O, I, height, width) weights on what (height, in), (width, in) matrices give, as weights on what they take."""
    along = (weight.reshape(-1, weight.shape[3]) @ columns).reshape(*weight.shape[:3], -1)
    result = np.zeros((*weight.shape[:2], rows.shape[1], columns.shape[1]))
    for y, row in enumerate(rows):
        result += row[:, None] * along[:, :, y, None]
    return result
