"""Images as networks see them: cropped, standardised, rounded to 16 fractional bits, the same bits on every machine."""

from __future__ import annotations

import numpy as np

from negspike.datasets import DatasetSpec
from negspike.errors import InputError

IMAGE_FRACTION_BITS = 16


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


def integer_images(images: np.ndarray) -> np.ndarray:
    """Images (any shape, floats) as int64 with 16 fractional bits, rounded half to even.

    Raises:
        InputError: an image holds a value that is not finite, or of 2^47 and more, which 64 bits cannot hold.
    """
    values = np.asarray(images, np.float64)
    if not np.isfinite(values).all():
        raise InputError("the images hold a value that is not finite")
    if np.abs(values).max(initial=0.0) >= 2.0 ** (63 - IMAGE_FRACTION_BITS):
        raise InputError("the images hold a value of 2^47 or more, too large for 64 bits; expected standardised images")
    scaled: np.ndarray = np.rint(values * 2.0**IMAGE_FRACTION_BITS).astype(np.int64)
    return scaled
