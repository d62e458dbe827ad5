"""The figures: of the networks over time, of the lossless check, of where it fires, and of the trainings.

They are drawn from small tables and arrays, and what is drawn stands in a CSV beside the figure. The same data give the
same bytes: no date, no random identifier, no system font. Each figure is a module of its own, with ``TITLE``, ``read``,
``build`` and ``numbers``, so that a change in one redraws that one; they share :mod:`negspike.figures.style`.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import negspike.figures.backend  # isort: skip  # noqa: F401  before anything of Matplotlib
from matplotlib.figure import Figure

from negspike.errors import InputError
from negspike.figures import (
    accuracy_speed,
    firing,
    lossless,
    neuron,
    raster,
    sops,
    sparsity,
    streaming,
    tradeoff,
    training,
)
from negspike.figures.style import SCALES, described, styled
from negspike.files import write_bytes, write_text

FORMATS = ("pdf", "svg", "png")
# of Results, which logs in the published format are enough for
CURVES: dict[str, ModuleType] = {"accuracy_speed": accuracy_speed, "sparsity": sparsity, "sops": sops}
# drawn beside published networks
BESIDE = {*CURVES, "tradeoff"}
KINDS = CURVES | {
    "tradeoff": tradeoff,
    "lossless": lossless,
    "firing": firing,
    "raster": raster,
    "neuron": neuron,
    "streaming": streaming,
    "training": training,
}


def read(kind: str, directory: Path, runs: Iterable[tuple[str, int, str]], published: str | None = None) -> Any:
    """What a figure is drawn from, of the workflow's results.

    Args:
        kind: one of :data:`KINDS`.
        directory: the folder of the nets' folders.
        runs: (net, seed, folder) of each network, such as ``("cnn1", 0, "k1")``.
        published: what those of :data:`BESIDE` are drawn beside, see :func:`negspike.results.published.read_published`.

    Raises:
        InputError: an unknown figure, or a file is missing or wrong.
    """
    module = _module(kind)
    return module.read(directory, runs, published) if kind in BESIDE else module.read(directory, runs)


def draw(kind: str, data: Any, outputs: Mapping[str, Path | str], *, style: str = "paper") -> None:
    """Draw one figure and write it in every format, with a CSV of what is drawn.

    Args:
        kind: one of :data:`KINDS`.
        data: what :func:`read` gives for it; of those in :data:`CURVES`, :class:`negspike.results.collect.Results`.
        outputs: path for each of ``pdf``, ``svg``, ``png`` and ``csv``; formats left out are not written.
        style: ``paper``, or ``talk``: twice as large, with thicker lines.

    Raises:
        InputError: an unknown figure or style, no data, or curves of one net that differ in their number of time steps.
    """
    figure = build(kind, data, style=style)
    title, text = _module(kind).TITLE, described(figure)
    # one date, identifier or version in a file and the same result would no longer be the same file
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None, "Title": title, "Subject": text},
        "svg": {"Date": None, "Creator": None, "Title": title, "Description": text},
        "png": {"Software": None, "Title": title, "Description": text},
    }
    with styled(style):
        for suffix in FORMATS:
            if suffix in outputs:
                content = io.BytesIO()
                figure.savefig(content, format=suffix, dpi=300 / SCALES[style], metadata=metadata[suffix])
                write_bytes(outputs[suffix], _in_lines(content.getvalue()) if suffix == "svg" else content.getbuffer())
    if "csv" in outputs:
        write_text(outputs["csv"], _module(kind).numbers(data))


def build(kind: str, data: Any, *, style: str = "paper") -> Figure:
    """The figure that :func:`draw` writes, with the same arguments and errors."""
    with styled(style):
        figure: Figure = _module(kind).build(data)
        # it is laid out in inches of a paper
        figure.set_size_inches(*(SCALES[style] * figure.get_size_inches()))
    return figure


def _in_lines(svg: bytes) -> bytes:
    """An SVG whose pictures are in lines of 76 characters: the report's reader refuses a page with lines of 10,000."""
    return re.sub(rb"(?<=;base64,\n)[\w+/=]+", lambda data: base64.encodebytes(base64.b64decode(data[0])).rstrip(), svg)


def _module(kind: str) -> ModuleType:
    if kind not in KINDS:
        raise InputError(f"figure '{kind}' is unknown: there are {', '.join(KINDS)}")
    return KINDS[kind]
