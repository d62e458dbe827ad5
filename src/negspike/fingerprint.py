"""Checksums of the package's own code, by which a workflow knows that a result was made by another version of it."""

from __future__ import annotations

import ast
import hashlib
import re
import tokenize
from collections.abc import Container
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
DIGITS = 12
# Statements found line by line: whatever Snakemake does begins with this, and parsing all modules takes twice as long.
_NAME = r"\w+(?:[ \t]+as[ \t]+\w+)?"
_IMPORT = re.compile(
    rf"^[ \t]*(from[ \t]+negspike[\w.]*[ \t]+import[ \t]+(?:\([^)]*\)|\*|{_NAME}(?:[ \t]*,[ \t]*{_NAME})*)"
    r"|import[ \t]+negspike[\w.]*)",
    re.MULTILINE,
)
_FOR_TYPE_CHECKERS = re.compile(r"^([ \t]*)if TYPE_CHECKING:\n(?:\1[ \t]+.*(?:\n|\Z)|[ \t]*\n)*", re.MULTILINE)
# Modules whose change makes no result different, and why.
NO_DIFFERENCE = {
    "__init__": "names",
    "config": "checks the configuration on every run; its values are parameters",
    "config_errors": "as config",
    "config_sections": "as config",
    "console": "what is said while a rule runs",
    "data/download": "a file with the right checksum is the right file",
    "devices": "where it is computed, and how that is recorded",
    "errors": "the kind of errors",
    "files": "how files are written, not what is in them",
    "fingerprint": "what is compared, not what is computed",
}


def code_of(script: Path, *, without: Container[str] = (), package: Path = PACKAGE) -> dict[str, str]:
    """A short checksum of a script and of every module of the package that it imports, directly or through others.

    Imports inside functions count, those for type checkers alone do not. What counts is the text that the interpreter
    sees: line ends, a byte-order mark and the encoding make no difference.

    Args:
        script: a script of the workflow, or a module of the package.
        without: modules that are not followed, such as ``figures/sops``, beside those of :data:`NO_DIFFERENCE`.
        package: the package's folder.

    Returns:
        Checksums by name, in alphabetical order: ``spiking/dense`` for a module, the file's name for the script.
    """
    text = _read(script)
    found = {_name(script, package): _checksum(text)}
    new, seen = {*_imports(text, package)}, {*NO_DIFFERENCE}
    while new:
        name = new.pop()
        if name not in seen and name not in without:
            seen.add(name)
            text = _read(package / f"{name}.py")
            if text:  # an empty __init__ says nothing
                found[name] = _checksum(text)
            new |= _imports(text, package)
    return dict(sorted(found.items()))


def _name(path: Path, package: Path) -> str:
    return path.relative_to(package).with_suffix("").as_posix() if package in path.parents else path.name


def _read(path: Path) -> str:
    with tokenize.open(path) as stream:
        return stream.read()


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


@cache  # scripts have most of their modules in common
def _imports(source: str, package: Path) -> frozenset[str]:
    """The package's modules that a source imports; ``from negspike.spiking import dense`` is ``spiking/dense``."""
    names = set()
    found = _IMPORT.findall(_FOR_TYPE_CHECKERS.sub("", source))
    for node in ast.parse("\n".join(found)).body:
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            assert isinstance(node, ast.ImportFrom)
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        for module in modules:
            top, *path = module.split(".")
            if top == package.name:
                names |= _files(path, package)
    return frozenset(names)


def _files(path: list[str], package: Path) -> set[str]:
    """The modules behind the name ``negspike.a.b.c``: the folders' ``__init__``, and a file where one is met."""
    found = {"__init__"}
    for depth in range(1, len(path) + 1):
        inner = "/".join(path[:depth])
        if (package / f"{inner}.py").is_file():
            return found | {inner}
        if not (package / inner / "__init__.py").is_file():
            break  # a name that the folder's __init__ defines
        found.add(f"{inner}/__init__")
    return found
