"""Progressive resolution: a training begins with images that are scaled down, which cost less (hlb-CIFAR10, FFCV)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from negspike.errors import InputError, one_line
from negspike.training.network import Block
from negspike.training.schedule import Phase

# Images lose whole eighths of their height and width: libraries prepare themselves for each size.
PARTS = 8


def scale_down(images: torch.Tensor, share: float) -> torch.Tensor:
    """(N, C, H, W) floats to about this share of height and width, smoothed before, so that nothing is aliased."""
    parts = max(1, round(PARTS * share))
    if parts >= PARTS:
        return images
    size = [max(1, extent * parts // PARTS) for extent in images.shape[2:]]
    return F.interpolate(images, size, mode="bilinear", antialias=True)


@contextmanager
def smaller_images(network: nn.Module, phase: Phase, shape: tuple[int, int, int]) -> Iterator[None]:
    """Within it the network takes the images of all sizes that the phase shows.

    What is fully connected in a topology has a weight for each feature of a whole image: those of a smaller one are
    repeated. Models do what they do; those that end in global or adaptive pooling take smaller images.

    Args:
        network: on its device.
        phase: what its images are scaled down to.
        shape: of a whole image, (channels, height, width).

    Raises:
        InputError: the smallest images do not go through the network.
    """
    if phase.initial_resolution == 1:
        yield
        return

    def repeat(block: nn.Module, _: tuple[torch.Tensor], features: torch.Tensor) -> torch.Tensor:
        assert isinstance(block, Block)
        return F.interpolate(features, block.layer.out_shape[1:])

    windows = [one for one in network.modules() if isinstance(one, Block) and one.layer.kind != "dense"]
    handles = [block.register_forward_hook(repeat) for block in windows[-1:]]
    try:
        smallest = scale_down(torch.zeros(1, *shape), phase.initial_resolution).to(next(network.parameters()).device)
        try:
            with torch.no_grad():
                network.eval()(smallest)
        except Exception as error:  # whatever a model of the user's says of another size
            height, width = smallest.shape[2:]
            raise InputError(
                f"phase {phase.number}: images of {height}x{width}, from initial_resolution "
                f"{phase.initial_resolution:g}, do not go through the network ({one_line(error)[:200]}): give 1, or a "
                "model that ends in adaptive pooling"
            ) from error
        yield
    finally:
        for handle in handles:
            handle.remove()
