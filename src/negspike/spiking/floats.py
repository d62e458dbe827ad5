"""What synapses add up, in floating point as long as no partial sum can round, else in int64."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch
import torch.nn.functional as F

from negspike.spiking.bounds import FLOAT64_EXACT
from negspike.spiking.exact import exact_arithmetic, weight_parts
from negspike.spiking.linear import sum_int64
from negspike.spiking.nodes import Synapses, Window

# So many convolutions in float32 take less time than one in float64.
MOST_PARTS = 4


def sum_floats(
    synapses: Synapses, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """As ``sum_int64``, in the floating point of ``x`` and ``weight``; exact where no partial sum can round.

    Args:
        synapses: window and groups.
        x: (N, channels, height, width) of the source.
        weight: the weights as floats, or a part of them; None where there are none.
        bias: (O,) of the same type, added along with weights.
    """
    if synapses.channels is not None:
        x = x[:, torch.from_numpy(synapses.channels).to(x.device)]
    window = synapses.window
    if weight is None or synapses.shares_taps:
        if not window.is_point:
            ones = torch.ones((x.shape[1], 1, *window.kernel), dtype=x.dtype, device=x.device)
            x = _convolve(x, ones, window, x.shape[1])
        return x if weight is None else _convolve(x, weight, Window(), synapses.groups, bias)
    return _convolve(x, weight, window, synapses.groups, bias)


def _convolve(
    x: torch.Tensor, weight: torch.Tensor, window: Window, groups: int, bias: torch.Tensor | None = None
) -> torch.Tensor:
    (top, bottom), (left, right) = window.padding
    if groups == 1 and window.kernel == x.shape[2:] and not (top or bottom or left or right):
        return F.linear(x.flatten(1), weight.flatten(1), bias)[..., None, None]
    padding = (top, left)
    if padding != (bottom, right):
        x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
    return F.conv2d(x, weight, bias, window.stride, padding, window.dilation, groups)


def sum_exactly(synapses: Synapses, x: np.ndarray) -> np.ndarray:
    """As :func:`sum_int64`, in float64 where its 53 bits suffice."""
    largest = int(np.abs(x).max(initial=0))
    if largest * int(synapses.largest_sums.max(initial=0)) >= FLOAT64_EXACT:
        return sum_int64(synapses, x)
    weight = None if synapses.weight is None else torch.from_numpy(synapses.weight.astype(np.float64))
    integers: np.ndarray = sum_floats(synapses, torch.from_numpy(x).double(), weight).to(torch.int64).numpy()
    return integers


@dataclass(frozen=True, eq=False)
class _Split:
    """Weights in float32 parts, none if there would be too many of them, for inputs of up to ``largest``."""

    largest: int
    parts: list[tuple[torch.Tensor, int]]
    compared: set[int] = field(default_factory=set)


class ExactSum:
    """Adds up the windows of one synapse, in float32 parts where that is exact and quicker.

    The first sum of each number of images is done in float64 too, and again when larger inputs need other parts:
    libraries choose their algorithm by size, and if one of them computed something else than plain sums, this synapse
    would stay in float64. Several threads may call it: each works with the one split that it has looked up.
    """

    def __init__(self, synapses: Synapses) -> None:
        self.synapses = synapses
        self._split = _Split(0, [])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(N, channels, height, width) int64 of the source to (N, O, out height, out width) int64."""
        if self.synapses.weight is None:
            return sum_int64(self.synapses, x)
        largest, split = int(np.abs(x).max(initial=0)), self._split
        if largest > split.largest:
            # The next power of two, so that few different bounds occur.
            split = self._split = self._split_for(self.synapses.weight, 1 << (largest - 1).bit_length())
        if not split.parts:
            return sum_exactly(self.synapses, x)
        result = self._in_parts(x, split)
        if len(x) not in split.compared:
            expected = sum_exactly(self.synapses, x)
            if not np.array_equal(result, expected):
                self._split = _Split(FLOAT64_EXACT, [])
                return expected
            split.compared.add(len(x))
        return result

    def _split_for(self, weight: np.ndarray, largest: int) -> _Split:
        shared = prod(self.synapses.window.kernel) if self.synapses.shares_taps else 1
        try:
            parts = weight_parts(weight, largest * shared)
        except OverflowError:
            return _Split(largest, [])
        if len(parts) > MOST_PARTS:
            return _Split(largest, [])
        layout = torch.channels_last
        return _Split(
            largest, [(torch.from_numpy(part).contiguous(memory_format=layout), shift) for part, shift in parts]
        )

    def _in_parts(self, x: np.ndarray, split: _Split) -> np.ndarray:
        with exact_arithmetic(None):
            floats = torch.from_numpy(x).float().contiguous(memory_format=torch.channels_last)
            total = torch.zeros((), dtype=torch.int64, device="cpu")
            for part, shift in split.parts:
                total = total + (sum_floats(self.synapses, floats, part).to(torch.int64) << shift)
        # Channel by channel: thresholds differ between channels, and dividing many numbers by one is quick.
        integers: np.ndarray = total.contiguous().numpy()
        return integers
