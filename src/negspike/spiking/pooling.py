"""The largest net count of each window of a max pool."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from negspike.spiking.nodes import Window


def largest_counts(window: Window, counts: torch.Tensor) -> torch.Tensor:
    """(N, channels, height, width) int32 on any device; by float32, which holds counts below 2^24 exactly."""
    return largest_values(window, counts.float()).to(torch.int32)


def largest_values(window: Window, values: torch.Tensor) -> torch.Tensor:
    """The same for floats."""
    (top, bottom), (left, right) = window.padding
    if top or bottom or left or right:
        values = F.pad(values, (left, right, top, bottom), value=-torch.inf)
    return F.max_pool2d(values, window.kernel, window.stride, dilation=window.dilation)
