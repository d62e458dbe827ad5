"""Data sets: what files they are made of, what their images look like and how these are presented to a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np

from negspike.errors import InputError

Shape = tuple[int, int, int]

# The files that each format is read from; negspike.data.archives has a reader for each.
FORMATS: dict[str, tuple[str, ...]] = {
    "cifar10": ("archive",),
    "cifar100": ("archive",),
    "digits": (),
    "idx": ("train_images", "train_labels", "test_images", "test_labels"),
    "image_folder": ("archive",),
    "npz": ("archive",),
    "svhn": ("train", "test"),
}
# With 16 fractional bits, float32 holds every smaller value exactly.
LARGEST_VALUE = 256
LARGEST_CLASSES = 1 << 16


@dataclass(frozen=True)
class Source:
    """Where a file is downloaded from.

    Attributes:
        url: https, http or file.
        sha256: of the whole file.
        size: in bytes, or None where it is not known.
    """

    url: str
    sha256: str
    size: int | None


@dataclass(frozen=True)
class Augmentation:
    """What happens to training images at random.

    Attributes:
        crop: the window of the image is anywhere, rather than in the centre.
        mirror: every other image, left to right.
        contrast: least and largest factor about the mean of each channel, the same for all of them; None for none.
    """

    crop: bool = False
    mirror: bool = False
    contrast: tuple[float, float] | None = None


AUGMENTATIONS = {
    "none": Augmentation(),
    "crop": Augmentation(crop=True),
    "mirror": Augmentation(mirror=True),
    "crop_mirror": Augmentation(crop=True, mirror=True),
    "crop_mirror_contrast": Augmentation(crop=True, mirror=True, contrast=(0.2, 1.8)),
}


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """How the files of a dataset are read and its images presented to a network (docs/experiment.md).

    Pixels are cropped, then standardised: an image by its own mean and standard deviation (``standardize``), or pixels
    divided by ``levels``, and where ``mean`` and ``std`` are given, less the mean, divided by the standard deviation.

    Attributes:
        name: its name in the configuration.
        format: one of :data:`FORMATS`.
        image_shape: stored images as (channels, height, width), uint8.
        classes: labels are 0 to classes - 1.
        resize: images of other sizes are scaled to cover ``image_shape`` and cut at both sides; else they are refused.
        crop: (height, width) of what networks see, in the centre for test images; None for all of the image.
        padding: zeros at each side of training images before they are cropped at random.
        levels: pixels are divided by this, unless ``standardize``.
        mean, std: one number a channel, of pixels that were divided by ``levels``; or empty.
        standardize: subtract the image's mean, divide by max(standard deviation, 1 / sqrt(pixels)).
        augmentation: of training images, one of :data:`AUGMENTATIONS`.
        validation: how many training images are held out (:func:`negspike.data.dataset.validation_images`).

    Raises:
        InputError: a value is out of its range or does not go with another one. Lists are taken for tuples.
    """

    name: str
    format: str
    image_shape: Shape
    classes: int = 10
    resize: bool = False
    crop: tuple[int, int] | None = None
    padding: int = 0
    levels: int = 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    standardize: bool = False
    augmentation: str = "none"
    validation: int = 0

    def __post_init__(self) -> None:
        for field in ("image_shape", "crop", "mean", "std"):
            if isinstance(value := getattr(self, field), list):
                object.__setattr__(self, field, tuple(value))
        for problem in self._problems():
            raise InputError(f"dataset {self.name}: {problem}")

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files it is made of, in the configuration."""
        return FORMATS[self.format]

    @property
    def input_shape(self) -> Shape:
        """What a network sees, (channels, height, width)."""
        return (self.image_shape[0], *(self.crop or self.image_shape[1:]))

    @property
    def label_type(self) -> np.dtype[np.unsignedinteger]:
        """Labels are stored as this."""
        return np.min_scalar_type(self.classes - 1)

    def plain(self) -> dict[str, Any]:
        """All of it in plain values, of which :func:`dataset_spec` makes the same spec again."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def _problems(self) -> Iterator[str]:
        numbers = {"image_shape": self.image_shape, "crop": self.crop or (), "mean": self.mean, "std": self.std}
        numbers |= {name: (getattr(self, name),) for name in ("classes", "padding", "levels", "validation")}
        for name, values in numbers.items():
            kinds = int | float if name in ("mean", "std") else int
            if not isinstance(values, tuple) or any(isinstance(v, bool) or not isinstance(v, kinds) for v in values):
                yield f"{name} is {getattr(self, name)!r}, expected {'whole numbers' if kinds is int else 'numbers'}"
        if self.format not in FORMATS:
            yield f"format {self.format!r} is unknown: there are {', '.join(FORMATS)}"
        if self.augmentation not in AUGMENTATIONS:
            yield f"augmentation {self.augmentation!r} is unknown: there are {', '.join(AUGMENTATIONS)}"
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            yield f"image_shape is {self.image_shape}, expected channels, height and width, each at least 1"
        channels, height, width = self.image_shape
        if self.crop and (len(self.crop) != 2 or not (1 <= self.crop[0] <= height and 1 <= self.crop[1] <= width)):
            yield f"crop is {self.crop}, expected a height of 1 to {height} and a width of 1 to {width}"
        for name, least, most in (("classes", 2, LARGEST_CLASSES), ("levels", 1, 65_535)):
            if not least <= getattr(self, name) <= most:
                yield f"{name} is {getattr(self, name)}, expected {least} to {most}"
        for name in ("padding", "validation"):
            if getattr(self, name) < 0:
                yield f"{name} is {getattr(self, name)}, expected 0 or more"
        if self.padding and not AUGMENTATIONS[self.augmentation].crop:
            yield f"padding is {self.padding}, but augmentation {self.augmentation!r} does not crop at random"
        yield from self._scaling_problems(channels)

    def _scaling_problems(self, channels: int) -> Iterator[str]:
        if self.standardize and (self.mean or self.std):
            yield "standardize and mean, std exclude each other"
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, channels):
            yield f"{len(self.mean)} mean and {len(self.std)} std, expected one of each for every channel, {channels}"
        for mean, std in zip(self.mean, self.std, strict=True):
            if not (isfinite(mean) and isfinite(std) and std > 0):
                yield f"mean {mean} and std {std}: expected finite numbers, and std more than 0"
            if max(abs(mean), abs(255 / self.levels - mean)) / std >= LARGEST_VALUE:
                yield f"mean {mean} and std {std} give values of {LARGEST_VALUE} or more: they are of pixels / levels"


_SPECS = (
    DatasetSpec(
        name="cifar10",
        format="cifar10",
        image_shape=(3, 32, 32),
        crop=(24, 24),
        standardize=True,
        augmentation="crop_mirror_contrast",
    ),
    DatasetSpec(name="fashion_mnist", format="idx", image_shape=(1, 28, 28), levels=256, validation=10_000),
    DatasetSpec(name="digits", format="digits", image_shape=(1, 8, 8), levels=16),
    DatasetSpec(name="mnist", format="idx", image_shape=(1, 28, 28), validation=10_000),
    DatasetSpec(
        name="cifar100",
        format="cifar100",
        image_shape=(3, 32, 32),
        classes=100,
        crop=(24, 24),
        standardize=True,
        augmentation="crop_mirror_contrast",
    ),
    DatasetSpec(name="svhn", format="svhn", image_shape=(3, 32, 32), standardize=True),
)
DATASETS = {spec.name: spec for spec in _SPECS}


def dataset_spec(name: str | Mapping[str, Any] | DatasetSpec) -> DatasetSpec:
    """The spec of a dataset by name, or of its plain values; a spec of one's own stays what it is.

    Raises:
        InputError: there is none of that name.
    """
    if isinstance(name, DatasetSpec):
        return name
    if isinstance(name, Mapping):
        return DatasetSpec(**name)
    if name not in DATASETS:
        raise InputError(f"dataset {name!r} is unknown: there are {', '.join(DATASETS)}")
    return DATASETS[name]
