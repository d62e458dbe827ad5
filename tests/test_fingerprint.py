"""Checksums of code: a script's, and those of every module that it imports, however far down."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from negspike.fingerprint import DIGITS, NO_DIFFERENCE, PACKAGE, _files, _imports, code_of

FILES = {
    "errors.py": "",
    "devices.py": "from negspike.inner.never import lost",
    "__init__.py": "from negspike.inner.never import lost",
    "inner/__init__.py": "",
    "inner/first.py": "import negspike.inner.second\nfrom negspike.errors import InputError",
    "inner/second.py": "def late():\n    from negspike.inner import third\n    return third",
    "inner/third.py": "from negspike.inner.first import again\n"
    "if TYPE_CHECKING:\n    from negspike.inner.never import lost",
    "inner/never.py": "",
    "drawn/__init__.py": "from negspike.drawn import one, two",
    "drawn/one.py": "",
    "drawn/two.py": "import numpy",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "negspike" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text or "# something")
    (tmp_path / "negspike/inner/__init__.py").write_text("")
    return tmp_path / "negspike"


def script(package: Path, text: str) -> Path:
    path = package.parent / "script.py"
    path.write_text(text)
    return path


def test_imports_are_followed_wherever_they_stand(package: Path) -> None:
    found = code_of(script(package, "from negspike.inner.first import something"), package=package)
    assert list(found) == ["inner/first", "inner/second", "inner/third", "script.py"]
    assert {len(digits) for digits in found.values()} == {DIGITS}


def test_a_folder_that_has_code_of_its_own_counts(package: Path) -> None:
    text = script(package, "from negspike.drawn import draw")
    assert list(code_of(text, package=package)) == ["drawn/__init__", "drawn/one", "drawn/two", "script.py"]
    assert list(code_of(text, without=["drawn/two"], package=package)) == ["drawn/__init__", "drawn/one", "script.py"]


def test_a_module_counts_itself(package: Path) -> None:
    assert list(code_of(package / "inner/second.py", package=package)) == ["inner/first", "inner/second", "inner/third"]


@pytest.mark.parametrize("changed", ["inner/first.py", "inner/second.py", "inner/third.py"])
def test_a_change_shows_in_its_own_checksum_alone(package: Path, changed: str) -> None:
    text = script(package, "from negspike.inner import first")
    before = code_of(text, package=package)
    (package / changed).write_text(FILES[changed] + "\nLIMIT = 3")
    after = code_of(text, package=package)
    assert {name for name in before if before[name] != after[name]} == {changed.removesuffix(".py")}


def statements(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """As Python reads them, at any depth, but for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            yield from statements(node)


def test_imports_found_line_by_line_are_those_of_the_grammar() -> None:
    """In every module and script: none is missed, and nothing else is taken for one."""
    imported = 0
    for path in [*PACKAGE.rglob("*.py"), *(PACKAGE.parents[1] / "workflow/scripts").glob("*.py")]:
        text, expected = path.read_text(encoding="utf-8"), set()
        for node in statements(ast.parse(text)):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for top, *inner in (f"{module}{alias.name}".split(".") for alias in node.names):
                expected |= _files(inner, PACKAGE) if top == "negspike" else set()
        assert _imports(text, PACKAGE) == expected, path
        imported += len(expected)
    assert imported > 500


def test_line_ends_are_no_change(package: Path) -> None:
    text = script(package, "from negspike.inner import first")
    before = code_of(text, package=package)
    for path in (*package.rglob("*.py"), text):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert code_of(text, package=package) == before


def test_what_counts_is_what_the_interpreter_sees(package: Path) -> None:
    """A byte-order mark or another encoding that the file declares is no change; another character is."""
    text = script(package, "from negspike.inner import first  # größe")
    before = code_of(text, package=package)
    text.write_bytes(text.read_text(encoding="utf-8").encode("utf-8-sig"))
    assert code_of(text, package=package) == before
    declared = "# coding: latin-1\n# größe"
    text.write_text(declared, encoding="latin-1")
    latin = code_of(text, package=package)
    text.write_text(declared.replace("ö", "o"), encoding="latin-1")
    assert code_of(text, package=package) != latin


def test_clones_have_the_same_bytes_everywhere() -> None:
    """git would write Windows line ends where core.autocrlf is set, into scripts of shells too."""
    root = PACKAGE.parents[1]
    names = ["src/negspike/config.py", ".ci/run", "Makefile", "config.yaml", "workflow/report/workflow.rst"]
    command = ["git", "check-attr", "eol", *names]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip("not a clone")
    assert [line.rpartition(" ")[2] for line in result.stdout.splitlines()] == ["lf"] * len(names)


def test_what_makes_no_difference_exists_and_says_why() -> None:
    for name, reason in NO_DIFFERENCE.items():
        assert (PACKAGE / f"{name}.py").is_file() and reason
