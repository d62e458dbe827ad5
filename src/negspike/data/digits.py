"""scikit-learn's handwritten digits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from negspike.data.registry import DatasetSpec


def read_digits(_: DatasetSpec, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """scikit-learn's 1,797 handwritten digits; every fifth image is a test image."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images, labels = bunch.images.astype(np.uint8)[:, None], bunch.target.astype(np.uint8)
    test = np.arange(len(images)) % 5 == 4
    return {
        "train_images": images[~test],
        "train_labels": labels[~test],
        "test_images": images[test],
        "test_labels": labels[test],
    }
