"""What the figures have in common: style, colours, axes, where panels and legends go, and the CSV beside each."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from negspike.errors import InputError
from negspike.precision import Precision

# Okabe and Ito's palette tells colours apart for every kind of colour vision, the markers do on black-and-white paper.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "#4D4D4D"
DASHED = (0, (5, 2))
DOTTED = (0, (2.5, 1.2))
# From light to dark for every kind of colour vision, and in grey, where its lightest yellow would look like nothing.
COLOUR_MAP = ListedColormap(matplotlib.colormaps["viridis_r"](np.linspace(0.1, 1, 256)))
# of a panel, in inches; it is as wide as a column of a journal
_WIDTH, _HEIGHT = 3.5, 2.05
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.74, 0.14, 0.28, 0.46
_LINE = 0.148  # of the legend
_LABEL = 52  # characters that fit beside a legend's handle
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# How many times as large as for a paper everything is: for a slide, text of 16 points at its full size.
SCALES = {"paper": 1.0, "talk": 2.0}
STYLE: dict[Any, Any] = {
    # The first comes with Matplotlib. SVG keeps text as text, and the second is as wide where the first is missing.
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
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
    "svg.fonttype": "none",
    "svg.hashsalt": "negspike",
    "path.simplify": False,
}
# What else is in points, Matplotlib's own defaults.
_TICKS = [
    f"{axis}tick.{which}.{what}" for axis in "xy" for which in ("major", "minor") for what in ("size", "pad", "width")
]
_SIZES = {"axes.labelpad", "axes.titlepad", "patch.linewidth", "lines.markeredgewidth", *_TICKS}


@contextmanager
def styled(style: str = "paper") -> Iterator[None]:
    """This style and Matplotlib's own defaults, whatever a matplotlibrc or the program around it has set.

    Raises:
        InputError: it is none of :data:`SCALES`.
    """
    if style not in SCALES:
        raise InputError(f"style {style!r} is unknown: there are {', '.join(SCALES)}")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # names of nets are names, whatever is in them
        matplotlib.rcParams.update(STYLE | {"text.parse_math": False})
        sizes = _SIZES | {name for name, value in STYLE.items() if isinstance(value, float)}
        scaled: dict[Any, Any] = {name: SCALES[style] * matplotlib.rcParams[name] for name in sizes}  # type: ignore[index]
        matplotlib.rcParams.update(scaled)
        if style == "talk":
            matplotlib.rcParams["lines.linewidth"] *= 1.5
        yield


def points(size: float) -> float:
    """A size in points where text has 8."""
    return size * float(matplotlib.rcParams["font.size"]) / 8


def marks(style: Mapping[str, Any], factor: float = 1.0) -> dict[str, Any]:
    """A line's style with its sizes, which are those of a paper, times a factor and as this style has them."""
    sizes = {"linewidth", "markersize", "markeredgewidth"} & style.keys()
    return {**style, **{name: points(factor * style[name]) for name in sizes}}


def canvas() -> Figure:
    """An empty figure, without a window."""
    figure = Figure()
    FigureCanvasAgg(figure)
    return figure


class Named(Protocol):
    """Something of one network."""

    @property
    def net(self) -> str:
        """Name of the net."""

    @property
    def seed(self) -> int | str:
        """Training repetition; empty where there is none."""

    @property
    def precision(self) -> Precision:
        """What its activations are."""


Run = TypeVar("Run", bound=Named)


def grouped(kind: str, runs: Sequence[Run]) -> tuple[dict[str, dict[Precision, list[Run]]], list[Precision]]:
    """For each net, in the order in which they first appear, the seeds of each precision; and all precisions, sorted.

    Raises:
        InputError: there is none.
    """
    if not runs:
        raise InputError(f"figure '{kind}': there is nothing to draw")
    nets: dict[str, dict[Precision, list[Run]]] = {}
    for run in sorted(runs, key=lambda run: run.precision):
        nets.setdefault(run.net, {}).setdefault(run.precision, []).append(run)
    return {run.net: nets[run.net] for run in runs}, sorted({run.precision for run in runs})


def look(precision: Precision, precisions: Sequence[Precision]) -> dict[str, Any]:
    """Colour and marker of a precision, the same in every panel; full precision is grey and dashed."""
    if precision.kind == "fp32":
        return {"color": GREY, "linestyle": DASHED}
    index = [one for one in precisions if one.kind != "fp32"].index(precision)
    round_again = index // len(_COLOURS)  # the same colours with other markers
    return {"color": _COLOURS[index % len(_COLOURS)], "marker": _MARKERS[(index + round_again) % len(_MARKERS)]}


def line(axes: Axes, x: np.ndarray, values: Sequence[np.ndarray], **style: Any) -> Line2D:
    """The mean of several seeds' (len(x),) values as a line and, of several, their range as a band."""
    if len(values) > 1:
        least, most = np.min(values, axis=0), np.max(values, axis=0)
        axes.fill_between(x, least, most, color=style["color"], alpha=0.2, linewidth=0)
    (drawn,) = axes.plot(x, np.mean(values, axis=0), **style)
    return drawn


def whole_ticks(ticks: int) -> MaxNLocator:
    """Ticks at whole numbers, about so many at most; one where there is only one."""
    return MaxNLocator(ticks, integer=True, min_n_ticks=1)


def title(axes: Axes, text: str, room: float = _WIDTH - _LEFT, **where: Any) -> None:
    """A panel's title, in smaller letters where it is longer than so many inches."""
    written = axes.set_title(text, loc="left", fontweight="bold", **where)
    inches = written.get_window_extent().width / axes.get_figure(root=True).dpi / points(1)  # type: ignore[union-attr]
    written.set_fontsize(float(written.get_fontsize()) * min(1.0, room / inches))


def time_axis(axes: Axes, timesteps: int) -> None:
    """Time steps from 1 on, logarithmic."""
    axes.set_xscale("log")
    ticks = [base * 10**power for power in range(7) for base in (1, 2, 5) if base * 10**power <= timesteps]
    if timesteps >= 1.5 * ticks[-1]:
        ticks.append(timesteps)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.set_xlabel("time step")


def arrange(figure: Figure, rows: list[list[Axes]]) -> None:
    """Give every panel the same size, and every row as much room below as its longest legend needs."""
    legends = [max(map(_legend_lines, row)) * _LINE + 0.08 for row in rows]
    width = _WIDTH * len(rows[0])
    height = sum(legends) + (_TOP + _HEIGHT + _BOTTOM) * len(rows)
    figure.set_size_inches(width, height)
    bottom = height
    for row, legend in zip(rows, legends, strict=True):
        bottom -= _TOP + _HEIGHT + _BOTTOM + legend
        for column, axes in enumerate(row):
            left = column * _WIDTH
            place(axes, left + _LEFT, bottom + legend + _BOTTOM, _WIDTH - _LEFT - _RIGHT, _HEIGHT)
            if not _legend_lines(axes):
                continue
            axes.legend(
                loc="upper left",
                bbox_to_anchor=((left + 0.04) / width, (bottom + legend + 0.04) / height),
                bbox_transform=figure.transFigure,
                borderaxespad=0,
                borderpad=0,
                handlelength=2.2,
                handletextpad=0.6,
                labelspacing=0.35,
            )


def _legend_lines(axes: Axes) -> int:
    return sum(1 + label.count("\n") for label in axes.get_legend_handles_labels()[1])


def place(axes: Axes, left: float, bottom: float, width: float, height: float) -> None:
    """Put axes where they belong, in inches from the lower left corner of a figure that has its size."""
    assert axes.figure is not None
    across, up = axes.figure.get_figure(root=True).get_size_inches()
    axes.set_position((left / across, bottom / up, width / across, height / up))


def colour_bar(figure: Figure, norm: LogNorm, label: str, *, right: float, top: float, extend: str = "neither") -> None:
    """What the colours of all panels mean, so many inches from the right and the top edge."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1), label="colours")
    length = min(2.0, height - top - 0.45)
    place(axes, width - right, height - top - length, 0.1, length)
    bar = figure.colorbar(ScalarMappable(norm, COLOUR_MAP), cax=axes, label=label, extend=extend)
    axes.yaxis.set_major_formatter(FuncFormatter(_power))
    axes.yaxis.set_minor_formatter(NullFormatter())  # within a decade there would be labels, in mathematics
    bar.outline.set_linewidth(points(0.6))


def _power(value: float, _: object) -> str:
    """A power of ten; Matplotlib's own formatters write mathematics, which is switched off for the names of nets."""
    exponent = round(np.log10(value))
    return "1" if exponent == 0 else "10" + str(exponent).translate(_SUPERSCRIPT)


def described(figure: Figure) -> str:
    """What a figure says in words, for those who cannot see it: titles, texts and legends of its panels."""
    parts = [[axes.get_title("left"), *(text.get_text() for text in axes.texts)] for axes in figure.axes]
    for part, axes in zip(parts, figure.axes, strict=True):
        part += [text.get_text() for text in legend.get_texts()] if (legend := axes.get_legend()) else []
    parts += [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    return ". ".join(filter(None, ("; ".join(" ".join(text.split()) for text in part if text) for part in parts)))


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


def table(header: Sequence[str], rows: Iterable[tuple[Named, Sequence[Any]]]) -> str:
    """CSV whose rows begin with the network; numbers in as many digits as bring the same number back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("net", "seed", "k", "levels", *header))
    for run, row in rows:
        writer.writerow((run.net, run.seed, run.precision.k, run.precision.levels, *row))
    return text.getvalue()
