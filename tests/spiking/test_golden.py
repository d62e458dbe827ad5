"""The published simulator's numbers, every one of them: the four logs to the byte, and the net counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negspike import SimulationLog, SpikingNetwork, simulate
from negspike.spiking.logs import NAMES, read_logs

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*_k1.npz"))
Stored = dict[str, np.ndarray]


@pytest.fixture(scope="module", params=GOLDEN, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> Stored:
    with np.load(request.param, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def network_of(golden: Stored, weight_bits: int) -> SpikingNetwork:
    names = {"weight": "W", "gamma": "gamma", "beta": "beta", "mean": "mean", "var": "var"}
    layers: list[dict[str, Any]] = []
    while f"W{len(layers)}" in golden:
        entry: dict[str, Any] = {name: golden[f"{key}{len(layers)}"] for name, key in names.items()}
        layers.append(entry | {"eps": 1e-5})
    # numpy's scalars and arrays, as anyone would pass who reads them from a file
    shape: Any = golden["shape"]
    k: Any = golden["k"][()]
    return SpikingNetwork.from_batchnorm(
        str(golden["topology"]), shape, k, layers, golden["fc"], weight_bits=weight_bits
    )


def run(network: SpikingNetwork, golden: Stored, engine: str) -> SimulationLog:
    timesteps, batch_size = int(golden["timesteps"]), int(golden["batch_size"])
    return simulate(
        network, golden["images"], golden["labels"], timesteps=timesteps, batch_size=batch_size, engine=engine
    )


def check(log: SimulationLog, golden: Stored, directory: Path) -> None:
    """Every number, as bytes of the files, as read back, and as arrays."""
    log.write(directory)
    for name in NAMES:
        end = ".0\n" if name == "spike_collect" else "\n"
        expected = "".join(f"{int(value)}{end}" for value in golden[name])
        assert (directory / f"{name}.txt").read_bytes() == expected.encode(), name
    read = read_logs(directory, int(golden["timesteps"]), int(golden["batch_size"]))
    for name in NAMES:
        np.testing.assert_array_equal(getattr(read, name).ravel(), golden[name])
    for number, counts in enumerate(log.counts.values()):
        np.testing.assert_array_equal(counts, golden[f"counts{number}"])
    assert f"counts{len(log.counts)}" not in golden


def test_there_are_golden_files() -> None:
    assert [path.stem for path in GOLDEN] == ["lenet_k1", "mlp_k1", "vgg_k1"]


@pytest.mark.parametrize("engine", ["reference", "dense", "event"])
def test_every_number(golden: Stored, engine: str, tmp_path: Path) -> None:
    check(run(network_of(golden, 16), golden, engine), golden, tmp_path)


def test_with_24_bits(golden: Stored, tmp_path: Path) -> None:
    """Twice as many bits hold the same grid."""
    check(run(network_of(golden, 24), golden, "dense"), golden, tmp_path)


def test_after_save_and_load(golden: Stored, tmp_path: Path) -> None:
    network_of(golden, 16).save(tmp_path / "spiking.npz")
    check(run(SpikingNetwork.load(tmp_path / "spiking.npz"), golden, "dense"), golden, tmp_path)


def test_the_counts_are_the_integer_ann(golden: Stored) -> None:
    """The published simulator had come to rest too, so that its counts are the closed form's."""
    network = network_of(golden, 16)
    activations = network.activations(golden["images"])
    for number, population in enumerate(network.populations):
        np.testing.assert_array_equal(activations[population.name], golden[f"counts{number}"])


def test_grouping_of_the_lines(golden: Stored, tmp_path: Path) -> None:
    """One batch of everything: the sums of the golden batches."""
    images, timesteps = golden["images"], int(golden["timesteps"])
    options: dict[str, Any] = {"timesteps": timesteps, "batch_size": len(images), "engine": "dense"}
    log = simulate(network_of(golden, 16), images, golden["labels"], **options)
    log.write(tmp_path)
    read = read_logs(tmp_path, timesteps, len(images))
    for name in NAMES:
        np.testing.assert_array_equal(getattr(read, name)[0], golden[name].reshape(-1, timesteps).sum(0))
