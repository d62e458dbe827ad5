"""Numbers beside published ones: ours, theirs, and whether theirs lie within the spread of our seeds."""

from __future__ import annotations

import csv
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from negspike.errors import InputError, foreign_file, one_line
from negspike.files import write_text
from negspike.results.collect import collect
from negspike.results.metrics import settled_step
from negspike.results.published import COLUMNS, published_number, read_published, row_precision
from negspike.results.statistics import (
    CHECKS,
    EPOCHS,
    FORMS,
    METRICS,
    Key,
    Statistics,
    ordered,
    read_statistics,
    statistics_of,
)
from negspike.tables import markdown
from negspike.user_files import find_file

Table = Mapping[Key, Statistics]

# What a paper says of a network, by the name under which its curves come with the package.
ZOU_2023 = Path(__file__).parents[1] / "resources" / "published" / "zou2023.csv"
HEADER = (
    *("net", "precision", "number", "seeds", "ours", "deviation", "least", "largest"),
    *("published", "difference", "within"),
)
_ALSO = {"settled_step": ("settled_step_from_log", "settled_step", "settled_step_stated")}
_BLOCK = re.compile(r"(?P<begin><!-- negspike compare (?P<arguments>.+?) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)


def read_numbers(path: Path, **reading: Any) -> Table:
    """The numbers of a folder of logs or results, a ``summary.csv``, or a table of theirs.

    Args:
        path: of the folder or table. A table has columns ``net``, ``precision`` (or ``k``) and any of
            :data:`negspike.results.statistics.METRICS`, a line a network and seed; with a column ``timestep``, it is
            read as published curves are.
        reading: how logs are read, see :func:`negspike.results.collect.collect`.

    Raises:
        InputError: it is missing or none of these, or a cell is not a number.
    """
    if path.is_dir():
        return statistics_of(collect(path, **reading), path)
    if not path.exists():
        raise InputError(f"{path}: there is no such table or folder of logs")
    with foreign_file(path, "a table of comma-separated values", "columns net and precision are expected"):
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines())
        columns, rows = reader.fieldnames or (), list(reader)
    if "number" in columns:
        return read_statistics(path)
    return _last_of_curves(path) if "timestep" in columns else _read_table(path, rows)


def read_named(name: str, **reading: Any) -> Table:
    """The numbers that come with the package under a name, ``zou2023``, or those of a file or folder of the user's."""
    return read_numbers(ZOU_2023 if name == ZOU_2023.stem else find_file(name), **reading)


def _read_table(path: Path, rows: list[dict[str, str]]) -> Table:
    numbers: dict[Key, list[float]] = defaultdict(list)
    for line, row in enumerate(rows, 2):
        where = f"{path}, line {line}"
        try:
            precision = row_precision(row)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if not row.get("net") or precision is None:
            raise InputError(f"{where}: columns net and precision (or k) are expected, and filled in")
        for metric in METRICS:
            cell = next((row[name] for name in _ALSO.get(metric, (metric,)) if row.get(name)), None)
            if cell is not None:
                try:
                    numbers[row["net"], precision.name, metric].append(published_number(metric, cell))
                except ValueError:
                    expected = "a fraction" if metric == "accuracy" else "a number from 0"
                    raise InputError(f"{where}: {metric} is {cell!r}, expected {expected}") from None
    if not numbers:
        raise InputError(f"{path}: no line with a number in columns {', '.join(METRICS)}")
    return {key: Statistics.of(values) for key, values in numbers.items()}


def _last_of_curves(path: Path) -> Table:
    """What curves end at; where they settle only if every step is known."""
    published = read_published(str(path.absolute()))
    found = {(net, "fp32", "accuracy"): Statistics.of([accuracy]) for net, accuracy in published.fp32.items()}
    for curves in published.curves.values():
        for precision, curve in curves.items():
            last = {name: float(curve.series[name][-1]) for name in COLUMNS if name in curve.series}
            if "accuracy" in last and np.array_equal(curve.steps, np.arange(1, len(curve.steps) + 1)):
                _, same = np.unique(curve.series["accuracy"], return_inverse=True)
                last["settled_step"] = float(settled_step(same))
            found |= {(curve.net, precision.name, name): Statistics.of([value]) for name, value in last.items()}
    return found


def beside_published(key: Key, ours: Statistics, theirs: Table) -> tuple[str, str, str] | None:
    """Their number, how far ours is from it, and whether it is within our spread; None where they have none."""
    net, precision, name = key
    other = theirs.get(key) or (theirs.get((net, precision, "accuracy")) if name in EPOCHS else None)
    if other is None:
        return None
    value, form = other.mean, FORMS[name]
    within = "one seed" if ours.one_value else "yes" if ours.least <= value <= ours.largest else "no"
    return format(value, form), _difference(name, ours.mean, value), within


def _difference(name: str, ours: float, theirs: float) -> str:
    """In percentage points, in steps, or relative to theirs."""
    if FORMS[name] == ".2%":
        return f"{100 * (ours - theirs):+z.2f} points"
    if name == "settled_step":
        return f"{ours - theirs:+z.1f} steps"
    return f"{ours / theirs - 1:+z.1%}" if theirs else ""


def shown(one: Statistics, name: str) -> tuple[str, ...]:
    """Seeds, mean, deviation (empty of one value), least and largest, as they are written."""
    values = (one.mean, one.standard_deviation, one.least, one.largest)
    return (str(one.seeds), *("" if value is None else format(value, FORMS[name]) for value in values))


def compare(ours: Table, theirs: Table, run: str, published: str) -> list[tuple[str, ...]]:
    """A table, header first: a line for each number that both have.

    Raises:
        InputError: there is none.
    """
    rows = [
        (*key, *shown(one, key[2]), *found)
        for key, one in ordered(ours)
        if (found := beside_published(key, one, theirs))
    ]
    if not rows:
        mine, others = (
            ", ".join(dict.fromkeys(" ".join(key[:2]) for key, _ in ordered(one))) for one in (ours, theirs)
        )
        what = "number" if {key[0] for key in ours} & {key[0] for key in theirs} else "net"
        raise InputError(f"{run} has {mine}; {published} has {others}: no {what} in common")
    return [HEADER, *rows]


def lossless_table(ours: Table) -> list[tuple[str, ...]]:
    """What the lossless checks of all seeds found together, header first; nothing but that where none is known."""
    header = ("net", "precision", "seeds", "images", "silent at T", "of these lossless", "neurons", "of these equal")
    rows: list[tuple[str, ...]] = [
        (*header, "float32 and integer ANN differ", "integer ANN and spiking network differ")
    ]
    names = ["images", "silent_images", "lossless_images", *list(CHECKS)[2:]]
    for net, precision in dict.fromkeys(key[:2] for key, _ in ordered(ours)):
        if any((net, precision, name) not in ours for name in names):
            continue
        found = [ours[net, precision, name] for name in names]
        rows.append((net, precision, str(found[0].seeds), *(f"{one.mean * one.seeds:,.0f}" for one in found)))
    return rows


def in_markdown(compared: Sequence[tuple[str, ...]], ours: Table) -> str:
    """The comparison, and what is known of the lossless checks, as tables in Markdown."""
    lossless = lossless_table(ours)
    tables = [compared, lossless] if len(lossless) > 1 else [compared]
    words = [
        [(*row[:2], row[2].replace("_", " ").replace("sops", "SOPs"), *row[3:]) for row in rows] for rows in tables
    ]
    return "\n\n".join("\n".join(markdown(rows)) for rows in words)


def update_document(path: Path) -> int:
    """Write the tables of a Markdown document anew, and return how many blocks it has.

    A block begins with ``<!-- negspike compare RUN [PUBLISHED] -->``, paths from the document's folder, and ends with
    ``<!-- end -->``; what stands between is replaced.

    Raises:
        InputError: the document is missing or has no block, or what a block names is wrong.
    """
    with foreign_file(path, "a document"):
        text = path.read_text(encoding="utf-8")

    def written(block: re.Match[str]) -> str:
        try:
            run, *rest = shlex.split(block["arguments"])
        except ValueError as error:
            raise InputError(f"{path}: {block['begin'].strip()}: {one_line(error)}") from None
        if len(rest) > 1:
            raise InputError(f"{path}: {block['begin'].strip()}: expected a run, and what is published")
        ours = read_numbers(path.parent / run)
        named = rest[0] if rest else ZOU_2023.stem
        theirs = read_numbers(ZOU_2023 if named == ZOU_2023.stem else path.parent / named)
        rows = compare(ours, theirs, run, named)
        return f"{block['begin']}\n{in_markdown(rows, ours)}\n\n{block['end']}"

    changed, count = _BLOCK.subn(written, text)
    if count != text.count("<!-- negspike compare ") or not count:
        raise InputError(f"{path}: expected '<!-- negspike compare RUN -->' and '<!-- end -->' around each table")
    if changed != text:
        write_text(path, changed)
    return count
