"""Fixed-point numbers: how many fractional bits images have, and how they become integers."""

from __future__ import annotations

import numpy as np

from negspike.errors import InputError

IMAGE_FRACTION_BITS = 16
# Thresholds and bases have so many more than the weights, so that an integer comparison decides as real numbers would.
THRESHOLD_EXTRA_BITS = 16
# Thresholds and bases stay below these, so that T thresholds fit 63 bits for T up to 2,000. A channel with a tiny gain,
# whose threshold would be larger, gets coarser weights instead: one unit of them is still 2^-36 of it.
LARGEST_THETA = 1 << 52
LARGEST_BASE = 1 << 61


def integer_images(images: np.ndarray, fraction_bits: int = IMAGE_FRACTION_BITS) -> np.ndarray:
    """Images (any shape, floats) as int64 with so many fractional bits, 16 at most, rounded half to even.

    Raises:
        InputError: an image holds a value that is not finite, or of 2^47 and more, which 64 bits cannot hold.
    """
    values = np.asarray(images)
    if values.dtype.kind not in "fiub":
        raise InputError(f"the images are {values.dtype}, expected real numbers")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError("the images hold a value that is not finite")
    if np.abs(values).max(initial=0.0) >= 2.0 ** (63 - IMAGE_FRACTION_BITS):
        raise InputError("the images hold a value of 2^47 or more, too large for 64 bits; expected standardised images")
    scaled: np.ndarray = np.rint(values * 2.0**fraction_bits).astype(np.int64)
    return scaled
