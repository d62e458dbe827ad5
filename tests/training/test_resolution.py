"""Progressive resolution: sizes, what networks make of smaller images, and what a training shows when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import OneLine
from torch import nn

from negspike.data.dataset import Dataset, Images
from negspike.data.registry import DATASETS
from negspike.errors import InputError
from negspike.training.network import Network
from negspike.training.phase import train_phase
from negspike.training.resolution import scale_down, smaller_images
from negspike.training.schedule import Phase
from negspike.training.topology import parse_topology

HALF = Phase(1, 5, 1e-3, 20, "fast", initial_resolution=0.5)


def test_sizes_are_whole_eighths() -> None:
    images = torch.rand(2, 3, 24, 40)
    sizes = [tuple(scale_down(images, share).shape) for share in (0.01, 0.3, 0.5, 0.9, 0.95, 1.0)]
    heights = [(3, 5), (6, 10), (12, 20), (21, 35), (24, 40), (24, 40)]
    assert sizes == [(2, 3, *one) for one in heights]
    assert scale_down(images, 1.0) is images
    assert scale_down(torch.rand(1, 1, 3, 5), 0.2).shape == (1, 1, 1, 1)


def test_smaller_images_are_means_not_samples() -> None:
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2.0  # every other pixel: samples would be all 0 or all 1
    small = scale_down(board.expand(1, 1, 16, 16), 0.5)
    assert small[..., 1:-1, 1:-1].sub(0.5).abs().max() < 0.1
    torch.testing.assert_close(scale_down(torch.full((1, 2, 9, 9), 0.7), 0.4), torch.full((1, 2, 3, 3), 0.7))


def test_resolution_grows_to_whole_images_for_the_last_part() -> None:
    shares = np.array([HALF.resolution(update / 10_000) for update in range(10_000)])
    assert shares[0] == 0.5 and (np.diff(shares) >= 0).all() and (shares[6_000:] == 1).all() and shares[5_990] < 1
    assert HALF.mean_pixels == pytest.approx((shares**2).mean(), rel=1e-3)
    whole = Phase(1, 5, 1e-3, 20)
    assert whole.resolution(0.0) == whole.mean_pixels == 1 and "initial_resolution" not in whole.plain()
    assert HALF.plain()["initial_resolution"] == 0.5


@pytest.mark.parametrize("text", ["4C3-P2-8", "4C3-P2-8C3-P2", "4C3"])
def test_a_topology_takes_smaller_images_within_only(text: str) -> None:
    network, images = Network(parse_topology(text, (3, 24, 16))).eval(), torch.rand(2, 3, 24, 16)
    whole = network(images)
    with smaller_images(network, HALF, (3, 24, 16)):
        assert torch.equal(network(images), whole)
        small = network(scale_down(images, 0.5))
    assert small.shape == (2, 10) and not torch.equal(small, whole)
    with pytest.raises(RuntimeError):
        network(scale_down(images, 0.5))


def test_features_are_repeated() -> None:
    """Every pixel twice in each direction: 1 x 1 windows see no difference."""
    network, images = Network(parse_topology("4C1-6C1-8", (3, 8, 8))).eval(), torch.rand(2, 3, 4, 4)
    with smaller_images(network, HALF, (3, 8, 8)):
        torch.testing.assert_close(network(images), network(images.repeat_interleave(2, 2).repeat_interleave(2, 3)))


def test_what_does_not_take_smaller_images_is_told() -> None:
    flat = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 22 * 22, 10))
    refused = OneLine(InputError, "phase 1", "12x12", "initial_resolution 0.5", "adaptive pooling")
    with refused, smaller_images(flat, HALF, (3, 24, 24)):
        pytest.fail("it does not take them")

    class Particular(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[-1] == 24, "wrong image width"  # as vision transformers of torchvision do
            return super().forward(x)

    with OneLine(InputError, "12x12", "wrong image width"), smaller_images(Particular(24, 9), HALF, (3, 24, 24)):
        pytest.fail("it does not take them")
    deep = Network(parse_topology("4C5-P2-4C5-8", (3, 24, 24), "valid"))
    quarter = Phase(1, 1, 1e-3, 20, initial_resolution=0.25)
    with OneLine(InputError, "phase 1", "6x6"), smaller_images(deep, quarter, (3, 24, 24)):
        pytest.fail("its windows do not fit")
    assert not any(one._forward_hooks for one in deep.modules())


def test_a_training_shows_small_images_first_and_tests_with_whole_ones(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    train, validation, test = (
        Images(random.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8), random.integers(0, 10, count))
        for count in (60, 0, 20)
    )
    dataset, seen = Dataset(DATASETS["cifar10"], train, validation, test, "0" * 64), list[tuple[bool, int]]()
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    network[0].register_forward_pre_hook(lambda one, inputs: seen.append((one.training, inputs[0].shape[-1])))
    train_phase(network, dataset, HALF, 0, tmp_path / "checkpoint")
    trained = [size for training, size in seen if training]
    assert len(trained) == 15 and trained == sorted(trained) and trained[0] == 12
    assert trained[9:] == [24] * 6, "the last two fifths are whole"
    assert {12, 15, 18, 21, 24} == {*trained}
    assert len([size for training, size in seen if not training and size == 24]) == 5, "one test an epoch"
