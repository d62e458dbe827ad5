"""The table of a run for people, and statistics over seeds."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest

from negspike.results.collect import Results
from negspike.results.metrics import Curves
from negspike.results.summary import write_summary

CURVES = Curves(
    net="small",
    seed=0,
    k=1,
    images=100,
    accuracy=np.array([0.5, 0.75]),
    spikes=np.array([10.0, 12.0]),
    net_spikes=np.array([10.0, 11.0]),
    sops=np.array([50.0, 60.0]),
    neurons=20,
    reference_operations=300,
)


def summarize(folder: Path, accuracies: list[float]) -> tuple[str, dict[tuple[str, str], dict[str, str]]]:
    """The Markdown, and the rows of the other file by precision and number."""
    runs, evaluations = [], []
    for seed, accuracy in enumerate(accuracies):
        runs.append(replace(CURVES, seed=seed, accuracy=np.array([0.5, accuracy])))
        facts: dict[str, Any] = {
            "accuracy": {"integer_ann": accuracy},
            "lossless_check": {
                **{"silent_images_equal_to_integer_ann": 98 + seed, "images_still_spiking_equal_to_integer_ann": 0},
                **{"images": 100, "neurons": 2000, "neurons_equal_to_integer_ann": 1960 + 20 * seed},
            },
            "energy": {
                "spikes_per_synapse": 0.6 + seed,
                "spikes_per_synapse_break_even": "within",
                "over_quantised_ann": {"arithmetic": 0.25, "with_memory": 2.5},
            },
        }
        evaluations.append(folder / f"{seed}.json")
        evaluations[-1].write_text(json.dumps(facts))
    results = Results(tuple(runs), {"small": tuple(accuracy + 0.01 for accuracy in accuracies)})
    write_summary(results, evaluations, "figs/", folder / "summary.md")
    with open(folder / "summary.csv", newline="") as stream:
        rows = {(row["precision"], row["number"]): row for row in csv.DictReader(stream)}
    return (folder / "summary.md").read_text(), rows


def test_several_seeds(tmp_path: Path) -> None:
    accuracies = [0.75, 0.5, 0.875]
    text, rows = summarize(tmp_path, accuracies)
    found = rows["k1", "accuracy"]
    assert list(found) == ["net", "precision", "number", "seeds", "mean", "standard_deviation", "least", "largest"]
    assert found["net"] == "small" and found["seeds"] == "3"
    assert float(found["mean"]) == fmean(accuracies) and float(found["standard_deviation"]) == stdev(accuracies)
    assert (found["least"], found["largest"]) == ("0.5", "0.875")
    assert float(rows["fp32", "accuracy"]["mean"]) == pytest.approx(fmean(accuracies) + 0.01)
    assert [rows["k1", name]["largest"] for name in ("lossless_images", "spikes_per_synapse")] == ["100.0", "2.6"]
    assert float(rows["k1", "settled_step"]["mean"]) == fmean([2, 1, 2])
    assert rows["k1", "energy_with_memory"]["standard_deviation"] == "0.0"
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    header = next(number for number, row in enumerate(table) if row[2] == "number")
    lines = {(row[1], row[2]): row[3:] for row in table[header + 2 :]}
    assert lines["k1", "accuracy"] == ["3", "70.83%", "19.09%", "50.00%", "87.50%"]
    assert lines.keys() == rows.keys(), "a number is in one of the two tables alone"
    assert {"98 of 100", "0.60, within", "0.25 / 2.50"} <= {cell for row in table[:header] for cell in row}


def test_one_seed(tmp_path: Path) -> None:
    text, rows = summarize(tmp_path, [0.75])
    assert "deviation" not in text
    assert rows["k1", "accuracy"]["seeds"] == "1" and rows["k1", "accuracy"]["standard_deviation"] == ""
