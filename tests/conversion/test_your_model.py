"""docs/your_model.md and examples/your_model.ipynb: run as they stand there, and the one as the other."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

PAGE = ROOT / "docs" / "your_model.md"
NOTEBOOK = ROOT / "examples" / "your_model.ipynb"


def blocks() -> list[tuple[str, str]]:
    """(code, what it prints), in order."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", text, re.DOTALL)


def without_numbers(text: str) -> str:
    """Training ends with other last bits on other processors."""
    return " ".join(re.sub(r"[\d.,]+", "#", text).split())


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code, shown in blocks():
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, names)
        assert without_numbers(printed.getvalue()) == without_numbers(shown)
    assert names["log"].correct[:, -1].mean() > 0.9 and (names["log"].silent >= 0).all()


@pytest.mark.slow
def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other tests run beside it
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.source for cell in cells] == [code.rstrip("\n") for code, _ in blocks()]
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": tmp_path}}).execute()
    said = "".join(output.get("text", "") for cell in cells for output in cell.outputs if output.name == "stdout")
    assert "lossless" in said and "SiLU is nothing that spikes can follow" in said
