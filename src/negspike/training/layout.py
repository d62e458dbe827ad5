"""How images and kernels lie in memory while a network trains."""

from __future__ import annotations

import torch
from torch import nn

# of the processors' widest registers: oneDNN takes so many float32 channels at once
CHANNELS_AT_ONCE = 16


def quick_layout(network: nn.Module) -> torch.memory_format:
    """Channels last, the quicker layout, unless oneDNN fails in it.

    It gives wrong gradients, hangs or crashes for the weights of a convolution that reads few channels at single
    points, some of them left out (oneDNN issue 6035): the shortcut of a narrow residual network.
    """
    fails = any(
        isinstance(module, nn.Conv2d)
        and set(module.kernel_size) == {1}
        and set(module.stride) != {1}
        and module.in_channels // module.groups < CHANNELS_AT_ONCE
        for module in network.modules()
    )
    return torch.contiguous_format if fails else torch.channels_last
