"""Images of any size brought to one size, by Pillow: bilinear, in whole numbers, so the same on every machine."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps


def fit(image: Image.Image, height: int, width: int) -> Image.Image:
    """Scale an image so that it covers (height, width) and cut off evenly what is too much."""
    return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)


def resize_images(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images (N, C, H, W) uint8 with another height and width, each channel as :func:`fit` does it."""
    count, channels, *old = images.shape
    if tuple(old) == size or not images.size:
        return images
    resized = np.empty((count, channels, *size), np.uint8)
    for index in np.ndindex(count, channels):
        resized[index] = np.asarray(fit(Image.fromarray(images[index]), *size))
    return resized
