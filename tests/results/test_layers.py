"""What each layer did adds up to the totals, in every engine; and what is written can be read."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import ENGINES, Graph, chain, examples, graphs
from hypothesis import given

from negspike import simulate
from negspike.results.layers import layer_rows, step_rows, write_layers

COUNTS = ("positive_spikes", "negative_spikes", "sops")


def check_sums(graph: Graph, engine: str) -> None:
    network, images = graph.network, len(graph.images)
    log = simulate(network, graph.images, timesteps=graph.timesteps, engine=engine)
    rows, steps = layer_rows(network, log), step_rows(network, log)
    total = {name: sum(row[name] for row in rows) for name in rows[0] if name not in ("layer", "kind")}
    assert total["neurons"] == network.neurons and total["macs"] == network.macs
    assert total["positive_spikes"] + total["negative_spikes"] == int(log.spikes[:, -1].sum())
    assert total["positive_spikes"] - total["negative_spikes"] == int(log.net_spikes[:, -1].sum())
    assert total["sops"] == int(log.sops[:, -1].sum())
    assert {row["images"] for row in rows} == {images}
    for row in rows:
        mine = [step for step in steps if step["layer"] == row["layer"]]
        assert [step["step"] for step in mine] == list(range(1, log.timesteps + 1))
        for name in COUNTS:
            assert sum(step[name] for step in mine) == row[name] == round(row[f"{name}_per_image"] * images)
    by_step = [sum(row["sops"] for row in steps if row["step"] == t + 1) for t in range(log.timesteps)]
    assert np.cumsum(by_step).tolist() == log.sops.sum(0).tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_sums_are_the_totals(engine: str) -> None:
    @examples(40)
    @given(graph=graphs(nodes=5))
    def check(graph: Graph) -> None:
        check_sums(graph, engine)

    check()


def test_numbers_and_files(tmp_path: Path) -> None:
    """A 3x3 window with padding over 2x2, then 4 inputs to 2 outputs, then 3 classes."""
    weights: list[Any] = [np.full((1, 1, 3, 3), 1), np.ones((2, 1, 2, 2))]
    network = chain("1C3-2", (1, 2, 2), weights, [1 << 16, 1 << 17], [0, 0], np.ones((3, 2)))
    log = simulate(network, np.array([[2.0, 0], [0, 0], [0, 0], [0, 1]]).reshape(2, 1, 2, 2))
    write_layers(network, log, tmp_path)
    with open(tmp_path / "layers.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    # all four windows see each pixel: as many spikes in each as it is bright; one output takes two of them a step
    assert [list(row.values())[:9] for row in rows] == [
        ["layer0", "neurons", "4", "0", "36", "2", "12", "0", "0"],
        ["layer1", "neurons", "2", "8", "0", "2", "12", "0", "24"],
        ["classifier", "readout", "0", "6", "0", "2", "0", "0", "36"],
    ]
    assert [row["sops_per_image"] for row in rows] == ["0.0", "12.0", "18.0"]
    with open(tmp_path / "layer_steps.csv", newline="") as stream:
        steps = list(csv.DictReader(stream))
    assert list(steps[0]) == ["layer", "step", *COUNTS]
    assert [row["sops"] for row in steps if row["layer"] == "layer1"][:3] == ["16", "8", "0"]
