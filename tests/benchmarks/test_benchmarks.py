"""The benchmark: a quick run from end to end, what it refuses, and float32 against the exact engines."""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, OneLine
from graphs import chain
from PIL import Image

from negspike import SpikingNetwork, simulate
from negspike.data.dataset import Dataset, save_dataset
from negspike.errors import InputError
from negspike.stages.prepare_dataset import prepare_dataset
from negspike.training.network import Network
from negspike.training.topology import parse_topology

sys.path.insert(0, str(ROOT))

from benchmarks import limit, recipes, run, thresholds, training
from benchmarks.contestants import CONTESTANTS, Task
from benchmarks.networks import NETS, make_graph, make_images, make_network
from benchmarks.report import Row, compare, table
from benchmarks.rivals import FloatNetwork, ForwardPass
from benchmarks.runners import module_variants
from benchmarks.worker import Worker

pytestmark = pytest.mark.slow
EXACT = ["event", "dense", "reference"]
FLOATS = ["ann-float32", "torch-float32", "torch-float32-skipping"]


@dataclass
class Finished:
    folder: Path
    printed: str

    @property
    def rows(self) -> dict[str, dict[str, str]]:
        with open(self.folder / "summary.csv", encoding="utf-8", newline="") as stream:
            return {row["contestant"]: row for row in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text="", file=None, **_: None if file else printed.append(text))
        only = [*EXACT, *FLOATS, "sinabs", "dense-24bits", "lossless-check"]
        run.main(["--quick", "--k", "1", "--threads", "1", "--out", str(folder), "--only", *only])
    return Finished(folder, "\n".join(printed))


@pytest.fixture(scope="module")
def tiny() -> SpikingNetwork:
    return make_network("tiny", 1)


def test_quick_run(finished: Finished) -> None:
    """Every contestant that can run here has a line; what cannot is named with its reason."""
    rows, text = finished.rows, (finished.folder / "table.md").read_text()
    assert rows.keys() >= {*EXACT, *FLOATS, "dense-24bits", "lossless-check"}
    assert text.strip() == finished.printed.strip()
    assert "sinabs" in rows or "Took no part: sinabs, sinabs: ModuleNotFoundError" in text
    for suffix in ("pdf", "svg", "png"):
        assert (finished.folder / f"time.{suffix}").stat().st_size > 1000
    machine = json.loads((finished.folder / "machine.json").read_text())
    assert machine["versions"]["torch"] == torch.__version__.split("+")[0]  # without the build (+cu130, +cpu)
    assert machine["arguments"]["threads"] == "1"
    published = (ROOT / "docs" / "performance.csv").read_text().splitlines()[0]
    assert (finished.folder / "summary.csv").read_text().splitlines()[0] == published
    for row in rows.values():
        assert int(row["peak_bytes"]) >= int(row["imported_bytes"]) > 50e6


def test_table_shows_the_summary(finished: Finished) -> None:
    lines = (finished.folder / "table.md").read_text().splitlines()
    shown = {cells[1].strip(): cells for line in lines if line.startswith("| ") for cells in [line.split("|")]}
    for name, row in finished.rows.items():
        best = float(row["seconds_best"])
        assert float(shown[name][4]) == pytest.approx(best, rel=1e-3)
        passes = float(row["ann_passes"])
        assert passes == pytest.approx(best / float(finished.rows["ann-float32"]["seconds_best"]), rel=1e-3)
        assert float(shown[name][6]) == pytest.approx(passes, rel=1e-2)
        if name in EXACT:
            assert float(shown[name][7]) * 1e9 == pytest.approx(float(row["sops_per_image"]) / best, rel=1e-2)


def test_rows_follow_from_measurements() -> None:
    """Seconds of one image for T steps; twice as many images or half as many steps are accounted for."""
    contestant = CONTESTANTS["event-2T"]
    worker: Any = Worker.__new__(Worker)
    worker.task = Task(contestant, Path(), Path(), timesteps=40, threads=2)
    worker.prepared = {"setup_seconds": 0.5, "variant": "", "imported_bytes": 3}
    worker.measurements = [
        {"seconds": seconds, "images": 4, "steps": 20, "peak_bytes": peak}
        for seconds, peak in ((6.0, 7), (2.0, 9), (4.0, 8))
    ]
    row = run.make_row(run.Case("tiny", "k0", {}, Path(), 40), worker)
    assert (row.seconds_best, row.seconds_median) == (1.0, 2.0)
    assert (row.timesteps, row.images, row.repetitions, row.peak_bytes) == (40, 4, 3, 9)


def test_sops_are_the_exact_ones(finished: Finished, tiny: SpikingNetwork) -> None:
    """The table's SOPs per image are those of a simulation made here."""
    row = finished.rows["dense"]
    images = make_images(int(row["images"]), NETS["tiny"][1])
    log = simulate(tiny, images, timesteps=int(row["timesteps"]), engine="reference")
    assert float(row["sops_per_image"]) == pytest.approx(log.sops[:, -1].mean(), rel=1e-5)


def cut(line: str) -> list[str]:
    return line.split("|") if line.startswith("| ") else []


def test_other_dynamics_have_no_sops() -> None:
    def row(contestant: str, seconds: float = 0.5, threads: int = 2) -> Row:
        return Row("cnn1", "k0", contestant, threads, "", 100, 1, 1, seconds, 0.5, 0.0, 1, 1, 1e9)

    rows = [row("event"), row("sinabs"), row("ann-float32", 0.25), row("event-1thread", 1.0, 1)]
    compare(rows, {2: 8e9})
    text = table(rows, {}, {})
    shown = {cells[1].strip(): [cell.strip() for cell in cells[6:9]] for cells in map(cut, text.splitlines()) if cells}
    # ratios are those to as many threads: an hour of one is not an hour of two
    assert shown["event"] == ["2", "2", "0.25"]
    assert shown["sinabs"] == ["2", "", ""]
    assert shown["ann-float32"] == ["1", "", ""]
    assert shown["event-1thread"] == ["", "1", ""]
    assert "## cnn1 k0, 1000.0 million SOPs an image (published: 270.2)" in text


def recording(images: int, steps: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    whole = {name: random.integers(0, 9, (4, 10)) for name in ("predictions", "sops")}
    whole |= {name: random.integers(0, 9, (4, 10, 3)) for name in ("positive", "negative")}
    at_the_end = {name: random.integers(0, 9, (4, 5))[:images] for name in ("logits", "counts of layer0")}
    return {name: array[:images, :steps].copy() for name, array in whole.items()} | at_the_end


@pytest.mark.parametrize("key", ["predictions", "positive", "negative", "sops"])
def test_engines_that_disagree_are_refused(key: str) -> None:
    """One integer in what both simulated is enough; what only one of them simulated cannot be compared."""
    whole, part = recording(4, 10), recording(2, 6)
    dense, reference, other = (CONTESTANTS[name] for name in ("dense", "reference", "dense-24bits"))
    run.check_agreement("tiny k0", {dense: whole, reference: part})
    whole[key][3, 9] += 1
    part["logits"] += 1  # after other numbers of steps
    run.check_agreement("tiny k0", {dense: whole, reference: part})
    part[key][1, 5] += 1
    with OneLine(InputError, "tiny k0", "dense", "reference", key):
        run.check_agreement("tiny k0", {dense: whole, reference: part})
    # Other weights give other integers.
    run.check_agreement("tiny k0", {dense: whole, other: part})


@pytest.mark.parametrize("key", ["logits", "counts of layer0"])
def test_ends_that_disagree_are_refused(key: str) -> None:
    one, other = recording(4, 10), recording(2, 10)
    both = {CONTESTANTS["dense"]: one, CONTESTANTS["reference"]: other}
    run.check_agreement("tiny k0", both)
    other[key][1, 4] += 1
    with OneLine(InputError, key):
        run.check_agreement("tiny k0", both)


def test_a_disagreement_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Nothing is reported, the exit code is 1. With a network of one's own, everybody has its weights."""
    seen: list[str] = []

    def refuse(_: str, recordings: Any) -> None:
        seen.extend(contestant.name for contestant in recordings)
        raise InputError("mine: a and b differ in sops")

    monkeypatch.setattr(run, "check_agreement", refuse)
    make_network("tiny", 0, 24).save(tmp_path / "mine.npz")
    arguments = ["--network", str(tmp_path / "mine.npz"), "--images", "2", "--timesteps", "8", "--threads", "1"]
    arguments += ["--repetitions", "1", "--out", str(tmp_path), "--only", "dense", "dense-24bits", "reference"]
    assert run.main(arguments) == 1
    assert seen == ["dense", "reference"]
    assert "error: mine: a and b differ in sops" in capsys.readouterr().err
    assert not (tmp_path / "table.md").exists()


def test_a_network_that_is_not_there(tmp_path: Path, capsys: Any) -> None:
    assert run.main(["--network", str(tmp_path / "absent.npz"), "--out", str(tmp_path / "out")]) == 1
    assert re.fullmatch(r"error: .*absent\.npz.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(("name", "least"), [("resnet20", 0.99), ("mobilenet_v2", 0.9)])
def test_one_forward_pass_is_that_of_the_float_model(name: str, least: float) -> None:
    """So many levels that rounding hardly matters; ReLU6's bound is left out, signed quantisers are identities."""
    network = make_graph(name, 4095, 32, weight_bits=24)
    images = make_images(4, (3, 32, 32))
    with torch.no_grad():
        found = ForwardPass(network)(torch.from_numpy(images)).numpy()
    exact = network.activations(images)[network.readout.name] * network.readout.unit
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > least


def test_a_model_is_measured_until_silence(tmp_path: Path) -> None:
    """A model by its name: certified time steps, and every exact engine's numbers agree."""
    arguments = ["--model", "resnet20", "--levels", "1", "--images", "1", "--threads", "1", "--quick"]
    arguments += ["--out", str(tmp_path), "--only", "event", "ann-float32", "torch-float32"]
    run.main(arguments)
    rows = Finished(tmp_path, "").rows
    assert rows.keys() == {"event", "ann-float32"}
    assert int(rows["event"]["timesteps"]) == 19 + 1
    assert float(rows["event"]["limit_share"]) > 0
    assert "Took no part: torch-float32" in (tmp_path / "table.md").read_text()


def test_a_model_that_is_not_there(tmp_path: Path, capsys: Any) -> None:
    assert run.main(["--model", "torchvision.models.resnet0", "--out", str(tmp_path), "--only", "event"]) == 1
    assert "torchvision.models.resnet0" in capsys.readouterr().err


def test_float32_is_nearly_exact(tiny: SpikingNetwork) -> None:
    """Counts and predictions of plain float32, up to neurons that its rounding decides otherwise."""
    images = make_images(6, NETS["tiny"][1])
    exact = simulate(tiny, images, timesteps=30, engine="dense")
    assert exact.negative.sum() > 100
    predictions, counts = FloatNetwork(tiny).run(images, 30)
    for mine, (name, theirs) in zip(counts, exact.counts.items(), strict=True):
        assert (mine.numpy() != theirs).mean() < 0.005, name
    assert (predictions[:, -1] == exact.predictions).sum() >= 5


def test_steps_without_leaving_anything_out(tiny: SpikingNetwork) -> None:
    """They reach the counts of the run that does leave out what is at rest."""
    images = make_images(2, NETS["tiny"][1])
    task = Task(CONTESTANTS["torch-float32"], Path(), Path(), 20, 1, quick=True)
    expected, _ = FloatNetwork(tiny).run(images, 20)
    for variant in module_variants(task, tiny, images, [1, 2], {}, {}):
        advance = variant.build()
        found = np.stack([advance().argmax(1).numpy() for _ in range(20)], 1)
        assert (found != expected[: variant.size]).mean() < 0.05, variant.size


def test_float32_refuses_what_it_does_not_simulate(tiny: SpikingNetwork) -> None:
    bounded = [*tiny.nodes]
    bounded[1] = type(tiny.populations[1])(**(vars(tiny.populations[1]) | {"high": 3}))
    with OneLine(InputError, "layer1", "without bounds"):
        FloatNetwork(SpikingNetwork(tiny.input_shape, tuple(bounded), tiny.weight_bits))


def test_images_are_standardised_and_repeatable() -> None:
    images = make_images(5, (3, 24, 24))
    np.testing.assert_array_equal(images[:2], make_images(2, (3, 24, 24)))
    np.testing.assert_allclose(images.mean((1, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(images.std((1, 2, 3)), 1, atol=1e-4)
    neighbours = np.mean([np.corrcoef(image[:, :, 1:].ravel(), image[:, :, :-1].ravel())[0, 1] for image in images])
    assert neighbours > 0.6
    assert np.array_equal(images * 2**16, np.rint(images * 2.0**16))


def test_networks_are_repeatable(tiny: SpikingNetwork) -> None:
    for one, other in zip(tiny.populations, make_network("tiny", 1).populations, strict=True):
        np.testing.assert_array_equal(one.synapses[0].weight, other.synapses[0].weight)
        np.testing.assert_array_equal(one.theta, other.theta)
        np.testing.assert_array_equal(one.base, other.base)


def test_row_additions(monkeypatch: pytest.MonkeyPatch) -> None:
    """They check their own sums; the rates are those of a machine of this century."""
    assert 1e8 < limit.additions_per_second(1, "plain loop", 256, 0.01) < 1e13
    assert 1e8 < limit.additions_per_second(2, "registers", limit.IN_REGISTERS, 0.01) < 1e13
    monkeypatch.setattr(limit, "_in_registers", lambda rows, order, sums, theta: None)
    with pytest.raises(ArithmeticError, match="does not add what it should"):
        limit.additions_per_second(1, "registers", limit.IN_REGISTERS, 0.01)


def test_arguments(capsys: Any) -> None:
    for wrong, word in (
        (["--threads", "0"], "a whole number from 1"),
        (["--data", "x.npz"], "--network"),
        (["--nets", "x"], "x"),
    ):
        with pytest.raises(SystemExit) as ended:
            run.parse(wrong)
        assert ended.value.code == 2
        assert word in capsys.readouterr().err


def test_an_epoch_is_timed_and_its_operations_are_counted(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    network = Network(parse_topology("4C3-P2-8", digits.spec.input_shape), 1, 16)
    layers, few = network.topology.layers, training.part(digits, 100)
    forward = 2 * (layers[0].macs + network.topology.macs)
    backward = 2 * forward - 2 * layers[0].macs  # no gradient of the images
    tested = len(few.test.labels)
    assert training.epoch_operations(network, few) == 100 * (forward + backward) + tested * forward
    arrays = {
        f"{name}_{what}": getattr(getattr(digits, name), key).astype(np.uint8)
        for name in ("train", "test")
        for what, key in (("images", "pixels"), ("labels", "labels"))
    }
    (tmp_path / "data").mkdir()
    save_dataset(digits.spec, arrays, tmp_path / "data" / "digits.npz")
    monkeypatch.chdir(tmp_path)
    arguments = [str(ROOT / "presets/digits.yaml"), "--precision", "k1", "--epochs", "2", "--images", "100"]
    assert training.main([*arguments, "--threads", "1"]) == 0
    header, *rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()[1:]]
    assert header[0] == "net" and [row[0] for row in rows] == ["digits", "digits"]
    assert training.main([*arguments[:-2], "--epochs", "1"]) == 1 and "at least 2" in capsys.readouterr().err


def test_what_trainings_cost_and_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    prepare_dataset("digits", {}, tmp_path / "data" / "digits.npz", report=print)
    (tmp_path / "net.yaml").write_text(
        "results: .\nnets: [tiny]\nseeds: [0, 1]\n"
        "definitions: {tiny: {dataset: digits, topology: '8', padding: same, width: 1, batch_size: 9, timesteps: 4, "
        "init: fp32, quantization: [0], phases: [{epochs: 3, learning_rate: 0.1}]}}"
    )
    for seed, precision, epochs, accuracy in (
        (0, "fp32", 3, 0.8),
        (1, "fp32", 3, 0.9),
        (0, "k0", 2, 0.6),
        (1, "k0", 2, 0.7),
    ):
        folder = tmp_path / f"tiny/seed{seed}/{precision}"
        folder.mkdir(parents=True)
        phases = [{"epochs": 0}, {"epochs": epochs}]
        (folder / "ann.json").write_text(
            json.dumps({"test_accuracy": accuracy, "wall_seconds": 60 * epochs, "phases": phases})
        )
    monkeypatch.chdir(tmp_path)
    assert recipes.main(["net.yaml", "--figure", "epochs.png"]) == 0
    assert np.asarray(Image.open(tmp_path / "epochs.png")).std() > 0
    rows = [re.split(r"  +", line) for line in capsys.readouterr().out.splitlines()[-2:]]
    images, macs = 1438, 2 * 64 * 8 + 3 * 8 * 10  # no gradient of the image
    assert rows == [
        ["tiny", "fp32", "2", "3", f"{3 * images:,}", f"{3 * images * macs:.1e}", "3.0", "85.00 ± 7.07 %"],
        ["tiny", "k0", "2", "5", f"{5 * images:,}", f"{5 * images * macs:.1e}", "5.0", "65.00 ± 7.07 %"],
    ]
    (tmp_path / "tiny/seed1/k0/ann.json").unlink()
    assert recipes.main(["net.yaml"]) == 1 and "ann.json" in capsys.readouterr().err


def test_repository_has_no_results_of_a_benchmark() -> None:
    """Times belong to the machine that measured them."""
    assert re.search(r"^/benchmarks/results/$", (ROOT / ".gitignore").read_text(), re.MULTILINE)


def test_what_narrow_thresholds_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_dataset("digits", {}, tmp_path / "digits.npz", report=print)
    random = np.random.default_rng(0)
    weights = [random.integers(-127, 128, shape) for shape in ((4, 1, 3, 3), (6, 4, 8, 8))]
    network = chain("4C3-6", (1, 8, 8), weights, [2**24, 2**27], [-(2**20), -(2**21)], random.integers(-9, 9, (10, 6)))
    network = replace(network, origin={"net": "tiny", "precision": "k0", "dataset": "digits"})
    network.save(tmp_path / "spiking.npz")
    assert thresholds.main([str(tmp_path / "spiking.npz"), "--data", str(tmp_path), "--bits", "26", "12"]) == 0
    lines = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines[-3:]] == ["29", "26", "12"]
    differing = [int(line[4].split()[0].replace(",", "")) for line in lines[-3:]]
    assert differing[0] == 0 < differing[2] and differing[1] < differing[2]
    assert thresholds.main([str(tmp_path / "spiking.npz"), "--data", str(tmp_path), "--bits", "1"]) == 1
