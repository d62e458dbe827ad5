"""The largest net count of each window of a max pool."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from negspike.spiking.nodes import Window


def largest_counts_int64(window: Window, counts: np.ndarray) -> np.ndarray:
    """(N, channels, height, width) integers to (N, channels, out height, out width) int64, tap by tap."""
    rows, columns = window.out_size(*counts.shape[2:])
    lowest = np.iinfo(np.int64).min
    padded = np.pad(counts.astype(np.int64), ((0, 0), (0, 0), *window.padding), constant_values=lowest)
    result = np.full((*counts.shape[:2], rows, columns), lowest)
    for _, seen in window.taps(padded):
        np.maximum(result, seen, out=result)
    return result


def largest_counts(window: Window, counts: torch.Tensor) -> torch.Tensor:
    """The same on any device: int32 in and out, by float32, which holds counts below 2^24 exactly."""
    return largest_values(window, counts.float()).to(torch.int32)


def largest_values(window: Window, values: torch.Tensor) -> torch.Tensor:
    """The same for floats."""
    (top, bottom), (left, right) = window.padding
    if top or bottom or left or right:
        values = F.pad(values, (left, right, top, bottom), value=-torch.inf)
    return F.max_pool2d(values, window.kernel, window.stride, dilation=window.dilation)
