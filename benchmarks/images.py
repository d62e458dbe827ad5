"""Images that resemble CIFAR-10's in what an engine notices, made without any download."""

from __future__ import annotations

import numpy as np

from negspike.fixed_point import IMAGE_FRACTION_BITS
from negspike.training.topology import Shape

# Of natural images: amplitudes fall as 1 / frequency, and the three colours rise and fall together.
SPECTRAL_SLOPE = 1.0
COLOUR_CORRELATION = 0.9


def make_images(count: int, shape: Shape, seed: int = 0) -> np.ndarray:
    """Seeded 1/f noise, standardised as test images are.

    The first images are the same however many are asked for.

    Returns:
        (count, channels, height, width) float32, rounded to 16 fractional bits.
    """
    channels, height, width = shape
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = np.zeros_like(frequency)
    np.divide(1.0, frequency**SPECTRAL_SLOPE, out=amplitude, where=frequency > 0)
    images = np.empty((count, *shape))
    for number in range(count):
        random = np.random.default_rng([seed, number])
        common = random.normal(size=(1, height, width))
        own = random.normal(size=(channels, height, width))
        noise = np.sqrt(COLOUR_CORRELATION) * common + np.sqrt(1 - COLOUR_CORRELATION) * own
        images[number] = np.fft.irfft2(np.fft.rfft2(noise) * amplitude, (height, width))
    images -= images.mean((1, 2, 3), keepdims=True)
    deviation = images.std((1, 2, 3), keepdims=True)
    images /= np.where(deviation > 0, deviation, 1.0)
    scale = 2.0**IMAGE_FRACTION_BITS
    rounded: np.ndarray = (np.rint(images * scale) / scale).astype(np.float32)
    return rounded
