"""Random crops, mirror images and contrast for a whole batch at once, on the device (docs/experiment.md)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from negspike.data.images import pixel_values
from negspike.data.registry import AUGMENTATIONS, Augmentation, DatasetSpec
from negspike.fixed_point import IMAGE_FRACTION_BITS


def round_images(images: torch.Tensor) -> torch.Tensor:
    """Images rounded to 16 fractional bits, in place; training, ANN and spiking network all see these values."""
    scale = 2.0**IMAGE_FRACTION_BITS
    return images.mul_(scale).round_().div_(scale)


def standardize(images: torch.Tensor) -> torch.Tensor:
    """Per-image standardisation (x - mean) / max(standard deviation, 1 / sqrt(pixels)), (N, C, H, W) floats."""
    deviation, mean = torch.std_mean(images, (1, 2, 3), correction=0, keepdim=True)
    return (images - mean) / deviation.clamp_min(images[0].numel() ** -0.5)


def training_images(
    spec: DatasetSpec,
    pixels: torch.Tensor,
    random: torch.Generator,
    *,
    translation: int | None = None,
    mirrored: torch.Tensor | None = None,
) -> torch.Tensor:
    """Prepare a training batch: augment as the dataset says, standardise or scale, round to 16 fractional bits.

    The published augmentation also varies the brightness, which the standardisation behind it takes out again, so it
    is left out here. Without contrast, the values are those that :func:`negspike.data.images.prepare_images` gives.

    Args:
        spec: the dataset.
        pixels: (N, C, H, W) uint8, on any device.
        random: generator on the CPU, so that the same seed draws the same crops on every device.
        translation: how many pixels random crops are off the centre at most; None: as many as there are.
        mirrored: (N,) bool on any device, which images are mirrored where the dataset's are; None: each by chance.

    Returns:
        (N, *spec.input_shape) float32 on the device of ``pixels``.
    """
    device, change = pixels.device, AUGMENTATIONS[spec.augmentation]
    crops = _crops(spec, pixels, change, random, translation, mirrored)
    if change.contrast is None and not spec.standardize:
        channels = torch.arange(crops.shape[1], device=device)[:, None, None]
        return torch.from_numpy(pixel_values(spec)).to(device)[channels, crops.long()]
    if change.contrast is None:
        return round_images(standardize(crops.double())).float()
    images = crops.float()
    contrast = torch.empty(len(pixels), 1, 1, 1).uniform_(*change.contrast, generator=random)
    mean = images.mean((2, 3), keepdim=True)
    images = (images - mean) * contrast.to(device) + mean
    if spec.standardize:
        return round_images(standardize(images))
    images = images / spec.levels
    if spec.mean:
        means, deviations = (torch.tensor(values, device=device)[:, None, None] for values in (spec.mean, spec.std))
        images = (images - means) / deviations
    return round_images(images)


def _crops(
    spec: DatasetSpec,
    pixels: torch.Tensor,
    change: Augmentation,
    random: torch.Generator,
    translation: int | None,
    mirrored: torch.Tensor | None,
) -> torch.Tensor:
    """The window of each image that is seen, and of some the mirror image of it, uint8."""
    device, count = pixels.device, len(pixels)
    _, height, width = spec.input_shape
    if spec.padding:
        pixels = F.pad(pixels, [spec.padding] * 4)
    space = [pixels.shape[2] - height, pixels.shape[3] - width]
    if not change.crop and not change.mirror:
        top, left = space[0] // 2, space[1] // 2
        return pixels[:, :, top : top + height, left : left + width]
    farthest = 0 if not change.crop else max(space) if translation is None else translation
    offsets = [
        torch.randint(max(0, most // 2 - farthest), min(most, most // 2 + farthest) + 1, (count, 1), generator=random)
        for most in space
    ]
    ramp = torch.arange(width, device=device).expand(count, width)
    if change.mirror:
        turned = torch.rand(count, generator=random) < 0.5 if mirrored is None else mirrored
        ramp = torch.where(turned.to(device)[:, None], ramp.flip(1), ramp)
    rows, columns = offsets[0].to(device) + torch.arange(height, device=device), offsets[1].to(device) + ramp
    image = torch.arange(count, device=device)[:, None, None]
    # Indexing (N, C, H, W) by image, row and column puts channels last: (N, height, width, C).
    return pixels.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
