"""What the documentation tells people to type is what there is: commands verbatim, links, the API reference."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from workflow_runs import succeed

import negspike

MODEL = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
"""
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def blocks() -> list[str]:
    return re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with a model and images of the user's beside it, and the tests' environment as its own.

    Beside it, ``planning`` is a profile with which Snakemake does nothing but plan.
    """
    folder = tmp_path_factory.mktemp("documentation") / "negspike"
    names = (
        "src",
        "workflow",
        "presets",
        "examples",
        "profiles",
        "envs",
        "Snakefile",
        "config.yaml",
        "pyproject.toml",
        "Makefile",
    )
    folder.mkdir()
    for name in (*names, "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.pyc", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, folder)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder.parent / "planning").mkdir()
    (folder.parent / "planning" / "config.yaml").write_text("dry-run: true\n")
    (folder / "my_nets.py").write_text(MODEL)
    namespace: dict[str, nn.Module] = {}
    exec(MODEL, namespace)
    torch.manual_seed(0)
    save_file(namespace["build"]().state_dict(), folder / "w.safetensors")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / "images" / f"{number}.png")
    return folder


def shell(clone: Path, text: str) -> str:
    """Run a block as it stands; Snakemake, make and pip are told through the environment to do nothing but plan."""
    tools = clone.parent / "tools"
    tools.mkdir(exist_ok=True)
    for name, module in (("negspike", "negspike"), ("snakemake", "snakemake"), ("pip", "pip")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (tools / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(clone / "src"),
        "SNAKEMAKE_PROFILE": str(clone.parent / "planning"),
        "MAKEFLAGS": "-n",
        "PIP_DRY_RUN": "1",
        "PIP_NO_DEPS": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it the other way round
    }
    result = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", text],
        cwd=clone,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(blocks())))
def test_each_command_of_the_readme(number: int, clone: Path) -> None:
    text = blocks()[number]
    output = shell(clone, text)
    if "negspike convert" in text:
        assert "\nlossless\n" in output and (clone / "net.npz").is_file()
    assert output.count("This was a dry-run") == text.count("snakemake --cores")


# What needs a cloud, a cluster of one's own or finished results is tested elsewhere, or cannot be here.
ELSEWHERE = ("--executor", "--workflow-profile", "--report", "--archive", "--touch", " check")


def workflow_commands() -> list[str]:
    """The commands of all other pages that a clone can plan, each once and without its comment."""
    text = "\n".join(
        page.read_text(encoding="utf-8") for page in DOCUMENTS if page.name != "README.md" or page.parent != ROOT
    )
    lines = re.findall(r"^ *(snakemake .*)$", text.replace("\\\n", ""), re.MULTILINE)
    commands = dict.fromkeys(line.partition("  #")[0].strip() for line in lines)
    return [command for command in commands if not any(word in command for word in ELSEWHERE)]


@pytest.mark.slow
def test_commands_of_other_pages_can_be_planned(clone: Path) -> None:
    commands = workflow_commands()
    assert len(commands) >= 12
    # what a shell makes of them, braces and all
    script = "\n".join(["snakemake() { printf '%s\\0' \"$@\"; echo; }", *commands])
    lines = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == len(commands)
    for line in lines:
        arguments = line.split("\0")[:-1]
        output = succeed(clone, *arguments, cores=None, changes={"SNAKEMAKE_PROFILE": str(clone.parent / "planning")})
        assert ("This was a dry-run" in output) != bool({"--dag", "--rulegraph"} & {*arguments}), line


def test_every_command_is_run() -> None:
    text = "\n".join(blocks())
    for command in ("pip install .", "make setup", "source .venv/bin/activate", "negspike convert", "negspike verify"):
        assert command in text
    assert text.count("snakemake --cores") >= 5


def test_every_link_leads_somewhere() -> None:
    for document in DOCUMENTS:
        text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, anchor = target.partition("#")
            if "://" in target:
                continue
            found = (document.parent / path).resolve() if path else document
            assert found.exists(), f"{document.name}: {target}"
            if anchor:
                titles = re.findall(r"^#+ (.*)", found.read_text(encoding="utf-8"), re.MULTILINE)
                assert anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name}" in index, f"docs/README.md does not name {page.name}"


def test_the_api_reference(tmp_path: Path) -> None:
    pytest.importorskip("pdoc")
    command = [sys.executable, str(ROOT / "docs" / "api.py"), str(tmp_path)]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, check=True)
    page = (tmp_path / "negspike.html").read_text(encoding="utf-8")
    for name in set(negspike.__all__) - {"__version__"}:
        assert f'id="{name}"' in page, name
