"""Checksums of code: a module's is its file's, a function's is that of what it uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from negspike.files import file_sha256
from negspike.fingerprint import DIGITS, checksums, function_source

MODULE = '''"""Stages."""
from __future__ import annotations
from negspike.network import Network as Net
from negspike.training import train_phase
LIMIT: int = 3
UNUSED = 4
def helper():
    return LIMIT
@wrapped(LIMIT)
def first():
    return helper(), Net
def second():
    return train_phase
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "stages.py").write_text(MODULE)
    return tmp_path


def test_a_function_brings_what_it_uses(package: Path) -> None:
    assert function_source(package / "stages.py", "first").splitlines() == [
        "from negspike.network import Network",
        "LIMIT: int = 3",
        "def helper():",
        "    return LIMIT",
        "@wrapped(LIMIT)",
        "def first():",
        "    return helper(), Net",
    ]


@pytest.mark.parametrize(
    ("before", "after", "first", "second"),
    [
        ("UNUSED = 4", "UNUSED = 5", False, False),
        ("LIMIT: int = 3", "LIMIT: int = 4", True, False),
        ("return helper(), Net", "return Net", True, False),
        ("@wrapped(LIMIT)", "@wrapped(2)", True, False),
        ("return train_phase", "return train_phase()", False, True),
        ("negspike.network import", "negspike.other import", True, False),
        ("negspike.training import", "negspike.other import", False, True),
    ],
)
def test_a_change_shows_where_it_matters(package: Path, before: str, after: str, first: bool, second: bool) -> None:
    names = ("stages", "stages:first", "stages:second")
    old = checksums(names, package)
    assert before in MODULE
    (package / "stages.py").write_text(MODULE.replace(before, after))
    new = checksums(names, package)
    assert [old[name] != new[name] for name in names] == [True, first, second]


def test_order_and_length(package: Path) -> None:
    found = checksums(["stages:second", "stages"], package)
    assert list(found) == ["stages", "stages:second"]
    assert found["stages"] == file_sha256(package / "stages.py")[:DIGITS]
    assert {len(digits) for digits in found.values()} == {DIGITS}


@pytest.mark.parametrize("name", ["missing", "stages:third"])
def test_what_is_not_there_is_refused(package: Path, name: str) -> None:
    with pytest.raises(ValueError, match=name.partition(":")[2] or name):
        checksums([name], package)
