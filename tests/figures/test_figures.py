"""The figures: what they say is what the curves say, the CSV too, and the same curves give the same bytes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, OneLine
from matplotlib.figure import Figure
from test_logs import image_counts

from negspike.commands import main
from negspike.errors import InputError
from negspike.figures import FORMATS, KINDS, build, draw
from negspike.results.collect import collect
from negspike.results.metrics import Curves
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


TWO = [curves(k=0), curves(k=1, final=0.912, spiking=True)]


def test_accuracy_legend() -> None:
    texts = legends(build("accuracy_speed", TWO, {"small": [0.9053]}))["small"]
    assert texts[:3] == [
        "k = 0: 90.00 %, settled at step 5",
        "k = 1: 91.20 %, settled at step 5, still spiking at step 8",
        "FP32: 90.53 %",
    ]


def test_sparsity_legend() -> None:
    texts = legends(build("sparsity", TWO, {}))["small"]
    assert texts == [
        "k = 0: 1.000 spikes per neuron, 25.0 % negative",
        "k = 1: 2.010 spikes per neuron, 25.0 % negative, still spiking at step 8",
        "all spikes, positive and negative",
        "net spikes, positive minus negative",
    ]


def test_sops_legend() -> None:
    texts = legends(build("sops", TWO, {}))["small"]
    assert texts == [
        "k = 0: 2.500 million SOPs, 12.5 % of the ANN",
        "k = 1: 5.000 million SOPs, 25.0 % of the ANN, still spiking at step 8",
        "ANN: 20.00 million operations",
    ]


def test_several_seeds_give_mean_and_range() -> None:
    runs = [curves(seed=0, final=0.9), curves(seed=1, final=0.91, spiking=True), curves(seed=2, final=0.92)]
    figure = build("accuracy_speed", runs, {"small": [0.93, 0.95]})
    assert legends(figure)["small"][:2] == [
        "k = 0: 91.00 (90.00–92.00) %, settled at step 5, still spiking at step 8 (1 of 3 seeds)",
        "FP32: 94.00 (93.00–95.00) %",
    ]
    (axes,) = figure.axes
    assert np.allclose(np.asarray(axes.lines[0].get_ydata()), 100 * np.mean([run.accuracy for run in runs], axis=0))
    band = axes.collections[0].get_paths()[0].vertices
    assert np.isclose(np.asarray(band)[:, 1].max(), 92) and np.isclose(np.asarray(band)[:, 1].min(), 18)


def test_the_settled_step_is_marked_on_the_curve() -> None:
    (axes,) = build("accuracy_speed", TWO, {}).axes
    marks = {line.get_gid(): line.get_xydata() for line in axes.lines if line.get_gid()}
    assert np.allclose(np.asarray(marks["settled k0"]), [[5, 90.0]])
    assert np.allclose(np.asarray(marks["settled k1"]), [[5, 91.2]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nets", range(1, 7))
def test_a_panel_for_each_net_and_nothing_overlaps(kind: str, nets: int) -> None:
    runs = [
        curves(net=f"net{index}", seed=seed, k=k, final=0.9 + 0.01 * k + 0.001 * seed, spiking=k == 2, T=8 + 12 * index)
        for index in range(nets)
        for seed in (0, 1)
        for k in (0, 1, 2)
    ]
    figure = build(kind, runs, {f"net{index}": [0.91, 0.92] for index in range(nets)})
    assert list(legends(figure)) == [f"net{index}" for index in range(nets)]
    figure.canvas.draw()
    page = figure.bbox
    boxes = []
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
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
        draw(kind, TWO, {"small": [0.9]}, {suffix: folder / f"{kind}.{suffix}" for suffix in SUFFIXES})
        assert sorted(path.name for path in folder.iterdir()) == sorted(f"{kind}.{suffix}" for suffix in SUFFIXES)
        written.append({suffix: (folder / f"{kind}.{suffix}").read_bytes() for suffix in SUFFIXES})
    assert written[0] == written[1]
    assert written[0]["pdf"].startswith(b"%PDF") and written[0]["png"].startswith(b"\x89PNG")
    assert b"/Type3" not in written[0]["pdf"], "fonts are to be embedded as TrueType"
    for suffix in ("pdf", "svg"):
        assert b"Date" not in written[0][suffix]


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
    draw(kind, runs, {"small": [0.9, 0.92]}, {"csv": tmp_path / "drawn.csv"})
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
    if kind == "sops":
        assert {row["reference_operations"] for row in rows} == {"20000000"}


def test_what_cannot_be_drawn_is_refused() -> None:
    with OneLine(InputError, "'spikes'", "sparsity"):
        build("spikes", TWO, {})
    with OneLine(InputError, "nothing to draw"):
        build("sops", [], {})
    with OneLine(InputError, "small", "time steps"):
        build("sops", [curves(), curves(seed=1, T=9)], {})


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
    expected = [f"{kind}.{suffix}" for kind in KINDS for suffix in SUFFIXES]
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
