"""Images in folders, one a class: ``train/cat/1.png``, ``test/dog/2.jpg``; in a folder, a zip or a tar archive."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from negspike.data.foreign import BoundedTarInfo, tar_members
from negspike.data.registry import DatasetSpec
from negspike.data.resize import fit
from negspike.errors import InputError, foreign_file
from negspike.files import files_below

SPLITS = {"train": "train", "test": "test", "val": "test", "validation": "test"}
# By content; without those for which Pillow starts other programs.
_FORMATS = {
    "BMP": (".bmp",),
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "PPM": (".pgm", ".ppm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
SUFFIXES = tuple(suffix for suffixes in _FORMATS.values() for suffix in suffixes)
_MODES = {1: "L", 3: "RGB"}
_LARGEST_FILE = 1 << 28
_LARGEST_IMAGE = 1 << 26  # pixels


@dataclass(frozen=True)
class _Entry:
    split: str
    label: str
    name: str
    size: int


def read_image_folder(spec: DatasetSpec, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Every image below ``train`` and ``test`` (or ``val``), in the order of classes and names.

    A class is a folder; labels count them in alphabetical order. Images become RGB or, with one channel, grey. Files
    whose names are hidden or do not end like an image's are left out.

    Raises:
        InputError: folders are missing, the classes are not as many as the dataset's or not the same in both splits,
            or an image is damaged, too large, not of 8 bits, or of another size while ``resize`` is not set.
    """
    path = files["archive"]
    channels, *size = spec.image_shape
    if channels not in _MODES:
        raise InputError(f"dataset {spec.name}: images in folders have 1 or 3 channels, not {channels}")
    with foreign_file(path, "a folder, or a complete zip or tar archive"), _tree(path) as (sizes, read):
        entries = _entries(path, sizes)
        present = {(entry.split, entry.label) for entry in entries}
        classes = sorted({label for _, label in present})
        for split in ("train", "test"):
            missing = [name for name in classes if (split, name) not in present]
            if missing:
                raise InputError(
                    f"{path}: there is no image in {split}/{missing[0]}, a folder of each class is expected"
                )
        if len(classes) != spec.classes:
            raise InputError(f"{path}: {len(classes)} classes, one a folder; dataset {spec.name} has {spec.classes}")
        arrays: dict[str, np.ndarray] = {}
        numbers = {name: number for number, name in enumerate(classes)}
        places: dict[str, tuple[str, int]] = {}
        for split in ("train", "test"):
            own = sorted((e for e in entries if e.split == split), key=lambda e: (e.label, e.name))
            arrays[f"{split}_images"] = np.empty((len(own), channels, *size), np.uint8)
            arrays[f"{split}_labels"] = np.array([numbers[e.label] for e in own])
            places |= {e.name: (f"{split}_images", place) for place, e in enumerate(own)}
        for entry in entries:  # as they lie in the archive: a compressed one cannot go back
            split_images, place = places[entry.name]
            arrays[split_images][place] = decode_image(read(entry.name), spec, f"{path}: {entry.name}")
    return arrays


@contextmanager
def _tree(path: Path) -> Iterator[tuple[dict[str, int], Callable[[str], bytes]]]:
    """Sizes of all files below a folder or in an archive, by name, and what reads one."""
    if path.is_dir():
        yield (
            {file.relative_to(path).as_posix(): file.stat().st_size for file in files_below(path)},
            lambda name: (path / name).read_bytes(),
        )
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield {entry.filename: entry.file_size for entry in archive.infolist()}, archive.read
    else:
        with tarfile.open(path, "r:*", tarinfo=BoundedTarInfo) as tar:
            members = {member.name: member for member in tar_members(tar, path) if not member.isdir()}
            if link := next((name for name, member in members.items() if member.islnk() or member.issym()), None):
                raise InputError(f"{path}: {link} is a link; pack files, with tar --dereference --hard-dereference")
            members = {name: member for name, member in members.items() if member.isfile()}

            def read(name: str) -> bytes:
                stream = tar.extractfile(members[name])
                content = stream.read() if stream else b""
                if len(content) != members[name].size:
                    raise InputError(f"{path}: member {name} is truncated; download the archive again")
                return content

            yield {name: member.size for name, member in members.items()}, read


def _entries(path: Path, sizes: Mapping[str, int]) -> list[_Entry]:
    """The images among all files; ``test`` before ``val`` where there are both."""
    found: dict[str, list[_Entry]] = {folder: [] for folder in SPLITS}
    roots = set()
    for name, size in sizes.items():
        parts = PurePosixPath(name).parts
        if any(part.startswith((".", "__MACOSX")) for part in parts) or not name.lower().endswith(SUFFIXES):
            continue
        place = next((i for i, part in enumerate(parts) if part in SPLITS), len(parts))
        if len(parts) < place + 3:
            continue
        if size > _LARGEST_FILE:
            raise InputError(f"{path}: {name} has {size} bytes, more than an image needs")
        roots.add(parts[:place])
        found[parts[place]].append(_Entry(SPLITS[parts[place]], parts[place + 1], name, size))
    if len(roots) > 1:
        folders = " and ".join(sorted(str(PurePosixPath(*root)) for root in roots)[:2])
        raise InputError(f"{path}: train and test are in several places, {folders}")
    test = next((found[name] for name in SPLITS if name != "train" and found[name]), [])
    for split, entries in (("train", found["train"]), ("test", test)):
        if not entries:
            raise InputError(
                f"{path}: there is no image in {split}/CLASS/; expected a folder a class in train and test"
            )
    chosen = {entry.name for entry in (*found["train"], *test)}
    by_name = {entry.name: entry for entries in found.values() for entry in entries}
    return [by_name[name] for name in sizes if name in chosen]


def decode_image(content: bytes, spec: DatasetSpec, where: str) -> np.ndarray:
    """An image file as (C, H, W) uint8; :func:`read_image_folder` says what is refused."""
    channels, height, width = spec.image_shape
    with foreign_file(where, "a complete image"), Image.open(io.BytesIO(content), formats=[*_FORMATS]) as image:
        if image.width * image.height > _LARGEST_IMAGE:
            raise InputError(f"{where}: {image.height} x {image.width} pixels are more than {_LARGEST_IMAGE}")
        # Pillow reads colours of 16 bits as RGB and drops the lower half; how they are stored is in its tiles
        if image.mode.startswith(("I", "F")) or any(f";16{order}" in str(image.tile) for order in "BLN"):
            raise InputError(f"{where}: mode {image.mode} of more than 8 bits, expected 8 bits a channel")
        if image.size != (width, height) and not spec.resize:
            raise InputError(
                f"{where}: {image.height} x {image.width} pixels, expected {height} x {width}, unless 'resize' is set"
            )
        converted = image.convert(_MODES[channels])
    if converted.size != (width, height):
        converted = fit(converted, height, width)
    pixels = np.asarray(converted, np.uint8).reshape(height, width, channels)
    return pixels.transpose(2, 0, 1)
