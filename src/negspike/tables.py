"""Tables: how objects show themselves in a terminal and in a notebook, and files of comma-separated values."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from negspike.files import write_text


def write_csv(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, at least one, atomically; the keys of the first are the header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def markdown(rows: Sequence[tuple[str, ...]], *, left: int = 3) -> list[str]:
    """Lines of a table in Markdown, header first, that is read as it is, too; the first columns are text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = tuple("-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths))
    return [
        "| " + " | ".join([*map(str.ljust, row[:left], widths), *map(str.rjust, row[left:], widths[left:])]) + " |"
        for row in (rows[0], rule, *rows[1:])
    ]


class Table:
    """Prints itself as the table that its ``_table`` gives."""

    def _table(self) -> tuple[str, list[tuple[str, str]]]:
        """(title, rows of name and value), at most a dozen."""
        raise NotImplementedError

    def __repr__(self) -> str:
        title, rows = self._table()
        width = max(len(name) for name, _ in rows)
        return "\n".join([title, *(f"  {name.ljust(width)}  {value}" for name, value in rows)])

    def _repr_html_(self) -> str:
        title, rows = self._table()
        cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
        return f"<table><caption>{escape(title)}</caption>{cells}</table>"
