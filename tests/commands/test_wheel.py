"""The package as it is installed: a wheel, in an environment of its own, outside any clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that the clone stays as it is."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "workflow", "pyproject.toml", "README.md", "LICENSE", "config.yaml"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*command, str(target), str(source)], check=True)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; what it depends on is that of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(command, check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "shared.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin"


def run(binary: Path, folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["NUMBA_DISABLE_JIT"] = "0"
    result = subprocess.run(
        [str(binary / "negspike"), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_wheel_is_complete(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        config = archive.read("negspike/resources/config.yaml")
    assert config == (ROOT / "config.yaml").read_bytes()
    resources = [
        "config.schema.json",
        "published/zou2023.csv",
        "published/zou2023_curves.csv",
        "captions/sops.rst",
        "captions/workflow.rst",
    ]
    assert {"negspike/py.typed", *(f"negspike/resources/{name}" for name in resources)} <= names
    modules = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}


def test_every_command_works_outside_a_clone(installed: Path, tmp_path: Path) -> None:
    assert run(installed, tmp_path, "--version").startswith("negspike ")
    python = [str(installed / "python"), "-c", "import negspike; print(negspike.__file__)"]
    where = subprocess.run(python, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert where.stdout.startswith(str(installed.parent)), where.stdout
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\ndef build():\n    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(),"
        " nn.Linear(144, 10))\n"
    )
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (10, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(10))
    convert = ["convert", "my_nets.py:build", "--calibration", "images.npz", "--levels", "3", "--out", "net.npz"]
    assert re.search(r"classes +10\n", run(installed, tmp_path, *convert))
    engine = ["--engine", "reference"]  # nothing to compile
    assert run(installed, tmp_path, "verify", "net.npz", "--data", "images.npz", *engine).startswith("lossless")
    logs = ["--out", "logs/mlp/k0", "--timesteps", "40"]
    run(installed, tmp_path, "simulate", "net.npz", "--data", "images.npz", *logs, *engine)
    assert "144" in run(installed, tmp_path, "info", "net.npz")
    ten = ["--batch-size", "10"]
    run(installed, tmp_path, "figures", "logs", "--out", "figures", *ten)
    assert (tmp_path / "figures/sops.pdf").stat().st_size > 0
    assert "mlp  k0" in run(installed, tmp_path, "compare", "logs", *ten)
    tiny = {"nets": ["mlp"], "quantization_levels": [0], "device": "cpu", "definitions": {"mlp": {"dataset": "digits"}}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    estimate = run(installed, tmp_path, "check", "tiny.yaml", "--cores", "1")
    assert "5 of 5 jobs" in estimate and "evaluation mlp k0" in estimate
