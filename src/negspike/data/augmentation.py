"""Random crops, mirror images and contrast for a whole batch at once, on the device (docs/experiment.md)."""

from __future__ import annotations

import torch

from negspike.data.registry import DatasetSpec
from negspike.fixed_point import IMAGE_FRACTION_BITS


def round_images(images: torch.Tensor) -> torch.Tensor:
    """Images rounded to 16 fractional bits, in place; training, ANN and spiking network all see these values."""
    scale = 2.0**IMAGE_FRACTION_BITS
    return images.mul_(scale).round_().div_(scale)


def standardize(images: torch.Tensor) -> torch.Tensor:
    """Per-image standardisation (x - mean) / max(standard deviation, 1 / sqrt(pixels)), (N, C, H, W) floats."""
    deviation, mean = torch.std_mean(images, (1, 2, 3), correction=0, keepdim=True)
    return (images - mean) / deviation.clamp_min(images[0].numel() ** -0.5)


def training_images(spec: DatasetSpec, pixels: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Prepare a training batch: augment where the dataset says so, standardise or scale, round to 16 fractional bits.

    The published augmentation also varies the brightness, which the standardisation behind it takes out again, so it
    is left out here.

    Args:
        spec: the dataset.
        pixels: (N, C, H, W) uint8, on any device.
        random: generator on the CPU, so that the same seed draws the same crops on every device.

    Returns:
        (N, C, crop, crop) float32 on the device of ``pixels``.
    """
    device, count = pixels.device, len(pixels)
    if not spec.augment:
        return round_images(pixels.float().div_(spec.levels))
    offsets = torch.randint(0, spec.image_shape[1] - spec.crop + 1, (2, count, 1), generator=random)
    mirrored = torch.rand(count, 1, generator=random) < 0.5
    contrast = torch.empty(count, 1, 1, 1).uniform_(0.2, 1.8, generator=random)
    ramp = torch.arange(spec.crop)
    rows = (offsets[0] + ramp).to(device)
    columns = (offsets[1] + torch.where(mirrored, ramp.flip(0), ramp)).to(device)
    image = torch.arange(count, device=device)[:, None, None]
    # Indexing (N, C, H, W) by image, row and column puts channels last: (N, crop, crop, C).
    crops = pixels.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).float()
    mean = crops.mean((2, 3), keepdim=True)
    crops = (crops - mean) * contrast.to(device) + mean
    return round_images(standardize(crops))
