"""Data sets of one's own: every format, made as its inventors make it, and what is damaged, hostile or inconsistent."""

from __future__ import annotations

import gzip
import io
import multiprocessing
import resource
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import OneLine, idx_bytes, write_cifar10, write_tar
from PIL import Image
from scipy.io import savemat

from negspike.data.archives import READERS, read_archives
from negspike.data.dataset import load_dataset, save_dataset
from negspike.data.registry import DATASETS, FORMATS, DatasetSpec
from negspike.errors import InputError

CIFAR100, SVHN, MNIST = DATASETS["cifar100"], DATASETS["svhn"], DATASETS["mnist"]
FLOWERS = DatasetSpec(name="flowers", format="image_folder", image_shape=(3, 6, 8), classes=2)
NPZ = DatasetSpec(name="blood", format="npz", image_shape=(3, 6, 8), classes=4)
RANDOM = np.random.default_rng(3)


def test_every_format_has_a_reader() -> None:
    assert READERS.keys() == FORMATS.keys()


def round_trip(spec: DatasetSpec, files: dict[str, Path], folder: Path) -> dict[str, np.ndarray]:
    """Read, written and read again; the arrays."""
    arrays = read_archives(spec, files)
    save_dataset(spec, arrays, folder / "stored.npz")
    dataset = load_dataset(spec, folder / "stored.npz")
    pixels = np.concatenate([dataset.train.pixels, dataset.validation.pixels])
    labels = np.concatenate([dataset.train.labels, dataset.validation.labels])
    assert np.array_equal(pixels, arrays["train_images"]) and np.array_equal(dataset.test.pixels, arrays["test_images"])
    assert np.array_equal(labels, arrays["train_labels"]) and np.array_equal(dataset.test.labels, arrays["test_labels"])
    return arrays


def pixels(*shape: int) -> np.ndarray:
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


# MNIST, CIFAR-100, SVHN


def test_mnist(tmp_path: Path) -> None:
    files, expected = {}, {}
    for split, count in (("train", 12), ("test", 5)):
        expected[f"{split}_images"] = pixels(count, 28, 28)
        expected[f"{split}_labels"] = np.arange(count, dtype=np.uint8) % 10
    for name, array in expected.items():
        files[name] = tmp_path / name
        files[name].write_bytes(gzip.compress(idx_bytes(array)))
    arrays = round_trip(MNIST, files, tmp_path)
    assert np.array_equal(arrays["train_images"][:, 0], expected["train_images"])
    assert np.array_equal(arrays["test_labels"], expected["test_labels"])
    assert len(load_dataset("mnist", tmp_path / "stored.npz").validation.labels) == 2


def cifar100(folder: Path, fine: int = 99) -> Path:
    """Records of a coarse label, a fine label and 3,072 pixels."""
    rows = pixels(7, 3074)
    rows[:, 0] %= 20
    rows[:, 1] = [0, 50, fine, 1, 2, 3, 4]
    members = [("cifar-100-binary/test.bin", rows[5:].tobytes()), ("cifar-100-binary/train.bin", rows[:5].tobytes())]
    np.save(folder / "rows.npy", rows)
    return write_tar(folder / "cifar100.gz", [("cifar-100-binary/fine_label_names.txt", b"apple\n"), *members])


def test_cifar100(tmp_path: Path) -> None:
    arrays = round_trip(CIFAR100, {"archive": cifar100(tmp_path)}, tmp_path)
    rows = np.load(tmp_path / "rows.npy")
    assert arrays["train_labels"].tolist() == [0, 50, 99, 1, 2], "the fine labels"
    assert arrays["train_labels"].dtype == np.uint8
    assert np.array_equal(arrays["test_images"].reshape(2, -1), rows[5:, 2:])
    assert arrays["train_images"][1, 2, 30, 7] == rows[1, 2 + 2 * 1024 + 30 * 32 + 7]


def test_wrong_archives_of_cifar100(tmp_path: Path) -> None:
    with OneLine(InputError, "train label 100 is not a class", "0 to 99"):
        read_archives(CIFAR100, {"archive": cifar100(tmp_path, fine=100)})
    with OneLine(InputError, "cifar-100-binary/train.bin is missing", "cifar-100-binary.tar.gz"):
        read_archives(CIFAR100, {"archive": write_cifar10(tmp_path / "other.gz")[0]})
    path = write_tar(tmp_path / "part.gz", [("cifar-100-binary/train.bin", bytes(3073))])
    with OneLine(InputError, "cifar-100-binary/train.bin", "at most 50,000 records of 3074 bytes"):
        read_archives(CIFAR100, {"archive": path})


def svhn(folder: Path, **changed: Any) -> dict[str, Path]:
    """Matrices as MATLAB writes them: X (32, 32, 3, N), y (N, 1) from 1 to 10."""
    files = {}
    for split, count in (("train", 11), ("test", 4)):
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]
        values = {"X": pixels(32, 32, 3, count), "y": labels} | (changed if split == "test" else {})
        files[split] = folder / f"{split}_32x32.mat"
        savemat(files[split], {name: value for name, value in values.items() if value is not None}, do_compression=True)
    return files


def test_svhn(tmp_path: Path) -> None:
    from scipy.io import loadmat

    files = svhn(tmp_path)
    arrays = round_trip(SVHN, files, tmp_path)
    images = loadmat(files["train"])["X"]
    assert arrays["train_images"].shape == (11, 3, 32, 32)
    assert arrays["train_images"][5, 2, 30, 7] == images[30, 7, 2, 5]
    assert arrays["train_labels"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1], "10 stands for 0"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"X": None}, ["X is absent"]),
        ({"X": np.zeros((32, 32, 3, 4))}, ["X is double (32, 32, 3, 4)", "uint8"]),
        ({"X": np.zeros((32, 32, 1, 4), np.uint8)}, ["(32, 32, 1, 4)", "(32, 32, 3, N)"]),
        ({"y": None}, ["y is absent", "(4, 1)"]),
        ({"y": np.ones((5, 1), np.uint8)}, ["y is", "(5, 1)", "(4, 1)"]),
        ({"y": np.full((4, 1), 11, np.uint8)}, ["test label 11 is not a class"]),
        ({"X": np.array([{"a": 1}], object)}, ["X is"]),
    ],
)
def test_wrong_files_of_svhn(changed: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    with OneLine(InputError, *words):
        read_archives(SVHN, svhn(tmp_path, **changed))


@pytest.mark.parametrize("part", [0, 1, 100, 128, 140, 0.5, 0.99])
def test_a_truncated_file_of_svhn(part: float, tmp_path: Path) -> None:
    files = svhn(tmp_path)
    content = files["train"].read_bytes()
    files["train"].write_bytes(content[: int(part if isinstance(part, int) else part * len(content))])
    with OneLine(InputError, str(files["train"])):
        read_archives(SVHN, files)


# Arrays in an .npz


def blood(labels: Any = np.uint8, **changed: Any) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for split, count in (("train", 9), ("test", 4), ("val", 3)):
        arrays[f"{split}_images"] = pixels(count, 3, 6, 8)
        arrays[f"{split}_labels"] = (np.arange(count) % 4).astype(labels)
    return {name: value for name, value in (arrays | changed).items() if value is not None}


def npz(folder: Path, arrays: dict[str, Any]) -> dict[str, Path]:
    np.savez_compressed(folder / "blood.npz", **arrays)
    return {"archive": folder / "blood.npz"}


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize("names", ["medmnist", "keras"])
@pytest.mark.parametrize("labels", [np.uint8, np.int64])
def test_an_npz(order: str, names: str, labels: type, tmp_path: Path) -> None:
    arrays = blood(labels)
    given = {
        name: array.transpose(0, 2, 3, 1) if array.ndim == 4 and order == "NHWC" else array
        for name, array in arrays.items()
    }
    if names == "keras":
        given = {("x" if "images" in name else "y") + f"_{name.split('_')[0]}": array for name, array in given.items()}
    else:
        given = {name: array[:, None] if array.ndim == 1 else array for name, array in given.items()}
    found = round_trip(NPZ, npz(tmp_path, given), tmp_path)
    assert found.keys() == {"train_images", "train_labels", "test_images", "test_labels"}
    assert all(np.array_equal(found[name], arrays[name]) for name in found)
    assert found["test_labels"].dtype == np.uint8


def test_an_npz_of_grey_images(tmp_path: Path) -> None:
    spec = replace(NPZ, image_shape=(1, 6, 8))
    arrays = blood(train_images=pixels(9, 6, 8), test_images=pixels(4, 6, 8))
    found = round_trip(spec, npz(tmp_path, arrays), tmp_path)
    assert np.array_equal(found["train_images"][:, 0], arrays["train_images"])


def test_more_than_256_classes(tmp_path: Path) -> None:
    spec = replace(NPZ, classes=1000)
    arrays = blood(np.int32, train_labels=np.arange(991, 1000))
    found = round_trip(spec, npz(tmp_path, arrays), tmp_path)
    assert found["train_labels"].dtype == np.uint16 and found["train_labels"].max() == 999


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"test_images": None}, ["it holds test_labels, train_images", "expected train_images", "x_train"]),
        ({"test_images": np.zeros((4, 3, 6, 8), np.float32)}, ["test_images are float32", "uint8"]),
        ({"test_images": pixels(4, 3, 6, 9)}, ["(4, 3, 6, 9)", "(N, 3, 6, 8)", "'resize'"]),
        ({"test_images": pixels(4, 6, 8)}, ["(4, 6, 8)", "(N, 3, 6, 8)"]),
        ({"test_labels": np.zeros(4)}, ["test_labels are float64", "integers"]),
        ({"test_labels": np.array([0, 1, -1, 2])}, ["test label -1 is not a class", "0 to 3"]),
        ({"test_labels": np.array([0, 1, 256, 2])}, ["test label 256 is not a class"]),
        ({"test_labels": np.zeros(3, np.uint8)}, ["4 test images", "labels of shape (3,)"]),
        ({"test_labels": np.zeros((4, 2), np.uint8)}, ["labels of shape (4, 2)"]),
        ({"test_labels": np.array([{}] * 4, object)}, ["test_labels holds objects", "unpickled"]),
        ({"test_images": pixels(0, 3, 6, 8), "test_labels": np.zeros(0, np.uint8)}, ["there is no test image"]),
    ],
)
def test_a_wrong_npz(changed: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    with OneLine(InputError, "blood", *words):
        round_trip(NPZ, npz(tmp_path, blood(**changed)), tmp_path)


def npy(shape: str, dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    "content",
    [
        npy(f"(1{'0' * 30}, 3, 6, 8)"),
        npy("(1000000000000, 3, 6, 8)"),
        npy("(100, 3, 6, 8)") + bytes(100),
        npy("(-1, 3, 6, 8)"),
        npy("(4, 3, 6, 8)")[:40],
        b"\x93NUMPY\x01\x00\x05\x00{'a':",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100),
        b"text",
        b"",
    ],
)
@pytest.mark.parametrize("load", [load_dataset, lambda spec, path: read_archives(spec, {"archive": path})])
def test_a_made_up_header_in_an_npz(
    content: bytes, load: Callable[[DatasetSpec, Path], object], tmp_path: Path
) -> None:
    path = npz(tmp_path, blood())["archive"]
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, old in members.items():
            archive.writestr(name, content if name == "test_images.npy" else old)
    with OneLine(InputError, str(path)):
        load(NPZ, path)


# Images in folders

FLOWER_FILES = ["train/rose/b.png", "train/rose/a.JPG", "train/aster/2/z.bmp", "test/rose/x.png", "test/aster/y.png"]


def image_bytes(name: str, color: int, size: tuple[int, int] = (8, 6), mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    image = Image.new("RGB", size, (color, color // 2, 255 - color)).convert(mode)
    image.save(stream, "JPEG" if name.lower().endswith("jpg") else name.rsplit(".", 1)[-1].upper())
    return stream.getvalue()


def flowers(names: list[str] = FLOWER_FILES, **changed: bytes) -> dict[str, bytes]:
    return {name: image_bytes(name, 40 * number) for number, name in enumerate(names)} | changed


def as_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def as_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def as_tar(path: Path, files: dict[str, bytes]) -> Path:
    return write_tar(path, list(files.items()))


def as_plain_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.write_bytes(gzip.decompress(as_tar(path, files).read_bytes()))
    return path


PACKERS = [as_folder, as_zip, as_tar, as_plain_tar]
Pack = Callable[[Path, dict[str, bytes]], Path]


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("root", ["", "flowers/", "./"])
@pytest.mark.parametrize("turned", [False, True])
def test_images_in_folders(pack: Pack, root: str, turned: bool, tmp_path: Path) -> None:
    """Whatever the order and the wrapping, the images are those in the order of classes and names."""
    files = flowers()
    junk = {
        "README": b"x",
        "train/rose/.hidden.png": b"x",
        "train/rose/notes.txt": b"x",
        "__MACOSX/train/rose/b.png": b"x",
    }
    members = {root + name: content for name, content in (files | junk).items()}
    path = pack(tmp_path / "flowers", dict(reversed(members.items())) if turned else members)
    arrays = round_trip(FLOWERS, {"archive": path}, tmp_path)
    expected = {
        "train": ["train/aster/2/z.bmp", "train/rose/a.JPG", "train/rose/b.png"],
        "test": ["test/aster/y.png", "test/rose/x.png"],
    }
    for split, names in expected.items():
        decoded = [np.asarray(Image.open(io.BytesIO(files[name])).convert("RGB")).transpose(2, 0, 1) for name in names]
        assert np.array_equal(arrays[f"{split}_images"], decoded)
        assert arrays[f"{split}_labels"].tolist() == ["rose" in name for name in names]


def test_val_is_the_test_split_unless_there_is_one(tmp_path: Path) -> None:
    files = flowers([name.replace("test/", "val/") for name in FLOWER_FILES])
    arrays = read_archives(FLOWERS, {"archive": as_zip(tmp_path / "a.zip", files)})
    assert len(arrays["test_labels"]) == 2
    both = files | flowers(["test/rose/only.png", "test/aster/only.png", "test/aster/more.png"])
    arrays = read_archives(FLOWERS, {"archive": as_zip(tmp_path / "b.zip", both)})
    assert len(arrays["test_labels"]) == 3


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "1", "LA"])
def test_grey_images_and_other_modes(mode: str, tmp_path: Path) -> None:
    files = {name.rsplit(".", 1)[0] + ".png": b"" for name in FLOWER_FILES}
    files = {name: image_bytes(name, 255, mode=mode) for name in files}
    for channels, wanted in ((1, "L"), (3, "RGB")):
        spec = replace(FLOWERS, image_shape=(channels, 6, 8))
        arrays = read_archives(spec, {"archive": as_folder(tmp_path / mode, files)})
        assert arrays["train_images"].shape == (3, channels, 6, 8)
        image = Image.open(io.BytesIO(files["test/aster/y.png"])).convert(wanted)
        assert arrays["test_images"][0, :, 2, 3].tolist() == np.atleast_1d(np.asarray(image)[2, 3]).tolist()


def test_images_of_any_size_are_brought_to_one(tmp_path: Path) -> None:
    """Scaled to cover and cut at both sides: a picture with a mark in its middle keeps it there."""
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 25:35] = 255
    stream = io.BytesIO()
    Image.fromarray(wide).save(stream, "PNG")
    files = flowers() | {"test/aster/y.png": stream.getvalue()}
    path = as_folder(tmp_path / "flowers", files)
    with OneLine(InputError, "test/aster/y.png", "20 x 60", "6 x 8", "'resize'"):
        read_archives(FLOWERS, {"archive": path})
    arrays = round_trip(replace(FLOWERS, resize=True), {"archive": path}, tmp_path)
    middle = arrays["test_images"][0].astype(int)
    assert middle.shape == (3, 6, 8)
    assert (middle[:, :, 3:5] == 255).all() and (middle[:, :, [0, 7]] == 0).all()
    assert np.abs(middle - middle[:, :, ::-1]).max() <= 1


@pytest.mark.parametrize("size", [(32, 32), (14, 20)])
def test_arrays_are_resized_as_images_are(size: tuple[int, int], tmp_path: Path) -> None:
    files = flowers()
    arrays = blood(
        **{
            f"{s}_images": read_archives(FLOWERS, {"archive": as_folder(tmp_path / "f", files)})[f"{s}_images"]
            for s in ("train", "test")
        }
    )
    arrays |= {"train_labels": np.array([0, 1, 1]), "test_labels": np.array([0, 1])}
    shape = (3, *size)
    one = read_archives(replace(NPZ, image_shape=shape, resize=True), npz(tmp_path, arrays))
    other = read_archives(replace(FLOWERS, image_shape=shape, resize=True), {"archive": tmp_path / "f"})
    assert np.array_equal(one["train_images"], other["train_images"])


def png16() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((6, 8), np.uint16)).save(stream, "PNG")
    return stream.getvalue()


def png48() -> bytes:
    """Three colours of 16 bits, which Pillow reads but does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0))
    rows = 6 * (b"\0" + 24 * b"\x12\xff")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("changed", "removed", "words"),
    [
        ({}, "test/", ["no image in test/CLASS/"]),
        ({}, "train/", ["no image in train/CLASS/"]),
        ({}, "test/rose", ["no image in test/rose"]),
        ({"test/tulip/a.png": image_bytes("a.png", 3)}, "", ["no image in train/tulip"]),
        ({f"{split}/tulip/a.png": image_bytes("a.png", 3) for split in ("train", "test")}, "", ["3 classes", "has 2"]),
        ({"old/test/rose/a.png": image_bytes("a.png", 3)}, "", ["several places", ". and old"]),
        ({"test/rose/x.png": image_bytes("x.png", 3)[:-30]}, "", ["test/rose/x.png: not a complete image"]),
        ({"test/rose/x.png": b""}, "", ["test/rose/x.png: not a complete image"]),
        ({"test/rose/x.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n"}, "", ["test/rose/x.png: not a"]),
        ({"test/rose/x.png": png16()}, "", ["test/rose/x.png: mode I;16", "8 bits"]),
        ({"test/rose/x.png": png48()}, "", ["test/rose/x.png: mode RGB of more than 8 bits"]),
    ],
)
@pytest.mark.parametrize("pack", PACKERS)
def test_wrong_folders(changed: dict[str, bytes], removed: str, words: list[str], pack: Pack, tmp_path: Path) -> None:
    files = {name: content for name, content in flowers().items() if not removed or not name.startswith(removed)}
    path = pack(tmp_path / "flowers", files | changed)
    with OneLine(InputError, str(path), *words):
        read_archives(FLOWERS, {"archive": path})


def test_folders_that_are_not_there_or_no_archive(tmp_path: Path) -> None:
    with OneLine(InputError, "there is no such file"):
        read_archives(FLOWERS, {"archive": tmp_path / "absent"})
    (tmp_path / "text").write_text("text")
    with OneLine(InputError, "text: not a folder, or a complete zip or tar archive"):
        read_archives(FLOWERS, {"archive": tmp_path / "text"})
    with OneLine(InputError, "1 or 3 channels, not 2"):
        read_archives(replace(FLOWERS, image_shape=(2, 6, 8)), {"archive": tmp_path / "text"})


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_in_a_tar_is_not_dropped(kind: bytes, tmp_path: Path) -> None:
    link = tarfile.TarInfo("train/rose/linked.png")
    link.type, link.linkname = kind, FLOWER_FILES[0]
    path = write_tar(tmp_path / "flowers.tar.gz", [*flowers().items(), (link, b"")])
    with OneLine(InputError, str(path), "train/rose/linked.png is a link", "--dereference"):
        read_archives(FLOWERS, {"archive": path})


@pytest.mark.parametrize("pack", [as_zip, as_tar])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_truncated_archive_of_images(pack: Pack, part: float, tmp_path: Path) -> None:
    path = pack(tmp_path / "flowers", flowers())
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with OneLine(InputError, str(path)):
        read_archives(FLOWERS, {"archive": path})


# What takes memory without limit


def tar_with_long_name(path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 25 << 24
    pour(path, info.tobuf(tarfile.GNU_FORMAT))


def pour(path: Path, start: bytes) -> None:
    """400 MB of zeros behind a start, compressed."""
    with gzip.open(path, "wb", 1) as stream:
        stream.write(start)
        for _ in range(25):
            stream.write(bytes(1 << 24))


def npz_of_zeros(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for split in ("train", "test"):
            archive.writestr(f"{split}_labels.npy", npy("(3000000,)") + bytes(3_000_000))
            with archive.open(f"{split}_images.npy", "w", force_zip64=True) as stream:
                stream.write(npy("(3000000, 3, 6, 8)"))
                for _ in range(144):
                    stream.write(bytes(3_000_000))


def idx_of_zeros(path: Path) -> None:
    pour(path, idx_bytes(np.zeros(0, np.uint8), (25 << 14, 32, 32)))


def png_of_zeros(path: Path) -> None:
    header = b"IHDR" + (20_000).to_bytes(4) * 2 + bytes((8, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4) + header + zlib.crc32(header).to_bytes(4)
    data = b"IDAT" + zlib.compress(bytes(60_001 * 20_000), 1)
    png += (len(data) - 4).to_bytes(4) + data + zlib.crc32(data).to_bytes(4)
    as_zip(path, flowers() | {"test/rose/x.png": png})


BOMBS: dict[str, tuple[Callable[[Path], None], DatasetSpec, bool]] = {
    "name": (tar_with_long_name, DATASETS["cifar10"], False),
    "folder name": (tar_with_long_name, FLOWERS, False),
    "npz": (npz_of_zeros, NPZ, False),
    "stored": (npz_of_zeros, NPZ, True),
    "idx": (idx_of_zeros, MNIST, False),
    "png": (png_of_zeros, FLOWERS, False),
}


def read_bombs(folder: Path) -> None:
    """In a process of its own: exits with 1 if one was not refused, or took more than 150 MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind, (_, spec, stored) in BOMBS.items():
        with OneLine(InputError, kind):
            if stored:
                load_dataset(spec, folder / kind)
            else:
                read_archives(spec, dict.fromkeys(spec.files, folder / kind))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000, kind


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in kilobytes on Linux")
def test_small_files_take_little_memory(tmp_path: Path) -> None:
    for kind, (write, _, _) in BOMBS.items():
        write(tmp_path / kind)
        assert (tmp_path / kind).stat().st_size < 7_000_000
    process = multiprocessing.get_context("spawn").Process(target=read_bombs, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("spec", [DATASETS["cifar10"], FLOWERS])
def test_a_tar_of_nothing_but_headers(spec: DatasetSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes half a byte on the disk, and a thousand times as much in memory."""
    monkeypatch.setattr("negspike.data.foreign._HARMLESS_MEMBERS", 100)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(tarfile.TarInfo("x").tobuf() * 1000))
    with OneLine(InputError, str(path), "too many for its size"):
        read_archives(spec, {"archive": path})


@pytest.mark.parametrize(
    "headers",
    [{"GNU.sparse.map": "abc"}, {"GNU.sparse.size": "xyz"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}],
)
@pytest.mark.parametrize("spec", [DATASETS["cifar10"], FLOWERS])
def test_malformed_attributes_of_a_tar(headers: dict[str, str], spec: DatasetSpec, tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
        info.size, info.pax_headers = 3073, headers
        tar.addfile(info, io.BytesIO(bytes(3073)))
    with OneLine(InputError, str(path)):
        read_archives(spec, {"archive": path})


# Specs


def test_lists_are_taken_for_tuples() -> None:
    values: dict[str, Any] = {"image_shape": [3, 6, 8], "crop": [4, 8], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3]}
    spec = DatasetSpec(name="own", format="npz", **values)
    assert spec.input_shape == (3, 4, 8) and spec.mean == (0.5, 0.4, 0.3)
    assert hash(spec) == hash(replace(spec))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"format": "lmdb"}, ["'lmdb' is unknown", "image_folder"]),
        ({"augmentation": "cutout"}, ["'cutout' is unknown", "crop_mirror"]),
        ({"image_shape": (3, 6)}, ["(3, 6)", "channels, height and width"]),
        ({"image_shape": (3, 0, 8)}, ["(3, 0, 8)", "at least 1"]),
        ({"crop": (7, 8)}, ["(7, 8)", "height of 1 to 6", "width of 1 to 8"]),
        ({"crop": (6, 0)}, ["(6, 0)"]),
        ({"classes": 1}, ["classes is 1", "2 to 65536"]),
        ({"classes": 65_537}, ["classes is 65537"]),
        ({"classes": 2.5}, ["classes is 2.5", "whole numbers"]),
        ({"classes": True}, ["classes is True", "whole numbers"]),
        ({"image_shape": (3, 6.5, 8)}, ["image_shape is (3, 6.5, 8)", "whole numbers"]),
        ({"image_shape": "368"}, ["image_shape is '368'", "whole numbers"]),
        ({"mean": ("0.5",) * 3, "std": (0.5,) * 3}, ["mean is ('0.5'", "numbers"]),
        ({"levels": 0}, ["levels is 0", "1 to"]),
        ({"padding": -1}, ["padding is -1"]),
        ({"padding": 2}, ["padding is 2", "'none' does not crop"]),
        ({"validation": -1}, ["validation is -1"]),
        ({"mean": (0.5,) * 3}, ["3 mean and 0 std"]),
        ({"mean": (0.5,), "std": (0.5,)}, ["1 mean and 1 std", "every channel, 3"]),
        ({"mean": (0.5,) * 3, "std": (0.5, 0.5, 0.0)}, ["std 0.0", "more than 0"]),
        ({"mean": (0.5,) * 3, "std": (0.5, 0.5, float("nan"))}, ["std nan", "finite"]),
        ({"mean": (125.0,) * 3, "std": (0.2,) * 3}, ["values of 256 or more", "pixels / levels"]),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3, "standardize": True}, ["exclude each other"]),
    ],
)
def test_a_wrong_spec(changed: dict[str, Any], words: list[str]) -> None:
    with OneLine(InputError, "dataset blood", *words):
        replace(NPZ, **changed)
