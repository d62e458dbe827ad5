"""Augmentation: true windows of the image and its mirror image, every offset, contrast, repeatability, bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from negspike.data import augmentation
from negspike.data.augmentation import standardize, training_images
from negspike.data.images import prepare_images
from negspike.data.registry import DATASETS, DatasetSpec

CIFAR10, DIGITS, FASHION = DATASETS["cifar10"], DATASETS["digits"], DATASETS["fashion_mnist"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_pixels(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator(seed))


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops and mirror images without contrast, standardisation and rounding."""
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, *_, **__: self.fill_(1.0))
    monkeypatch.setattr(augmentation, "standardize", lambda images: images)
    monkeypatch.setattr(augmentation, "round_images", lambda images: images)


def find(pixels: torch.Tensor, crop: torch.Tensor) -> tuple[int, int, bool]:
    """Row, column and mirroring of a crop, which must be there exactly once."""
    windows = pixels.float().unfold(1, 24, 1).unfold(2, 24, 1)  # channel, row offset, column offset, row, column
    found = [
        (row, column, mirrored)
        for mirrored, image in ((False, crop), (True, crop.flip(2)))
        for row, column in (windows - image[:, None, None]).abs().amax((0, 3, 4)).lt(1e-3).nonzero().tolist()
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.usefixtures("bare")
def test_crops_are_windows_of_the_image_or_of_its_mirror_image() -> None:
    pixels = random_pixels(400)
    crops = training_images(CIFAR10, pixels, generator(1))
    assert crops.shape == (400, 3, 24, 24)
    found = [find(image, crop) for image, crop in zip(pixels, crops, strict=True)]
    rows, columns, mirrored = (np.array(values) for values in zip(*found, strict=True))
    for offsets in (rows, columns):
        counts = np.bincount(offsets, minlength=9)
        assert len(counts) == 9
        # 400 / 9 = 44 of each, with a standard deviation of 6
        assert counts.min() > 15 and counts.max() < 80
    assert 150 < mirrored.sum() < 250
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.2
    assert abs(np.corrcoef(rows, mirrored)[0, 1]) < 0.2


def test_contrast_between_0_2_and_1_8_about_each_channels_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = random_pixels(300)
    seen: list[torch.Tensor] = []

    def keep(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.clone())
        return standardize(images)

    monkeypatch.setattr(augmentation, "standardize", keep)
    training_images(CIFAR10, pixels, generator(3))
    with monkeypatch.context() as fixed:
        fixed.setattr(torch.Tensor, "uniform_", lambda self, *_, **__: self.fill_(1.0))
        training_images(CIFAR10, pixels, generator(3))
    changed, plain = seen
    assert torch.allclose(changed.mean((2, 3)), plain.mean((2, 3)), atol=1e-2)
    ratios = changed.std((2, 3)) / plain.std((2, 3))
    assert torch.allclose(ratios, ratios[:, :1].expand(-1, 3), atol=1e-3), "one contrast for the three channels"
    contrast = ratios[:, 0]
    assert 0.2 - 1e-3 <= contrast.min() < 0.3
    assert 1.7 < contrast.max() <= 1.8 + 1e-3
    assert 0.9 < contrast.mean() < 1.1


def test_standardisation_takes_the_contrast_of_a_grey_image_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # ... as it does with the brightness; between channels of different means the contrast remains
    pixels = random_pixels(50)[:, :1].expand(-1, 3, -1, -1)
    changed = training_images(CIFAR10, pixels, generator(4))
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, *_, **__: self.fill_(1.0))
    assert torch.allclose(changed, training_images(CIFAR10, pixels, generator(4)), atol=1e-4)


def test_the_central_crop_without_contrast_is_the_test_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, *_, **__: self.fill_(1.0))
    monkeypatch.setattr(torch, "randint", lambda low, high, size, **_: torch.full(size, 4))
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.ones(size))
    pixels = random_pixels(20)
    trained = training_images(CIFAR10, pixels, generator())
    tested = torch.from_numpy(prepare_images(CIFAR10, pixels.numpy()))
    assert (trained - tested).abs().max() <= 2.0**-16


def test_every_image_has_mean_0_and_deviation_1() -> None:
    images = training_images(CIFAR10, random_pixels(30), generator(5)).double()
    assert images.mean((1, 2, 3)).abs().max() < 1e-4
    assert (images.std((1, 2, 3), correction=0) - 1).abs().max() < 1e-4


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_constant_image_is_all_zero(value: int) -> None:
    images = training_images(CIFAR10, torch.full((3, 3, 32, 32), value, dtype=torch.uint8), generator())
    assert torch.isfinite(images).all()
    assert images.abs().max() < 1e-2  # float32's mean of equal numbers may miss by a bit, over the floor's 41


def test_the_same_seed_draws_the_same_batch() -> None:
    pixels = random_pixels(40)
    first, second, other = (training_images(CIFAR10, pixels, generator(seed)) for seed in (6, 6, 7))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_two_batches_of_one_generator_differ_and_pixels_stay() -> None:
    pixels, random = random_pixels(40), generator(8)
    before = pixels.clone()
    assert not torch.equal(training_images(CIFAR10, pixels, random), training_images(CIFAR10, pixels, random))
    assert torch.equal(pixels, before)


def test_all_draws_come_from_the_generator_given() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    pixels = random_pixels(5)
    first = training_images(CIFAR10, pixels, generator(9))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(training_images(CIFAR10, pixels, generator(9)), first)


@pytest.mark.parametrize("name", list(DATASETS))
def test_values_have_16_fractional_bits(name: str) -> None:
    spec = DATASETS[name]
    pixels = torch.randint(0, min(spec.levels, 255) + 1, (20, *spec.image_shape), generator=generator()).byte()
    images = training_images(spec, pixels, generator(10))
    assert images.dtype == torch.float32
    assert images.shape == (20, *spec.input_shape)
    scaled = images.double() * 2**16
    assert torch.equal(scaled, scaled.round())


@pytest.mark.parametrize("spec", [DIGITS, FASHION], ids=lambda spec: spec.name)
def test_without_augmentation_training_images_are_the_test_images(spec: DatasetSpec) -> None:
    pixels = torch.randint(0, min(spec.levels, 255) + 1, (20, *spec.image_shape), generator=generator()).byte()
    random = generator()
    state = random.get_state()
    trained = training_images(spec, pixels, random)
    assert torch.equal(trained, torch.from_numpy(prepare_images(spec, pixels.numpy())))
    assert torch.equal(random.get_state(), state)


def test_an_image_does_not_depend_on_the_memory_layout() -> None:
    pixels = random_pixels(10)
    channels_last = pixels.contiguous(memory_format=torch.channels_last)
    assert torch.equal(
        training_images(CIFAR10, pixels, generator(11)), training_images(CIFAR10, channels_last, generator(11))
    )
