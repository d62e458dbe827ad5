"""Sums over windows in 8-bit digits, -128 to 127: products of int8 matrices, which add up in 32 bits and cannot round.

w = sum of 256^i w_i and x = sum of 256^j x_j, so W x is the sum of 256^(i + j) W_i x_j. One product of matrices does
all digits of the weights, side by side; counts of up to 127 have a single digit.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
import torch.nn.functional as F

from negspike.spiking.floats import sum_exactly
from negspike.spiking.linear import add_current
from negspike.spiking.nodes import Synapses

# Products of this many digits, each at most 2^14, stay below 2^31.
MOST_PRODUCTS = 1 << 16
MOST_DIGITS = 3


def digits(values: torch.Tensor, largest: int) -> list[torch.Tensor]:
    """The int8 digits of integers of at most ``largest``, lowest first."""
    found = []
    while largest > 127:
        lowest = values.to(torch.int8)  # wraps around
        found.append(lowest)
        values, largest = (values - lowest) >> 8, (largest + 128) >> 8
    return [*found, values.to(torch.int8)]


def windows(synapses: Synapses, x: torch.Tensor) -> torch.Tensor:
    """What each window sees of (N, height, width, channels): (N * out height * out width, taps * channels)."""
    window = synapses.window
    (top, bottom), (left, right) = window.padding
    rows, columns = window.out_size(x.shape[1], x.shape[2])
    if top or bottom or left or right:
        x = F.pad(x, (0, 0, left, right, top, bottom))
    image, row, column, _ = x.stride()
    shape = (len(x), rows, columns, *window.kernel, x.shape[3])
    strides = (row * window.stride[0], column * window.stride[1], row * window.dilation[0], column * window.dilation[1])
    seen = x.as_strided(shape, (image, *strides, 1)).reshape(-1, prod(window.kernel) * x.shape[3])
    return seen.contiguous()  # overlapping windows can be a view, which products do not take


class DigitSum:
    """Adds up the windows of one synapse that has weights and no groups.

    The first sum of each size is compared, for one image, with float64: libraries choose their algorithm by size, and
    if one of them computed something else than plain sums, this synapse would not be used any more.

    Args:
        synapses: the synapse.
        channels: of the node that it adds to.

    Attributes:
        usable: whether it may be used, on this machine too.
        factors: (columns,) int64, what each column of a product is multiplied with: the weights' lowest digits of all
            channels of the node, then the next, and at the end what is missing in some.
        targets: int64, the channels of those at the end.
    """

    def __init__(self, synapses: Synapses, channels: int) -> None:
        self.synapses, self._compared = synapses, set[tuple[int, ...]]()
        # Without these instructions PyTorch multiplies int8 in a plain loop.
        self.usable = torch.backends.cpu.get_cpu_capability() == "AVX512" and _fits(synapses)
        if self.usable:
            matrix, self.factors, self.targets = _matrix(synapses, channels)
            self._matrix, self._channels = torch.from_numpy(matrix), channels

    def products(self, x: torch.Tensor, largest: int) -> list[tuple[np.ndarray, int]]:
        """(N * out height * out width, columns) int32 and a further factor, for each digit of the input.

        Args:
            x: (N, height, width, channels of the source) integers.
            largest: no input is absolutely larger.

        Returns:
            Nothing if it must not be used.
        """
        if not self.usable or largest >= 1 << (8 * MOST_DIGITS - 2):
            return []
        results = []
        for number, part in enumerate(digits(x, largest)):
            names = self.synapses.channels
            seen = windows(self.synapses, part if names is None else part[..., torch.from_numpy(names)].contiguous())
            result = torch._int_mm(seen, self._matrix).numpy()
            if seen.shape not in self._compared:
                self._compare(part[:1], result[: len(seen) // len(x)])
                self._compared.add(seen.shape)
            results.append((result, 256**number))
        return results if self.usable else []

    def _compare(self, x: torch.Tensor, result: np.ndarray) -> None:
        channels, wide = self._channels, len(self.factors) - len(self.targets)
        numbers = result.astype(np.int64) * self.factors
        found = numbers[:, :wide].reshape(len(numbers), -1, channels).sum(1)
        found[:, self.targets] += numbers[:, wide:]
        sums = sum_exactly(self.synapses, x.permute(0, 3, 1, 2).numpy().astype(np.int64))
        expected = np.zeros((1, channels, *sums.shape[2:]), np.int64)
        add_current(expected, self.synapses, sums)
        self.usable = self.usable and np.array_equal(found, expected[0].reshape(channels, -1).T)


def _fits(synapses: Synapses) -> bool:
    taps = prod(synapses.window.kernel)
    return synapses.weight is not None and synapses.groups == 1 and synapses.inputs * taps <= MOST_PRODUCTS


def _matrix(synapses: Synapses, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weights' digits, (taps * inputs, columns) int8; factors and targets of the columns, int64."""
    assert synapses.weight is not None
    kernel, targets = synapses.window.kernel, synapses.targets
    weight = np.broadcast_to(synapses.weight, (*synapses.weight.shape[:2], *kernel)).astype(np.int32)
    places = np.arange(len(weight)) if targets is None else targets
    rest, scale = np.zeros((weight[0].size, channels), np.int32), np.zeros(channels, np.int64)
    rest[:, places], scale[places] = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)), synapses.scale
    columns, factors, unit = [], [], 1
    while True:
        # The highest digit of a few weights would be 128: one more column makes up for that.
        last = np.abs(rest).max(initial=0) <= 128
        lowest = np.clip(rest, -128, 127) if last else (rest + 128 & 255) - 128
        columns.append(lowest.astype(np.int8))
        factors.append(scale * unit)
        rest = rest - lowest if last else rest - lowest >> 8
        if last:
            break
        unit <<= 8
    missing = np.flatnonzero(rest.any(0))
    columns, factors = [*columns, rest[:, missing].astype(np.int8)], [*factors, scale[missing] * unit]
    return np.concatenate(columns, 1), np.concatenate(factors), missing
