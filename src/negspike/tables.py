"""How objects show themselves: a title and rows of two columns, in a terminal and in a notebook."""

from __future__ import annotations

from html import escape


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
