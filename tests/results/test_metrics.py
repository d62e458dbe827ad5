"""What is read from the logs: hand-made cases, a naive definition of the settled step, and the published numbers."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SHARED, OneLine
from hypothesis import given
from hypothesis import strategies as st

from negspike.config import Definition, resolve_config
from negspike.errors import InputError
from negspike.results.collect import collect
from negspike.results.metrics import Curves, curves_from_logs, settled_step, write_table
from negspike.spiking.logs import Logs

REFERENCE = SHARED / "reference"
needs_published_logs = pytest.mark.skipif(
    not (REFERENCE / "logs").is_dir(),
    reason="the published raw logs (shared/reference/logs) are not beside the repository",
)


def hand_made(**changes: int) -> Curves:
    """Seven images in batches of four and three, T = 4; 20 neurons, 1,000 reference operations."""
    logs = Logs(
        accuracy=np.array([[0, 3, 4, 3], [1, 2, 1, 2]]),
        spike_num=np.array([[10, 16, 20, 20], [4, 6, 8, 8]]),
        spike_collect=np.array([[10, 12, 10, 10], [4, 4, 4, 4]]),
        sop_num=np.array([[100, 160, 200, 200], [40, 60, 80, 80]]),
    )
    arguments = {"seed": 1, "k": 2, "images": 7, "neurons": 20, "reference_operations": 1000} | changes
    return curves_from_logs(logs, net="small", **arguments)


def test_means_of_an_image() -> None:
    curves = hand_made()
    assert (curves.net, curves.seed, curves.k, curves.images, curves.timesteps) == ("small", 1, 2, 7, 4)
    assert curves.correct.tolist() == [1, 5, 5, 5]
    assert curves.accuracy.tolist() == [1 / 7, 5 / 7, 5 / 7, 5 / 7]
    assert curves.final_accuracy == 5 / 7
    assert curves.spikes.tolist() == [2, 22 / 7, 4, 4]
    assert curves.net_spikes.tolist() == [2, 16 / 7, 2, 2]
    assert curves.positive_spikes[-1] == 3 and curves.negative_spikes[-1] == 1
    assert curves.negative_share == 0.25
    assert curves.spikes_per_neuron[-1] == 0.2 and curves.net_spikes_per_neuron[-1] == 0.1
    assert curves.sops[-1] == 40
    assert curves.sops_over_reference == 0.04


def test_the_batches_cancel_in_the_settled_step() -> None:
    # the batches' accuracies change until the last step, but that of the whole test set only until step 2
    assert hand_made().settled_step == 2


def test_still_spiking_is_a_spike_in_the_last_step() -> None:
    def last_two(before: int, after: int) -> Curves:
        spikes = np.array([[5, before, after]])
        logs = Logs(np.array([[1, 1, 1]]), spikes, spikes, spikes)
        return curves_from_logs(logs, net="n", seed=0, k=0, images=1, neurons=1, reference_operations=1)

    assert not last_two(6, 6).still_spiking
    assert last_two(6, 7).still_spiking
    one_step = Logs(*(np.array([[count]]) for count in (1, 3, 3, 3)))
    assert curves_from_logs(one_step, net="n", seed=0, k=0, images=1, neurons=1, reference_operations=1).still_spiking


def test_a_network_goes_on_as_it_ended() -> None:
    run = hand_made()
    longer = run.continued(run.timesteps + 3)
    assert longer.timesteps == run.timesteps + 3
    for name in ("accuracy", "spikes", "net_spikes", "sops"):
        before, after = getattr(run, name), getattr(longer, name)
        assert after.tolist() == before.tolist() + [before[-1]] * 3
    assert not longer.still_spiking
    assert (longer.settled_step, longer.net, longer.neurons) == (run.settled_step, run.net, run.neurons)


def test_a_silent_network_has_no_negative_share() -> None:
    silent = Logs(*(np.array([[count, count]]) for count in (1, 0, 0, 0)))
    curves = curves_from_logs(silent, net="n", seed=0, k=0, images=1, neurons=1, reference_operations=1)
    assert curves.negative_share == 0 and not curves.still_spiking


def test_impossible_numbers_of_images_are_refused() -> None:
    with OneLine(InputError, "small", "2 batches", "1 images"):
        hand_made(images=1)
    with OneLine(InputError, "small", "5 right answers", "3 images"):
        hand_made(images=3)


@pytest.mark.parametrize(
    ("correct", "step"),
    [([5], 1), ([5, 5, 5], 1), ([4, 5], 2), ([5, 4, 5], 3), ([1, 2, 3, 3, 3], 3), ([3, 3, 2, 3, 3], 4)],
)
def test_settled_step_of_small_cases(correct: list[int], step: int) -> None:
    assert settled_step(np.array(correct)) == step


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_settled_step_is_the_first_from_which_nothing_changes(correct: list[int]) -> None:
    naive = min(step for step in range(1, len(correct) + 1) if set(correct[step - 1 :]) == {correct[-1]})
    assert settled_step(np.array(correct)) == naive


@given(st.lists(st.integers(0, 9_999), min_size=1, max_size=30), st.integers(9_999, 10**6))
def test_right_answers_come_back_from_the_fraction(correct: list[int], images: int) -> None:
    array = np.array([correct])
    curves = curves_from_logs(
        Logs(array, array, array, array), net="n", seed=0, k=0, images=images, neurons=1, reference_operations=1
    )
    assert curves.correct.tolist() == correct


def test_table(tmp_path: Path) -> None:
    write_table([hand_made(), hand_made(k=0)], tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "net": "small",
        "seed": "1",
        "k": "2",
        "levels": "",
        "accuracy": str(5 / 7),
        "settled_step": "2",
        "still_spiking": "false",
        "spikes_per_image": "4.0",
        "net_spikes_per_image": "2.0",
        "sops_per_image": "40.0",
        "sops_over_reference": "0.04",
    }
    assert [row["k"] for row in rows] == ["2", "0"]


@pytest.fixture(scope="module")
def definitions() -> dict[str, Definition]:
    """The nets of config.yaml."""
    import yaml

    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    return dict(resolve_config(config).definitions)


def test_reference_operations_and_neurons_of_cnn1(definitions: dict[str, Definition]) -> None:
    # multiply-accumulates, layer by layer: outputs * inputs * window * positions
    macs = [
        256 * 96 * 9 * 576,
        256 * 256 * 4 * 144,
        384 * 256 * 9 * 144,
        384 * 384 * 4 * 36,
        384 * 384 * 9 * 36,
        256 * 384 * 9 * 36,
        256 * 256 * 4 * 9,
        1024 * 256 * 9,
        1024 * 1024,
        10 * 1024,
    ]
    topology = definitions["cnn1"].topology
    assert topology.reference_operations == 3 * sum(macs)
    assert topology.neurons == 336_128


@pytest.fixture(scope="module")
def published(definitions: dict[str, Definition]) -> dict[tuple[str, str], Curves]:
    """The published logs through our reader, by (net, k)."""
    curves = collect(REFERENCE / "logs", definitions=definitions).curves
    return {(run.net, str(run.k)): run for run in curves}


@needs_published_logs
def test_published_table(published: dict[tuple[str, str], Curves]) -> None:
    with open(REFERENCE / "published_table.csv", newline="") as file:
        rows = {(row["net"], row["precision"].removeprefix("k")): row for row in csv.DictReader(file)}
    assert len(published) == 6
    for key, run in published.items():
        row = rows[key]
        assert run.images == 10_000
        assert f"{run.final_accuracy:.4f}" == row["accuracy"]
        assert str(run.settled_step) == row["settled_step_from_log"]
        assert f"{run.spikes[-1]:.1f}" == row["spikes_per_image"]
        assert f"{run.net_spikes[-1]:.1f}" == row["net_spikes_per_image"]
        assert f"{run.sops[-1]:.1f}" == row["sops_per_image"]


@needs_published_logs
def test_published_curves(published: dict[tuple[str, str], Curves]) -> None:
    with open(REFERENCE / "published_curves.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["net"], row["k"]) in published]
    assert len(rows) == 600
    for row in rows:
        run, index = published[row["net"], row["k"]], int(row["timestep"]) - 1
        assert f"{run.accuracy[index]:.4f}" == row["accuracy"]
        assert f"{run.spikes[index]:.4f}" == row["spikes_per_image"]
        assert f"{run.net_spikes[index]:.4f}" == row["net_spikes_per_image"]
        assert f"{run.sops[index]:.4f}" == row["sops_per_image"]


@pytest.mark.parametrize(("k", "stated"), [("0", 29), ("1", 57)])
@needs_published_logs
def test_printed_settled_steps_of_cnn1(published: dict[tuple[str, str], Curves], k: str, stated: int) -> None:
    assert published["cnn1", k].settled_step == stated
    assert not published["cnn1", k].still_spiking
