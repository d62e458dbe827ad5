"""What the three figures have in common: panels, colours, legends and the CSV beside each figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from negspike.precision import Precision
from negspike.results.metrics import Curves, Series

# Okabe and Ito's palette tells colours apart for every kind of colour vision, the markers do on black-and-white paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#4D4D4D"
DASHED = (0, (5, 2))
DOTTED = (0, (2.5, 1.2))
# of a panel, in inches; it is as wide as a column of a journal
_WIDTH, _HEIGHT = 3.5, 2.05
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.74, 0.14, 0.28, 0.46
_LINE = 0.148  # of the legend
_LABEL = 52  # characters that fit beside a legend's handle
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 9.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.4,
    "grid.color": "#D9D9D9",
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "negspike",
    "path.simplify": False,
}


@dataclass(frozen=True)
class Panel:
    """One net's panel: the runs of each precision and where they are drawn."""

    axes: Axes
    net: str
    groups: list[tuple[Precision, list[Curves]]]
    fp32: tuple[float, ...]
    precisions: list[Precision]

    @property
    def timesteps(self) -> int:
        """T of every run of this net."""
        return self.groups[0][1][0].timesteps

    def style(self, precision: Precision) -> dict[str, Any]:
        """Colour and marker of a precision, the same in every panel."""
        index = self.precisions.index(precision)
        return {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}

    def line(self, precision: Precision, values: Sequence[Series], label: str, **style: Any) -> Line2D:
        """The mean of the seeds as a line and, of several, their range as a band."""
        steps = np.arange(1, self.timesteps + 1)
        look = self.style(precision) | {"markevery": self.marked_steps(precision), "label": label} | style
        if len(values) > 1:
            self.axes.fill_between(
                steps, np.min(values, axis=0), np.max(values, axis=0), color=look["color"], alpha=0.2, linewidth=0
            )
        (line,) = self.axes.plot(steps, np.mean(values, axis=0), **look)
        return line

    def marked_steps(self, precision: Precision) -> list[int]:
        """Indices of a few steps, even on the logarithmic axis, so that markers of different precisions stay apart."""
        shift = (self.precisions.index(precision) + 0.5) / len(self.precisions)
        count = 5
        steps = self.timesteps ** ((np.arange(count) + shift) / count)
        return sorted({round(float(step)) - 1 for step in steps})

    @property
    def legend_lines(self) -> int:
        """Lines of text in the legend."""
        return sum(1 + label.count("\n") for label in self.axes.get_legend_handles_labels()[1])

    def finish(self, ylabel: str) -> None:
        """Title and axes."""
        axes = self.axes
        axes.set_title(self.net, loc="left", fontweight="bold")
        axes.set_xscale("log")
        axes.set_xlim(0.93, max(self.timesteps, 2) * 1.08)
        ticks = [base * 10**power for power in range(7) for base in (1, 2, 5) if base * 10**power <= self.timesteps]
        if self.timesteps >= 1.5 * ticks[-1]:
            ticks.append(self.timesteps)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
        axes.set_xlabel("time step")
        axes.set_ylabel(ylabel)
        axes.grid(True)
        axes.set_axisbelow(True)


def arrange(figure: Figure, rows: list[list[Panel]]) -> None:
    """Give every panel the same size, and every row as much room below as its longest legend needs."""
    legends = [max(panel.legend_lines for panel in row) * _LINE + 0.08 for row in rows]
    width = _WIDTH * len(rows[0])
    height = sum(legends) + (_TOP + _HEIGHT + _BOTTOM) * len(rows)
    figure.set_size_inches(width, height)
    bottom = height
    for row, legend in zip(rows, legends, strict=True):
        bottom -= _TOP + _HEIGHT + _BOTTOM + legend
        for column, panel in enumerate(row):
            left = column * _WIDTH
            panel.axes.set_position(
                (
                    (left + _LEFT) / width,
                    (bottom + legend + _BOTTOM) / height,
                    (_WIDTH - _LEFT - _RIGHT) / width,
                    _HEIGHT / height,
                )
            )
            panel.axes.legend(
                loc="upper left",
                bbox_to_anchor=((left + 0.04) / width, (bottom + legend + 0.04) / height),
                bbox_transform=figure.transFigure,
                borderaxespad=0,
                borderpad=0,
                handlelength=2.2,
                handletextpad=0.6,
                labelspacing=0.35,
            )


def spread(values: Sequence[float], digits: int) -> str:
    """The mean and, where several seeds differ, their range."""
    mean, lowest, highest = (f"{value:.{digits}f}" for value in (float(np.mean(values)), min(values), max(values)))
    return mean if lowest == highest else f"{mean} ({lowest}–{highest})"


def legend_label(precision: Precision, *parts: str) -> str:
    """A legend entry; parts that do not fit its line go on the next."""
    lines = [f"{precision}: {parts[0]}"]
    for part in filter(None, parts[1:]):
        if len(lines[-1]) + 2 + len(part) > _LABEL:
            lines[-1] += ","
            lines.append(f"    {part}")
        else:
            lines[-1] += f", {part}"
    return "\n".join(lines)


def step_range(steps: Sequence[int]) -> str:
    """``step 5`` or, where several seeds differ, ``steps 5–7``."""
    return f"step {steps[0]}" if len(set(steps)) == 1 else f"steps {min(steps)}–{max(steps)}"


def still_spiking(runs: Sequence[Curves]) -> str:
    """A legend's note on runs that were not silent at the end; empty if all were."""
    count = sum(run.still_spiking for run in runs)
    if not count:
        return ""
    some = f" ({count} of {len(runs)} seeds)" if len(runs) > 1 else ""
    return f"still spiking at step {runs[0].timesteps}{some}"


def table_by_step(header: Sequence[str], curves: Sequence[Curves], row: Callable[[Curves, int], Sequence[Any]]) -> str:
    """CSV with a row for each run and step; numbers in as many digits as bring the same number back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("net", "seed", "k", "levels", "timestep", *header))
    for run in curves:
        for index in range(run.timesteps):
            writer.writerow((run.net, run.seed, run.k, run.levels, index + 1, *row(run, index)))
    return text.getvalue()
