"""The figures of single networks: which neurons, which numbers, and what they are read from."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import OneLine
from drawn import SPIKES, efficiency, streamed, traced
from matplotlib.figure import Figure
from test_figures import curves

from negspike.errors import InputError
from negspike.figures import build, draw, neuron, read
from negspike.figures.tradeoff import Costs
from negspike.precision import Precision
from negspike.results.published import Published, PublishedCurve
from negspike.results.traces import write_trace

K0, K1 = Precision("k", 0), Precision("k", 1)


def texts(figure: Figure) -> list[str]:
    return [" ".join(text.get_text().split()) for axes in figure.axes for text in axes.texts]


def drawn_csv(kind: str, data: Any, folder: Path) -> list[dict[str, str]]:
    draw(kind, data, {"csv": folder / "drawn.csv"})
    with open(folder / "drawn.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def points(axes: Any, marker: str) -> list[tuple[float, float]]:
    found = [line.get_xydata() for line in axes.lines if line.get_marker() == marker]
    return [tuple(point) for points in found for point in np.round(points, 6).tolist()]


def test_the_raster_has_every_spike_and_says_when_a_layer_is_silent(tmp_path: Path) -> None:
    figure = build("raster", [traced()])
    (axes,) = figure.axes
    assert texts(figure) == ["silent after 3", "silent after 4"], "of all neurons, not only those that are drawn"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first\n3 of 300", "second\n3 of 3"]
    ups, downs = points(axes, "|"), points(axes, "<")
    assert sorted(round(x) for x, _ in ups) == [1, 1, 2, 2, 2, 3, 4, 4] and [round(x) for x, _ in downs] == [3]
    # in each layer the neurons that spike for longest are above
    assert {round(x): int(y < 0.5) for x, y in ups if y < 1 and x > 1.5} == {2: 1}
    rows = drawn_csv("raster", [traced()], tmp_path)
    found = {(row["layer"], int(row["neuron"]), int(row["timestep"])): int(row["spike"]) for row in rows}
    names = ("first", "second")
    assert found == {
        (names[population], number, t + 1): spike
        for (population, number), spikes in SPIKES.items()
        for t, spike in enumerate(spikes)
        if spike
    }


def test_a_raster_that_still_spikes_says_so() -> None:
    busy = traced(positive=np.array([[9, 5, 2, 0, 0], [0, 2, 1, 2, 1]]))
    assert texts(build("raster", [busy]))[1] == "still spiking at 5"


def test_which_neurons_walk() -> None:
    assert neuron.chosen(traced().trace) == {
        "positive spikes alone": 0,
        "most spikes taken back": 3,
        "most spikes of the last layer": 4,
    }
    quiet = traced(counts=np.zeros((6, 5), int)).trace
    assert neuron.chosen(quiet) == {}
    with OneLine(InputError, "figure 'neuron'", "no neuron that is watched spikes"):
        build("neuron", [replace(traced(), trace=quiet)])


def test_a_walking_neuron(tmp_path: Path) -> None:
    """Above the band of its thresholds it spikes, below it takes a spike back; it ends at the activation."""
    axes = build("neuron", [traced()]).axes[1]
    assert points(axes, "^") == [(2, 1.3), (4, 1.3)] and points(axes, "v") == [(3, 0.8)]
    rows = [row for row in drawn_csv("neuron", [traced()], tmp_path) if row["why"] == "most spikes taken back"]
    before = 0
    for row in rows:
        potential, spike = float(row["potential"]), int(row["spike"])
        assert spike == (potential >= before + 1) - (before > 0 and potential < before)
        before += spike
        assert int(row["net_spike_count"]) == before
    assert before == int(rows[-1]["activation"]) == 1


def test_traces_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "small/seed0/k0/trace.npz"
    with OneLine(InputError, "small/seed0/k0/trace.npz", "no such file"):
        read("raster", tmp_path, [("small", 0, "k0")])
    write_trace(traced(), path)
    (found,) = read("neuron", tmp_path, [("small", 0, "k0")])
    assert (found.net, found.image, found.label) == ("small", 0, 7) and found.trace.populations == ("first", "second")
    for name, values in vars(traced().trace).items():
        assert np.array_equal(getattr(found.trace, name), values), name
    for changes in (
        {"theta": np.ones(5, int)},
        {"positive": np.ones((2, 4), int)},
        {"population": np.full(6, 2)},
        {"theta": np.zeros(6, int)},
    ):
        write_trace(traced(**changes), path)
        with OneLine(InputError, "trace.npz", "not a trace of neurons", "delete it and run again"):
            read("raster", tmp_path, [("small", 0, "k0")])
    path.write_bytes(path.read_bytes()[:-40])
    with OneLine(InputError, "trace.npz", "delete it and run again"):
        read("raster", tmp_path, [("small", 0, "k0")])


def test_accuracy_against_operations_and_energy(tmp_path: Path) -> None:
    one = efficiency(replace(curves(k=1), ann_accuracy=0.9))
    figure = build("tradeoff", Costs([one, efficiency(curves(k=0, spiking=True))]))
    operations, arithmetic, memory = figure.axes
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels[1:] == ["energy per image, arithmetic alone (µJ)", "energy per image, with memory (µJ)"]
    marks = {line.get_gid(): np.asarray(line.get_xydata()) for line in operations.lines if line.get_gid()}
    assert np.allclose(marks["settled k1"], [[5, 90]]) and np.allclose(marks["ANN k1"], [[20, 90]])
    assert "settled k0" not in marks, "it still spikes, and may change"
    (curve,) = (
        line for line in memory.lines if len(np.asarray(line.get_xdata())) == 8 and line.get_color() == "#D55E00"
    )
    assert np.allclose(np.asarray(curve.get_xdata()), 10 * one.curves.sops / 1e6)
    legend = arithmetic.get_legend()
    assert legend is not None and "k = 1: 5.00 µJ, 0.25 of the ANN's" in [
        text.get_text() for text in legend.get_texts()
    ]
    rows = drawn_csv("tradeoff", Costs([one]), tmp_path)
    assert [float(row["energy_with_memory_pj"]) for row in rows] == one.energy[1].tolist()
    assert {row["ann_energy_with_memory_pj"] for row in rows} == {"10000000.0"}


def test_published_curves_are_thin_lines_against_operations(tmp_path: Path) -> None:
    series = {"accuracy": np.array([0.5, 0.9]), "sops_per_image": np.array([1e6, 4e6])}
    theirs = {precision: PublishedCurve("small", precision, np.array([1, 9]), series) for precision in (K0, K1)}
    published = Published("somebody", {"small": theirs, "other": theirs}, {})
    both = Costs([efficiency(curves())], published)
    figure, before = build("tradeoff", both), build("tradeoff", Costs(both.networks))
    more = [len(one.lines) - len(other.lines) for one, other in zip(figure.axes, before.axes, strict=True)]
    assert more == [2, 0, 0], "of the precisions that are ours, and what the line means"
    legend = figure.axes[0].get_legend()
    assert legend is not None and "thin: somebody" in [text.get_text() for text in legend.get_texts()]
    (thin,) = (line for line in figure.axes[0].lines if line.get_gid() == "published k0")
    assert np.allclose(np.asarray(thin.get_xydata()), [[1, 50], [4, 90]])
    rows = [row for row in drawn_csv("tradeoff", both, tmp_path) if row["source"]]
    assert [(row["timestep"], float(row["accuracy"]), float(row["sops_per_image"])) for row in rows] == [
        ("1", 0.5, 1e6),
        ("9", 0.9, 4e6),
    ]


def test_what_streaming_saves(tmp_path: Path) -> None:
    frames, pixels = build("streaming", [streamed()]).axes
    legend = frames.get_legend()
    assert legend is not None
    # 10,000 of 28,000 operations behind the first frame
    words = [" ".join(text.get_text().split()) for text in legend.get_texts()]
    assert words[1] == "state kept, changes fed in: 36 % of these SOPs, equal in 7 of 8 frames"
    assert np.allclose(np.asarray(frames.lines[0].get_ydata()), [4.5, 4.5, 4.5, 5])
    assert points(pixels, "o") == [(9, 5), (8, 4), (0, 0), (0, 0), (3, 0.8), (2, 0.7), (7, 4.5), (7, 4)]
    rows = drawn_csv("streaming", [streamed()], tmp_path)
    assert [int(row["sops"]) for row in rows] == streamed().sops.ravel().tolist()
    assert [row["equal"] for row in rows] == ["1"] * 7 + ["0"]


@pytest.mark.parametrize("content", ["", "frame,stream\n1,2\n", "frame;stream"])
def test_a_table_of_frames_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "small/seed0/k0/stream.csv"
    with OneLine(InputError, "k0/stream.csv", "no such file"):
        read("streaming", tmp_path, [("small", 0, "k0")])
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with OneLine(InputError, "k0/stream.csv", "delete it and run again"):
        read("streaming", tmp_path, [("small", 0, "k0")])
