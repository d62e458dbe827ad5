"""Augmentation: true windows of the image and its mirror image, every offset, contrast, repeatability, bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from negspike.data import augmentation
from negspike.data.augmentation import standardize, training_images
from negspike.data.images import prepare_images
from negspike.data.registry import AUGMENTATIONS, DATASETS, DatasetSpec

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


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(("translation", "offsets"), [(0, {4}), (2, {2, 3, 4, 5, 6}), (9, {*range(9)})])
def test_crops_may_stay_near_the_centre(translation: int, offsets: set[int]) -> None:
    pixels = random_pixels(200)
    crops = training_images(CIFAR10, pixels, generator(2), translation=translation)
    found = [find(image, crop) for image, crop in zip(pixels, crops, strict=True)]
    assert {row for row, _, _ in found} == {column for _, column, _ in found} == offsets
    assert len({mirrored for *_, mirrored in found}) == 2


@pytest.mark.usefixtures("bare")
def test_which_images_are_mirrored_may_be_given() -> None:
    pixels, sides = random_pixels(20), torch.arange(20) % 3 == 0
    crops = training_images(CIFAR10, pixels, generator(2), translation=2, mirrored=sides)
    assert [find(image, crop)[2] for image, crop in zip(pixels, crops, strict=True)] == sides.tolist()
    upright = training_images(DIGITS, pixels[:, :1, :8, :8] // 16, generator(2), mirrored=sides)
    assert torch.equal(upright, torch.from_numpy(prepare_images(DIGITS, (pixels[:, :1, :8, :8] // 16).numpy())))


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


# Data sets of one's own: not square, any number of channels, other scalings

OWN = DatasetSpec(name="own", format="npz", image_shape=(2, 9, 12), crop=(5, 8))
CHANNELS = {"mean": (0.1307, 0.48), "std": (0.3081, 0.199)}
SCALINGS = [{}, {"levels": 256}, CHANNELS, CHANNELS | {"levels": 200}, {"standardize": True}]


def own_pixels(count: int = 60) -> torch.Tensor:
    return torch.randint(0, 256, (count, 2, 9, 12), dtype=torch.uint8, generator=generator(20))


@pytest.mark.parametrize("scaling", SCALINGS)
def test_values_by_the_formula(scaling: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(OWN, **scaling)  # type: ignore[arg-type]
    pixels = own_pixels()
    window = pixels[:, :, 2:7, 2:10].double()
    if spec.standardize:
        expected = (window - window.mean((1, 2, 3), keepdim=True)) / window.std((1, 2, 3), correction=0, keepdim=True)
    else:
        expected = window / spec.levels
    if spec.mean:
        mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (spec.mean, spec.std))
        expected = (expected - mean) / std
    prepared = torch.from_numpy(prepare_images(spec, pixels.numpy()))
    assert prepared.dtype == torch.float32 and prepared.shape == (60, *spec.input_shape)
    assert (prepared - expected).abs().max() <= 0.5 * 2.0**-16 + 1e-9
    assert torch.equal(prepared.double() * 2**16, (prepared.double() * 2**16).round())
    monkeypatch.setattr("negspike.data.images._BLOCK", 300)
    assert torch.equal(torch.from_numpy(prepare_images(spec, pixels.numpy())), prepared), "whatever the blocks"


@pytest.mark.parametrize("scaling", SCALINGS)
def test_trained_and_tested_images_are_the_same_to_the_bit(scaling: dict[str, object]) -> None:
    spec = replace(OWN, **scaling)  # type: ignore[arg-type]
    pixels = own_pixels()
    assert torch.equal(
        training_images(spec, pixels, generator()), torch.from_numpy(prepare_images(spec, pixels.numpy()))
    )


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_each_augmentation_shows_true_windows(name: str, scaling: dict[str, object]) -> None:
    """Every training image is one of those windows and mirror images that its augmentation may show, prepared."""
    change = AUGMENTATIONS[name]
    spec = replace(OWN, augmentation=name, **scaling)  # type: ignore[arg-type]
    pixels = own_pixels()
    shown = training_images(spec, pixels, generator(21))
    assert shown.dtype == torch.float32 and shown.shape == (60, 2, 5, 8)
    if change.contrast:
        return
    places = [(row, column) for row in range(5) for column in range(5)] if change.crop else [(2, 2)]
    seen = set()
    for image, result in zip(pixels, shown, strict=True):
        windows = {(row, column, False): image[:, row : row + 5, column : column + 8] for row, column in places}
        if change.mirror:
            windows |= {(row, column, True): window.flip(2) for (row, column, _), window in windows.items()}
        whole = replace(spec, image_shape=spec.input_shape, crop=None)
        prepared = prepare_images(whole, torch.stack(list(windows.values())).numpy())
        matching = [
            key for key, window in zip(windows, prepared, strict=True) if np.array_equal(window, result.numpy())
        ]
        assert len(matching) == 1
        seen.add(matching[0])
    rows, columns, mirrored = (set(values) for values in zip(*seen, strict=True))
    assert rows == ({0, 1, 2, 3, 4} if change.crop else {2}) and columns == rows
    assert mirrored == ({True, False} if change.mirror else {False})


@pytest.mark.parametrize("scaling", SCALINGS)
def test_contrast_before_every_scaling(scaling: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """A contrast of 1 changes nothing."""
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, *_, **__: self.fill_(1.0))
    pixels = own_pixels()
    with_contrast, without = (
        training_images(replace(OWN, augmentation=name, **scaling), pixels, generator(22))  # type: ignore[arg-type]
        for name in ("crop_mirror_contrast", "crop_mirror")
    )
    assert (with_contrast - without).abs().max() <= 2.0**-15


def test_padding_lets_windows_look_over_the_edge() -> None:
    spec = replace(OWN, crop=None, padding=3, augmentation="crop")
    pixels = own_pixels(200).clamp_min(1)
    shown = training_images(spec, pixels, generator(23))
    assert shown.shape == (200, *OWN.image_shape)
    assert torch.equal(
        torch.from_numpy(prepare_images(spec, pixels.numpy())), pixels.float().div(255).mul(2**16).round() / 2**16
    )
    empty_rows = (shown == 0).all(3).all(1)  # (N, H)
    assert set(empty_rows.sum(1).tolist()) == {0, 1, 2, 3}
    assert empty_rows[:, 0].any() and empty_rows[:, -1].any()
