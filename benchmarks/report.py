"""Tables and the plot of a benchmark, all from the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from negspike.files import atomic_path


@dataclass
class Row:
    """One contestant on one network.

    Attributes:
        timesteps: that ``seconds_best`` and ``seconds_median``, of one image, are for.
        images, repetitions: what was simulated for them.
        setup_seconds: building and, where it chose among variants, warming up the chosen one.
        peak_bytes: resident memory of its whole process; ``imported_bytes`` of that were there after the imports.
        sops_per_image: of the exact network with these weights, over the command's T steps; None if nobody counted.
    """

    net: str
    k: int
    contestant: str
    threads: int
    variant: str
    timesteps: int
    images: int
    repetitions: int
    seconds_best: float
    seconds_median: float
    setup_seconds: float
    peak_bytes: int
    imported_bytes: int
    sops_per_image: float | None = None
    note: str = ""

    @property
    def image_steps_per_second(self) -> float:
        """Time steps of one image a second, at best."""
        return self.timesteps / self.seconds_best

    @property
    def sops_per_second(self) -> float | None:
        """Synaptic operations of the exact network a second, at best; meaningless where the dynamics are others."""
        return None if self.sops_per_image is None else self.sops_per_image / self.seconds_best


COLUMNS = (
    *("contestant", "threads", "T", "s/image best", "s/image median", "image-steps/s", "10^9 SOPs/s"),
    *("setup s", "peak MB", "how", "note"),
)
HEADER = "| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS)
# Theirs is another network, with other spikes.
OTHER_DYNAMICS = ("spikingjelly", "sinabs", "snntorch")


def table(rows: Sequence[Row], limit: Mapping[int, float], absent: Mapping[str, str]) -> str:
    """Markdown: one table a network, the fastest first, then what took no part."""
    parts = []
    for threads, rate in sorted(limit.items()):
        parts.append(f"Row additions, {threads} thread{'s' * (threads > 1)}: {rate / 1e9:.1f} * 10^9 SOPs/s at most.\n")
    for net, k in dict.fromkeys((row.net, row.k) for row in rows):
        mine = [row for row in rows if (row.net, row.k) == (net, k)]
        sops = next((row.sops_per_image for row in mine if row.sops_per_image is not None), None)
        work = "" if sops is None else f", {sops / 1e6:.1f} million SOPs an image"
        parts.append(f"\n## {net}, k = {k}{work}\n\n{HEADER}")
        parts += [_line(row) for row in sorted(mine, key=lambda row: row.seconds_median / row.timesteps)]
    if absent:
        parts.append("\nTook no part:\n")
        parts += [f"- {name}: {reason}" for name, reason in absent.items()]
    return "\n".join(parts) + "\n"


def _line(row: Row) -> str:
    rate = None if row.contestant in OTHER_DYNAMICS or row.timesteps == 0 else row.sops_per_second
    cells = (
        *(row.contestant, str(row.threads), str(row.timesteps)),
        *(f"{row.seconds_best:.4g}", f"{row.seconds_median:.4g}", f"{row.image_steps_per_second:.4g}"),
        *("" if rate is None else f"{rate / 1e9:.3g}", f"{row.setup_seconds:.2f}", f"{row.peak_bytes / 1e6:.0f}"),
        *(row.variant, row.note),
    )
    return "| " + " | ".join(cells) + " |"


# Okabe and Ito's palette tells colours apart for every kind of colour vision, the markers do on black-and-white paper.
SERIES = {
    "event": ("event", "#0072B2", "o"),
    "event-1thread": ("event, 1 thread", "#56B4E9", "v"),
    "torch-float32-skipping": ("PyTorch float32, layers at rest left out", "#E69F00", "P"),
    "dense": ("dense", "#D55E00", "s"),
    "torch-float32": ("PyTorch float32, every step", "#009E73", "^"),
    "spikingjelly": ("spikingjelly (other spikes)", "#CC79A7", "D"),
    "sinabs": ("sinabs (other spikes)", "#CC79A7", "X"),
    "snntorch": ("snntorch (other spikes)", "#CC79A7", "<"),
    "reference": ("reference", "#000000", "*"),
}
FORMATS = ("pdf", "svg", "png")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 5.0,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "negspike",
}
GREY = "#6E6E6E"


def plot(rows: Sequence[Row], limit: float | None, folder: Path) -> None:
    """Best time per image against SOPs per image, one series a contestant; ``time.{pdf,svg,png}``.

    Nothing is drawn while nobody has counted SOPs.

    Args:
        rows: of all networks.
        limit: row additions a second with the same number of threads, drawn as a line.
        folder: where the files go.
    """
    drawn = [row for row in rows if row.contestant in SERIES and row.sops_per_image]
    if not drawn:
        return
    sops = np.array([row.sops_per_image for row in drawn], float)
    seconds = np.array([row.seconds_best for row in drawn])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.6, 5.0))
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.11, 0.345, 0.74, 0.60))
        axes.set_xscale("log")
        axes.set_yscale("log")
        left, right = sops.min() / 1.4, sops.max() * 1.4
        low, high = seconds.min() / 2.5, seconds.max() * 2
        for name, (label, colour, marker) in SERIES.items():
            mine = [row for row in drawn if row.contestant == name]
            for number, net in enumerate(dict.fromkeys(row.net for row in drawn)):
                points = sorted((row.sops_per_image or 0, row.seconds_best) for row in mine if row.net == net)
                if points:
                    face = colour if number == 0 else "white"
                    axes.plot(*zip(*points, strict=True), color=colour, marker=marker, mfc=face, zorder=3)
            if mine:
                axes.plot([], [], color=colour, marker=marker, label=label)
        nets = list(dict.fromkeys(row.net for row in drawn))
        handles, labels = axes.get_legend_handles_labels()
        for number, net in enumerate(nets if len(nets) == 2 else []):
            face = GREY if number == 0 else "white"
            handles.append(Line2D([], [], linestyle="none", color=GREY, marker="o", mfc=face))
            labels.append(f"{net} ({'filled' if number == 0 else 'open'})")
        for net, k in dict.fromkeys((row.net, row.k) for row in drawn):
            at = next(row.sops_per_image or 0 for row in drawn if (row.net, row.k) == (net, k))
            axes.axvline(at, color="#E3E3E3", linewidth=0.5, zorder=0)
            axes.annotate(
                f"{net} k{k}",
                (at, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 2 + 8 * nets.index(net)),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=6.5,
                color=GREY,
            )
        for power in range(4, 13):
            _constant_rate(axes, 10.0**power, f"$10^{{{power}}}$ SOPs/s", (left, right, low, high), GREY, ":")
        if limit:
            low = min(low, left / limit)
            _constant_rate(axes, limit, "", (left, right, low, high), "#000000", "--")
            axes.annotate(
                f"row additions alone, {limit / 1e9:.0f} billion/s",
                (right, right / limit),
                xytext=(-4, -22),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=6.5,
            )
        axes.set_xlim(left, right)
        ticks = [step * 10**power for power in range(13) for step in (1, 2, 5) if left <= step * 10**power <= right]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g}"))
        axes.set_ylim(low, high)
        axes.set_xlabel("synaptic operations per image (millions)")
        axes.set_ylabel(f"seconds per image, T = {drawn[0].timesteps}")
        figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.06, 0.005), ncols=2)
        metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
        for suffix in FORMATS:
            with atomic_path(folder / f"time.{suffix}") as path:
                figure.savefig(path, format=suffix, dpi=300, metadata=metadata[suffix])


def _constant_rate(
    axes: matplotlib.axes.Axes, rate: float, label: str, box: tuple[float, float, float, float], colour: str, style: str
) -> None:
    """A line of so many SOPs a second, labelled where it leaves the box on the right or at the top."""
    left, right, low, high = box
    if right / rate < low or left / rate > high / 2:  # outside, or no more than a corner
        return
    axes.plot([left, right], [left / rate, right / rate], color=colour, linewidth=0.6, linestyle=style, zorder=1)
    at = right if right / rate <= high else high * rate
    axes.annotate(
        label,
        (at, min(at / rate, high)),
        xytext=(3, 0) if at == right else (0, -2),
        textcoords="offset points",
        ha="left" if at == right else "right",
        va="center" if at == right else "top",
        fontsize=6.5,
        color=colour,
        annotation_clip=False,
    )
