"""What a script of the workflow imports of the package, directly and through other modules."""

from __future__ import annotations

import ast
from collections.abc import Container
from pathlib import Path

from negspike.fingerprint import PACKAGE, function_source


def imported_modules(script: Path, stop_at: Container[str]) -> tuple[set[str], set[str]]:
    """Modules, named as in ``negspike.fingerprint``, and those of ``stop_at`` that were met and not followed.

    Imports inside functions count, those for type checkers alone do not. ``stages`` holds one function a rule, which
    counts by itself.
    """
    found: set[str] = set()
    stopped: set[str] = set()
    new = _imports(script.read_text(encoding="utf-8"))
    while new:
        name = new.pop()
        if name in stop_at:
            stopped.add(name)
        elif name not in found:
            found.add(name)
            module, _, function = name.partition(":")
            path = PACKAGE / f"{module}.py"
            new |= _imports(function_source(path, function) if function else path.read_text(encoding="utf-8"))
    return found, stopped


def _imports(source: str) -> set[str]:
    tree = ast.parse(source)
    for_type_checkers = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    names = set()
    for node in ast.walk(tree):
        if node in for_type_checkers:
            continue
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("negspike") for alias in node.names), "import names from negspike"
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            package, *path = node.module.split(".")
            if package == "negspike":
                names |= {_name("/".join(path), alias.name) for alias in node.names}
    return names


def _name(module: str, imported: str) -> str:
    """``from negspike.spiking import dense`` is spiking/dense; ``from negspike.figures import draw`` its __init__."""
    inner = f"{module}/{imported}".lstrip("/")
    if (PACKAGE / f"{inner}.py").is_file():
        return inner
    if (PACKAGE / module).is_dir():
        return f"{module}/__init__".lstrip("/")
    return f"stages:{imported}" if module == "stages" else module
