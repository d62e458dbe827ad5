"""The three figures: accuracy versus speed, firing sparsity and computing operations, one panel a net.

They are drawn from small tables, and what is drawn stands in a CSV beside the figure. The same curves give the same
bytes: no date, no random identifier, no system font. Each figure is a module of its own, so that a change in one
redraws that one; they share :mod:`negspike.figures.style`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from negspike.errors import InputError
from negspike.figures import accuracy_speed, sops, sparsity
from negspike.figures.style import STYLE, Panel, arrange
from negspike.files import write_bytes, write_text
from negspike.results.metrics import Curves

FORMATS = ("pdf", "svg", "png")


@dataclass(frozen=True)
class _Kind:
    draw_panel: Callable[[Panel], None]
    numbers: Callable[[Sequence[Curves], Mapping[str, Sequence[float]]], str]


_KINDS = {
    "accuracy_speed": _Kind(accuracy_speed.draw_panel, accuracy_speed.numbers),
    "sparsity": _Kind(sparsity.draw_panel, sparsity.numbers),
    "sops": _Kind(sops.draw_panel, sops.numbers),
}
KINDS = tuple(_KINDS)


def draw(
    kind: str, curves: Sequence[Curves], fp32: Mapping[str, Sequence[float]], outputs: Mapping[str, Path | str]
) -> None:
    """Draw one figure and write it in every format, with a CSV of what is drawn.

    Args:
        kind: ``accuracy_speed``, ``sparsity`` or ``sops``.
        curves: every simulated network; one panel a net in the order in which they first appear.
        fp32: for each net, test accuracies (fractions) of its full-precision networks; a net may be absent.
        outputs: path for each of ``pdf``, ``svg``, ``png`` and ``csv``; formats left out are not written.

    Raises:
        InputError: an unknown figure, no curves, or curves of one net that differ in their number of time steps.
    """
    figure = build(kind, curves, fp32)
    # one date, identifier or version in a file and the same result would no longer be the same file
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "svg": {"Date": None, "Creator": None},
        "png": {"Software": None},
    }
    with matplotlib.rc_context(STYLE):
        for suffix in FORMATS:
            if suffix in outputs:
                content = io.BytesIO()
                figure.savefig(content, format=suffix, dpi=300, metadata=metadata[suffix])
                write_bytes(outputs[suffix], content.getbuffer())
    if "csv" in outputs:
        write_text(outputs["csv"], _KINDS[kind].numbers(curves, fp32))


def build(kind: str, curves: Sequence[Curves], fp32: Mapping[str, Sequence[float]]) -> Figure:
    """The figure that :func:`draw` writes, with the same arguments and errors."""
    if kind not in _KINDS:
        raise InputError(f"figure '{kind}' is unknown: there are {', '.join(_KINDS)}")
    if not curves:
        raise InputError(f"figure '{kind}': there is nothing to draw")
    nets = {run.net: [other for other in curves if other.net == run.net] for run in curves}
    for net, runs in nets.items():
        if len({run.timesteps for run in runs}) > 1:
            raise InputError(f"figure '{kind}': the runs of {net} differ in their number of time steps")
    precisions = sorted({run.precision for run in curves})
    columns = 1 if len(nets) == 1 else 2
    with matplotlib.rc_context(STYLE):
        figure = Figure()
        FigureCanvasAgg(figure)
        panels = []
        for net, runs in nets.items():
            groups = [(one, [run for run in runs if run.precision == one]) for one in precisions]
            axes = figure.add_axes((0, 0, 1, 1), label=net)
            panels.append(
                Panel(axes, net, [group for group in groups if group[1]], tuple(fp32.get(net, ())), precisions)
            )
            _KINDS[kind].draw_panel(panels[-1])
        arrange(figure, [panels[start : start + columns] for start in range(0, len(panels), columns)])
    return figure
