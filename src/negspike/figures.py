"""The three figures: accuracy versus speed, firing sparsity and computing operations, one panel a net.

They are drawn from small tables, and what is drawn stands in a CSV beside the figure. The same curves give the same
bytes: no date, no random identifier, no system font.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from negspike.errors import InputError
from negspike.files import write_bytes, write_text
from negspike.metrics import Curves, Series

if TYPE_CHECKING:
    pass

FORMATS = ("pdf", "svg", "png")

# Okabe and Ito's palette tells colours apart for every kind of colour vision, the markers do on black-and-white paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_GREY = "#4D4D4D"
_DASHED = (0, (5, 2))
_DOTTED = (0, (2.5, 1.2))
# of a panel, in inches; it is as wide as a column of a journal
_WIDTH, _HEIGHT = 3.5, 2.05
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.74, 0.14, 0.28, 0.46
_UNITS = ((1e9, " billion"), (1e6, " million"), (1e3, " thousand"))
_SETTLED: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "markeredgewidth": 1.4, "zorder": 3}
_LINE = 0.148  # of the legend
_LABEL = 52  # characters that fit beside a legend's handle
_STYLE: dict[Any, Any] = {
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
    with matplotlib.rc_context(_STYLE):
        for suffix in FORMATS:
            if suffix in outputs:
                content = io.BytesIO()
                figure.savefig(content, format=suffix, dpi=300, metadata=metadata[suffix])
                write_bytes(outputs[suffix], content.getbuffer())
    if "csv" in outputs:
        write_text(outputs["csv"], _KINDS[kind].table(curves, fp32))


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
    levels = sorted({run.k for run in curves})
    columns = 1 if len(nets) == 1 else 2
    with matplotlib.rc_context(_STYLE):
        figure = Figure()
        FigureCanvasAgg(figure)
        panels = []
        for net, runs in nets.items():
            groups = [(k, [run for run in runs if run.k == k]) for k in levels]
            axes = figure.add_axes((0, 0, 1, 1), label=net)
            panels.append(_Panel(axes, net, [group for group in groups if group[1]], tuple(fp32.get(net, ())), levels))
            _KINDS[kind].panel(panels[-1])
        _arrange(figure, [panels[start : start + columns] for start in range(0, len(panels), columns)])
    return figure


def _arrange(figure: Figure, rows: list[list[_Panel]]) -> None:
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


@dataclass(frozen=True)
class _Panel:
    """One net's panel: the runs of each k and where they are drawn."""

    axes: Axes
    net: str
    groups: list[tuple[int, list[Curves]]]
    fp32: tuple[float, ...]
    levels: list[int]

    @property
    def timesteps(self) -> int:
        return self.groups[0][1][0].timesteps

    def style(self, k: int) -> dict[str, Any]:
        index = self.levels.index(k)
        return {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKERS[index % len(_MARKERS)]}

    def line(self, k: int, values: Sequence[Series], label: str, **style: Any) -> Line2D:
        """The mean of the seeds as a line and, of several, their range as a band."""
        steps = np.arange(1, self.timesteps + 1)
        look = self.style(k) | {"markevery": self.marked_steps(k), "label": label} | style
        if len(values) > 1:
            self.axes.fill_between(
                steps, np.min(values, axis=0), np.max(values, axis=0), color=look["color"], alpha=0.2, linewidth=0
            )
        (line,) = self.axes.plot(steps, np.mean(values, axis=0), **look)
        return line

    def marked_steps(self, k: int) -> list[int]:
        """Indices of a few steps, even on the logarithmic axis, so that the markers of different k stay apart."""
        shift = (self.levels.index(k) + 0.5) / len(self.levels)
        count = 5
        steps = self.timesteps ** ((np.arange(count) + shift) / count)
        return sorted({round(float(step)) - 1 for step in steps})

    @property
    def legend_lines(self) -> int:
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


def _accuracy_speed(panel: _Panel) -> None:
    axes = panel.axes
    highest = []
    finals = []
    for k, runs in panel.groups:
        values = [100 * run.accuracy for run in runs]
        settled = [run.settled_step for run in runs]
        accuracy = f"{_spread([100 * run.final_accuracy for run in runs], 2)} %"
        line = panel.line(k, values, _label(k, accuracy, f"settled at {_steps(settled)}", _still_spiking(runs)))
        at = np.unique(settled)
        axes.plot(
            at,
            np.mean(values, axis=0)[at - 1],
            gid=f"settled k{k}",
            color=line.get_color(),
            marker=line.get_marker(),
            markersize=6.5 if len(runs) == 1 else 5,
            clip_on=False,
            **_SETTLED,
        )
        highest += [float(value.max()) for value in values]
        finals += [float(value[-1]) for value in values]
    if panel.fp32:
        mean = 100 * float(np.mean(panel.fp32))
        label = f"FP32: {_spread([100 * value for value in panel.fp32], 2)} %"
        axes.axhline(mean, color=_GREY, linestyle=_DASHED, linewidth=1.0, zorder=1.5, label=label)
        highest.append(mean)
        finals.append(mean)
    axes.plot(
        [], [], color=_GREY, marker="o", markersize=6, label="settled: the accuracy no longer changes", **_SETTLED
    )
    # Close enough to tell the final accuracies apart, with the last part of the rise; the whole rise is in the CSV.
    span = max(max(highest) - min(finals), 0.5)
    top = max(highest) + 0.4 * span
    axes.set_ylim(max(0.0, top - 6 * span), min(top, 100.0 + 0.1 * span))
    panel.finish("accuracy (%)")


def _sparsity(panel: _Panel) -> None:
    for k, runs in panel.groups:
        spikes = _spread([float(run.spikes_per_neuron[-1]) for run in runs], 3)
        share = _spread([100 * run.negative_share for run in runs], 1)
        label = _label(k, f"{spikes} spikes per neuron", f"{share} % negative", _still_spiking(runs))
        panel.line(k, [run.spikes_per_neuron for run in runs], label)
        panel.line(k, [run.net_spikes_per_neuron for run in runs], "_net", linestyle=_DOTTED, markerfacecolor="white")
    panel.axes.plot([], [], color=_GREY, label="all spikes, positive and negative")
    panel.axes.plot([], [], color=_GREY, linestyle=_DOTTED, label="net spikes, positive minus negative")
    panel.axes.set_ylim(bottom=0)
    panel.finish("cumulative spikes\nper neuron and image")


def _sops(panel: _Panel) -> None:
    reference = panel.groups[0][1][0].reference_operations
    largest = max(reference, *(float(run.sops[-1]) for _, runs in panel.groups for run in runs))
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if largest >= 10 * scale), (1.0, ""))
    for k, runs in panel.groups:
        sops = [float(run.sops[-1]) / scale for run in runs]
        share = _spread([100 * run.sops_over_reference for run in runs], 1)
        label = _label(k, f"{_spread(sops, _digits(sops))}{unit} SOPs", f"{share} % of the ANN", _still_spiking(runs))
        panel.line(k, [run.sops / scale for run in runs], label)
    operations = reference / scale
    label = f"ANN: {operations:.{_digits([operations])}f}{unit} operations"
    panel.axes.axhline(operations, color=_GREY, linestyle=_DASHED, linewidth=1.0, zorder=1.5, label=label)
    panel.axes.set_ylim(bottom=0)
    panel.finish(f"cumulative operations\nper image{f' ({unit.strip()}s)' if unit else ''}")


def _digits(values: Sequence[float]) -> int:
    """Decimals that show four digits of the largest value."""
    return max(0, 3 - math.floor(math.log10(max(*values, 1.0))))


def _spread(values: Sequence[float], digits: int) -> str:
    """The mean and, where several seeds differ, their range."""
    mean, lowest, highest = (f"{value:.{digits}f}" for value in (float(np.mean(values)), min(values), max(values)))
    return mean if lowest == highest else f"{mean} ({lowest}–{highest})"


def _label(k: int, *parts: str) -> str:
    """A legend entry; parts that do not fit its line go on the next."""
    lines = [f"k = {k}: {parts[0]}"]
    for part in filter(None, parts[1:]):
        if len(lines[-1]) + 2 + len(part) > _LABEL:
            lines[-1] += ","
            lines.append(f"    {part}")
        else:
            lines[-1] += f", {part}"
    return "\n".join(lines)


def _steps(steps: Sequence[int]) -> str:
    return f"step {steps[0]}" if len(set(steps)) == 1 else f"steps {min(steps)}–{max(steps)}"


def _still_spiking(runs: Sequence[Curves]) -> str:
    count = sum(run.still_spiking for run in runs)
    if not count:
        return ""
    some = f" ({count} of {len(runs)} seeds)" if len(runs) > 1 else ""
    return f"still spiking at step {runs[0].timesteps}{some}"


# ---- tables


def _table(header: Sequence[str], curves: Sequence[Curves], row: Callable[[Curves, int], Sequence[Any]]) -> str:
    """CSV with a row for each run and step; numbers in as many digits as bring the same number back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("net", "seed", "k", "timestep", *header))
    for run in curves:
        for index in range(run.timesteps):
            writer.writerow((run.net, run.seed, run.k, index + 1, *row(run, index)))
    return text.getvalue()


def _accuracy_table(curves: Sequence[Curves], fp32: Mapping[str, Sequence[float]]) -> str:
    settled = {id(run): (run.settled_step, str(run.still_spiking).lower()) for run in curves}
    return _table(
        ("accuracy", "settled_step", "still_spiking", "fp32_accuracy"),
        curves,
        lambda run, index: (
            run.accuracy[index],
            *settled[id(run)],
            float(np.mean(fp32[run.net])) if fp32.get(run.net) else "",
        ),
    )


def _sparsity_table(curves: Sequence[Curves], fp32: Mapping[str, Sequence[float]]) -> str:
    return _table(
        ("spikes_per_neuron", "net_spikes_per_neuron", "neurons"),
        curves,
        lambda run, index: (run.spikes_per_neuron[index], run.net_spikes_per_neuron[index], run.neurons),
    )


def _sops_table(curves: Sequence[Curves], fp32: Mapping[str, Sequence[float]]) -> str:
    return _table(
        ("sops_per_image", "reference_operations"),
        curves,
        lambda run, index: (run.sops[index], run.reference_operations),
    )


@dataclass(frozen=True)
class _Kind:
    panel: Callable[[_Panel], None]
    table: Callable[[Sequence[Curves], Mapping[str, Sequence[float]]], str]


_KINDS = {
    "accuracy_speed": _Kind(_accuracy_speed, _accuracy_table),
    "sparsity": _Kind(_sparsity, _sparsity_table),
    "sops": _Kind(_sops, _sops_table),
}
KINDS = tuple(_KINDS)
