"""Integer convolution of integers, exact: in floating point as long as no partial sum can round, else in int64."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from negspike.spiking.exact import exact_arithmetic, weight_parts
from negspike.training.topology import Layer

FLOAT64_EXACT = 1 << 53
# So many convolutions in float32 take less time than one in float64.
MOST_PARTS = 4


class Convolution:
    """Convolves integers with the weights of one layer, in float32 parts where that is exact and quicker.

    The first convolution of each number of images is done in float64 too: libraries choose their algorithm by size, and
    if one of them computed something else than plain sums, this layer would stay in float64.

    Args:
        weight: (outputs, inputs, kernel height, kernel width) integers.
        geometry: stride and padding.
    """

    def __init__(self, weight: np.ndarray, geometry: Layer) -> None:
        self.weight, self.geometry = weight, geometry
        self._parts: list[tuple[torch.Tensor, int]] = []
        self._largest = 0
        self._compared: set[int] = set()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """As :func:`convolve`."""
        largest = int(np.abs(x).max(initial=0))
        if largest > self._largest:
            # The next power of two, so that few different bounds occur.
            self._largest = 1 << (largest - 1).bit_length()
            self._parts = self._split()
        if not self._parts:
            return convolve(x, self.weight, self.geometry)
        result = self._in_parts(x)
        if len(x) not in self._compared:
            expected = convolve(x, self.weight, self.geometry)
            if not np.array_equal(result, expected):
                self._parts, self._largest = [], FLOAT64_EXACT
                return expected
            self._compared.add(len(x))
        return result

    def _split(self) -> list[tuple[torch.Tensor, int]]:
        """The parts of the weights, none if there would be too many of them."""
        try:
            parts = weight_parts(self.weight, self._largest)
        except OverflowError:
            return []
        if len(parts) > MOST_PARTS:
            return []
        layout = torch.channels_last
        return [(torch.from_numpy(part).contiguous(memory_format=layout), shift) for part, shift in parts]

    def _in_parts(self, x: np.ndarray) -> np.ndarray:
        (top, bottom), (left, right) = self.geometry.padding
        with exact_arithmetic(None):
            padded = F.pad(torch.from_numpy(x).float(), (left, right, top, bottom))
            padded = padded.contiguous(memory_format=torch.channels_last)
            total = torch.zeros((), dtype=torch.int64)
            for part, shift in self._parts:
                total = total + (F.conv2d(padded, part, stride=self.geometry.stride).to(torch.int64) << shift)
        # Channel by channel: thresholds differ between channels, and dividing many numbers by one is quick.
        integers: np.ndarray = total.contiguous().numpy()
        return integers


def convolve(x: np.ndarray, weight: np.ndarray, geometry: Layer) -> np.ndarray:
    """Convolve integers with integer weights, in float64 or, where partial sums may leave its 53 bits, in int64.

    Args:
        x: (N, inputs, height, width) int64.
        weight: (outputs, inputs, kernel height, kernel width) integers.
        geometry: stride and padding.

    Returns:
        (N, outputs, out height, out width) int64. The caller has checked that it fits.
    """
    largest = int(np.abs(x).max(initial=0))
    sums = np.abs(weight.astype(np.int64)).sum((1, 2, 3))
    if largest * int(sums.max(initial=0)) >= FLOAT64_EXACT:
        return convolve_int64(x, weight, geometry)
    (top, bottom), (left, right) = geometry.padding
    padded = F.pad(torch.from_numpy(x).double(), (left, right, top, bottom))
    result = F.conv2d(padded, torch.from_numpy(weight.astype(np.float64)), stride=geometry.stride)
    integers: np.ndarray = result.to(torch.int64).numpy()
    return integers


def convolve_int64(x: np.ndarray, weight: np.ndarray, geometry: Layer) -> np.ndarray:
    """The same in NumPy int64, window by window, as plain as it can be; the oracle of everything that is faster."""
    (top, bottom), (left, right) = geometry.padding
    padded = np.pad(x.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    _, out_height, out_width = geometry.out_shape
    stride = geometry.stride
    wide = weight.astype(np.int64)
    result = np.zeros((len(x), *geometry.out_shape), np.int64)
    for row in range(geometry.kernel[0]):
        for column in range(geometry.kernel[1]):
            rows = slice(row, row + stride * (out_height - 1) + 1, stride)
            columns = slice(column, column + stride * (out_width - 1) + 1, stride)
            result += np.tensordot(padded[:, :, rows, columns], wide[:, :, row, column], (1, 1)).transpose(0, 3, 1, 2)
    return result
