"""The datasets: what their archives hold, how their bytes become images, and how test images are prepared.

CIFAR-10 is read from the binary archive, Fashion-MNIST from its IDX files, the digits from scikit-learn. Archives are
parsed in memory: nothing is unpickled, nothing is extracted.
"""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from negspike.errors import InputError
from negspike.files import atomic_path
from negspike.topology import Shape

CLASSES = 10
# Fashion-MNIST's training images are 47 MB; a damaged header must not make us ask for more memory than this.
_LARGEST_IDX = 1 << 28


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


@dataclass(frozen=True)
class Images:
    """Images and labels of one split.

    Attributes:
        pixels: (N, C, H, W) uint8 as stored.
        labels: (N,) int64, 0 to 9.
    """

    pixels: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Dataset:
    """A dataset in memory.

    Attributes:
        spec: how its images are presented.
        train, validation, test: the splits; validation may hold no image.
        checksum: sha256 of all pixels and labels, whatever archive they came from.
    """

    spec: DatasetSpec
    train: Images
    validation: Images
    test: Images
    checksum: str


def read_archives(spec: DatasetSpec, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Parse the downloaded files of a dataset.

    Args:
        spec: the dataset.
        files: path of each of ``spec.files``.

    Returns:
        ``train_images``, ``test_images`` (N, C, H, W) uint8 and ``train_labels``, ``test_labels`` (N,) uint8.

    Raises:
        InputError: a file is truncated or does not hold what the dataset's format says.
    """
    if spec.name == "digits":
        return _digits()
    if spec.name == "cifar10":
        return _cifar10(Path(files["archive"]))
    return {name: _idx(Path(files[name]), 3 if name.endswith("images") else 1) for name in spec.files}


def save_dataset(spec: DatasetSpec, arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Check parsed arrays and write them as one uncompressed ``.npz``, atomically.

    Raises:
        InputError: shapes or labels that do not belong to the dataset.
    """
    _check_arrays(spec, arrays, spec.name)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]


def load_dataset(name: str, path: Path) -> Dataset:
    """Read a dataset that :func:`save_dataset` wrote.

    Raises:
        InputError: the dataset is unknown or the file cannot be read.
    """
    spec = dataset_spec(name)
    try:
        # an .npz is a zip archive; np.load would take other files too
        with zipfile.ZipFile(path) as archive:
            names = [entry.removesuffix(".npy") for entry in archive.namelist()]
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: np.asarray(stored[key]) for key in names}
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path}: not a dataset written by this workflow ({_one_line(error)}); delete it and run again"
        ) from error
    _check_arrays(spec, arrays, f"{path}: not {name}")
    images, labels = arrays["train_images"], arrays["train_labels"].astype(np.int64)
    test = Images(arrays["test_images"], arrays["test_labels"].astype(np.int64))
    # A dataset cut down for a trial keeps its proportions.
    held_out = min(spec.validation, len(images) // 6)
    split = len(images) - held_out
    return Dataset(
        spec,
        Images(images[:split], labels[:split]),
        Images(images[split:], labels[split:]),
        test,
        _checksum(arrays),
    )


def dataset_spec(name: str) -> DatasetSpec:
    """The spec of a dataset by name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in DATASETS:
        raise InputError(f"dataset {name!r} is unknown: there are {', '.join(DATASETS)}")
    return DATASETS[name]


def _check_arrays(spec: DatasetSpec, arrays: Mapping[str, np.ndarray], where: str) -> None:
    for split in ("train", "test"):
        for name in (f"{split}_images", f"{split}_labels"):
            if name not in arrays:
                raise InputError(f"{where}: array {name} is missing")
            if arrays[name].dtype != np.uint8:
                raise InputError(f"{where}: {name} are {arrays[name].dtype}, expected uint8")
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.shape[1:] != spec.image_shape:
            raise InputError(f"{where}: {split} images have shape {images.shape[1:]}, expected {spec.image_shape}")
        if len(images) == 0:
            raise InputError(f"{where}: there is no {split} image")
        if labels.shape != (len(images),):
            raise InputError(f"{where}: {len(images)} {split} images, but labels of shape {labels.shape}")
        if labels.max() >= CLASSES:
            raise InputError(f"{where}: {split} label {labels.max()} is not a class, which are 0 to {CLASSES - 1}")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _checksum(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _digits() -> dict[str, np.ndarray]:
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


def _cifar10(archive: Path) -> dict[str, np.ndarray]:
    """Only the six members that the format names are read, straight into memory, whatever else the archive holds."""
    record = 1 + 3 * 32 * 32
    folder = "cifar-10-batches-bin"
    wanted = [f"{folder}/data_batch_{i}.bin" for i in range(1, 6)] + [f"{folder}/test_batch.bin"]
    found: dict[str, np.ndarray] = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if name not in wanted:
                    continue
                stream = tar.extractfile(member) if member.isfile() and member.size <= 10_000 * record else None
                if stream is None or member.size % record:
                    raise InputError(
                        f"{archive}: member {name} is not a file of at most 10,000 records of {record} bytes"
                    )
                content = stream.read()
                if len(content) != member.size:
                    raise InputError(f"{archive}: member {name} is truncated; download the archive again")
                found[name] = np.frombuffer(content, np.uint8).reshape(-1, record)
    except FileNotFoundError as error:
        raise InputError(f"{archive}: there is no such file") from error
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(
            f"{archive}: not a complete gzipped tar archive ({_one_line(error)}); download it again"
        ) from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputError(
            f"{archive}: member {missing[0]} is missing; expected CIFAR-10's binary archive, cifar-10-binary.tar.gz"
        )
    train = np.concatenate([found[name] for name in wanted[:5]])
    splits = {"train": train, "test": found[wanted[5]]}
    arrays = {f"{split}_images": rows[:, 1:].reshape(-1, 3, 32, 32) for split, rows in splits.items()}
    return arrays | {f"{split}_labels": rows[:, 0] for split, rows in splits.items()}


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes; images become (N, 1, H, W)."""
    try:
        with gzip.open(path) as stream:
            header = stream.read(4 + 4 * dimensions)
            if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, 8, dimensions)):
                raise InputError(f"{path}: not an IDX file of unsigned bytes with {dimensions} dimensions")
            shape = tuple(int(size) for size in np.frombuffer(header, ">u4", offset=4))
            expected = prod(shape)
            if expected > _LARGEST_IDX:
                raise InputError(f"{path}: its header promises {expected} bytes of data, more than any dataset has")
            content = stream.read(expected + 1)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a complete gzip file ({_one_line(error)}); download it again") from error
    if len(content) != expected:
        held = "more" if len(content) > expected else len(content)
        raise InputError(f"{path}: its header promises {expected} bytes of data, it holds {held}")
    array = np.frombuffer(content, np.uint8).reshape(shape)
    return array[:, None] if dimensions == 3 else array
