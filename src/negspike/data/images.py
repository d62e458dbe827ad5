"""Images as networks see them: cropped, standardised, rounded to 16 fractional bits, the same bits on every machine."""

from __future__ import annotations

import numpy as np

from negspike.data.registry import DatasetSpec
from negspike.fixed_point import IMAGE_FRACTION_BITS


def prepare_images(spec: DatasetSpec, pixels: np.ndarray) -> np.ndarray:
    """Images as a network sees them when it is evaluated: the same bits on every machine.

    Args:
        spec: the dataset.
        pixels: (N, C, H, W) uint8.

    Returns:
        (N, C, crop, crop) float32, rounded to 16 fractional bits. Standardisation works on exact integer sums, so
        that only IEEE division and square root, which are correctly rounded everywhere, decide the bits.
    """
    margin = (spec.image_shape[1] - spec.crop) // 2
    window = slice(margin, margin + spec.crop)
    images = pixels[:, :, window, window].astype(np.int64)
    if spec.standardize:
        count = images[0].size
        total = images.sum((1, 2, 3), keepdims=True)
        squares = (images**2).sum((1, 2, 3), keepdims=True)
        # count * standard deviation, and count * its lower limit
        deviation = np.maximum(np.sqrt((count * squares - total**2).astype(np.float64)), np.sqrt(float(count)))
        values = (count * images - total) / deviation
    else:
        values = images / spec.levels
    scale = 2.0**IMAGE_FRACTION_BITS
    rounded: np.ndarray = (np.rint(values * scale) / scale).astype(np.float32)
    return rounded
