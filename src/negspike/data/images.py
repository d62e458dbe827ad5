"""Images as networks see them: cropped, standardised, rounded to 16 fractional bits, the same bits on every machine."""

from __future__ import annotations

from math import prod

import numpy as np

from negspike.data.registry import DatasetSpec
from negspike.fixed_point import IMAGE_FRACTION_BITS

# Pixels that are prepared at a time: they take eight bytes each then, and several times.
_BLOCK = 1 << 24


def prepare_images(spec: DatasetSpec, pixels: np.ndarray) -> np.ndarray:
    """Images as a network sees them when it is evaluated: the same bits on every machine.

    Args:
        spec: the dataset.
        pixels: (N, C, H, W) uint8.

    Returns:
        (N, *spec.input_shape) float32, rounded to 16 fractional bits. Standardisation works on exact integer sums, so
        that only IEEE division and square root, which are correctly rounded everywhere, decide the bits.
    """
    channels, height, width = spec.input_shape
    top, left = (pixels.shape[2] - height) // 2, (pixels.shape[3] - width) // 2
    window = pixels[:, :, top : top + height, left : left + width]
    prepared = np.empty(window.shape, np.float32)
    values, channel = pixel_values(spec), np.arange(channels)[:, None, None]
    block = max(1, _BLOCK // prod(spec.input_shape))
    for first in range(0, len(window), block):
        part = window[first : first + block].astype(np.int64)
        prepared[first : first + block] = _standardize(part) if spec.standardize else values[channel, part]
    return prepared


def _standardize(images: np.ndarray) -> np.ndarray:
    count = images[0].size
    total = images.sum((1, 2, 3), keepdims=True)
    squares = (images**2).sum((1, 2, 3), keepdims=True)
    # count * standard deviation, and count * its lower limit
    deviation = np.maximum(np.sqrt((count * squares - total**2).astype(np.float64)), np.sqrt(float(count)))
    return _round((count * images - total) / deviation)


def pixel_values(spec: DatasetSpec) -> np.ndarray:
    """What each of the 256 values of a pixel becomes, (C, 256) float32, unless images are standardised one by one."""
    values = np.broadcast_to(np.arange(256) / spec.levels, (spec.image_shape[0], 256))
    if spec.mean:
        values = (values - np.array(spec.mean)[:, None]) / np.array(spec.std)[:, None]
    return _round(values)


def _round(values: np.ndarray) -> np.ndarray:
    scale = 2.0**IMAGE_FRACTION_BITS
    rounded: np.ndarray = (np.rint(values * scale) / scale).astype(np.float32)
    return rounded
