"""Table, CSV and plot of a benchmark, all from the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from benchmarks.contestants import CONTESTANTS
from negspike.figures.style import STYLE, canvas
from negspike.files import atomic_path
from negspike.results.published import read_published
from negspike.tables import markdown, write_csv

# They do something else than add these spikes' rows.
OTHER_DYNAMICS = {one.name for one in CONTESTANTS.values() if one.kind in ("ann", "check", "library")}
# Million synaptic operations an image, the mean of the 10,000 test images.
PUBLISHED = {
    f"{net} {precision.name}": f"{curve.series['sops_per_image'][-1] / 1e6:.1f}"
    for net, curves in read_published("zou2023").curves.items()
    for precision, curve in curves.items()
}


@dataclass
class Row:
    """One contestant on one network.

    Attributes:
        net, setting: what was quantised, and how.
        timesteps: that ``seconds_best`` and ``seconds_median``, of one image, are for.
        images, repetitions: what was simulated for them.
        setup_seconds: building and, where it chose among variants, warming up the chosen one.
        peak_bytes: resident memory of its whole process; ``imported_bytes`` of that were there after the imports.
        sops_per_image: of the exact network with these weights, over the command's T steps; None if nobody counted.
        ann_passes: best time over that of one float32 forward pass of the same net with as many threads.
        limit_share: operations a second over the row additions a second with as many threads.
    """

    net: str
    setting: str
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
    ann_passes: float | None = None
    limit_share: float | None = None
    note: str = ""

    @property
    def case(self) -> str:
        """The network's name."""
        return f"{self.net} {self.setting}".strip()

    @property
    def sops_per_second(self) -> float | None:
        """Synaptic operations of the exact network a second, at best; None where the dynamics are others."""
        counted = self.sops_per_image is not None and self.contestant not in OTHER_DYNAMICS
        return (self.sops_per_image or 0.0) / self.seconds_best if counted else None


COLUMNS = (
    *("contestant", "threads", "T", "s/image best", "s/image median", "ANN passes", "10^9 SOPs/s", "of the limit"),
    *("setup s", "peak MB", "how", "note"),
)


def compare(rows: Sequence[Row], limits: Mapping[int, float]) -> None:
    """Fill in the ratios to one forward pass and to the limit."""
    passes = {(row.case, row.threads): row.seconds_best for row in rows if row.contestant == "ann-float32"}
    for row in rows:
        one, rate = passes.get((row.case, row.threads)), row.sops_per_second
        row.ann_passes = row.seconds_best / one if one else None
        row.limit_share = rate / limits[row.threads] if rate and row.threads in limits else None


def table(rows: Sequence[Row], limits: Mapping[int, float], absent: Mapping[str, str]) -> str:
    """Markdown: one table a network, the fastest first, then what took no part."""
    lines = [
        f"Row additions, threads {threads}: {rate / 1e9:.1f} * 10^9 SOPs/s at most." for threads, rate in limits.items()
    ]
    for case in dict.fromkeys(row.case for row in rows):
        mine = sorted((row for row in rows if row.case == case), key=lambda row: row.seconds_median / row.timesteps)
        sops = next((row.sops_per_image for row in mine if row.sops_per_image is not None), None)
        work = "" if sops is None else f", {sops / 1e6:.1f} million SOPs an image"
        work += f" (published: {PUBLISHED[case]})" if work and case in PUBLISHED else ""
        lines += [f"\n## {case}{work}\n", *markdown([COLUMNS, *map(_cells, mine)], left=1)]
    lines += [f"\nTook no part: {name}, {reason}" for name, reason in absent.items()]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    rate = row.sops_per_second
    return (
        *(row.contestant, str(row.threads), str(row.timesteps), f"{row.seconds_best:.4g}", f"{row.seconds_median:.4g}"),
        "" if row.ann_passes is None else f"{row.ann_passes:.3g}",
        *("" if rate is None else f"{rate / 1e9:.3g}", "" if not row.limit_share else f"{row.limit_share:.2g}"),
        *(f"{row.setup_seconds:.2f}", f"{row.peak_bytes / 1e6:.0f}", row.variant, row.note),
    )


def write_summary(rows: Sequence[Row], path: Path) -> None:
    """CSV, one line a row; its columns are those of :class:`Row`."""
    cells = [
        {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in vars(row).items()}
        for row in rows
    ]
    write_csv(path, cells)


# Okabe and Ito's palette tells colours apart for every kind of colour vision, the markers do on black-and-white paper.
SERIES = {
    "event": ("event", "#0072B2", "o"),
    "event-8bits": ("event, weights of 8 bits", "#0072B2", "p"),
    "ann-float32": ("one float32 forward pass of the ANN", "#56B4E9", "v"),
    "torch-float32-skipping": ("PyTorch float32, layers at rest left out", "#E69F00", "P"),
    "dense": ("dense", "#D55E00", "s"),
    "torch-float32": ("PyTorch float32, every step", "#009E73", "^"),
    "spikingjelly": ("spikingjelly (other spikes)", "#CC79A7", "D"),
    "sinabs": ("sinabs (other spikes)", "#CC79A7", "X"),
    "snntorch": ("snntorch (other spikes)", "#CC79A7", "<"),
    "reference": ("reference", "#000000", "*"),
}


def plot(rows: Sequence[Row], limit: float, folder: Path) -> None:
    """Best time per image against SOPs per image, one series a contestant; ``time.{pdf,svg,png}``.

    The first net's markers are filled, the others' are open. Nothing is drawn while nobody has counted SOPs.

    Args:
        rows: of all networks.
        limit: row additions a second with the same number of threads, drawn as a line.
        folder: where the files go.
    """
    drawn = [row for row in rows if row.contestant in SERIES and row.sops_per_image]
    if not drawn:
        return
    nets = list(dict.fromkeys(row.net for row in drawn))
    with matplotlib.rc_context(STYLE):
        figure = canvas()
        figure.set_size_inches(5.6, 5.0)
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot(xscale="log", yscale="log")
        for name, (label, colour, marker) in SERIES.items():
            for net in nets:
                mine = [row for row in drawn if (row.contestant, row.net) == (name, net)]
                points = sorted((row.sops_per_image or 0.0, row.seconds_best) for row in mine)
                look: dict[str, Any] = {"color": colour, "marker": marker, "mfc": colour if net == nets[0] else "white"}
                if points:
                    axes.plot(*zip(*points, strict=True), label=label, lw=1.1, ms=5, **look)
                    label = "_"
        for row in {row.case: row for row in drawn}.values():
            at, above = (row.sops_per_image or 0.0, 1), (0, 2 + 8 * nets.index(row.net))
            axes.annotate(*(row.case, at, above, ("data", "axes fraction"), "offset points"), ha="center", fontsize=6.5)
        sops = [row.sops_per_image or 0.0 for row in drawn]
        ends, label = np.array([min(sops), max(sops)]), f"rows of 16 bits added, {limit / 1e9:.0f} billion/s"
        axes.plot(ends, ends / limit, "k--", lw=0.6, label=label)
        axes.set_xlabel("synaptic operations per image")
        axes.set_ylabel("seconds per image")
        figure.legend(loc="outside lower left", ncols=2)
        save(figure, folder / "time", ("pdf", "svg", "png"))


def save(figure: Figure, path: Path, formats: Sequence[str]) -> None:
    """Write a figure in several formats, atomically, without a date."""
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}
    for suffix in formats:
        with atomic_path(path.with_suffix(f".{suffix}")) as temporary:
            figure.savefig(temporary, format=suffix, dpi=300, metadata=metadata[suffix])
