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
from negspike.results.statistics import CHECKS, Statistics, read_statistics
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


def summarize(
    folder: Path, accuracies: list[float], published: str | None = None
) -> tuple[str, dict[tuple[str, str], dict[str, str]]]:
    """The Markdown, and the rows of the other file by precision and number."""
    runs, evaluations = [], []
    for seed, accuracy in enumerate(accuracies):
        runs.append(replace(CURVES, seed=seed, accuracy=np.array([0.5, accuracy])))
        facts: dict[str, Any] = {
            "accuracy": {"integer_ann": accuracy},
            "lossless_check": {
                **{"silent_images_equal_to_integer_ann": 98 + seed, "images_still_spiking_equal_to_integer_ann": 0},
                **{"images": 100, "neurons": 2000, "neurons_equal_to_integer_ann": 1960 + 20 * seed},
                "silent_images": 99,
            },
            "differing_predictions": {"float32_ann_and_integer_ann": seed, "integer_ann_and_spiking_network": 0},
            "energy": {
                "spikes_per_synapse": 0.6 + seed,
                "spikes_per_synapse_break_even": "within",
                "over_quantised_ann": {"arithmetic": 0.25, "with_memory": 2.5},
            },
        }
        evaluations.append(folder / f"{seed}.json")
        evaluations[-1].write_text(json.dumps(facts))
        trained = folder / f"small/seed{seed}/k1"
        trained.mkdir(parents=True)
        ann: dict[str, Any] = {
            "phases": [{"epochs": 0}, {"epochs": 2}]
        }  # the first accuracy is from before the training
        ann["test_accuracy_last_ten_epochs"] = [0.1, accuracy - 0.02, accuracy]
        (trained / "ann.json").write_text(json.dumps(ann))
    results = Results(tuple(runs), {"small": tuple(accuracy + 0.01 for accuracy in accuracies)})
    write_summary(results, evaluations, "figs/", folder / "summary.md", published)
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
    checks = {("k1", name) for name in CHECKS}
    assert lines.keys() == rows.keys() - checks, "a number is in one of the two tables alone"
    assert rows["k1", "images"]["mean"] == "100.0" and rows["k1", "silent_images"]["least"] == "99.0"
    assert rows["k1", "predictions_of_float32_and_integer_ann_differ"]["largest"] == "2.0"
    assert {"98 of 100", "0.60, within", "0.25 / 2.50"} <= {cell for row in table[:header] for cell in row}


def test_seeds_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    text, _ = summarize(tmp_path, [0.5] * 11)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    seeds = [row[1] for row in rows[2:] if row[0] == "small" and row[1].isdigit()]
    assert [int(seed) for seed in seeds] == sorted(int(seed) for seed in seeds) and "10" in seeds


def test_one_seed(tmp_path: Path) -> None:
    text, rows = summarize(tmp_path, [0.75])
    assert "deviation" not in text and "published" not in text
    assert [cell.strip() for cell in text.splitlines()[3].split("|")][4:7] == ["75.00%", "74.00%", "75.00%"]
    assert rows["k1", "accuracy"]["seeds"] == "1" and rows["k1", "accuracy"]["standard_deviation"] == ""


def test_the_last_ten_epochs_stand_beside_the_last(tmp_path: Path) -> None:
    """The mean of each training, and all of their epochs together."""
    accuracies = [0.75, 0.5]
    summarize(tmp_path, accuracies)
    found = read_statistics(tmp_path / "summary.csv")
    assert found["small", "k1", "accuracy_mean_of_last_ten_epochs"] == Statistics.of([0.74, 0.49])
    each = Statistics.of([0.73, 0.75, 0.48, 0.5], seeds=2)
    assert found["small", "k1", "accuracy_each_of_last_ten_epochs"] == each


def test_published_numbers_stand_beside_ours(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.csv"
    theirs.write_text("net,precision,accuracy,settled_step,sops_per_image\nsmall,k1,0.745,2,66\nother,k1,0.5,1,1\n")
    text, _ = summarize(tmp_path, [0.75], str(theirs))
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    header = next(number for number, row in enumerate(table) if row[2] == "number")
    assert {row[2]: row[-3:] for row in table[header + 2 :]} == {
        "accuracy": ["74.50%", "+0.50 points", "one seed"],
        "accuracy_mean_of_last_ten_epochs": ["74.50%", "-0.50 points", "one seed"],
        "accuracy_each_of_last_ten_epochs": ["74.50%", "-0.50 points", "yes"],
        "settled_step": ["2.0", "+0.0 steps", "one seed"],
        "sops_per_image": ["66", "-9.1%", "one seed"],
    }
