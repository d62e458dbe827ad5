"""Datasets: known pixels through every format, damaged and hostile files, and the bits of a prepared image."""

from __future__ import annotations

import gzip
import pickle
import tarfile
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    CIFAR_MEMBERS,
    SHARED,
    OneLine,
    cifar_records,
    idx_bytes,
    needs_shared,
    write_cifar10,
    write_fashion_mnist,
    write_tar,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from negspike.data.archives import read_archives
from negspike.data.dataset import Dataset, load_dataset, save_dataset
from negspike.data.images import prepare_images
from negspike.data.registry import DATASETS, DatasetSpec, dataset_spec
from negspike.errors import InputError

CIFAR10, FASHION, DIGITS = (DATASETS[name] for name in ("cifar10", "fashion_mnist", "digits"))


# Formats


def test_cifar10_round_trip(tmp_path: Path) -> None:
    archive, batches = write_cifar10(tmp_path / "archive.gz")
    save_dataset(CIFAR10, read_archives(CIFAR10, {"archive": archive}), tmp_path / "cifar10.npz")
    dataset = load_dataset("cifar10", tmp_path / "cifar10.npz")
    train = np.concatenate(batches[:5])
    for images, rows in ((dataset.train, train), (dataset.test, batches[5])):
        assert images.labels.tolist() == rows[:, 0].tolist()
        assert images.labels.dtype == np.int64
        # channel, row, column of record 1 by the format's own arithmetic
        assert images.pixels[1, 2, 30, 7] == rows[1, 1 + 2 * 1024 + 30 * 32 + 7]
        assert images.pixels.reshape(len(rows), -1).tobytes() == rows[:, 1:].tobytes()
    assert len(dataset.validation.labels) == 0


def test_cifar10_members_in_any_order_and_with_a_leading_dot(tmp_path: Path) -> None:
    archive, batches = write_cifar10(tmp_path / "archive.gz")
    turned = [("./" + name, batch.tobytes()) for name, batch in zip(CIFAR_MEMBERS, batches, strict=True)][::-1]
    other = write_tar(tmp_path / "other.gz", turned)
    expected, found = (read_archives(CIFAR10, {"archive": path}) for path in (archive, other))
    assert all(np.array_equal(expected[name], found[name]) for name in expected)


def test_fashion_mnist_round_trip(tmp_path: Path) -> None:
    paths, arrays = write_fashion_mnist(tmp_path)
    save_dataset(FASHION, read_archives(FASHION, paths), tmp_path / "fashion_mnist.npz")
    dataset = load_dataset("fashion_mnist", tmp_path / "fashion_mnist.npz")
    pixels = np.concatenate([dataset.train.pixels, dataset.validation.pixels])
    assert pixels.shape == (12, 1, 28, 28)
    assert np.array_equal(pixels[:, 0], arrays["train_images"])
    assert np.array_equal(dataset.test.pixels[:, 0], arrays["test_images"])
    assert np.array_equal(dataset.test.labels, arrays["test_labels"])
    assert (len(dataset.train.labels), len(dataset.validation.labels)) == (10, 2)


def test_digits(digits: Dataset) -> None:
    assert (len(digits.train.labels), len(digits.validation.labels), len(digits.test.labels)) == (1438, 0, 359)
    assert digits.train.pixels.shape[1:] == DIGITS.image_shape
    assert digits.train.pixels.max() == DIGITS.levels
    assert set(digits.test.labels.tolist()) == set(range(10))


def test_validation_holds_out_the_last_10_000_of_60_000(tmp_path: Path) -> None:
    labels = (np.arange(60_000) % 10).astype(np.uint8)
    images = np.zeros((60_000, 1, 28, 28), np.uint8)
    images[:, 0, 0, 0] = np.arange(60_000) % 251
    arrays = {"train_images": images, "train_labels": labels, "test_images": images[:5], "test_labels": labels[:5]}
    save_dataset(FASHION, arrays, tmp_path / "fashion_mnist.npz")
    dataset = load_dataset("fashion_mnist", tmp_path / "fashion_mnist.npz")
    assert (len(dataset.train.labels), len(dataset.validation.labels)) == (50_000, 10_000)
    assert np.array_equal(dataset.validation.pixels, images[50_000:])


def test_validation_of_ones_own_data_is_taken_evenly(tmp_path: Path) -> None:
    """Folders lie sorted by class: the last images would be those of one class."""
    spec = DatasetSpec(name="own", format="npz", image_shape=(1, 1, 1), classes=3, validation=15)
    labels = np.repeat(np.arange(3, dtype=np.uint8), 30)
    images = np.arange(90, dtype=np.uint8)[:, None, None, None]
    arrays = {"train_images": images, "train_labels": labels, "test_images": images[:3], "test_labels": labels[:3]}
    save_dataset(spec, arrays, tmp_path / "own.npz")
    dataset = load_dataset(spec, tmp_path / "own.npz")
    assert np.bincount(dataset.validation.labels).tolist() == [5, 5, 5]
    assert np.bincount(dataset.train.labels).tolist() == [25, 25, 25]
    both = np.concatenate([dataset.train.pixels, dataset.validation.pixels]).ravel()
    assert sorted(both) == [*range(90)] and (np.diff(dataset.train.pixels.ravel().astype(int)) > 0).all()
    with OneLine(InputError, "datasets.own.validation' is 90", "90 training images"):
        load_dataset(replace(spec, validation=90), tmp_path / "own.npz")


def test_an_archive_whose_checksum_is_wrong(tmp_path: Path) -> None:
    """That of gzip, which stands behind the last byte that the members need."""
    archive, _ = write_cifar10(tmp_path / "archive.gz")
    content = archive.read_bytes()
    for wrong in (content[:-4], content[:-8] + bytes(4) + content[-4:]):
        archive.write_bytes(wrong)
        with OneLine(InputError, "archive.gz", "not a complete gzipped tar archive"):
            read_archives(CIFAR10, {"archive": archive})


def test_the_checksum_is_that_of_the_content(tmp_path: Path) -> None:
    checksums = []
    for name, level in (("a", 1), ("b", 9)):
        archive, _ = write_cifar10(tmp_path / f"{name}.gz")
        archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()), level, mtime=level))
        arrays = read_archives(CIFAR10, {"archive": archive})
        save_dataset(CIFAR10, arrays, tmp_path / f"{name}.npz")
        checksums.append(load_dataset("cifar10", tmp_path / f"{name}.npz").checksum)
    assert checksums[0] == checksums[1]
    changed = {key: value.copy() for key, value in arrays.items()}
    changed["test_images"][0, 0, 0, 0] ^= 1
    save_dataset(CIFAR10, changed, tmp_path / "c.npz")
    assert load_dataset("cifar10", tmp_path / "c.npz").checksum != checksums[0]


@needs_shared
@pytest.mark.skipif(not (SHARED / "data" / "fashion-mnist").is_dir(), reason="the real Fashion-MNIST files are absent")
def test_the_real_test_images_of_fashion_mnist() -> None:
    folder = SHARED / "data" / "fashion-mnist"
    files = {
        "test_images": "t10k-images-idx3-ubyte.gz",
        "test_labels": "t10k-labels-idx1-ubyte.gz",
        "train_images": "t10k-images-idx3-ubyte.gz",
        "train_labels": "t10k-labels-idx1-ubyte.gz",
    }
    arrays = read_archives(FASHION, {name: folder / file for name, file in files.items()})
    assert arrays["test_images"].shape == (10_000, 1, 28, 28)
    assert np.bincount(arrays["test_labels"]).tolist() == [1000] * 10


# Damaged and hostile files


def read_cifar10(path: Path) -> dict[str, np.ndarray]:
    return read_archives(CIFAR10, {"archive": path})


@pytest.mark.parametrize("part", [0, 1, 10, 400, 0.5, 0.9, 0.999])
def test_a_truncated_archive(part: float, tmp_path: Path) -> None:
    archive, _ = write_cifar10(tmp_path / "archive.gz")
    content = archive.read_bytes()
    archive.write_bytes(content[: int(part if isinstance(part, int) else part * len(content))])
    with OneLine(InputError, str(archive)):
        read_cifar10(archive)


def test_a_tar_that_ends_within_a_member(tmp_path: Path) -> None:
    archive, _ = write_cifar10(tmp_path / "archive.gz")
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes())[:9000]))
    with OneLine(InputError, str(archive)):
        read_cifar10(archive)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=600), st.booleans())
def test_an_archive_of_anything(tmp_path_factory: pytest.TempPathFactory, content: bytes, compress: bool) -> None:
    path = tmp_path_factory.mktemp("any") / "archive.gz"
    path.write_bytes(gzip.compress(content) if compress else content)
    with OneLine(InputError, str(path)):
        read_cifar10(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with OneLine(InputError, "there is no such file"):
        read_cifar10(tmp_path / "archive.gz")
    with OneLine(InputError, "there is no such file"):
        read_archives(FASHION, {name: tmp_path / name for name in FASHION.files})
    with OneLine(InputError, "there is no such file"):
        load_dataset("cifar10", tmp_path / "cifar10.npz")


def test_a_missing_member(tmp_path: Path) -> None:
    members = [(name, cifar_records(2, 0).tobytes()) for name in CIFAR_MEMBERS if "batch_3" not in name]
    with OneLine(InputError, "data_batch_3.bin is missing", "cifar-10-binary.tar.gz"):
        read_cifar10(write_tar(tmp_path / "archive.gz", members))


def test_nothing_is_extracted_and_a_member_outside_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    monkeypatch.chdir(folder)
    good = [(name, cifar_records(2, 0).tobytes()) for name in CIFAR_MEMBERS]
    hostile = [("../evil", b"evil"), (str(tmp_path / "absolute"), b"evil"), (f"../{CIFAR_MEMBERS[0]}", b"evil")]
    archive = write_tar(folder / "archive.gz", [*hostile, *good])
    assert len(read_cifar10(archive)["train_labels"]) == 10
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["archive.gz", "inside"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_member_that_is_no_file(kind: bytes, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(cifar_records(2, 0).tobytes())
    link = tarfile.TarInfo(CIFAR_MEMBERS[1])
    link.type, link.linkname = kind, str(secret)
    archive = write_tar(tmp_path / "archive.gz", [(CIFAR_MEMBERS[0], secret.read_bytes()), (link, b"")])
    with OneLine(InputError, "data_batch_2.bin is not a file"):
        read_cifar10(archive)


def test_a_member_of_a_part_of_a_record(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "archive.gz", [(CIFAR_MEMBERS[0], bytes(3073 * 2 - 1))])
    with OneLine(InputError, "data_batch_1.bin", "records of 3073 bytes"):
        read_cifar10(archive)


def test_a_gigantic_member_is_refused_unread(tmp_path: Path) -> None:
    header = tarfile.TarInfo(CIFAR_MEMBERS[0])
    header.size = 3073 * 10_000_000
    path = tmp_path / "archive.gz"
    path.write_bytes(gzip.compress(header.tobuf() + bytes(4096)))
    with OneLine(InputError, "data_batch_1.bin", "at most 10,000 records"):
        read_cifar10(path)


def test_label_10(tmp_path: Path) -> None:
    rows = cifar_records(3, 0)
    rows[2, 0] = 10
    archive = write_tar(tmp_path / "archive.gz", [(name, rows.tobytes()) for name in CIFAR_MEMBERS])
    with OneLine(InputError, "train label 10 is not a class", "0 to 9"):
        save_dataset(CIFAR10, read_cifar10(archive), tmp_path / "cifar10.npz")
    assert not (tmp_path / "cifar10.npz").exists()


def test_an_archive_without_images(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "archive.gz", [(name, b"") for name in CIFAR_MEMBERS])
    with OneLine(InputError, "there is no train image"):
        save_dataset(CIFAR10, read_cifar10(archive), tmp_path / "cifar10.npz")


def read_idx(folder: Path, content: bytes, name: str = "train_images", compress: bool = True) -> dict[str, np.ndarray]:
    paths, _ = write_fashion_mnist(folder)
    paths[name].write_bytes(gzip.compress(content) if compress else content)
    return read_archives(FASHION, paths)


IMAGES = np.zeros((2, 28, 28), np.uint8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["not an IDX file"]),
        (idx_bytes(IMAGES)[:11], ["not an IDX file"]),
        (idx_bytes(IMAGES, kind=13), ["not an IDX file of unsigned bytes with 3 dimensions"]),
        (b"\x01" + idx_bytes(IMAGES)[1:], ["not an IDX file"]),
        (idx_bytes(IMAGES.reshape(-1)), ["with 3 dimensions"]),
        (idx_bytes(IMAGES)[:-1], ["promises 1568 bytes", "holds 1567"]),
        (idx_bytes(IMAGES) + b"\0", ["promises 1568 bytes", "more"]),
        (idx_bytes(IMAGES, (3, 28, 28)), ["promises 2352 bytes", "holds 1568"]),
        (idx_bytes(IMAGES, (2**32 - 1,) * 3), ["promises 79228162458924105385300197375 bytes"]),
        (idx_bytes(IMAGES, (0, 28, 28)), ["promises 0 bytes", "more"]),
    ],
)
def test_a_wrong_idx_file(content: bytes, words: list[str], tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with OneLine(InputError, "train_images.gz", *words):
            read_idx(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_an_idx_file_that_is_not_compressed_or_cut_short(tmp_path: Path) -> None:
    with OneLine(InputError, "train_images.gz", "not a complete gzip file"):
        read_idx(tmp_path, idx_bytes(IMAGES), compress=False)
    with OneLine(InputError, "train_images.gz", "not a complete gzip file"):
        read_idx(tmp_path, gzip.compress(idx_bytes(IMAGES))[:-6], compress=False)
    damaged = bytearray(gzip.compress(idx_bytes(IMAGES)))
    damaged[-5] ^= 1  # the checksum
    with OneLine(InputError, "train_images.gz", "not a complete gzip file"):
        read_idx(tmp_path, bytes(damaged), compress=False)


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (idx_bytes(np.zeros((12, 14, 56), np.uint8)), "train_images", ["train images have shape (1, 14, 56)"]),
        (idx_bytes(np.zeros(11, np.uint8)), "train_labels", ["12 train images", "labels of shape (11,)"]),
        (idx_bytes(np.full(3, 10, np.uint8)), "test_labels", ["test label 10 is not a class"]),
        (idx_bytes(np.zeros((0, 28, 28), np.uint8)), "test_images", ["there is no test image"]),
    ],
)
def test_files_that_do_not_belong_together(content: bytes, name: str, words: list[str], tmp_path: Path) -> None:
    with OneLine(InputError, "fashion_mnist", *words):
        save_dataset(FASHION, read_idx(tmp_path, content, name), tmp_path / "fashion_mnist.npz")


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def digit_arrays(digits: Dataset) -> dict[str, np.ndarray]:
    arrays = {}
    for split, images in (("train", digits.train), ("test", digits.test)):
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images.pixels, images.labels.astype(np.uint8)
    return arrays


def test_nothing_is_unpickled(digits: Dataset, tmp_path: Path) -> None:
    path, evil = tmp_path / "digits.npz", tmp_path / "evil"
    with open(path, "wb") as stream:
        np.savez(stream, **{**digit_arrays(digits), "test_labels": np.array([Bomb(evil)], object)})  # type: ignore[arg-type]
    with OneLine(InputError, str(path), "not a dataset", "run again"):
        load_dataset("digits", path)
    path.write_bytes(pickle.dumps(Bomb(evil)))
    with OneLine(InputError, str(path), "not a dataset", "run again"):
        load_dataset("digits", path)
    assert not evil.exists()


def test_an_npz_that_is_damaged(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    save_dataset(DIGITS, digit_arrays(digits), path)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[5000] ^= 255
    alone = tmp_path / "alone.npy"
    np.save(alone, np.zeros(3))
    for damaged in (b"", b"PK\x03\x04", content[:5000], content[:-10], bytes(flipped), alone.read_bytes()):
        path.write_bytes(damaged)
        with OneLine(InputError, str(path), "not a dataset", "run again"):
            load_dataset("digits", path)


def test_an_npz_with_other_things_in_it(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_images.npy", "text")
    with OneLine(InputError, str(path)):
        load_dataset("digits", path)
    arrays = digit_arrays(digits)
    for name, array, words in (
        ("test_labels", None, ["test_labels is missing"]),
        ("test_images", arrays["test_images"].astype(np.float32), ["test_images are float32", "uint8"]),
        ("test_images", arrays["test_images"][:, :, :4], ["(1, 4, 8)"]),
        ("train_labels", arrays["train_labels"][1:], ["1438 train images"]),
        ("train_labels", arrays["train_labels"] + np.uint8(1), ["train label 10"]),
    ):
        changed = {key: value for key, value in {**arrays, name: array}.items() if value is not None}
        with open(path, "wb") as stream:
            np.savez(stream, **changed)  # type: ignore[arg-type]
        with OneLine(InputError, str(path), *words):
            load_dataset("digits", path)


def test_another_dataset_under_this_name(digits: Dataset, tmp_path: Path) -> None:
    save_dataset(DIGITS, digit_arrays(digits), tmp_path / "cifar10.npz")
    with OneLine(InputError, "not cifar10", "(1, 8, 8)", "(3, 32, 32)"):
        load_dataset("cifar10", tmp_path / "cifar10.npz")


def test_an_unknown_dataset() -> None:
    with OneLine(InputError, "'imagenet' is unknown", "cifar10, fashion_mnist, digits"):
        dataset_spec("imagenet")


def test_a_good_file_stays_when_the_new_one_is_refused(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "digits.npz"
    arrays = digit_arrays(digits)
    save_dataset(DIGITS, arrays, path)
    before = path.read_bytes()
    with pytest.raises(InputError):
        save_dataset(DIGITS, arrays | {"train_labels": arrays["train_labels"] + np.uint8(1)}, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["digits.npz"]
    save_dataset(DIGITS, arrays, path)
    assert path.read_bytes() == before, "the same content must make the same file"


# Prepared images

CIFAR_PIXELS = hnp.arrays(np.uint8, (2, 3, 32, 32), elements=st.integers(0, 255), fill=st.integers(0, 255))


@settings(max_examples=40, deadline=None)
@given(CIFAR_PIXELS)
def test_standardised_images_against_float64(pixels: np.ndarray) -> None:
    prepared = prepare_images(CIFAR10, pixels)
    crop = pixels[:, :, 4:28, 4:28].astype(np.float64).reshape(2, -1)
    floor = 1 / np.sqrt(crop.shape[1])
    deviation = np.maximum(crop.std(1, keepdims=True), floor)
    expected = ((crop - crop.mean(1, keepdims=True)) / deviation).reshape(prepared.shape)
    assert np.abs(prepared - expected).max() <= 0.5 * 2.0**-16 + 1e-9
    check_bits(prepared)


def check_bits(prepared: np.ndarray) -> None:
    """Multiples of 2^-16 that float32 holds exactly."""
    assert prepared.dtype == np.float32
    scaled = prepared.astype(np.float64) * 2**16
    assert np.array_equal(scaled, np.rint(scaled))
    assert np.abs(scaled).max() < 2**24


def test_bits_of_real_looking_images() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3, 32, 32), dtype=np.uint8)
    pixels[0] = 0
    pixels[0, 0, 16, 16] = 255  # the largest standardised value there is: sqrt(pixels - 1)
    check_bits(prepare_images(CIFAR10, pixels))
    assert prepare_images(CIFAR10, pixels)[0].max() == pytest.approx(np.sqrt(3 * 24 * 24 - 1), abs=2**-16)


@pytest.mark.parametrize("value", [0, 1, 255])
def test_a_constant_image_is_all_zero(value: int) -> None:
    with np.errstate(all="raise"):
        assert not prepare_images(CIFAR10, np.full((1, 3, 32, 32), value, np.uint8)).any()


def test_an_almost_constant_image_is_divided_by_the_floor() -> None:
    pixels = np.full((1, 3, 32, 32), 7, np.uint8)
    pixels[0, 0, 10, 10] = 8
    count = 3 * 24 * 24
    # its standard deviation, sqrt(count - 1) / count, lies just below the floor, 1 / sqrt(count)
    expected = (1 - 1 / count) * np.sqrt(count)
    assert prepare_images(CIFAR10, pixels).max() == np.float32(np.rint(expected * 2**16) / 2**16)


@pytest.mark.parametrize("name", list(DATASETS))
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    spec = DATASETS[name]
    pixels = np.random.default_rng(1).integers(0, spec.levels + 1, (20, *spec.image_shape)).astype(np.uint8)
    together = prepare_images(spec, pixels)
    alone = np.concatenate([prepare_images(spec, pixels[i : i + 1]) for i in range(20)])
    turned = prepare_images(spec, np.ascontiguousarray(pixels[::-1]))[::-1]
    assert together.tobytes() == alone.tobytes() == np.ascontiguousarray(turned).tobytes()
    assert together.shape == (20, *spec.input_shape)


@pytest.mark.parametrize(("spec", "levels"), [(FASHION, 256), (DIGITS, 16)])
def test_other_images_are_only_scaled(spec: DatasetSpec, levels: int) -> None:
    values = np.arange(np.prod(spec.image_shape)) % min(levels + 1, 256)
    pixels = values.astype(np.uint8).reshape(1, *spec.image_shape)
    prepared = prepare_images(spec, pixels)
    assert np.array_equal(prepared, pixels / levels)


def test_only_the_central_crop_counts() -> None:
    random = np.random.default_rng(2)
    pixels = random.integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
    other = random.integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
    other[:, :, 4:28, 4:28] = pixels[:, :, 4:28, 4:28]
    assert np.array_equal(prepare_images(CIFAR10, pixels), prepare_images(CIFAR10, other))
