"""Images for a model, without a data set around them: below a folder, in one file, or in an ``.npz``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from negspike.data.image_folder import SPLITS, SUFFIXES, decode_image
from negspike.data.images import prepare_images
from negspike.data.npz import read_npz
from negspike.data.registry import DatasetSpec
from negspike.data.resize import resize_images
from negspike.errors import InputError, foreign_file
from negspike.files import files_below


@dataclass(frozen=True, eq=False)
class Samples:
    """Images as a network sees them.

    Attributes:
        images: (N, C, H, W) float32; what the file held as floats may be (N, C, L) or (N, F), too.
        labels: (N,) integers, or None where they are not known.
        folders: of classes, which labels number in alphabetical order; None where labels are not made of them.
        prepared: whether the file held floats, which are as the network sees them already.
    """

    images: np.ndarray
    labels: np.ndarray | None
    folders: tuple[str, ...] | None = None
    prepared: bool = False


def sample_shape(path: Path, split: str) -> tuple[int, ...]:
    """Channels, height and width of the first image: grey if it is, colour otherwise; of floats, the axes they have.

    Raises:
        InputError: there is none.
    """
    if path.suffix == ".npz":
        images, _ = _read_npz(path, split)
        if images.dtype != np.uint8:
            return images.shape[1:]
        channels_last = images.ndim == 4 and images.shape[3] in (1, 3) and images.shape[1] not in (1, 3)
        shape = images.shape[1:] if images.ndim == 4 else (1, *images.shape[1:])
        return (shape[2], *shape[:2]) if channels_last else shape
    first, _ = _image_files(path, split)
    with foreign_file(first[0], "an image"), Image.open(first[0]) as image:
        return (1 if image.mode in ("1", "L", "LA") else 3, image.height, image.width)


def read_samples(path: Path, spec: DatasetSpec, split: str = "test", limit: int | None = None) -> Samples:
    """Read images and prepare them as ``spec`` says.

    Args:
        path: a folder, with a folder for each class in it or not, perhaps within ``train`` and ``test`` (or ``val``);
            an image; or an ``.npz`` with ``images`` or ``train_images`` and so on, and labels likewise. Floats in an
            ``.npz`` are taken as the network sees them, lines and features as well.
        spec: size, channels and preparation; its name and format play no part.
        split: ``train`` or ``test``, where there are both.
        limit: at most so many images, taken evenly from all of them.

    Raises:
        InputError: there is no image, or one is damaged or does not fit.
    """
    if path.suffix == ".npz":
        images, labels = _read_npz(path, split)
        chosen = _evenly(len(images), limit)
        images, labels = images[chosen], None if labels is None else labels[chosen]
        if images.dtype != np.uint8:
            return Samples(images.astype(np.float32), labels, prepared=True)
        images = images[:, None] if images.ndim == 3 else images
        if images.ndim == 4 and images.shape[1] != spec.image_shape[0] == images.shape[3]:
            images = images.transpose(0, 3, 1, 2)
        if spec.resize:
            images = resize_images(np.ascontiguousarray(images), spec.image_shape[1:])
        if images.shape[1:] != spec.image_shape:
            raise InputError(f"{path}: images have shape {images.shape[1:]}, expected {spec.image_shape}; see --size")
        return Samples(prepare_images(spec, images), labels)
    files, classes = _image_files(path, split)
    chosen = _evenly(len(files), limit)
    pixels = np.stack([decode_image(files[one].read_bytes(), spec, str(files[one])) for one in chosen])
    images = prepare_images(spec, pixels)
    if classes is None:
        return Samples(images, None)
    folders = sorted(set(classes))
    return Samples(images, np.array([folders.index(classes[one]) for one in chosen]), tuple(folders))


def _evenly(count: int, limit: int | None) -> np.ndarray:
    """Numbers of the images that are taken."""
    wanted = count if limit is None else min(count, limit)
    return np.arange(wanted) * count // max(wanted, 1)


def _image_files(path: Path, split: str) -> tuple[list[Path], list[str] | None]:
    """The images in the order of their paths; and the folders of their classes if each lies in one."""
    if path.is_file():
        return [path], None
    if not path.is_dir():
        raise InputError(f"{path}: there is no such folder or file of images")
    named = [name for name, part in SPLITS.items() if part == split and (path / name).is_dir()]
    if named and any((path / name).is_dir() for name in SPLITS if SPLITS[name] != split):
        path = path / named[0]
    files = sorted(
        file
        for file in files_below(path)
        if file.name.lower().endswith(SUFFIXES)
        and not any(part.startswith((".", "__MACOSX")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise InputError(f"{path}: there is no image in it; their names end in {', '.join(SUFFIXES)}")
    parts = [file.relative_to(path).parts for file in files]
    if any(len(one) < 2 for one in parts):
        return files, None
    return files, [one[0] for one in parts]


def _read_npz(path: Path, split: str) -> tuple[np.ndarray, np.ndarray | None]:
    letter = {"images": "x", "labels": "y"}

    def find(promised: Mapping[str, object], what: str) -> str | None:
        names = (what, f"{split}_{what}", f"{letter[what]}_{split}")
        return next((name for name in names if name in promised), None)

    def choose(promised: Mapping[str, np.ndarray]) -> Iterable[str]:
        images, labels = find(promised, "images"), find(promised, "labels")
        if images is None:
            raise InputError(
                f"{path}: it holds {', '.join(sorted(promised)) or 'no array'}; expected images or {split}_images"
            )
        shape, kind = promised[images].shape, promised[images].dtype
        axes = (3, 4) if kind == np.uint8 else (2, 3, 4) if kind.kind == "f" else ()
        if len(shape) not in axes or 0 in shape:
            raise InputError(
                f"{path}: {images} are {kind} {shape}, expected uint8 or floats, (N, channels, height, width); "
                "floats may be (N, channels, length) or (N, features), too"
            )
        return [name for name in (images, labels) if name is not None]

    arrays = read_npz(path, choose)
    images, labels = find(arrays, "images"), find(arrays, "labels")
    assert images is not None
    found = None if labels is None else arrays[labels].reshape(-1)
    if found is not None and len(found) != len(arrays[images]):
        raise InputError(f"{path}: {len(arrays[images])} {images}, but {len(found)} {labels}")
    return arrays[images], found


def spec_of(preprocessing: Mapping[str, object]) -> DatasetSpec:
    """How images are prepared, from what :func:`preprocessing_of` stored."""
    base = DatasetSpec(name="images", format="image_folder", image_shape=(1, 1, 1))
    try:
        return replace(base, **preprocessing)  # type: ignore[arg-type]
    except TypeError as error:
        raise InputError(f"preprocessing in the network is not understood ({error}); name size, mean and std") from None


def preprocessing_of(spec: DatasetSpec) -> dict[str, object]:
    """What is stored in a network, so that its images are prepared alike later."""
    names = ("image_shape", "resize", "crop", "levels", "mean", "std", "standardize")
    values = {name: getattr(spec, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
