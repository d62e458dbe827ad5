"""The benchmark: a quick run from end to end, what it refuses, and float32 against the exact engines."""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, OneLine

from negspike import SpikingNetwork, simulate
from negspike.errors import InputError
from negspike.spiking.simulation import ENGINES

sys.path.insert(0, str(ROOT))
pytest.importorskip("numba")

from benchmarks.float_network import FloatNetwork
from benchmarks.images import make_images

from benchmarks import limit, run
from benchmarks.contestants import CONTESTANTS, RUNNERS, Task
from benchmarks.limit import additions_in_registers_per_second, row_additions_per_second
from benchmarks.networks import (
    NETS,
    PUBLISHED,
    Course,
    Statistics,
    build_network,
    distance,
    make_network,
    measure_course,
)
from benchmarks.report import Row, table

EXACT = [name for name in ("event", "dense", "reference") if name in ENGINES]
FLOATS = ["torch-float32", "torch-float32-skipping"]


@dataclass
class Finished:
    folder: Path
    printed: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "FOLDER", folder)
        printed: list[str] = []
        patch.setattr("builtins.print", lambda text="", file=None, **_: None if file else printed.append(text))
        only = [*EXACT, *FLOATS, "sinabs", "dense-24bits"]
        run.main(["--quick", "--k", "1", "--threads", "1", "--out", str(folder), "--only", *only])
    return Finished(folder, "\n".join(printed))


@pytest.fixture(scope="module")
def tiny() -> SpikingNetwork:
    return build_network("tiny", 1, Statistics(0.0))


def read(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_quick_run(finished: Finished) -> None:
    """Every contestant that can run here has a line; what cannot is named with its reason."""
    measured = {row["contestant"] for row in read(finished.folder / "summary.csv")}
    assert measured >= {*EXACT, *FLOATS, "dense-24bits"}
    text = (finished.folder / "table.md").read_text()
    assert text.strip() == finished.printed.strip()
    assert "sinabs" in measured or "- sinabs: " in text
    for suffix in ("pdf", "svg", "png"):
        assert (finished.folder / f"time.{suffix}").stat().st_size > 1000
    machine = json.loads((finished.folder / "machine.json").read_text())
    assert machine["versions"]["torch"] == torch.__version__
    assert machine["arguments"]["threads"] == "1"


def test_summary_follows_from_raw_measurements(finished: Finished) -> None:
    raw = read(finished.folder / "raw.csv")
    for row in read(finished.folder / "summary.csv"):
        mine = [line for line in raw if line["contestant"] == row["contestant"] and line["event"] == "repetition"]
        times = [
            float(line["seconds"]) / int(line["images"]) * int(row["timesteps"]) / int(line["timesteps"])
            for line in mine
        ]
        assert float(row["seconds_best"]) == pytest.approx(min(times), rel=1e-2)
        assert float(row["seconds_median"]) == pytest.approx(float(np.median(times)), rel=1e-2)
        assert int(row["peak_bytes"]) == max(int(line["peak_bytes"]) for line in mine) >= int(row["imported_bytes"]) > 0


def test_table_shows_the_summary(finished: Finished) -> None:
    lines = (finished.folder / "table.md").read_text().splitlines()
    shown = {cells[1].strip(): cells for line in lines if line.startswith("| ") for cells in [line.split("|")]}
    for row in read(finished.folder / "summary.csv"):
        cells = shown[row["contestant"]]
        best = float(row["seconds_best"])
        assert float(cells[4]) == pytest.approx(best, rel=1e-3)
        assert float(cells[6]) == pytest.approx(int(row["timesteps"]) / best, rel=1e-3)
        if row["contestant"] in EXACT:
            assert float(cells[7]) * 1e9 == pytest.approx(float(row["sops_per_image"]) / best, rel=1e-2)


def test_sops_are_the_exact_ones(finished: Finished) -> None:
    """The table's SOPs per image are those of a simulation made here."""
    row = next(row for row in read(finished.folder / "summary.csv") if row["contestant"] == "dense")
    network = make_network("tiny", 1, 16, finished.folder)
    images = make_images(int(row["images"]), NETS["tiny"].shape)
    log = simulate(network, images, np.zeros(len(images)), int(row["timesteps"]), engine="reference")
    assert float(row["sops_per_image"]) == pytest.approx(log.sops[:, -1].mean(), rel=1e-5)


def test_other_dynamics_have_no_sops() -> None:
    def row(contestant: str) -> Row:
        return Row("cnn1", 0, contestant, 2, "", 100, 1, 1, 0.5, 0.5, 0.0, 1, 1, 1e9)

    lines = table([row("event"), row("sinabs")], {}, {}).splitlines()
    rates = {line.split("|")[1].strip(): line.split("|")[7].strip() for line in lines if line.startswith("| ")}
    assert rates["event"] == "2"
    assert rates["sinabs"] == ""


def worker(name: str, **arrays: Any) -> Any:
    return SimpleNamespace(contestant=CONTESTANTS[name], recording=arrays)


def recording(images: int, steps: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    whole = {name: random.integers(0, 9, (4, 10)) for name in ("predictions", "sops")}
    whole |= {name: random.integers(0, 9, (4, 10, 3)) for name in ("positive", "negative")}
    return {name: array[:images, :steps].copy() for name, array in whole.items()}


@pytest.mark.parametrize("key", ["predictions", "positive", "negative", "sops"])
def test_engines_that_disagree_are_refused(key: str) -> None:
    """One integer in what both simulated is enough; what only one of them simulated cannot be compared."""
    whole, part = recording(4, 10), recording(2, 6)
    run.check_agreement("tiny k0", [worker("dense", **whole), worker("reference", **part)])
    whole[key][3, 9] += 1
    run.check_agreement("tiny k0", [worker("dense", **whole), worker("reference", **part)])
    part[key][1, 5] += 1
    with OneLine(InputError, "tiny k0", "dense", "reference", key):
        run.check_agreement("tiny k0", [worker("dense", **whole), worker("reference", **part)])
    # Other weights give other integers.
    run.check_agreement("tiny k0", [worker("dense", **whole), worker("dense-24bits", **part)])


def test_counts_that_disagree_are_refused() -> None:
    one, other = recording(4, 10), recording(2, 10)
    one["counts0"], other["counts0"] = np.zeros((4, 5)), np.zeros((2, 5))
    run.check_agreement("tiny k0", [worker("dense", **one), worker("reference", **other)])
    other["counts0"][1, 4] = 1
    with OneLine(InputError, "counts0"):
        run.check_agreement("tiny k0", [worker("dense", **one), worker("reference", **other)])


def test_a_disagreement_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Nothing is reported, the exit code is 1."""

    def refuse(*_: Any) -> None:
        raise InputError("tiny k0: a and b differ in sops")

    monkeypatch.setattr(run, "FOLDER", tmp_path)
    monkeypatch.setattr(run, "check_agreement", refuse)
    with pytest.raises(SystemExit) as ended:
        run.main(["--quick", "--k", "0", "--threads", "1", "--out", str(tmp_path), "--only", "dense"])
    assert ended.value.code == 1
    assert "error: tiny k0: a and b differ in sops" in capsys.readouterr().err
    assert not (tmp_path / "table.md").exists()


def test_float32_is_nearly_exact(tiny: SpikingNetwork) -> None:
    """Spike totals, operations and predictions of plain float32, up to neurons that its rounding decides otherwise."""
    images = make_images(6, NETS["tiny"].shape)
    exact = simulate(tiny, images, np.zeros(6), 30, engine="dense")
    found = FloatNetwork(tiny).run(images, 30, record=True)
    assert exact.negative.sum() > 100
    for mine, theirs in ((found.positive.T, exact.positive), (found.negative.T, exact.negative)):
        assert np.abs(mine - theirs).sum() <= 0.01 * theirs.sum()
    assert found.sops.sum() == pytest.approx(exact.sops[:, -1].sum(), rel=0.01)
    assert (found.predictions[:, -1] == exact.predictions).sum() >= 5


def test_every_float32_way_does_the_same_steps(tiny: SpikingNetwork, tmp_path: Path) -> None:
    """Eager and frozen steps without leaving anything out reach the counts of the run that does."""
    images = make_images(2, NETS["tiny"].shape)
    tiny.save(tmp_path / "tiny.npz")
    np.save(tmp_path / "images.npy", images)
    task = Task("torch-float32", str(tmp_path / "tiny.npz"), str(tmp_path / "images.npy"), 20, 1, 0.01, (2,), False)
    runner = RUNNERS["dense"](task)
    expected = FloatNetwork(tiny).run(images, 20).predictions
    variants = list(runner.variants({}))  # type: ignore[attr-defined]
    assert [variant.name for variant in variants] == ["eager, batch 2", "frozen, batch 2"]
    for variant in variants:
        advance = variant.build()
        found = np.stack([advance().argmax(1).numpy() for _ in range(20)], 1)
        assert (found != expected).mean() < 0.05, variant.name


def test_images_are_standardised_and_repeatable() -> None:
    images = make_images(5, (3, 24, 24))
    np.testing.assert_array_equal(images[:2], make_images(2, (3, 24, 24)))
    np.testing.assert_allclose(images.mean((1, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(images.std((1, 2, 3)), 1, atol=1e-4)
    neighbours = np.mean([np.corrcoef(image[:, :, 1:].ravel(), image[:, :, :-1].ravel())[0, 1] for image in images])
    assert neighbours > 0.6
    assert np.array_equal(images * 2**16, np.rint(images * 2.0**16))


def test_networks_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_network("tiny", 0, 16, tmp_path)
    monkeypatch.setattr("benchmarks.networks.build_network", None)
    second = make_network("tiny", 0, 16, tmp_path)
    for one, other in zip(first.layers, second.layers, strict=True):
        np.testing.assert_array_equal(one.weight, other.weight)
    with OneLine(InputError, "tiny k7", "cnn1 k0"):
        make_network("tiny", 7)


def test_course_counts_what_the_exact_engine_counts(tiny: SpikingNetwork) -> None:
    images = make_images(3, NETS["tiny"].shape)
    log = simulate(tiny, images, np.zeros(3), 60, engine="dense")
    course = measure_course(tiny, images, 60)
    assert course.sops == pytest.approx(log.sops[:, -1].mean(), rel=0.01)
    assert course.spikes == pytest.approx(log.spikes[:, -1].mean(), rel=0.01)
    assert course.net_spikes == pytest.approx(log.net_spikes[:, -1].mean(), rel=0.01)
    assert course.sops_by[2] == pytest.approx(log.sops[:, 2].sum() / log.sops[:, -1].sum(), abs=0.01)


def test_distance() -> None:
    """0 for what was published, and more for every thing that is off."""
    published = PUBLISHED["cnn1", 0]
    same = Course(published.spikes, published.net_spikes, published.sops, published.sops_by, 29)
    assert distance(same, published) == 0
    assert distance(Course(same.spikes, same.net_spikes, 1.1 * same.sops, same.sops_by, 29), published) > 0.1
    late = (0.1, *same.sops_by[1:])
    assert distance(Course(same.spikes, same.net_spikes, same.sops, late, 29), published) > 0.1


def test_row_additions() -> None:
    """They check their own sums; the rates are those of a machine of this century."""
    assert 1e8 < row_additions_per_second(1, 256, 0.01) < 1e13
    assert 1e8 < additions_in_registers_per_second(2, 0.01) < 1e13


def test_row_additions_notice_a_wrong_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "_in_registers", lambda rows, order, sums, theta: None)
    with pytest.raises(ArithmeticError, match="does not add what it should"):
        additions_in_registers_per_second(1, 0.01)


def test_a_network_of_ones_own(tiny: SpikingNetwork, tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    tiny.save(path)
    out = tmp_path / "out"
    run.main(
        [
            *("--network", str(path), "--images", "2", "--timesteps", "8", "--repetitions", "1", "--threads", "1"),
            *("--out", str(out), "--only", "dense", "reference"),
        ]
    )
    rows = read(out / "summary.csv")
    assert {row["contestant"] for row in rows} == {"dense", "reference"}
    with pytest.raises(SystemExit) as ended:
        run.main(["--network", str(tmp_path / "absent.npz"), "--out", str(out)])
    assert ended.value.code == 1


def test_arguments(capsys: Any) -> None:
    for wrong, word in ((["--threads", "0"], "at least 1"), (["--data", "x.npz"], "--network"), (["--nets", "x"], "x")):
        with pytest.raises(SystemExit) as ended:
            run.parse(wrong)
        assert ended.value.code == 2
        assert word in capsys.readouterr().err
    parsed: argparse.Namespace = run.parse(["--quick"])
    assert parsed.nets == ["tiny"]


def test_repository_has_no_results_of_a_benchmark() -> None:
    """Times belong to the machine that measured them."""
    assert re.search(r"^/benchmarks/results/$", (ROOT / ".gitignore").read_text(), re.MULTILINE)
