"""Snakemake as its users run it, for every test that does: one way to start it, one way to read what it plans."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from conftest import ROOT, write_fashion_mnist

from negspike.files import file_sha256

Config = dict[str, Any]
TINY = {
    "results": "results/tiny",
    "nets": ["tiny"],
    "quantization_levels": [0, 1],
    "definitions": {
        "tiny": {
            "dataset": "digits",
            "topology": "8C3-P2-32",
            "padding": "same",
            "width": 1.0,
            "timesteps": 30,
            "batch_size": 50,
            "phases": [{"epochs": 2, "learning_rate": 1.0e-3}, {"epochs": 1, "learning_rate": 1.0e-4}],
        }
    },
}


def command(*arguments: str, cores: int | None = 2) -> list[str]:
    """Snakemake's command line, with the Python of the tests; no cores: they are among the arguments, or not needed."""
    given = [] if cores is None else ["--cores", str(cores)]
    return [sys.executable, "-m", "snakemake", *given, *arguments]


def environment(changes: Mapping[str, str] = {}) -> dict[str, str]:
    """What a user's shell has: the workflow finds the package beside itself, whatever the tests import theirs from."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return own | {"COLUMNS": "200"} | dict(changes)


def run(
    folder: Path, *arguments: str, cores: int | None = 2, new_session: bool = False, changes: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run Snakemake where ``folder`` is the current one; output and errors together; ``changes`` of the environment."""
    line, server = command(*arguments, cores=cores), _server()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as output:
        request = {
            "arguments": line[line.index("snakemake") + 1 :],
            "folder": str(folder.resolve()),
            "environment": environment(changes),
            "changes": bool(changes),
            "output": output.name,
            "new_session": new_session,
        }
        print(json.dumps(request), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(line, code, output.read())


@cache
def _server() -> subprocess.Popen[str]:
    """What Snakemake is forked from; it ends when its input does, with this process."""
    program = [sys.executable, str(Path(__file__).with_name("snakemake_server.py"))]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())


def succeed(folder: Path, *arguments: str, **options: Any) -> str:
    """As :func:`run`, to its good end; output and errors together."""
    result = run(folder, *arguments, **options)
    assert result.returncode == 0, result.stdout
    return result.stdout


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this repository's workflow, called from the repository, with its results in ``folder``."""
    return run(ROOT, "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder), *arguments)


def write_config(folder: Path, config: object, name: str = "tiny.yaml") -> str:
    path = folder / name
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return str(path)


def planned_jobs(output: str) -> set[str]:
    """The jobs that Snakemake announces or runs, as ``evaluate tiny/seed0/k1``."""
    jobs = set()
    for block in re.split(r"\n(?=(?:local)?rule )", output)[1:]:
        rule = re.match(r"(?:local)?rule (\w+):", block)
        assert rule is not None
        found = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
        wildcards = dict(pair.split("=") for pair in found[1].split(", ")) if found else {}
        names = {"seed": "seed{}", "phase": "phase{}"}
        parts = [names.get(key, "{}").format(value) for key, value in wildcards.items()]
        jobs.add(" ".join([rule[1], "/".join(sorted(parts, key=_depth))]).strip())
    assert jobs or "Nothing to be done" in output, output
    return jobs


def _depth(part: str) -> int:
    order = (r"seed\d+", r"k\d|levels\d+|fp32", r"phase\d+")
    return next((place for place, pattern in enumerate(order, 1) if re.fullmatch(pattern, part)), 0)


def planned(output: str) -> dict[str, int]:
    """How many jobs of each rule Snakemake announces or runs."""
    return dict(Counter(job.partition(" ")[0] for job in planned_jobs(output)))


class Finished:
    """A copy of the repository in which an experiment with two nets has run."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, config

    def snakemake(self, *arguments: str, config: Config | str | None = None) -> str:
        """Run Snakemake as a user would, in the repository; its output."""
        name = "experiment.yaml" if config is None else "changed.yaml"
        text = config if isinstance(config, str) else yaml.safe_dump(self.config if config is None else config)
        (self.folder / name).write_text(text, encoding="utf-8")
        return succeed(self.folder, f"--configfile={name}", *arguments)

    def planned(self, *arguments: str, config: Config | str | None = None) -> set[str]:
        """The jobs that Snakemake would run, as ``evaluate tiny/seed0/k1``."""
        output = self.snakemake("--dry-run", *arguments, config=config)
        print(output)  # the reasons: pytest shows them where the plan is not the expected one
        return planned_jobs(output) - {"all"}

    @contextmanager
    def appended(self, *names: str, text: str = "\nCHANGED = True\n") -> Iterator[None]:
        """Change source files for the length of a block."""
        before = {self.folder / name: (self.folder / name).read_bytes() for name in names}
        for path, content in before.items():
            path.write_bytes(content + text.encode())
        try:
            yield
        finally:
            for path, content in before.items():
                path.write_bytes(content)

    def changed(self, change: Callable[[Config], object]) -> Config:
        """The configuration with a change."""
        config = copy.deepcopy(self.config)
        change(config)
        return config


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
