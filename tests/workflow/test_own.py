"""A model and data of one's own through the whole workflow: a folder of JPEGs, and 100 classes of 24x40 in an npz."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file
from workflow_runs import planned_jobs, snakemake, write_config

from negspike.files import file_sha256

NETS = """
from torch import nn

def build(width):
    layers = [nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(60 * width, 3))
"""


def write_images(folder: Path) -> None:
    """JPEGs of all sizes, three classes of three colours."""
    random = np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 5)):
        for colour, name in enumerate(("ash", "birch", "oak")):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 120, (*random.integers(16, 40, 2), 3)).astype(np.uint8)
                pixels[..., colour] += 110
                Image.fromarray(pixels).save(folder / split / name / f"{number}.jpg")


def write_hundred(path: Path) -> None:
    """100 classes, each a pattern with noise."""
    random = np.random.default_rng(1)
    patterns = random.integers(0, 256, (100, 24, 40))
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 10), ("test", 2)):
        labels = np.repeat(np.arange(100), count)
        noise = random.normal(0, 20, (len(labels), 24, 40))
        arrays |= {f"{split}_images": np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8)}
        arrays |= {f"{split}_labels": labels}
    np.savez(path, **arrays)  # type: ignore[arg-type]


def own_config(folder: Path) -> dict[str, Any]:
    write_images(folder / "images")
    write_hundred(folder / "hundred.npz")
    (folder / "nets.py").write_text(NETS)
    archive = {"url": (folder / "hundred.npz").as_uri(), "sha256": file_sha256(folder / "hundred.npz")}
    trees = {"format": "image_folder", "folder": "images", "image_shape": [3, 16, 24], "classes": 3, "resize": True}
    trees |= {"crop": [12, 20], "mean": [0.4, 0.4, 0.4], "std": [0.2, 0.25, 0.2], "augmentation": "crop_mirror"}
    hundred = {"format": "npz", "image_shape": [1, 24, 40], "classes": 100, "standardize": True, "archive": archive}
    common = {"timesteps": "until_silent", "batch_size": 20, "phases": [{"epochs": 4, "learning_rate": 3e-3}]}
    return {
        **{"results": "results/own", "nets": ["trees", "hundred"]},
        "datasets": {"trees": trees, "hundred": hundred},
        "definitions": {
            "trees": common
            | {
                "dataset": "trees",
                "model": "nets.py:build",
                "arguments": {"width": 4},
                "quantization": [{"levels": 7}],
            },
            "hundred": common
            | {"dataset": "hundred", "topology": "8C3-P2-P2-64", "padding": "same", "width": 1.0, "quantization": [1]}
            | {"init": "fp32", "finetuning": [{"epochs": 1, "learning_rate": 1e-3}]},
        },
    }


def two_folders(folder: Path) -> tuple[Path, Path]:
    """Where the configuration and what it names lie together, and where the results go."""
    here, there = folder / "here", folder / "there"
    here.mkdir()
    there.mkdir()
    return here, there


def plan(folder: Path, *configs: str) -> set[str]:
    told = snakemake(folder, "--dry-run", "--configfile", *configs)
    assert told.returncode == 0, told.stdout
    return planned_jobs(told.stdout) - {"all"}


@pytest.mark.slow
def test_models_and_data_of_ones_own(tmp_path: Path) -> None:
    here, there = two_folders(tmp_path)
    config = own_config(here)
    path = write_config(here, config)
    told = snakemake(there, "--configfile", path)
    assert told.returncode == 0, told.stdout
    assert {"results", "data"} <= {file.name for file in there.iterdir()} and not (here / "results").exists()
    with open(there / "results/own/table.csv") as stream:
        rows = {(row["net"], row["k"], row["levels"]): float(row["accuracy"]) for row in csv.DictReader(stream)}
    assert rows.keys() == {("trees", "", "7"), ("hundred", "1", "")}
    assert rows["trees", "", "7"] > 0.8 and rows["hundred", "1", ""] > 0.5
    found = json.loads((there / "results/own/trees/seed0/levels7/evaluation.json").read_text())
    assert found["lossless_check"]["silent_images_equal_to_integer_ann"] == 15 and found["latency_bound"] is not None
    assert plan(there, path) == set()

    # phase 0 is all there is of a training without phases, whatever the FP32 weights come from
    other = copy.deepcopy(config)
    other["definitions"]["trees"] |= {"weights": "w.safetensors", "phases": []}
    (here / "w.safetensors").write_bytes(b"")
    jobs = plan(there, write_config(here, other, "other.yaml"))
    assert {"train trees/seed0/fp32", "train trees/seed0/levels7"} <= jobs
    assert not any("hundred" in job for job in jobs)

    # another model, and other images, concern the one net
    (here / "nets.py").write_text(NETS + "\nwidth = 3\n")
    jobs = plan(there, path)
    assert {"train trees/seed0/fp32", "evaluate trees/seed0/levels7"} <= jobs
    assert not any("hundred" in job for job in jobs)
    (here / "nets.py").write_text(NETS)
    (here / "images/test/oak/0.jpg").unlink()
    assert "prepare_dataset trees" in plan(there, path) and "prepare_dataset hundred" not in plan(there, path)


@pytest.mark.slow
def test_files_beside_the_configuration_are_found_by_check_too(tmp_path: Path) -> None:
    """And a changed model is noticed in a net that is only asked for by its path."""
    here, there = two_folders(tmp_path)
    config = own_config(here)
    config["nets"] = ["hundred"]
    (here / "pictures").mkdir()
    (here / "images/train").rename(here / "pictures/train")
    (here / "images/train").symlink_to(here / "pictures/train", target_is_directory=True)
    path = write_config(here, config)
    told = snakemake(there, "check", "--configfile", path)
    assert "summary failed" not in told.stdout and "memory" in told.stdout, told.stdout
    target = "./results/own/trees/seed0/fp32/weights.pt"
    told = snakemake(there, target, "--configfile", path)
    assert told.returncode == 0 and "train trees/seed0/fp32" in planned_jobs(told.stdout), told.stdout
    for text, jobs in ((NETS, set()), (NETS + "\nwidth = 3\n", {"train trees/seed0/fp32"})):
        (here / "nets.py").write_text(text)
        assert planned_jobs(snakemake(there, target, "--dry-run", "--configfile", path).stdout) == jobs


@pytest.mark.parametrize("key", ["model", "weights", "folder"])
def test_a_file_that_is_not_there_is_one_clear_line(key: str, tmp_path: Path) -> None:
    config = own_config(tmp_path)
    if key == "folder":
        config["datasets"]["trees"]["folder"], name = "pictures", "config key 'datasets.trees.folder'"
    else:
        config["definitions"]["trees"][key] = "none.py:build" if key == "model" else "none.pt"
        name = f"config key 'definitions.trees.{key}'"
    told = snakemake(tmp_path, "--dry-run", "--configfile", write_config(tmp_path, config))
    lines = [line for line in told.stdout.splitlines() if name in line]
    assert told.returncode != 0 and len(lines) == 1 and "no such file" in lines[0], told.stdout
    assert str(tmp_path) in lines[0] and "Traceback" not in told.stdout
    assert name in told.stdout.splitlines()[-1], "its line is the last one"


@pytest.mark.slow
def test_a_folder_with_weights_beside_the_configuration_is_moved(tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "my").mkdir(parents=True)
    config = own_config(here)
    config |= {"nets": ["trees"]}
    config["definitions"]["trees"]["weights"] = "w.safetensors"
    namespace: dict[str, Any] = {}
    exec(NETS, namespace)
    save_file(namespace["build"](width=4).state_dict(), here / "my/w.safetensors")
    target = "results/own/trees/seed0/fp32/weights.pt"
    told = snakemake(here, target, "--configfile", write_config(here / "my", config))
    assert told.returncode == 0, told.stdout
    moved = here.rename(tmp_path / "moved")
    told = snakemake(moved, target, "--dry-run", "--configfile", str(moved / "my/tiny.yaml"))
    assert planned_jobs(told.stdout) == set(), told.stdout
