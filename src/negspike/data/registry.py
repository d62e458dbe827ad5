"""The data sets that a configuration can name: what their files are and how their images are presented."""

from __future__ import annotations

from dataclasses import dataclass

from negspike.errors import InputError

Shape = tuple[int, int, int]
CLASSES = 10


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
class DatasetSpec:
    """How the images of a dataset are presented to a network (docs/experiment.md).

    Attributes:
        name: its name in the configuration.
        image_shape: stored images as (channels, height, width), uint8.
        crop: side of the square that networks see; test images are cropped in the centre.
        levels: pixels are divided by this, unless standardised.
        standardize: subtract the image's mean, divide by max(standard deviation, 1 / sqrt(pixels)).
        augment: training images are cropped, mirrored and changed in contrast at random.
        validation: how many training images, the last ones, are held out.
        files: names of the files it is made of, in the configuration.
    """

    name: str
    image_shape: Shape
    crop: int
    levels: int
    standardize: bool
    augment: bool
    validation: int
    files: tuple[str, ...]

    @property
    def input_shape(self) -> Shape:
        """What a network sees, (channels, height, width)."""
        return (self.image_shape[0], self.crop, self.crop)


DATASETS = {
    spec.name: spec
    for spec in (
        DatasetSpec("cifar10", (3, 32, 32), 24, 255, True, True, 0, ("archive",)),
        DatasetSpec(
            "fashion_mnist",
            (1, 28, 28),
            28,
            256,
            False,
            False,
            10_000,
            ("train_images", "train_labels", "test_images", "test_labels"),
        ),
        DatasetSpec("digits", (1, 8, 8), 8, 16, False, False, 0, ()),
    )
}


def dataset_spec(name: str) -> DatasetSpec:
    """The spec of a dataset by name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in DATASETS:
        raise InputError(f"dataset {name!r} is unknown: there are {', '.join(DATASETS)}")
    return DATASETS[name]
