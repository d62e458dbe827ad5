"""The figures: what they say is what the curves say, the CSV too, and the same curves give the same bytes."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, OneLine
from drawn import efficiency, streamed, traced
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from test_logs import image_counts

from negspike.commands import main
from negspike.errors import InputError
from negspike.figures import CURVES, FORMATS, KINDS, build, draw, read
from negspike.figures.style import look, styled
from negspike.figures.tradeoff import Costs
from negspike.precision import Precision
from negspike.results.collect import Results, collect
from negspike.results.histories import History
from negspike.results.metrics import Curves
from negspike.results.published import Published, PublishedCurve
from negspike.results.spikes import Spikes
from negspike.spiking.logs import batch_logs, write_logs

SUFFIXES = (*FORMATS, "csv")


def curves(
    net: str = "small", seed: int = 0, k: int = 0, final: float = 0.9, spiking: bool = False, T: int = 8
) -> Curves:
    """A network that rises to its final accuracy in step 5, with 2^k spikes a neuron, a quarter of them negative."""
    rise = np.minimum(np.arange(1, T + 1), 5) / 5
    last = np.zeros(T)
    last[-1] = spiking
    spikes = 100.0 * 2**k * rise + last
    return Curves(
        net=net,
        seed=seed,
        k=k,
        images=1000,
        accuracy=np.rint(1000 * final * rise) / 1000,
        spikes=spikes,
        net_spikes=spikes / 2,
        sops=2.5e6 * 2**k * rise,
        neurons=100,
        reference_operations=20_000_000,
    )


def legends(figure: Figure) -> dict[str, list[str]]:
    """Legend texts of each panel."""
    texts = {}
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        texts[axes.get_title(loc="left")] = [" ".join(text.get_text().split()) for text in legend.get_texts()]
    return texts


def spikes(net: str = "small", seed: int = 0, k: int = 0, T: int = 8, wrong: int = 0) -> Spikes:
    """Two populations of 3 and 2 neurons, 4 images; the second fires a step later; activations of up to 2^k."""
    positive = np.zeros((2, T))
    positive[0, :3], positive[1, 1:4] = 2.0**k / 8, 2.0**k / 800
    joint = np.array([[0, 0, 2**k], [0, 2**k, 2**k], [9, wrong, 11 - wrong]])
    differing = np.array([wrong, 0, 0, 0])
    names = ("first", "second")
    return Spikes(net, seed, Precision("k", k), names, positive, positive / 4, differing, joint[:, joint[2] > 0])


def history(net: str = "small", seed: int = 0, precision: str = "k0", epochs: int = 5) -> History:
    rise = np.arange(1, epochs + 1) / epochs
    start = int(precision == "fp32")
    loss = np.exp(-rise) if start else np.append(np.nan, np.exp(-rise[1:]))
    return History(net, seed, Precision.parse(precision), loss, 0.9 * rise + seed / 100, np.arange(epochs) + start)


TWO = [curves(k=0), curves(k=1, final=0.912, spiking=True)]
DATA: dict[str, Any] = dict.fromkeys(CURVES, Results(TWO, {"small": [0.9]})) | {
    "tradeoff": Costs([efficiency(one) for one in TWO]),
    "raster": [traced()],
    "neuron": [traced()],
    "streaming": [streamed()],
    "lossless": [spikes(k=0), spikes(k=1, wrong=2)],
    "firing": [spikes(k=0), spikes(k=1, T=6)],
    "training": [history(precision="fp32"), history(), history(seed=1)],
}


def grid(kind: str, nets: int) -> Any:
    """Nets of three precisions and two seeds; of what is drawn of one network a net, as many nets."""
    if kind in ("raster", "neuron", "streaming"):
        made = streamed if kind == "streaming" else traced
        return [replace(made(k=index % 3), net=f"net{index}") for index in range(nets)]
    cases = [(f"net{index}", seed, index) for index in range(nets) for seed in (0, 1)]
    if kind == "training":
        names = ("fp32", "k0", "k1")
        return [history(net, seed, name, epochs=4 + index) for net, seed, index in cases for name in names]
    if kind == "tradeoff":
        return Costs([efficiency(curves(net, seed, k, T=8 + index)) for net, seed, index in cases for k in (0, 1, 2)])
    return [spikes(net, seed, k, T=8 + 12 * index, wrong=k) for net, seed, index in cases for k in (0, 1, 6)]


def test_accuracy_legend() -> None:
    texts = legends(build("accuracy_speed", Results(TWO, {"small": [0.9053]})))["small"]
    assert texts[:3] == [
        "k = 0: 90.00 %, settled at step 5",
        "k = 1: 91.20 %, still spiking at step 8",
        "FP32: 90.53 %",
    ]


def test_the_accuracy_figure_says_what_the_ann_has_and_which_images_are_equal() -> None:
    runs = [replace(one, ann_accuracy=0.911, equal_images=1000 - one.seed) for one in (curves(), curves(seed=1))]
    (axes,) = (figure := build("accuracy_speed", Results(runs, {}))).axes
    assert legends(figure)["small"] == [
        "k = 0: 90.00 %, settled at step 5, equal in 1,999 of 2,000 images",
        "settled: the accuracy no longer changes",
        "at the right edge: the quantised ANN itself",
    ]
    (tick,) = (line for line in axes.lines if line.get_gid() == "ANN k0")
    assert np.allclose(np.asarray(tick.get_xydata()), [[1, 91.1]])


@pytest.mark.parametrize(("rise", "expected"), [(2, 0.66), (60, 0.12)])
def test_the_whole_range_is_in_an_inset_where_no_curve_is(rise: int, expected: float) -> None:
    accuracy = np.round(0.1 + 0.88 * np.minimum(np.arange(1, 101) / rise, 1) ** 4, 3)
    one = replace(curves(T=100), accuracy=accuracy)
    figure = build("accuracy_speed", Results([one], {}))
    figure.canvas.draw()
    (axes,) = figure.axes
    (inset,) = axes.child_axes
    assert np.allclose(np.asarray(inset.lines[0].get_ydata()), 100 * accuracy) and inset.get_ylim() == (0, 100)
    left = axes.transAxes.inverted().transform(inset.bbox)[0, 0]
    assert left == pytest.approx(expected)


def rising(rises: dict[int, int]) -> list[Curves]:
    """For each k, a curve that has risen by that step."""
    steps = np.arange(1, 101)
    return [
        replace(curves(k=k, T=100), accuracy=np.round(0.1 + 0.88 * np.minimum(steps / rise, 1) ** 4, 3))
        for k, rise in rises.items()
    ]


def test_no_inset_on_top_of_a_curve() -> None:
    (axes,) = build("accuracy_speed", Results(rising({0: 3, 1: 9, 2: 45}), {})).axes
    assert axes.child_axes == [] and [text.get_text() for text in axes.texts] == ["k = 0", "k = 1", "k = 2"]


def test_curves_are_named_where_they_rise() -> None:
    """Beside their line, on the side where no inset is, in its colour; what is never below has no name there."""
    runs = rising({0: 3, 1: 9, 2: 14})
    runs.append(replace(curves(k=3, T=100), accuracy=np.full(100, 0.97)))
    figure = build("accuracy_speed", Results(runs, {}))
    figure.canvas.draw()
    (axes,) = figure.axes
    names = {text.get_text(): text for text in axes.texts}
    assert list(names) == ["k = 0", "k = 1", "k = 2"]
    inset = axes.child_axes[0].get_window_extent()
    for text, drawn in zip(names.values(), axes.lines[::2], strict=False):
        assert not text.get_window_extent().overlaps(inset)
        box = text.get_window_extent()
        line = axes.transData.transform(drawn.get_xydata())
        beside = np.interp((box.y0 + box.y1) / 2, line[:, 1], line[:, 0])
        assert min(abs(box.x0 - beside), abs(box.x1 - beside)) < figure.dpi / 10 and not box.x0 < beside < box.x1
    colours = {text.get_color() for text in names.values()}
    assert len(colours) == 3 and colours <= {drawn.get_color() for drawn in axes.lines}


def test_no_inset_where_the_panel_shows_everything() -> None:
    one = replace(curves(), accuracy=np.linspace(0.945, 0.95, 8))
    (axes,) = build("accuracy_speed", Results([one], {})).axes
    assert axes.child_axes == []


@pytest.mark.parametrize("kind", KINDS)
def test_for_a_talk_everything_is_twice_as_large(tmp_path: Path, kind: str) -> None:
    paper, talk = build(kind, DATA[kind]), build(kind, DATA[kind], style="talk")
    assert np.allclose(talk.get_size_inches(), 2 * paper.get_size_inches())
    sizes = []
    for style, figure in (("paper", paper), ("talk", talk)):
        with styled(style):
            assert_nothing_overlaps(figure)
        sizes.append(sorted({round(float(text.get_fontsize()), 3) for text in figure.findobj(Text) if text.get_text()}))
    assert sizes[1] == pytest.approx([2 * size for size in sizes[0]])
    draw(kind, DATA[kind], {"csv": tmp_path / "talk.csv"}, style="talk")
    draw(kind, DATA[kind], {"csv": tmp_path / "paper.csv"})
    assert (tmp_path / "talk.csv").read_bytes() == (tmp_path / "paper.csv").read_bytes()


def test_an_unknown_style_is_refused() -> None:
    with OneLine(InputError, "'poster'", "paper, talk"):
        build("sops", DATA["sops"], style="poster")


def test_sparsity_legend() -> None:
    texts = legends(build("sparsity", Results(TWO, {})))["small"]
    assert texts == [
        "k = 0: 1.000 spikes per neuron, 0.1250 a step, 25.0 % negative",
        "k = 1: 2.010 spikes per neuron, 0.2512 a step, 25.0 % negative, still spiking at step 8",
        "all spikes, positive and negative",
        "net spikes, positive minus negative",
    ]


def test_sops_legend() -> None:
    texts = legends(build("sops", Results(TWO, {})))["small"]
    assert texts == [
        "k = 0: 2.500 million SOPs, 12.5 % of the ANN",
        "k = 1: 5.000 million SOPs, 25.0 % of the ANN, still spiking at step 8",
        "ANN: 20.00 million operations, 3 for each MAC",
    ]


def test_several_seeds_give_mean_and_range() -> None:
    runs = [curves(seed=0, final=0.9), curves(seed=1, final=0.91, spiking=True), curves(seed=2, final=0.92)]
    figure = build("accuracy_speed", Results(runs, {"small": [0.93, 0.95]}))
    assert legends(figure)["small"][:2] == [
        "k = 0: 91.00 (90.00–92.00) %, settled at step 5 (2 of 3 seeds), still spiking at step 8 (1 of 3 seeds)",
        "FP32: 94.00 (93.00–95.00) %",
    ]
    (axes,) = figure.axes
    assert np.allclose(np.asarray(axes.lines[0].get_ydata()), 100 * np.mean([run.accuracy for run in runs], axis=0))
    band = axes.collections[0].get_paths()[0].vertices
    assert np.isclose(np.asarray(band)[:, 1].max(), 92) and np.isclose(np.asarray(band)[:, 1].min(), 18)


def test_the_settled_step_is_marked_on_the_curve() -> None:
    (axes,) = build("accuracy_speed", Results(TWO, {})).axes
    marks = {line.get_gid(): line.get_xydata() for line in axes.lines if line.get_gid()}
    assert np.allclose(np.asarray(marks["settled k0"]), [[5, 90.0]])
    assert "settled k1" not in marks, "it still spikes, and may change"


@pytest.mark.parametrize("kind", CURVES)
@pytest.mark.parametrize("nets", range(1, 7))
def test_a_panel_for_each_net_and_nothing_overlaps(kind: str, nets: int) -> None:
    runs = [
        curves(net=f"net{index}", seed=seed, k=k, final=0.9 + 0.01 * k + 0.001 * seed, spiking=k == 2, T=8 + 12 * index)
        for index in range(nets)
        for seed in (0, 1)
        for k in (0, 1, 2)
    ]
    fp32 = {f"net{index}": [0.91, 0.92] for index in range(nets)}
    figure = build(kind, Results(runs, fp32, theirs(T=40, neurons=7, net="net0")))
    assert list(legends(figure)) == [f"net{index}" for index in range(nets)]
    assert_nothing_overlaps(figure)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - CURVES.keys()))
@pytest.mark.parametrize("nets", (1, 2, 5))
def test_nothing_overlaps_in_grids(kind: str, nets: int) -> None:
    assert_nothing_overlaps(build(kind, grid(kind, nets)))


def test_a_long_name_over_all_columns_stays_on_the_page() -> None:
    figure = build("neuron", [replace(traced(), net="resnet20_on_all_of_cifar100_finetuned_for_long")])
    figure.canvas.draw()
    box = figure.axes[0]._left_title.get_window_extent()  # type: ignore[attr-defined]
    assert box.x0 >= 0 and figure.axes[0].get_window_extent().y1 < box.y0 and box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"neuron"}))
def test_long_names_overlap_nothing(kind: str) -> None:
    name = "resnet20_on_all_of_cifar100_finetuned"
    data: Any
    if kind in CURVES:
        data = Results([curves(net=f"{name}{index}", k=k) for index in (0, 1, 2) for k in (0, 1)], {})
    elif kind == "tradeoff":
        data = Costs([efficiency(curves(net=f"{name}{index}")) for index in (0, 1, 2)])
    else:
        data = [replace(one, net=name + one.net) for one in grid(kind, 2)]
    assert_nothing_overlaps(build(kind, data))


@pytest.mark.parametrize("kind", ("firing", "lossless"))
def test_one_layer_one_step_and_one_count(kind: str) -> None:
    """Ticks are whole numbers, and none is outside of what is there."""
    one = spikes("small", 0, 0, T=1)
    few = replace(one, layers=one.layers[:1], positive=one.positive[:1], negative=one.negative[:1])
    axes, *_, bar = (figure := build(kind, [replace(few, joint=np.array([[0], [0], [9]]))])).axes
    figure.canvas.draw()
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        labels = [axis.get_major_formatter()(tick) for tick in axis.get_majorticklocs() if low <= tick <= high]
        assert labels in (["0"], ["1"])
    assert not any("mathdefault" in text.get_text() for text in bar.get_yticklabels(minor=True))


def test_no_two_precisions_look_alike() -> None:
    precisions = [Precision("k", k) for k in range(9)] + [Precision("levels", 2**n - 1) for n in range(1, 11)]
    looks = {tuple(sorted(look(one, precisions).items())) for one in precisions}
    assert len(looks) == len(precisions)


def test_negative_net_spikes_are_drawn() -> None:
    (axes,) = build("sparsity", Results([replace(curves(), net_spikes=curves().net_spikes - 100)], {})).axes
    assert axes.get_ylim()[0] < 0


def test_a_network_that_was_not_trained_says_so() -> None:
    one = History("small", 0, Precision("levels", 3), np.array([np.nan]), np.array([0.5]), np.array([0]))
    figure = build("training", [one])
    assert legends(figure)["small"] == ["3 levels: 50.00 % without training"]
    assert figure.axes[1].lines[0].get_marker() != "None", "a line would not be seen"


def assert_nothing_overlaps(figure: Figure) -> None:
    figure.canvas.draw()
    page = figure.bbox
    boxes = []
    for axes in figure.axes:
        if legend := axes.get_legend():
            boxes.append(legend.get_window_extent())
            legend.remove()
        panel = axes.get_tightbbox()
        assert panel is not None
        boxes.append(panel)
    for index, box in enumerate(boxes):
        assert box.x0 >= page.x0 and box.x1 <= page.x1 and box.y0 >= page.y0 and box.y1 <= page.y1
        for other in boxes[:index]:
            assert min(box.x1, other.x1) <= max(box.x0, other.x0) or min(box.y1, other.y1) <= max(box.y0, other.y0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_curves_give_the_same_bytes(tmp_path: Path, kind: str) -> None:
    written = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        draw(kind, DATA[kind], {suffix: folder / f"{kind}.{suffix}" for suffix in SUFFIXES})
        assert sorted(path.name for path in folder.iterdir()) == sorted(f"{kind}.{suffix}" for suffix in SUFFIXES)
        written.append({suffix: (folder / f"{kind}.{suffix}").read_bytes() for suffix in SUFFIXES})
    assert written[0] == written[1]
    assert written[0]["pdf"].startswith(b"%PDF") and written[0]["png"].startswith(b"\x89PNG")
    assert b"/Type3" not in written[0]["pdf"], "fonts are to be embedded as TrueType"
    for suffix in ("pdf", "svg"):
        assert b"Date" not in written[0][suffix]
    svg = written[0]["svg"].decode()
    assert f"<title>{KINDS[kind].TITLE}</title>" in svg and "<text" in svg, "text stays text"
    # docutils refuses lines of 10,000 characters, and the report's first page writes some as three
    assert max(map(len, svg.splitlines())) < 3000
    for words in ("small", "k = 0"):
        assert words in re.findall(r"<dc:description>(.*?)</dc:description>", svg, re.DOTALL)[0]
        assert words.encode() in written[0]["png"]


def theirs(T: int = 8, neurons: int = 100, net: str = "small") -> Published:
    """Of k = 0 and 3: the first is ours, too."""
    series = {name: np.linspace(0.5, 0.85, T) for name in ("accuracy", "spikes_per_neuron", "net_spikes_per_neuron")}
    series["sops_per_image"] = np.linspace(1e6, 2e6, T)
    steps = np.arange(1, T + 1)
    curves = {
        name: {one: PublishedCurve(name, one, steps, series, neurons) for one in (Precision("k", 0), Precision("k", 3))}
        for name in (net, "other")
    }
    return Published("Who et al. 1999", curves, {net: 0.92})


def beside(published: Published, runs: list[Curves] = TWO) -> Results:
    return Results(runs, {"small": [0.9]}, published)


def test_published_curves_are_thin_lines() -> None:
    (axes,) = (figure := build("accuracy_speed", beside(theirs()))).axes
    lines = {line.get_gid(): line for line in axes.lines}
    thin, ours = lines["published accuracy k0"], next(line for line in axes.lines if "k = 0" in str(line.get_label()))
    assert np.allclose(np.asarray(thin.get_ydata()), np.linspace(50, 85, 8))
    assert np.array_equal(np.asarray(thin.get_xdata()), np.arange(1, 9))
    assert "published accuracy k3" not in lines, "ours has no k = 3"
    assert thin.get_linewidth() < ours.get_linewidth() and thin.get_color() == ours.get_color()
    assert legends(figure)["small"] == [
        "k = 0: 90.00 %, settled at step 5, published 85.00 %",
        "k = 1: 91.20 %, still spiking at step 8",
        "FP32: 90.00 %, published 92.00 %",
        "settled: the accuracy no longer changes",
        "thin: Who et al. 1999",
    ]
    low, high = axes.get_ylim()
    assert low < 85 and high > 92, "what is published is seen"


def test_published_spikes_are_thin_lines() -> None:
    (axes,) = (figure := build("sparsity", beside(theirs()))).axes
    found = {str(line.get_gid()) for line in axes.lines if "published" in str(line.get_gid())}
    assert found == {"published spikes_per_neuron k0", "published net_spikes_per_neuron k0"}
    words = legends(figure)["small"]
    assert words[0] == "k = 0: 1.000 spikes per neuron, 0.1250 a step, 25.0 % negative, published 0.850"
    assert words[-1] == "thin: Who et al. 1999"


def test_published_operations_are_outlined_bars() -> None:
    (axes,) = (figure := build("sops", beside(theirs()))).axes
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.get_height()]
    assert [(bar.get_height(), to_rgba(bar.get_facecolor())[3] > 0) for bar in bars] == [
        (2.5, True),
        (2.0, False),
        (5.0, True),
    ], "ours filled, theirs outlined, in millions"
    assert all(bar.get_x() > 8 and bar.get_width() > 0 for bar in bars)
    assert bars[-1].get_x() + bars[-1].get_width() < axes.get_xlim()[1]
    words = legends(figure)["small"]
    assert words[0] == "k = 0: 2.500 million SOPs, 12.5 % of the ANN, published 2.000 million"
    assert words[-1] == "bars, at the end: filled ours, outlined Who et al. 1999"


def test_bars_of_a_single_step_are_seen() -> None:
    (axes,) = build("sops", Results([curves(T=1)], {}, theirs(T=1))).axes
    assert all(bar.get_width() > 0 for bar in axes.patches if isinstance(bar, Rectangle) and bar.get_height())


def test_another_size_of_the_published_network_is_said() -> None:
    assert legends(build("sparsity", beside(theirs(neurons=1600))))["small"][-1] == (
        "thin: Who et al. 1999 (1,600 neurons)"
    )


def test_what_is_longer_is_drawn_to_its_end() -> None:
    (axes,) = build("accuracy_speed", beside(theirs(T=20))).axes
    assert axes.get_xlim()[1] > 20


@pytest.mark.parametrize("kind", CURVES)
def test_a_net_that_is_not_published_is_drawn_as_ever(kind: str) -> None:
    alone, published = (build(kind, Results(TWO, {}, one)) for one in (None, theirs(net="another")))
    assert legends(alone) == legends(published)
    assert len(alone.axes[0].get_children()) == len(published.axes[0].get_children())


@pytest.mark.parametrize("kind", CURVES)
def test_the_csv_holds_what_is_published_with_its_source(kind: str, tmp_path: Path) -> None:
    draw(kind, beside(theirs(), [TWO[0]]), {"csv": tmp_path / "figure.csv"})
    rows = read_csv(tmp_path / "figure.csv")
    assert [row["source"] for row in rows] == [""] * 8 + ["Who et al. 1999"] * 8
    name = {"accuracy_speed": "accuracy", "sparsity": "spikes_per_neuron", "sops": "sops_per_image"}[kind]
    series = theirs().curves["small"][Precision("k", 0)].series[name]
    assert [float(row[name]) for row in rows[8:]] == series.tolist()
    assert {(row["net"], row["seed"], row["k"]) for row in rows[8:]} == {("small", "", "0")}


def test_command_line_draws_beside_published_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "logs/lenet/k0", timesteps=20, images=12)
    write_run(tmp_path / "logs/mlp/k1", timesteps=40, images=12)
    arguments = (tmp_path / "logs", tmp_path / "out", "--batch-size", "4", "--published")
    assert command_line(*arguments, "zou2023") == 0
    published = [row for row in read_csv(tmp_path / "out/sops.csv") if row["source"] == "Zou et al. 2023"]
    assert {(row["net"], row["k"]) for row in published} == {("lenet", "0"), ("mlp", "1")}
    assert float(published[-1]["sops_per_image"]) == pytest.approx(127654.7, abs=0.1)
    assert command_line(*arguments, str(tmp_path / "logs")) == 0
    rows = read_csv(tmp_path / "out/sops.csv")
    ours, others = ([row["sops_per_image"] for row in rows if row["source"] == source] for source in ("", "logs"))
    assert ours == others
    assert command_line(*arguments, "zou") == 1
    assert "zou: there is no such file" in capsys.readouterr().err


def texts(figure: Figure) -> list[str]:
    return [" ".join(text.get_text().split()) for axes in figure.axes for text in axes.texts]


def test_the_lossless_figure_counts_what_is_equal() -> None:
    figure = build("lossless", [spikes(), spikes(seed=1), spikes(k=1, wrong=2)])
    assert texts(figure) == [
        "8 of 8 images, 40 of 40 neurons equal",
        "3 of 4 images, 18 of 20 neurons equal",
    ]
    cells = [collection.get_array() for axes in figure.axes[:2] for collection in axes.collections]
    assert [np.asarray(values).tolist() for values in cells] == [[18, 22], [], [9, 9], [2]]


def test_many_different_counts_share_cells() -> None:
    joint = np.stack([np.arange(-100, 200), np.arange(-100, 200), np.ones(300, int)])
    figure = build("lossless", [replace(spikes(), joint=joint)])
    assert figure.axes[0].get_ylabel() == "net spike count (cells of 5)"
    assert np.asarray(figure.axes[0].collections[0].get_array()).tolist() == [5] * 60


def test_the_firing_figure_shows_each_layer_and_step() -> None:
    figure = build("firing", [spikes(), spikes(seed=1, T=6)])
    maps: list[Any] = [np.ma.asarray(axes.collections[0].get_array()) for axes in figure.axes[:2]]
    positive, negative = maps
    assert positive.shape == (2, 8)
    assert np.allclose(positive.filled(0), spikes().positive) and np.allclose(negative.filled(0), spikes().negative)
    assert positive.mask.sum() == 10
    norms = {(axes.collections[0].norm.vmin, axes.collections[0].norm.vmax) for axes in figure.axes[:2]}
    assert len(norms) == 1, "one scale of colours"


def test_the_training_figure_shows_loss_and_accuracy() -> None:
    loss, accuracy = build("training", DATA["training"]).axes
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == [  # type: ignore[union-attr]
        "FP32: 90.00 % after epoch 5",
        "k = 0: 90.50 (90.00–91.00) % after epoch 4",
    ]
    assert np.allclose(np.asarray(accuracy.lines[0].get_ydata()), [18, 36, 54, 72, 90])
    assert np.asarray(loss.lines[1].get_xdata()).tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(np.asarray(loss.lines[1].get_ydata())[0]), "before any training there is no loss"


@pytest.mark.parametrize("kind", ["lossless", "firing", "training"])
def test_the_csv_holds_what_the_grids_show(tmp_path: Path, kind: str) -> None:
    draw(kind, DATA[kind], {"csv": tmp_path / "drawn.csv"})
    rows = read_csv(tmp_path / "drawn.csv")
    first = rows[0]
    if kind == "lossless":
        assert sum(int(row["neurons"]) for row in rows) == 40
        assert [row["net_spike_count"] for row in rows if row["activation"] != row["net_spike_count"]] == ["2"]
    elif kind == "firing":
        assert len(rows) == 2 * 8 + 2 * 6 and first["layer"] == "first"
        assert (first["positive_spikes_per_neuron"], first["negative_spikes_per_neuron"]) == ("0.125", "0.03125")
    else:
        assert [(row["k"], row["epoch"], row["loss"] == "") for row in rows if row["seed"] == "0"] == [
            *(("", str(epoch), False) for epoch in range(1, 6)),
            *(("0", str(epoch), epoch == 0) for epoch in range(5)),
        ]


def test_an_evaluation_of_an_earlier_version_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "small/seed0/k0"
    folder.mkdir(parents=True)
    arrays: Any = {
        "positive": np.ones((2, 3), int),
        "negative": np.zeros((2, 3), int),
        "differing_neurons": np.zeros(4, int),
    }
    layers = [{"name": "a", "neurons": 3}, {"name": "b", "neurons": 2}]
    (folder / "evaluation.json").write_text(json.dumps({"layers": layers}))
    np.savez(folder / "evaluation.npz", **arrays)
    for kind in ("lossless", "firing"):
        with OneLine(InputError, "small/seed0/k0/evaluation.npz", "joint", "evaluate small, k0 again"):
            read(kind, tmp_path, [("small", 0, "k0")])
    np.savez(folder / "evaluation.npz", **arrays, joint=np.array([[0], [0], [20]]))
    (found,) = read("firing", tmp_path, [("small", 0, "k0")])
    assert np.allclose(found.positive, [[1 / 12] * 3, [1 / 8] * 3]) and found.layers == ("a", "b")
    np.savez(folder / "evaluation.npz", **arrays, joint=np.array([[0], [0], [19]]))
    with OneLine(InputError, "evaluation.npz", "same network"):
        read("lossless", tmp_path, [("small", 0, "k0")])


def test_a_history_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "small/seed0/fp32/history.csv"
    with OneLine(InputError, "fp32/history.csv", "no such file"):
        read("training", tmp_path, [("small", 0, "fp32")])
    path.parent.mkdir(parents=True)
    path.write_text("phase,epoch,loss,test_accuracy\n0,0,,0.1\n1,1,0.5,0.9\n")
    (found,) = read("training", tmp_path, [("small", 0, "fp32")])
    assert found.epochs.tolist() == [0, 1] and np.isnan(found.loss[0]) and found.accuracy.tolist() == [0.1, 0.9]
    for text in ("phase,epoch,loss,test_accuracy\n", "phase,epoch\n1,1\n", "1,2\n3"):
        path.write_text(text)
        with OneLine(InputError, "fp32/history.csv", "not a training's history"):
            read("training", tmp_path, [("small", 0, "fp32")])


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("accuracy_speed", {"accuracy": lambda run: run.accuracy}),
        (
            "sparsity",
            {
                "spikes_per_neuron": lambda run: run.spikes / run.neurons,
                "net_spikes_per_neuron": lambda run: run.net_spikes / run.neurons,
            },
        ),
        ("sops", {"sops_per_image": lambda run: run.sops}),
    ],
)
def test_the_csv_holds_the_curves(
    tmp_path: Path, kind: str, columns: dict[str, Callable[[Curves], np.ndarray]]
) -> None:
    runs = [*TWO, curves(net="other", seed=3, final=1 / 3, T=4)]
    draw(kind, Results(runs, {"small": [0.9, 0.92]}), {"csv": tmp_path / "drawn.csv"})
    rows = read_csv(tmp_path / "drawn.csv")
    assert len(rows) == 8 + 8 + 4
    assert [path.name for path in tmp_path.iterdir()] == ["drawn.csv"]
    for run in runs:
        of_run = [row for row in rows if (row["net"], row["seed"], row["k"]) == (run.net, str(run.seed), str(run.k))]
        assert [int(row["timestep"]) for row in of_run] == list(range(1, run.timesteps + 1))
        for column, values in columns.items():
            assert [float(row[column]) for row in of_run] == values(run).tolist()
    if kind == "accuracy_speed":
        assert {row["fp32_accuracy"] for row in rows if row["net"] == "small"} == {"0.91"}
        assert {row["fp32_accuracy"] for row in rows if row["net"] == "other"} == {""}
        assert {row["still_spiking"] for row in rows if row["k"] == "1"} == {"true"}
        assert rows[0]["settled_step"] == "5"
        assert {row["settled_step"] for row in rows if row["k"] == "1"} == {""}
    if kind == "sops":
        assert {row["reference_operations"] for row in rows} == {"20000000"}


def test_what_cannot_be_drawn_is_refused() -> None:
    with OneLine(InputError, "'spikes'", "sparsity"):
        build("spikes", Results(TWO, {}))
    with OneLine(InputError, "nothing to draw"):
        build("sops", Results([], {}))
    with OneLine(InputError, "small", "time steps"):
        build("sops", Results([curves(), curves(seed=1, T=9)], {}))


def write_run(folder: Path, images: int = 10, timesteps: int = 5, batch_size: int = 4, **evaluation: object) -> None:
    """Logs and, if its keys are given, an evaluation.json."""
    write_logs(batch_logs(**image_counts(images, timesteps, 0), batch_size=batch_size), folder)
    if evaluation:
        facts = {"images": images, "timesteps": timesteps, "batch_size": batch_size} | evaluation
        (folder / "evaluation.json").write_text(json.dumps(facts))


def write_results(folder: Path) -> None:
    for seed in (0, 1):
        for k in (0, 1):
            write_run(folder / f"small/seed{seed}/k{k}", net="small", seed=seed, k=k, neurons=7, reference_operations=9)
        (folder / f"small/seed{seed}/fp32").mkdir()
        (folder / f"small/seed{seed}/fp32/ann.json").write_text(json.dumps({"test_accuracy": 0.8 + seed / 10}))


def test_results_of_the_workflow(tmp_path: Path) -> None:
    write_results(tmp_path)
    (tmp_path / "small/seed0/k2").mkdir()  # not simulated yet
    results = collect(tmp_path)
    assert [(run.net, run.seed, run.k) for run in results.curves] == [("small", s, k) for s in (0, 1) for k in (0, 1)]
    assert results.fp32 == {"small": (0.8, 0.9)}
    run = results.curves[0]
    assert (run.images, run.timesteps, run.neurons, run.reference_operations) == (10, 5, 7, 9)
    chosen = collect(tmp_path, [("small", 1, "k1"), ("small", 1, "k0")])
    assert [(run.seed, run.k) for run in chosen.curves] == [(1, 1), (1, 0)]
    assert chosen.fp32 == {"small": (0.9,)}
    with OneLine(InputError, "k2", "no evaluation.json", "'small'"):
        collect(tmp_path, [("small", 0, "k2")])


def test_results_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a/seed0/k0", net="a", seed=0, k=1, neurons=7, reference_operations=9)
    with OneLine(InputError, "evaluation.json", "k = 1", "k = 0"):
        collect(tmp_path)
    write_run(tmp_path / "a/seed0/k0", net="a", seed=0, k=0, neurons=7)
    with OneLine(InputError, "evaluation.json", "'reference_operations'"):
        collect(tmp_path)
    write_run(tmp_path / "a/seed0/k0", net="a", seed=0, k=0, neurons=7, reference_operations=9)
    path = tmp_path / "a/seed0/k0/evaluation.json"
    path.write_text(path.read_text().replace('"images": 10', '"images": 13'))
    with OneLine(InputError, "3 batches", "13 images", "4 batches"):
        collect(tmp_path)
    path.write_text("{")
    with OneLine(InputError, "evaluation.json", "not JSON"):
        collect(tmp_path)


def write_both_ways(net: Path) -> None:
    for folder in ("k0", "seed0/k0"):
        write_run(net / folder, timesteps=20)


def command_line(logs: Path, out: Path, *more: str) -> int:
    return main(["figures", str(logs), "--out", str(out), "--config", str(ROOT / "config.yaml"), *more])


def test_command_line_draws_logs_in_the_published_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "logs/lenet/k0", timesteps=20, images=12)
    write_run(tmp_path / "logs/lenet/k1", timesteps=20, images=12)
    write_run(tmp_path / "logs/mlp/seed2/k1", timesteps=40, images=12)
    out = tmp_path / "out"
    assert command_line(tmp_path / "logs", out, "--batch-size", "4", "--fp32", "mlp=0.8983") == 0
    assert capsys.readouterr() == ("", "")
    expected = [f"{kind}.{suffix}" for kind in CURVES for suffix in SUFFIXES]
    assert sorted(path.name for path in out.iterdir()) == sorted([*expected, "table.csv"])
    rows = read_csv(out / "table.csv")
    assert [(row["net"], row["seed"], row["k"]) for row in rows] == [
        ("lenet", "0", "0"),
        ("lenet", "0", "1"),
        ("mlp", "2", "1"),
    ]
    counts = image_counts(12, 40, 0)
    assert float(rows[2]["spikes_per_image"]) == counts["spikes"][:, -1].sum() / 12
    assert float(rows[2]["sops_over_reference"]) == pytest.approx(
        counts["sops"][:, -1].mean() / (3 * (400 * 400 + 400 * 10))
    )
    assert {row["fp32_accuracy"] for row in read_csv(out / "accuracy_speed.csv") if row["net"] == "mlp"} == {"0.8983"}


def test_command_line_knows_a_last_batch_that_is_not_full(tmp_path: Path) -> None:
    write_run(tmp_path / "logs/lenet/k0", timesteps=20, images=10)
    assert command_line(tmp_path / "logs", tmp_path / "out", "--batch-size", "4", "--images", "10") == 0
    (row,) = read_csv(tmp_path / "out/table.csv")
    assert float(row["spikes_per_image"]) == image_counts(10, 20, 0)["spikes"][:, -1].sum() / 10


@pytest.mark.parametrize(
    ("prepare", "more", "words"),
    [
        (lambda logs: None, (), ("no logs here", "<net>/k<k>")),
        (lambda logs: write_run(logs / "vgg/k0"), (), ("vgg", "no definition", "cnn1")),
        (lambda logs: write_run(logs / "lenet/k0", timesteps=7), (), ("accuracy.txt", "20 time steps")),
        (
            lambda logs: write_run(logs / "lenet/k0", timesteps=20),
            ("--batch-size", "4", "--images", "500"),
            ("3 batches", "500 images"),
        ),
        (
            lambda logs: write_run(logs / "lenet/k0", timesteps=20),
            ("--fp32", "cnn1=0.9"),
            ("cnn1=0.9", "no net 'cnn1'"),
        ),
        (
            lambda logs: write_both_ways(logs / "lenet"),
            (),
            ("lenet/k0", "lenet/seed0/k0"),
        ),
    ],
)
def test_command_line_says_in_one_line_what_is_wrong(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    prepare: Callable[[Path], object],
    more: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    prepare(tmp_path / "logs")
    assert command_line(tmp_path / "logs", tmp_path / "out", *more) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert printed.err.startswith("error: ") and all(word in printed.err for word in words), printed.err
    assert not (tmp_path / "out").exists()


def test_command_line_names_a_config_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["figures", str(tmp_path), "--out", str(tmp_path / "out"), "--config"]
    assert main([*arguments, str(tmp_path / "config.yaml")]) == 1
    assert "config.yaml: no such file" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text("nets: []\n")
    assert main([*arguments, str(tmp_path / "config.yaml")]) == 1
    assert "config.yaml: config key 'nets' is []" in capsys.readouterr().err


SMALL = """
nets: [small]
definitions:
  small:
    {dataset: digits, topology: 4C3-P2-16, padding: same, width: 1, timesteps: 20, batch_size: 50,
     phases: [{epochs: 1, learning_rate: 1.0e-3}]}
"""


def test_command_line_takes_a_preset_as_snakemake_does(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    write_run(tmp_path / "logs/small/k0", timesteps=20)
    write_run(tmp_path / "logs/lenet/k0", timesteps=20)
    arguments = [
        "figures",
        str(tmp_path / "logs"),
        "--out",
        str(tmp_path / "out"),
        "--config",
        f"{tmp_path}/small.yaml",
    ]
    assert main([*arguments, "--batch-size", "4"]) == 0
    assert [row["net"] for row in read_csv(tmp_path / "out/table.csv")] == ["lenet", "small"]


def test_command_line_needs_no_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published nets are known in any folder; what others are, evaluation.json says."""
    monkeypatch.chdir(tmp_path)
    write_run(Path("logs/lenet/k0"), timesteps=20)
    assert main(["figures", "logs", "--out", "out", "--batch-size", "4"]) == 0
    write_run(Path("others/a/k0"), net="a", seed=0, k=0, neurons=7, reference_operations=9)
    assert main(["figures", "others", "--out", "others_out"]) == 0


@pytest.mark.parametrize(
    "content",
    [
        b"results: caf\xe9",
        *(b"seeds: [%s]" % scalar for scalar in (b"2001-13-45", b"!!int abc", b"!!bool maybe", b"9" * 5000)),
    ],
    ids=["not UTF-8", "no date", "no integer", "no boolean", "5,000 digits"],
)
def test_command_line_names_what_is_no_yaml(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    assert main(["figures", str(tmp_path), "--out", str(tmp_path / "out"), "--config", str(path)]) == 1
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "mine.yaml: not YAML (" in error
