"""What users of other Snakemake workflows expect: complete rules, report, archive, graphs, use as a module."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from workflow_runs import TINY, Finished, planned_jobs, run, succeed

from negspike.figures import KINDS

SNAKEFILES = [ROOT / "Snakefile", *sorted((ROOT / "workflow/rules").glob("*.smk"))]
STAND_IN_FOR_CONDA = """#!/bin/sh
case "$1 $2" in
    "info --json") echo '{"conda_prefix": "/nowhere", "conda_version": "25.1.0", "platform": "linux-64"}' ;;
    "--version ") echo "conda 25.1.0" ;;
    "config --get") echo '{"get": {"channel_priority": "strict"}}' ;;
    "env create") while [ "$1" != --prefix ]; do shift; done; mkdir -p "$2" ;;
    "list --explicit") echo "@EXPLICIT" ;;
    "clean -y") ;;
    *) echo "conda $*: not expected" >&2; exit 1 ;;
esac
"""


def test_reading_the_workflow_imports_nothing_large() -> None:
    """It is read in every run, and on a cluster in every job: PyTorch alone takes longer than all the rest."""
    lines = [line for path in SNAKEFILES for line in path.read_text().splitlines() if line.startswith("from negspike")]
    assert len(lines) > 5
    large = "{'torch', 'numba', 'matplotlib', 'scipy'}"
    code = "\n".join(["import sys", *lines, f"print(sorted({large} & sys.modules.keys()))"])
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.fixture
def conda(tmp_path: Path) -> str:
    """A search path with a program that answers as conda would, with an empty environment."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "conda").write_text(STAND_IN_FOR_CONDA)
    (folder / "conda").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


# ---- the rules

# Includes the workflow and writes what Snakemake made of its rules.
DESCRIBE = f"""
include: "{ROOT / "Snakefile"}"
import json
def named(files):
    return len(list(files)) == sum(end - start if end else 1 for start, end in files._names.values())
with open("rules.json", "w") as stream:
    json.dump({{
        each.name: {{
            "inputs_named": named(each.input),
            "outputs_named": named(each.output),
            "log": len(each.log),
            "benchmark": each.benchmark is not None,
            "conda": str(each.conda_env),
            "resources": sorted(each.resources),
            "wildcards": sorted(each.wildcard_names),
            "script": str(each.script),
        }}
        for each in workflow.rules if each.output
    }}, stream)
    json.dump(sorted(workflow.wildcard_constraints), open("constraints.json", "w"))
"""


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """Every rule that makes files as Snakemake has it, and the names of the constrained wildcards."""
    folder = tmp_path_factory.mktemp("rules")
    (folder / "Snakefile").write_text(DESCRIBE)
    succeed(folder, "--list")
    return json.loads((folder / "rules.json").read_text()), set(json.loads((folder / "constraints.json").read_text()))


def test_every_rule_is_complete(rules: tuple[dict[str, dict[str, Any]], set[str]]) -> None:
    described, constrained = rules
    assert len(described) >= 10
    for name, rule in described.items():
        assert rule["inputs_named"] and rule["outputs_named"], name
        assert rule["log"] == 1 and rule["benchmark"], name
        assert rule["conda"].endswith("envs/environment.yaml"), name
        assert {"mem_mb", "runtime", "_cores"} <= set(rule["resources"]), name
        assert set(rule["wildcards"]) <= constrained, f"{name}: a wildcard without constraint"
        assert (ROOT / "workflow/scripts" / Path(rule["script"]).name).is_file(), name


def test_every_rule_says_so_itself() -> None:
    """Threads have a default and say nothing in Snakemake's own description, so the text is read."""
    text = "\n".join(path.read_text() for path in SNAKEFILES)
    blocks = re.split(r"^(?:use )?rule ", text, flags=re.MULTILINE)[1:]
    for block in blocks:
        name = re.match(r"\w+", block)
        assert name is not None
        directives = set(re.findall(r"^    (\w+):", block, re.MULTILINE))
        if " as " in block.splitlines()[0]:
            assert {"output", "log", "benchmark", "params"} <= directives, block.splitlines()[0]
        elif "output" in directives:
            assert {"log", "benchmark", "conda", "threads", "resources", "script"} <= directives, name[0]


def test_each_stage_opens_with_what_it_reads_and_writes() -> None:
    for path in SNAKEFILES[1:]:
        if path.name != "common.smk":
            assert re.match(r"# In: .*\n(#.*\n)*# Out: ", path.read_text()), path.name


def test_the_folders_own_snakefile_is_the_same_workflow(finished_copy: Finished) -> None:
    assert "Nothing to be done" in finished_copy.snakemake("--snakefile", "workflow/Snakefile", "--dry-run")


def test_the_catalogue_file_says_what_is_there() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["report"] is True and usage["software-stack-deployment"]["conda"] is True
    assert (ROOT / "config/README.md").is_file() and (ROOT / "workflow/Snakefile").is_file()
    assert {"snakemake", "workflow"} <= set(re.findall(r"\w+", (ROOT / "README.md").read_text().lower()))


def test_every_profile_decides_alike_what_is_run_again() -> None:
    """A profile given with --workflow-profile takes the place of the default one."""
    profiles = {path.parent.name: yaml.safe_load(path.read_text()) for path in ROOT.glob("profiles/*/config.yaml")}
    for name, profile in profiles.items():
        for key in ("rerun-triggers", "max-checksum-file-size"):
            assert profile.get(key) == profiles["default"][key], f"profiles/{name}: {key}"


def test_graphs(finished_copy: Finished) -> None:
    for option in ("--dag", "--rulegraph", "--filegraph"):
        graph = finished_copy.snakemake(option)
        assert "digraph" in graph and "train" in graph and "->" in graph, option


# ---- report and archive


def test_the_report_has_every_figure_with_a_caption(finished_copy: Finished, tmp_path: Path) -> None:
    finished_copy.snakemake("--report", str(tmp_path / "report.zip"))
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
        page = archive.read("report/report.html").decode()
    figures = {f"{name}.svg" for name in KINDS if name != "streaming"}
    assert figures | {"table.csv"} <= names
    captions = re.findall(r'"caption": "(.*?)(?<!\\)", ', page)
    assert len(captions) == 10 and len(set(captions)) == 10
    for caption in captions:
        assert "tiny: 8C3-P2-32" in caption and "T = 30" in caption and "{" not in caption
    assert sum("k = 0, k = 1" in caption for caption in captions) == 7
    assert "Nets: small, tiny; k = 0, 1," in page
    assert "System Message" not in page and page.count("<figure>") == 9
    # live numbers: those of the table that the run ends with
    summary = (finished_copy.folder / "results/tiny/summary.md").read_text().splitlines()
    (proof,) = (line for line in summary if line.startswith("All nets: 1,436 of 1,436 images, "))
    assert page.count(json.dumps(proof)[1:-1]) == 2, "on the first page and below the lossless figure"
    assert all(f"<td>{cell.strip()}</td>" in page for cell in summary[3][2:-2].split(" | ") if cell.strip())


# Notes in the page what goes wrong and how wide its figures turn out: the browser prints the page as it is then.
WATCHED = """<head><script>
const wrong = [];
window.addEventListener("error", event => wrong.push(event.message));
console.error = (...words) => wrong.push(words.join(" "));
window.addEventListener("load", () => setTimeout(() => {
    const widths = [...document.querySelectorAll("figure img")].map(image => image.naturalWidth);
    document.documentElement.setAttribute("data-found", JSON.stringify({wrong, widths}));
}, 1000));
</script>"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_report_opens_in_a_browser(finished_copy: Finished, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    finished_copy.snakemake("--report", str(page))
    page.write_text(page.read_text().replace("<head>", WATCHED, 1))
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command = ["chromium", *options, "--virtual-time-budget=10000", "--dump-dom", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    noted = re.search(r'data-found="(.*?)"', dom)
    assert noted is not None, dom[:2000]
    found = json.loads(html.unescape(noted[1]))
    assert found["wrong"] == []
    assert len(found["widths"]) == 9 and min(found["widths"]) > 100, "each figure is drawn on the first page"
    assert "All nets: 1,436 of 1,436 images" in dom and "lossless images" in dom


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_an_archive_runs_elsewhere(finished_copy: Finished, conda: str, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(finished_copy.folder, folder)
    (folder / ".gitignore").write_text(".snakemake/\n__pycache__/\n/data/\n/results/\n")
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    succeed(folder, "--configfile", "experiment.yaml", "--archive", "archive.tar.gz", changes={"PATH": conda})
    with tarfile.open(folder / "archive.tar.gz") as archive:
        archive.extractall(tmp_path / "elsewhere", filter="data")
    shutil.rmtree(folder)
    planned = succeed(tmp_path / "elsewhere", "--configfile", "experiment.yaml", "--dry-run")
    assert "train" in planned and "accuracy_speed" in planned
    succeed(tmp_path / "elsewhere", "--configfile", "experiment.yaml", "--", "data/digits.npz")
    assert (tmp_path / "elsewhere/data/digits.npz").is_file()


# ---- conda


def test_conda_alone_is_no_reason_to_run_anything(finished_copy: Finished, conda: str) -> None:
    arguments = ["--configfile", "experiment.yaml", "--software-deployment-method", "conda", "--dry-run"]
    planned = succeed(finished_copy.folder, *arguments, changes={"PATH": conda})
    assert "envs/environment.yaml will be created" in planned and "Nothing to be done" in planned


def test_the_two_lists_of_versions_agree() -> None:
    """envs/environment.yaml names each direct dependency, in the version of envs/constraints.txt."""
    lines = (ROOT / "envs/constraints.txt").read_text().splitlines()
    pinned = dict(line.lower().split("==") for line in lines if "==" in line)
    environment = yaml.safe_load((ROOT / "envs/environment.yaml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    versions = dict(entry.split("=") for entry in environment["dependencies"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={versions.pop('python')}"
    found = {name.removesuffix("-base"): version for name, version in versions.items()}
    found["torch"] = found.pop("pytorch")
    assert found.keys() == {re.split(r"[<>=]", requirement)[0] for requirement in project["dependencies"]}
    assert found == {name: pinned[name] for name in found}


# ---- as a module of another workflow

OUTER = f"""
configfile: "outer.yaml"

module negspike:
    snakefile: "{ROOT / "Snakefile"}"
    config: config["spiking"]
    prefix: "spiking"

use rule * from negspike as negspike_*

rule all:
    default_target: True
    input:
        rules.negspike_all.input,
        "best.txt",

rule best:
    input:
        table=rules.negspike_table.output.table,
    output:
        "best.txt",
    shell:
        "cut -d, -f1-4 {{input.table}} > {{output}}"
"""


@pytest.mark.slow
def test_another_workflow_uses_this_one_as_a_module(tmp_path: Path) -> None:
    tiny = TINY["definitions"]["tiny"] | {"phases": [{"epochs": 1, "learning_rate": 1.0e-3}]}  # type: ignore[index]
    # only what differs from the published experiment
    spiking = {"nets": ["tiny"], "quantization_levels": [1], "definitions": {"tiny": tiny}, "device": "cpu"}
    (tmp_path / "outer.yaml").write_text(yaml.safe_dump({"spiking": spiking}))
    (tmp_path / "Snakefile").write_text(OUTER)
    succeed(tmp_path)
    assert "Nothing to be done" in succeed(tmp_path, "--dry-run")
    assert "Nothing to be done" in succeed(tmp_path, "--dry-run", "best.txt"), "a target of the other workflow"
    unknown = run(tmp_path, "--dry-run", "worst.txt")
    assert unknown.returncode and "worst.txt" in unknown.stdout and "nothing makes" not in unknown.stdout
    wider = succeed(tmp_path, "--dry-run", "best.txt", "--config", "spiking={seeds: [0, 1], weight_bits: 8}")
    assert "negspike_train tiny/seed1/k1" in planned_jobs(wider), "numbers of --config are numbers"
    refused = run(tmp_path, "--dry-run", "best.txt", "--config", "spiking={seeds: [a]}")
    assert "config key 'seeds[0]' is 'a': expected a whole number" in refused.stdout.splitlines()[-1]
    # a file that the configuration names lies beside it, not below the prefix
    shutil.copy(tmp_path / "spiking/results/tiny/seed0/fp32/weights.pt", tmp_path / "w.pt")
    trained = "spiking={definitions: {tiny: {weights: w.pt, init: fp32, phases: []}}}"
    assert "negspike_train tiny/seed0/fp32" in planned_jobs(
        succeed(tmp_path, "--dry-run", "best.txt", "--config", trained)
    )
    (tmp_path / "w.pt").unlink()
    with open(tmp_path / "best.txt") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["net"], row["seed"], row["k"]) == ("tiny", "0", "1")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == [
        *("Snakefile", "best.txt", "outer.yaml", "spiking")
    ]
    assert (tmp_path / "spiking/results/figs/sops.csv").is_file() and (tmp_path / "spiking/data/digits.npz").is_file()
    succeed(tmp_path, "--report", "report.zip")
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        assert b"tiny: 8C3-P2-32" in archive.read("report/report.html")
