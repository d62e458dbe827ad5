"""Published curves: those that come with the package, and tables of the user's."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, SHARED, OneLine

from negspike.config import resolve_config
from negspike.errors import InputError
from negspike.precision import Precision
from negspike.results.collect import Results
from negspike.results.comparison import ZOU_2023, read_numbers
from negspike.results.metrics import Curves
from negspike.results.published import COLUMNS, Published, beside, read_published
from negspike.user_files import published_file

K0 = Precision("k", 0)
HEADER = "net,precision,timestep,accuracy,spikes_per_image,neurons\n"


@pytest.fixture(scope="module")
def zou() -> Published:
    return read_published("zou2023")


def test_the_curves_end_at_the_published_table(zou: Published) -> None:
    assert zou.source == "Zou et al. 2023"
    ends, table = read_numbers(published_file("zou2023")), read_numbers(ZOU_2023)
    assert ends.keys() == table.keys() and len(table) == 5 * (1 + 3 * 5)
    for key, one in table.items():
        digits = 4 if key[2] == "accuracy" else 1
        assert round(ends[key].mean, digits) == one.mean, key


def test_the_neurons_are_those_of_the_topologies(zou: Published) -> None:
    config = resolve_config(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))
    for net, curves in zou.curves.items():
        name = net.removesuffix("_mnist")  # lenet on another set of images of the same size
        neurons = config.definitions[name].topology.neurons
        assert {curve.neurons for curve in curves.values()} == {neurons}, net
        for curve in curves.values():
            assert np.array_equal(curve.steps, np.arange(1, config.definitions[name].expected_timesteps + 1))
            assert np.allclose(curve.series["spikes_per_neuron"] * neurons, curve.series["spikes_per_image"])


@pytest.mark.skipif(not (SHARED / "reference").is_dir(), reason="the published curves are not beside the repository")
def test_they_are_the_published_curves(zou: Published) -> None:
    with open(SHARED / "reference/published_curves.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == sum(len(curve.steps) for curves in zou.curves.values() for curve in curves.values())
    for row in rows:
        series = zou.curves[row["net"]][Precision("k", int(row["k"]))].series
        for name in COLUMNS:
            assert series[name][int(row["timestep"]) - 1] == float(row[name])


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    """Some steps, in any order, and what is known of them; precisions by any of three columns."""
    path = tmp_path / "mine.csv"
    path.write_text("net,k,levels,timestep,accuracy\na,0,,8,0.75\na,0,,2,0.5\nb,,3,1,0.25\n")
    found = read_published(str(path))
    curve = found.curves["a"][K0]
    assert found.source == "mine" and found.curves["b"].keys() == {Precision("levels", 3)} and not found.fp32
    assert curve.steps.tolist() == [2, 8] and curve.neurons is None
    assert {name: values.tolist() for name, values in curve.series.items()} == {"accuracy": [0.5, 0.75]}
    path.write_text(HEADER + "a,fp32,,0.875,,\na,k0,1,0.5,18,9\n")
    found = read_published(str(path))
    assert found.fp32 == {"a": 0.875}
    assert found.curves["a"][K0].series["spikes_per_neuron"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("net,precision,accuracy\na,k0,0.5\n", ("expected the columns", "timestep")),
        ("net,precision,timestep\na,k0,1\n", ("expected the columns", "accuracy")),
        (HEADER, ("no line with a time step",)),
        (HEADER + "a,k0,1,0.5,1,9\na,k0,1,0.5,1,9\n", ("line 3", "step 1 of a, k = 0, is there twice")),
        (HEADER + "a,k0,1,high,1,9\n", ("line 2", "high")),
        (HEADER + "a,k0,1,50,1,9\n", ("line 2", "accuracy is 50", "fraction")),
        (HEADER + "a,k0,1,nan,1,9\n", ("line 2", "nan")),
        (HEADER + "a,k0,0,0.5,1,9\n", ("line 2", "time step from 1 on")),
        (HEADER + f"a,k0,{10**30},0.5,1,9\n", ("line 2", "time step")),
        (HEADER + "a,k0,,0.5,1,9\n", ("line 2", "time step")),
        (HEADER + "a,fp32,3,0.5,1,9\n", ("line 2", "fp32 has no time step")),
        (HEADER + "a,fp32,,0.9,,\na,fp32,,0.5,,\n", ("line 3", "a in full precision is there twice")),
        (HEADER + "a,half,1,0.5,1,9\n", ("line 2", "'half' is unknown")),
        (HEADER + ",k0,1,0.5,1,9\n", ("line 2", "a net")),
        (HEADER + "a,k0,1,0.5,1,9\na,k0,2,,2,9\n", ("a, k = 0, step 2", "accuracy is missing")),
        (HEADER + "a,k0,1,0.5,1,\n", ("a, k = 0", "neurons is expected")),
        (HEADER + "a,k0,1,0.5,1,9\na,k0,2,0.5,1,8\n", ("a, k = 0", "neurons")),
        (HEADER + "a,k0,1,0.5,1,0\n", ("a, k = 0", "neurons")),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with OneLine(InputError, "mine.csv", *words):
        read_published(str(tmp_path / "mine.csv"))


def test_a_name_that_nobody_knows() -> None:
    with OneLine(InputError, "zou2032", "no such file"):
        read_published("zou2032")


def test_results_without_a_published_net_are_refused(zou: Published) -> None:
    each = np.ones(2)
    with OneLine(InputError, "Zou et al. 2023", "cnn1", "small", "no net in common"):
        beside(Results([Curves("small", 0, 0, 9, each, each, each, each, 9, 9)], {}), zou)
