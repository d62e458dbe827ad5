"""Table, CSV and plot of a benchmark, all from the same rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from benchmarks.contestants import LIBRARIES
from benchmarks.networks import PUBLISHED_SOPS
from negspike.figures.style import STYLE
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
    k: int | None
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
    def case(self) -> str:
        """The network's name."""
        return self.net if self.k is None else f"{self.net} k{self.k}"

    @property
    def sops_per_second(self) -> float | None:
        """Synaptic operations of the exact network a second, at best; None where the dynamics are others."""
        counted = self.sops_per_image is not None and self.contestant not in LIBRARIES
        return (self.sops_per_image or 0.0) / self.seconds_best if counted else None


COLUMNS = (
    *("contestant", "threads", "T", "s/image best", "s/image median", "image-steps/s", "10^9 SOPs/s"),
    *("setup s", "peak MB", "how", "note"),
)


def table(rows: Sequence[Row], limits: Mapping[int, float], absent: Mapping[str, str]) -> str:
    """Markdown: one table a network, the fastest first, then what took no part."""
    lines = [
        f"Row additions, threads {threads}: {rate / 1e9:.1f} * 10^9 SOPs/s at most." for threads, rate in limits.items()
    ]
    for case in dict.fromkeys(row.case for row in rows):
        mine = [row for row in rows if row.case == case]
        sops = next((row.sops_per_image for row in mine if row.sops_per_image is not None), None)
        work = "" if sops is None else f", {sops / 1e6:.1f} million SOPs an image"
        if mine[0].net in PUBLISHED_SOPS and mine[0].k is not None and work:
            work += f" (published: {PUBLISHED_SOPS[mine[0].net][mine[0].k]})"
        lines += [f"\n## {case}{work}\n", "| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
        for row in sorted(mine, key=lambda row: row.seconds_median / row.timesteps):
            rate = row.sops_per_second
            cells = (
                *(row.contestant, row.threads, row.timesteps, f"{row.seconds_best:.4g}", f"{row.seconds_median:.4g}"),
                *(f"{row.timesteps / row.seconds_best:.4g}", "" if rate is None else f"{rate / 1e9:.3g}"),
                *(f"{row.setup_seconds:.2f}", f"{row.peak_bytes / 1e6:.0f}", row.variant, row.note),
            )
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += [f"\nTook no part: {name}, {reason}" for name, reason in absent.items()]
    return "\n".join(lines) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """CSV, one line a row; its columns are those of :class:`Row`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    for row in rows:
        writer.writerow(f"{value:.6g}" if isinstance(value, float) else value for value in astuple(row))
    return text.getvalue()


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
    nets = list(dict.fromkeys(row.net for row in drawn))
    with matplotlib.rc_context(STYLE | {"lines.linewidth": 1.1, "lines.markersize": 5.0}):
        figure = Figure(figsize=(5.6, 5.0))
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0.11, 0.345, 0.74, 0.60), xscale="log", yscale="log")
        for name, (label, colour, marker) in SERIES.items():
            mine = [row for row in drawn if row.contestant == name]
            for net in nets:
                points = sorted((row.sops_per_image or 0.0, row.seconds_best) for row in mine if row.net == net)
                face = colour if net == nets[0] else "white"
                x, y = [sops for sops, _ in points], [seconds for _, seconds in points]
                axes.plot(x, y, color=colour, marker=marker, mfc=face, zorder=3)
            if mine:
                axes.plot([], [], color=colour, marker=marker, label=label)
        for net in nets if len(nets) == 2 else ():
            face, word = (GREY, "filled") if net == nets[0] else ("white", "open")
            axes.plot([], [], linestyle="none", color=GREY, marker="o", mfc=face, label=f"{net} ({word})")
        for row in {row.case: row for row in drawn}.values():
            axes.axvline(row.sops_per_image or 0.0, color="#E3E3E3", linewidth=0.5, zorder=0)
            at, above = (row.sops_per_image or 0.0, 1), (0, 2 + 8 * nets.index(row.net))
            look = {"ha": "center", "va": "bottom", "fontsize": 6.5, "color": GREY, "textcoords": "offset points"}
            axes.annotate(row.case, at, above, xycoords=("data", "axes fraction"), **look)  # type: ignore[arg-type]
        _rates(axes, drawn, limit)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g}"))
        axes.set_xlabel("synaptic operations per image (millions)")
        axes.set_ylabel(f"seconds per image, T = {drawn[0].timesteps}")
        figure.legend(loc="lower left", bbox_to_anchor=(0.06, 0.005), ncols=2)
        metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
        for suffix, values in metadata.items():
            with atomic_path(folder / f"time.{suffix}") as path:
                figure.savefig(path, format=suffix, dpi=300, metadata=values)


def _rates(axes: Axes, drawn: Sequence[Row], limit: float | None) -> None:
    """Lines of so many SOPs a second, labelled where they leave the axes on the right; sets the axes' limits."""
    sops, seconds = [row.sops_per_image or 0.0 for row in drawn], [row.seconds_best for row in drawn]
    ends, low, high = [min(sops) / 1.4, max(sops) * 1.4], min(seconds) / 2.5, max(seconds) * 2
    look = {"textcoords": "offset points", "fontsize": 6.5}
    for power in range(4, 13):
        times = [end / 10.0**power for end in ends]
        if low < times[1] < high:
            axes.plot(ends, times, color=GREY, linewidth=0.6, linestyle=":", zorder=1)
            at = (ends[1], times[1])
            axes.annotate(f"$10^{{{power}}}$ SOPs/s", at, (3, 0), va="center", color=GREY, **look)  # type: ignore[arg-type]
    if limit:
        low, at = min(low, ends[0] / limit), (ends[1], ends[1] / limit)
        axes.plot(ends, [end / limit for end in ends], color="black", linewidth=0.6, linestyle="--", zorder=1)
        text = f"row additions alone, {limit / 1e9:.0f} billion/s"
        axes.annotate(text, at, (-4, -22), ha="right", va="top", **look)  # type: ignore[arg-type]
    axes.set_xlim(*ends)
    axes.set_ylim(low, high)
