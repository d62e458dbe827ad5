"""The lossless check finds a defective engine, networks are refused on data that is not theirs, and what is written."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import OneLine
from graphs import Case, cases, chain, examples
from hypothesis import given

from negspike import SpikingNetwork, simulate
from negspike.data.dataset import Dataset, load_dataset, save_dataset
from negspike.data.images import prepare_images
from negspike.errors import InputError
from negspike.precision import Precision
from negspike.results.efficiency import read_efficiency
from negspike.results.evaluation import Evaluation, NotLosslessError, describe_layers, evaluate
from negspike.results.origin import check_belongs
from negspike.results.spikes import read_spikes
from negspike.spiking import dense
from negspike.spiking.event import engine as event
from negspike.spiking.event import state
from negspike.spiking.event.arrange import Arranged
from negspike.spiking.event.arrange import arrange as original
from negspike.spiking.joint import join_histograms
from negspike.spiking.logs import read_logs
from negspike.spiking.recording import Recording
from negspike.spiking.simulation import make_engine
from negspike.stages.convert import convert
from negspike.stages.evaluate import Inputs, evaluate_shard, evaluate_spiking, gather_shards
from negspike.stages.run import Hardware, Run, Simulation
from negspike.training.network import Network, predict
from negspike.training.weights import save_weights

NET = {"dataset": "digits", "topology": "4C3-P2-6C3-12", "padding": "same", "width": 1.0}
K, TIMESTEPS, BATCH = 1, 60, 10
ONE = Precision("k", K)
TEXTS = ("accuracy.txt", "spike_num.txt", "spike_collect.txt", "sop_num.txt")


def evaluated(
    network: SpikingNetwork, images: np.ndarray, labels: np.ndarray, timesteps: int, engine: str = "auto"
) -> Evaluation:
    runner = make_engine(network, engine, threads=2, device="cpu")
    return evaluate(network, images, labels, timesteps=timesteps, runner=runner)


# --- which network belongs to which data ----------------------------------------------------------------------------


def tiny(**origin: Any) -> SpikingNetwork:
    made = chain("2", (1, 8, 8), [np.ones(128)], [1 << 20], [0], np.eye(10, 2), k=1)
    return replace(made, origin={"k": 1} | origin)


def test_check_belongs(digits: Dataset) -> None:
    path = Path("results/spiking.npz")
    check_belongs(tiny(dataset="digits", data_checksum=digits.checksum), path, ONE, digits)
    check_belongs(tiny(), path, ONE, digits)  # of a network from outside nothing is known
    with OneLine(InputError, "spiking.npz", "k = 1", "k = 2"):
        check_belongs(tiny(dataset="digits", data_checksum=digits.checksum), path, Precision("k", 2), digits)
    with OneLine(InputError, "spiking.npz", "fashion_mnist", "digits"):
        check_belongs(tiny(dataset="fashion_mnist", data_checksum=digits.checksum), path, ONE, digits)
    for origin in ({"dataset": "digits", "data_checksum": "0" * 64}, {"data_checksum": "0" * 64}):
        with OneLine(InputError, "spiking.npz", "digits images", "000000000000...", digits.checksum[:12]):
            check_belongs(tiny(**origin), path, ONE, digits)


# --- the lossless check ---------------------------------------------------------------------------------------------


@examples(40)
@given(case=cases(timesteps=40))
def test_random_networks_are_lossless(case: Case) -> None:
    network = case.network()
    evaluation = evaluated(network, case.images, case.labels, case.timesteps)
    check = evaluation.lossless_check()
    silent = evaluation.log.silent >= 0
    assert check["images"] == len(case.images)
    assert check["silent_images"] == check["silent_images_equal_to_integer_ann"] == int(silent.sum())
    assert check["images_still_spiking"] == len(silent) - int(silent.sum())
    assert (evaluation.differing_neurons[silent] == 0).all()
    np.testing.assert_array_equal(evaluation.integer_predictions[silent], evaluation.log.predictions[silent])
    # the rest, neuron by neuron
    counts = simulate(network, case.images, case.labels, timesteps=case.timesteps).counts
    exact = network.activations(case.images)
    differing = sum((count != exact[name]).sum((1, 2, 3)) for name, count in counts.items())
    pairs = [np.stack([exact[name].ravel(), count.ravel(), np.ones(count.size, int)]) for name, count in counts.items()]
    np.testing.assert_array_equal(evaluation.joint, join_histograms(pairs))
    np.testing.assert_array_equal(evaluation.differing_neurons, differing)
    still = ~silent & (evaluation.differing_neurons == 0)
    assert check["images_still_spiking_equal_to_integer_ann"] == int(still.sum())


def small_case() -> tuple[SpikingNetwork, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    weights = [random.integers(-300, 300, shape) for shape in ((4, 1, 3, 3), (6, 4, 5, 5))]
    network = chain("4C3-6", (1, 5, 5), weights, [1 << 23, 1 << 24], [-1 << 22] * 2, random.integers(-9, 9, (3, 6)))
    return network, random.normal(0, 1, (7, 1, 5, 5)), random.integers(0, 3, 7)


Fire = Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.mark.parametrize("defect", ["dropped spike", "no negative spikes", "input lost"])
def test_defective_engines_are_found(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, images, labels = small_case()
    assert evaluated(network, images, labels, 150).lossless_check()["silent_images"] == 7

    original: Fire = dense.NodeState.fire

    def fire(self: Any, residual: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        if defect == "no negative spikes":
            up: torch.Tensor = (residual >= self.theta).to(torch.int8)
            residual -= up * self.theta
            count += up
            return up
        change = original(self, residual, count)
        if defect == "dropped spike" and not getattr(self, "dropped", False) and (change > 0).any():
            self.dropped = True
            change[(change > 0).nonzero()[0].unbind()] = 0
        if defect == "input lost":
            residual[0, 0] -= self.theta[0]
        return change

    monkeypatch.setattr(dense.NodeState, "fire", fire)
    evaluation = evaluated(network, images, labels, 150, "dense")
    with OneLine(NotLosslessError, "silent images differ", "report"):
        evaluation.lossless_check()


@pytest.mark.parametrize("defect", ["theta_high", "start", "rows", "image_rows"])
def test_a_defective_event_engine_is_found(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One wrong number in what the compiled functions read."""
    network, images, labels = small_case()

    def arrange(network: SpikingNetwork) -> Arranged:
        arranged = original(network)
        first = 1 if defect in ("rows", "image_rows") else int(arranged.network.nodes[1, state.FIRST_CHANNEL])
        array: np.ndarray = getattr(arranged.network, defect)
        array[first] += 100
        return arranged

    monkeypatch.setattr(event, "arrange", arrange)
    evaluation = evaluated(network, images, labels, 150, "event")
    with OneLine(NotLosslessError, "silent images differ", "report"):
        evaluation.lossless_check()


def test_one_wrong_neuron_is_enough() -> None:
    network, images, labels = small_case()
    evaluation = evaluated(network, images, labels, 150)
    differing = evaluation.differing_neurons.copy()
    differing[3] = 2
    with OneLine(NotLosslessError, "1 of 7", "2 neurons"):
        replace(evaluation, differing_neurons=differing).lossless_check()
    # an image that still spikes may differ
    silent = evaluation.log.silent.copy()
    silent[3] = -1
    log = replace(evaluation.log, silent=silent)
    check = replace(evaluation, log=log, differing_neurons=differing).lossless_check()
    assert check["silent_images"] == 6
    assert check["images_still_spiking"] == 1
    assert check["images_still_spiking_equal_to_integer_ann"] == 0


@pytest.mark.parametrize("engine", ["reference", "dense", "event"])
def test_counts_of_chunks_are_not_kept(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, images, labels = small_case()
    monkeypatch.setattr(dense, "LARGEST_CHUNK", 2)
    monkeypatch.setattr(event, "LARGEST_CHUNK", 2)
    monkeypatch.setattr("negspike.spiking.reference.ReferenceEngine.chunk_size", 2)
    recordings: list[weakref.ref[Recording]] = []
    earlier: list[weakref.ref[np.ndarray]] = []
    compared = 0
    empty, original = Recording.empty, SpikingNetwork.compare

    def watched(network: SpikingNetwork, *, images: int, timesteps: int) -> Recording:
        made = empty(network, images=images, timesteps=timesteps)
        recordings.append(weakref.ref(made))
        return made

    def compare(self: SpikingNetwork, part: np.ndarray, counts: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Called while a chunk is compared: its counts are there, those of the chunks before are gone."""
        nonlocal compared
        compared += 1
        assert all(reference() is None for reference in earlier)
        assert all(reference() is None for reference in recordings[:-1])
        recording = recordings[-1]()
        assert recording is not None and len(recording.counts) == 2
        earlier.extend(weakref.ref(array) for array in recording.counts.values())
        return original(self, part, counts)

    monkeypatch.setattr(Recording, "empty", watched)
    monkeypatch.setattr(SpikingNetwork, "compare", compare)
    evaluation = evaluated(network, images, labels, 5, engine)
    assert len(recordings) == compared == 4
    assert len(earlier) == 8 and all(reference() is None for reference in earlier)
    assert evaluation.log.counts == {}


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    network, images, labels = small_case()
    whole = evaluated(network, images, labels, 9)
    monkeypatch.setattr(event, "LARGEST_CHUNK", 3)
    parts = evaluated(network, images, labels, 9, "event")
    np.testing.assert_array_equal(parts.differing_neurons, whole.differing_neurons)
    np.testing.assert_array_equal(parts.joint, whole.joint)
    np.testing.assert_array_equal(parts.integer_predictions, whole.integer_predictions)
    np.testing.assert_array_equal(parts.log.sops, whole.log.sops)


def test_describe_layers() -> None:
    limit = 2**23 - 1
    network = chain(
        "3-2", (1, 1, 1), [[limit] * 3, [[limit, -limit, limit], [1, 1, 1]]], [1 << 38] * 2, [0, 0], np.eye(2)
    )
    log = simulate(network, np.full((4, 1, 1, 1), 3.0), np.zeros(4, int), timesteps=10)
    first, second = describe_layers(network, log)
    assert (first["name"], first["neurons"], second["name"], second["neurons"]) == ("layer0", 3, "layer1", 2)
    assert second["largest_sum_of_weights"] == 3 * limit
    assert second["largest_float32_sum"] <= 1 << 24
    for number, layer in enumerate((first, second)):
        assert layer["positive_spikes_per_image"] * 4 == log.positive[number].sum()
        assert layer["negative_spikes_per_image"] * 4 == log.negative[number].sum()


# --- the stage ------------------------------------------------------------------------------------------------------


class Workspace:
    """A random network with batch norm as after training, stored as the workflow stores it."""

    def __init__(self, folder: Path, digits: Dataset) -> None:
        self.dataset, self.weights = folder / "digits.npz", folder / "phase1.pt"
        self.spiking, self.directory = folder / "spiking.npz", folder / "out"
        arrays = {
            "train_images": digits.train.pixels[:20],
            "train_labels": digits.train.labels[:20].astype(np.uint8),
            "test_images": digits.test.pixels[:33],
            "test_labels": digits.test.labels[:33].astype(np.uint8),
        }
        save_dataset(digits.spec, arrays, self.dataset)
        loaded = load_dataset("digits", self.dataset)
        self.images, self.labels = prepare_images(loaded.spec, loaded.test.pixels), loaded.test.labels
        self.run = Run("tiny", NET, 1, f"k{K}", 16)
        network = self.run.network()
        assert isinstance(network, Network)
        self.network = network
        with torch.no_grad():
            for block in self.network.blocks:
                norm: Any = block.norm
                norm.momentum = 1.0
                norm.weight.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(0))
            self.network.train()(torch.from_numpy(self.images))
        made = {"net": NET, "precision": "k1", "weight_bits": 16, "data_checksum": loaded.checksum}
        save_weights(self.network, self.weights, {"provenance": json.dumps(made)})
        convert(self.run, weights=self.weights, output=self.spiking, report=lambda line: None)

    def evaluate(self, directory: Path, engine: str = "auto", k: int = K) -> list[str]:
        lines: list[str] = []
        evaluate_spiking(
            replace(self.run, precision=f"k{k}"),
            Simulation(TIMESTEPS, TIMESTEPS, BATCH, engine),
            inputs=Inputs(self.spiking, self.weights, self.dataset),
            directory=directory,
            hardware=Hardware("cpu", 1),
            report=lines.append,
        )
        return lines


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Workspace:
    made = Workspace(tmp_path_factory.mktemp("stage"), digits)
    made.evaluate(made.directory)
    return made


def test_evaluation_files_agree(workspace: Workspace) -> None:
    """JSON, npz and logs tell of the same simulation."""
    directory = workspace.directory
    written = json.loads((directory / "evaluation.json").read_text())
    with np.load(directory / "evaluation.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    logs = read_logs(directory, TIMESTEPS, BATCH)
    images = len(workspace.labels)
    assert images == 33 and logs.batches == 4  # the last batch holds 3 images

    assert {
        "net": "tiny",
        "seed": 1,
        "k": K,
        "images": images,
        "timesteps": TIMESTEPS,
        "batch_size": BATCH,
    }.items() <= written.items()
    assert written["neurons"] == 4 * 64 + 4 * 16 + 6 * 16 + 12
    assert arrays["correct"].shape == (images, TIMESTEPS) and arrays["correct"].dtype == bool
    assert arrays["positive"].shape == arrays["negative"].shape == (4, TIMESTEPS)
    for name, log in (
        ("correct", "accuracy"),
        ("spikes", "spike_num"),
        ("net_spikes", "spike_collect"),
        ("sops", "sop_num"),
    ):
        np.testing.assert_array_equal(
            np.add.reduceat(arrays[name].astype(np.int64), np.arange(0, images, BATCH)), getattr(logs, log)
        )
    assert written["spikes_per_image"] == pytest.approx(logs.spike_num[:, -1].sum() / images)
    assert written["net_spikes_per_image"] == pytest.approx(logs.spike_collect[:, -1].sum() / images)
    assert written["sops_per_image"] == pytest.approx(logs.sop_num[:, -1].sum() / images)
    assert written["accuracy"]["spiking_network"] == pytest.approx(logs.accuracy[:, -1].sum() / images)
    np.testing.assert_array_equal(
        arrays["positive"].sum(0).cumsum() + arrays["negative"].sum(0).cumsum(), logs.spike_num.sum(0)
    )

    np.testing.assert_array_equal(arrays["labels"], workspace.labels)
    np.testing.assert_array_equal(arrays["spiking_predictions"] == workspace.labels, arrays["correct"][:, -1])
    network = SpikingNetwork.load(workspace.spiking)
    integer = network.activations(workspace.images)[network.readout.name].argmax(1)
    floating = predict(workspace.network, torch.from_numpy(workspace.images)).numpy()
    np.testing.assert_array_equal(arrays["integer_predictions"], integer)
    np.testing.assert_array_equal(arrays["ann_predictions"], floating)
    differing = written["differing_predictions"]
    assert differing["float32_ann_and_integer_ann"] == int((floating != integer).sum())
    assert differing["integer_ann_and_spiking_network"] == int((integer != arrays["spiking_predictions"]).sum())
    assert differing["float32_ann_and_spiking_network"] == int((floating != arrays["spiking_predictions"]).sum())
    for name, predictions in (("float32_ann", floating), ("integer_ann", integer)):
        assert written["accuracy"][name] == pytest.approx((predictions == workspace.labels).mean())

    check, silent = written["lossless_check"], arrays["silent"] >= 0
    assert check["silent_images"] == check["silent_images_equal_to_integer_ann"] == int(silent.sum()) > 0
    assert check["images_still_spiking"] == images - check["silent_images"]
    assert (arrays["differing_neurons"][silent] == 0).all()
    assert written["spiking_sha256"] == hashlib.sha256(workspace.spiking.read_bytes()).hexdigest()
    per_layer = [layer["positive_spikes_per_image"] + layer["negative_spikes_per_image"] for layer in written["layers"]]
    assert sum(per_layer) == pytest.approx(written["spikes_per_image"])
    assert [layer["name"] for layer in written["layers"]] == ["layer0", "layer1", "layer2", "layer3"]

    with open(directory / "layers.csv", newline="") as stream:
        layers = list(csv.DictReader(stream))
    total = {name: sum(int(row[name]) for row in layers) for name in ("positive_spikes", "negative_spikes", "sops")}
    assert total["positive_spikes"] + total["negative_spikes"] == logs.spike_num[:, -1].sum()
    assert total["positive_spikes"] - total["negative_spikes"] == logs.spike_collect[:, -1].sum()
    assert total["sops"] == logs.sop_num[:, -1].sum()
    assert 3 * sum(int(row["macs"]) for row in layers) == written["reference_operations"]
    assert written["energy"]["spikes_per_synapse"] == written["sops_per_image"] / network.macs


def test_engines_write_the_same_files(workspace: Workspace, tmp_path: Path) -> None:
    lines = workspace.evaluate(tmp_path, "reference")
    assert "all equal to the integer ANN" in lines[-1]
    for name in (*TEXTS, "layers.csv", "layer_steps.csv"):
        assert (tmp_path / name).read_bytes() == (workspace.directory / name).read_bytes()
    found, expected = (np.load(folder / "evaluation.npz") for folder in (tmp_path, workspace.directory))
    assert sorted(found.files) == sorted(expected.files)
    for name in found.files:
        np.testing.assert_array_equal(found[name], expected[name])


def test_float32_network_and_integer_network_agree(workspace: Workspace) -> None:
    written = json.loads((workspace.directory / "evaluation.json").read_text())
    assert written["differing_predictions"]["float32_ann_and_integer_ann"] <= 1


def test_evaluation_refuses_before_it_writes(workspace: Workspace, tmp_path: Path, digits: Dataset) -> None:
    with OneLine(InputError, "spiking.npz", "k = 2"):
        workspace.evaluate(tmp_path / "k2", k=2)
    arrays = dict(np.load(workspace.dataset))
    arrays["test_images"] = arrays["test_images"].copy()
    arrays["test_images"][0, 0, 0, 0] += 1
    before = workspace.dataset.read_bytes()
    try:
        save_dataset(digits.spec, arrays, workspace.dataset)
        with OneLine(InputError, "spiking.npz", "digits images", "checksum"):
            workspace.evaluate(tmp_path / "data")
    finally:
        workspace.dataset.write_bytes(before)
    assert list(tmp_path.iterdir()) == []


def test_a_defective_engine_writes_nothing(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Fire = dense.NodeState.fire

    def fire(self: Any, residual: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        change = original(self, residual, count)
        change[:, 0] = change[:, 0].clamp(max=0)
        return change

    monkeypatch.setattr(dense.NodeState, "fire", fire)
    with pytest.raises(NotLosslessError):
        workspace.evaluate(tmp_path / "out", "dense")
    assert list(tmp_path.iterdir()) == []


# --- in shards ------------------------------------------------------------------------------------------------------


def change_lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        path = folder / "layer_steps.csv"
        path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))

    return changed


def another_network(folder: Path) -> None:
    made = chain("1C3-2", (1, 2, 2), [np.ones((1, 1, 3, 3)), np.ones((2, 1, 2, 2))], [9, 9], [0, 0], np.ones((3, 2)))
    made.save(folder / "spiking.npz")


@pytest.mark.parametrize(
    "change",
    [
        change_lines(lambda lines: lines[:1]),
        change_lines(lambda lines: []),
        change_lines(lambda lines: lines[:-1]),
        change_lines(lambda lines: [line.replace("layer1", "other") for line in lines]),
        another_network,
    ],
    ids=["no step", "empty", "cut off", "other layers", "another network"],
)
def test_energy_of_tables_that_do_not_belong_to_the_logs(
    change: Callable[[Path], None], workspace: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny/seed1/k1"
    shutil.copytree(workspace.directory, folder)
    shutil.copy(workspace.spiking, folder / "spiking.npz")
    (found,) = read_efficiency(tmp_path, [("tiny", 1, "k1")])
    assert found.energy.shape == (2, TIMESTEPS)
    change(folder)
    with OneLine(InputError, "layer_steps.csv", "evaluate again"):
        read_efficiency(tmp_path, [("tiny", 1, "k1")])


@pytest.mark.parametrize(
    "changed",
    [
        {"positive": np.ones((2, 5), int), "negative": np.ones((2, 5), int)},
        {"differing_neurons": np.array(3)},
        {"joint": np.full((3, 1), "text")},
        {"joint": np.ones((3, 1), int)},
    ],
    ids=["layers", "no image", "text", "neurons"],
)
def test_spikes_that_do_not_belong_to_the_evaluation(
    changed: dict[str, np.ndarray], workspace: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny/seed1/k1"
    shutil.copytree(workspace.directory, folder)
    (found,) = read_spikes(tmp_path, [("tiny", 1, "k1")])
    assert found.positive.shape == (len(found.layers), TIMESTEPS)
    with np.load(folder / "evaluation.npz") as stored:
        np.savez(folder / "changed.npz", **(dict(stored) | changed))
    (folder / "changed.npz").rename(folder / "evaluation.npz")
    with OneLine(InputError, "evaluation.npz", "evaluate tiny, k1 again"):
        read_spikes(tmp_path, [("tiny", 1, "k1")])


def in_shards(workspace: Workspace, folder: Path, shards: int, timesteps: int | str, engines: tuple[str, ...]) -> Path:
    """The evaluation in parts, each by one of the engines, in turn; the folder of what was gathered."""
    inputs = Inputs(workspace.spiking, workspace.weights, workspace.dataset)
    for number in range(1, shards + 1):
        evaluate_shard(
            workspace.run,
            Simulation(timesteps, 500, 1, engines[number % len(engines)]),
            shard=(number, shards),
            inputs=inputs,
            output=folder / f"{number}.npz",
            hardware=Hardware("cpu", 1),
            report=lambda line: None,
        )
    gather_shards(
        workspace.run,
        Simulation(timesteps, 500, BATCH),
        shards=[folder / f"{number}.npz" for number in range(1, shards + 1)],
        spiking=workspace.spiking,
        directory=folder / "out",
        report=lambda line: None,
    )
    return folder / "out"


@pytest.mark.parametrize(("shards", "steps"), [(1, TIMESTEPS), (3, TIMESTEPS), (33, TIMESTEPS), (4, "until_silent")])
def test_shards_are_gathered_to_the_bytes_of_one_job(
    shards: int, steps: int | str, workspace: Workspace, tmp_path: Path
) -> None:
    one = workspace.directory
    if steps == "until_silent":
        one = tmp_path / "one"
        evaluate_spiking(
            workspace.run,
            Simulation(steps, 500, BATCH),
            inputs=Inputs(workspace.spiking, workspace.weights, workspace.dataset),
            directory=one,
            hardware=Hardware("cpu", 1),
            report=lambda line: None,
        )
    gathered = in_shards(workspace, tmp_path, shards, steps, ("auto",))
    for name in (*TEXTS, "layers.csv", "layer_steps.csv", "evaluation.npz"):
        assert (gathered / name).read_bytes() == (one / name).read_bytes(), name
    found, expected = (json.loads((folder / "evaluation.json").read_text()) for folder in (gathered, one))
    assert found.pop("wall_seconds") > 0 and expected.pop("wall_seconds") > 0
    assert found == expected


def test_machines_with_different_engines_agree(workspace: Workspace, tmp_path: Path) -> None:
    gathered = in_shards(workspace, tmp_path, 3, TIMESTEPS, ("dense", "reference"))
    for name in (*TEXTS, "layers.csv", "layer_steps.csv", "evaluation.npz"):
        assert (gathered / name).read_bytes() == (workspace.directory / name).read_bytes(), name
    assert json.loads((gathered / "evaluation.json").read_text())["engine"] == "dense and reference"


def test_shards_that_do_not_fit_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    with OneLine(InputError, "evaluation.shards", "is 34", "33 test images"):
        in_shards(workspace, tmp_path, 34, TIMESTEPS, ("auto",))
    in_shards(workspace, tmp_path, 2, TIMESTEPS, ("auto",))
    (tmp_path / "2.npz").write_bytes((tmp_path / "2.npz").read_bytes()[:-40])
    shards = [tmp_path / "1.npz", tmp_path / "2.npz"]
    arguments: dict[str, Any] = {"directory": tmp_path / "none", "report": lambda line: None}
    simulation = Simulation(TIMESTEPS, TIMESTEPS, BATCH)
    with OneLine(InputError, "2.npz", "a part of an evaluation", "delete it"):
        gather_shards(workspace.run, simulation, shards=shards, spiking=workspace.spiking, **arguments)
    other = tmp_path / "other.npz"
    replace(SpikingNetwork.load(workspace.spiking), origin={"k": K}).save(other)
    with OneLine(InputError, "1.npz", "another network"):
        gather_shards(workspace.run, simulation, shards=shards[:1], spiking=other, **arguments)
    assert not (tmp_path / "none").exists()
