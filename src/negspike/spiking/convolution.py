"""Integer convolution of integers, exact: in float64 as long as every partial sum fits its 53 bits."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from negspike.topology import Layer

FLOAT64_EXACT = 1 << 53


def convolve(x: np.ndarray, weight: np.ndarray, geometry: Layer) -> np.ndarray:
    """Convolve integers with integer weights.

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
