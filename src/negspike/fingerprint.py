"""Checksums of the package's own code, by which a workflow knows that a result was made by another version of it."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

from negspike.files import file_sha256

PACKAGE = Path(__file__).parent
DIGITS = 12


def checksums(names: Iterable[str], package: Path = PACKAGE) -> dict[str, str]:
    """A short checksum of each part of the package, in alphabetical order.

    Args:
        names: ``spiking/dense`` is a whole module; ``stages:train`` is one function of a module that holds several,
            with whatever else of that module it uses.
        package: the package's folder.

    Raises:
        ValueError: there is no such module or function.
    """
    found = {}
    for name in sorted(names):
        module, _, function = name.partition(":")
        path = package / f"{module}.py"
        if not path.is_file():
            raise ValueError(f"'{name}': there is no module {path}")
        digest = hashlib.sha256(function_source(path, function).encode()).hexdigest() if function else file_sha256(path)
        found[name] = digest[:DIGITS]
    return found


def function_source(path: Path, function: str) -> str:
    """The source of a function and of everything at the top of its module that it uses, imports included."""
    text = path.read_text(encoding="utf-8")
    definitions: dict[str, tuple[str, ast.AST]] = {}
    for node in ast.parse(text).body:
        source = ast.get_source_segment(text, node) or ""
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            decorators = "".join(f"@{ast.get_source_segment(text, one)}\n" for one in node.decorator_list)
            definitions[node.name] = (decorators + source, node)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                line = f"from {node.module} import {alias.name}"
                definitions[alias.asname or alias.name] = (line, alias)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    definitions[target.id] = (source, node)
    if function not in definitions:
        raise ValueError(f"{path} has no function '{function}'")
    used, new = set[str](), {function}
    while new:
        used |= new
        names = {node.id for name in new for node in ast.walk(definitions[name][1]) if isinstance(node, ast.Name)}
        new = (names & definitions.keys()) - used
    return "\n".join(source for name, (source, _) in definitions.items() if name in used)
