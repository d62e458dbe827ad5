"""What belongs to a machine: every key of a profile is explained, and one GPU gets one training at a time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from workflow_runs import TINY, snakemake, write_config

PROFILES = sorted((ROOT / "profiles").glob("*/config.yaml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.parent.name)
def test_every_key_is_explained(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"[a-z-]+:", line)]
    assert len(keys) == len(yaml.safe_load(path.read_text(encoding="utf-8"))) > 0
    assert all(lines[number - 1].startswith("# ") for number in keys)
    documented = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    assert all(f"`{lines[number].partition(':')[0]}`" in documented for number in keys)


@pytest.mark.slow
def test_one_gpu_gets_one_training_at_a_time(tmp_path: Path) -> None:
    config = write_config(tmp_path, TINY)
    targets = [f"results/tiny/tiny/seed0/{precision}/weights.pt" for precision in ("fp32", "k0")]
    result = snakemake(tmp_path, "--configfile", config, "--set-resources", "train:gpu=1", "--", *targets)
    assert result.returncode == 0, result.stdout
    events = re.findall(r"^(?:local)?(rule|Finished) (?:jobid: \d+ \(Rule: )?train\b", result.stdout, re.MULTILINE)
    assert events == ["rule", "Finished", "rule", "Finished"], result.stdout
