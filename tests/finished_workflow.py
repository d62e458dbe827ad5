"""A copy of the repository in which an experiment with two small nets has run, for tests that change either."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT, write_fashion_mnist
from test_workflow import TINY

from negspike.files import file_sha256

Config = dict[str, Any]


class Finished:
    """A copy of the repository in which an experiment with two nets has run."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, config

    def snakemake(self, *arguments: str, config: Config | str | None = None) -> str:
        """Run Snakemake as a user would, in the repository; its output."""
        name = "experiment.yaml" if config is None else "changed.yaml"
        text = config if isinstance(config, str) else yaml.safe_dump(self.config if config is None else config)
        (self.folder / name).write_text(text, encoding="utf-8")
        result = subprocess.run(
            [sys.executable, "-m", "snakemake", "--configfile", name, "--cores", "2", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            check=False,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def planned(self, *arguments: str, config: Config | str | None = None) -> set[str]:
        """The jobs that Snakemake would run, as ``evaluate tiny/seed0/k1``."""
        output = self.snakemake("--dry-run", *arguments, config=config)
        jobs = set()
        for block in re.split(r"\n(?=(?:local)?rule )", output)[1:]:
            rule = re.match(r"(?:local)?rule (\w+):", block)
            assert rule is not None
            found = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
            wildcards = dict(pair.split("=") for pair in found[1].split(", ")) if found else {}
            names = {"seed": "seed{}", "k": "k{}", "phase": "phase{}"}
            parts = [names.get(key, "{}").format(value) for key, value in wildcards.items()]
            jobs.add(" ".join([rule[1], "/".join(sorted(parts, key=_depth))]).strip())
        assert jobs or "Nothing to be done" in output, output
        return jobs - {"all"}

    @contextmanager
    def appended(self, name: str, text: str = "\nCHANGED = True\n") -> Iterator[None]:
        """Change a source file for the length of a block."""
        path = self.folder / name
        before = path.read_bytes()
        path.write_bytes(before + text.encode())
        try:
            yield
        finally:
            path.write_bytes(before)

    def changed(self, change: Callable[[Config], object]) -> Config:
        """The configuration with a change."""
        config = copy.deepcopy(self.config)
        change(config)
        return config


def _depth(part: str) -> int:
    order = (r"seed\d+", r"k\d|fp32", r"phase\d+")
    return next((place for place, pattern in enumerate(order, 1) if re.fullmatch(pattern, part)), 0)


def copy_repository(target: Path) -> None:
    """What git would check out, with the times of now."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info")
    for name in ("Snakefile", "config.yaml", "envs", "presets", "profiles", "src", "workflow"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignored, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(source, target / name)


def run_experiment(folder: Path) -> Finished:
    """Copy the repository into an empty folder and run the experiment there."""
    copy_repository(folder)
    archives = folder / "archives"
    archives.mkdir()
    paths, _ = write_fashion_mnist(archives)
    tiny = TINY["definitions"]["tiny"]  # type: ignore[index]
    # its weights are more than the 1 MB up to which Snakemake compares files by checksum if no profile says otherwise
    small = tiny | {"topology": "4C3-P2-4800", "phases": [{"epochs": 1, "learning_rate": 1.0e-3}]}
    config: Config = TINY | {
        "nets": ["tiny", "small"],
        "definitions": {"tiny": tiny, "small": small},
        "datasets": {
            "fashion_mnist": {
                name: {"url": path.as_uri(), "sha256": file_sha256(path), "size": None} for name, path in paths.items()
            }
        },
    }
    experiment = Finished(folder, config)
    experiment.snakemake("all", "data/fashion_mnist.npz")
    assert experiment.planned("all", "data/fashion_mnist.npz") == set()
    return experiment
