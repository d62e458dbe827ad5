"""Figures of curves over time steps: one panel a net, a line a precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from negspike.errors import InputError
from negspike.figures.style import Named, arrange, canvas, grouped, line, look, marks, table, time_axis, title
from negspike.precision import Precision
from negspike.results.collect import Results, collect
from negspike.results.metrics import Curves, Series
from negspike.results.published import Published, PublishedCurve, beside, read_published

# of what others have published
THIN: dict[str, Any] = {"linewidth": 0.6, "markersize": 2.2, "markerfacecolor": "white", "markeredgewidth": 0.5}


@dataclass(frozen=True, eq=False)
class Panel:
    """One net's panel: the runs of each precision and where they are drawn."""

    axes: Axes
    net: str
    groups: dict[Precision, list[Curves]]
    fp32: tuple[float, ...]
    precisions: list[Precision]
    published: Published | None = None

    @property
    def timesteps(self) -> int:
        """T of every run of this net."""
        return next(iter(self.groups.values()))[0].timesteps

    @property
    def last_step(self) -> int:
        """T, or the last published step where that is later."""
        return max(self.timesteps, *(int(curve.steps[-1]) for curve in self.theirs.values()), 1)

    def line(self, precision: Precision, values: Sequence[Series], label: str, **style: Any) -> Line2D:
        """The mean of the seeds as a line and, of several, their range as a band."""
        marked = look(precision, self.precisions) | {"markevery": self.marked_steps(precision), "label": label}
        return line(self.axes, np.arange(1, self.timesteps + 1), values, **(marked | style))

    def thin(self, precision: Precision, column: str, *, scale: float = 1.0, **style: Any) -> float | None:
        """The published curve as a thin line, and its last value; None where there is none."""
        curve = self.theirs.get(precision)
        if curve is None or column not in curve.series:
            return None
        values = scale * curve.series[column]
        marked = look(precision, self.precisions) | {"gid": f"published {column} {precision.name}"}
        few = len(values) < 12  # not a curve, but points that somebody has published
        marked |= {"markevery": 1 if few else [at for at in self.marked_steps(precision) if at < len(values)]}
        self.axes.plot(curve.steps, values, **marks(marked | THIN | style))
        return float(values[-1])

    @property
    def theirs(self) -> Mapping[Precision, PublishedCurve]:
        """The published networks that are ours, too."""
        curves = self.published.curves.get(self.net, {}) if self.published else {}
        return {precision: curve for precision, curve in curves.items() if precision in self.groups}

    @property
    def cited(self) -> str:
        """Who published them, for a legend; and how large their network was, if ours is another."""
        assert self.published is not None
        sizes = {curve.neurons for curve in self.theirs.values()} - {None}
        ours = {run.neurons for runs in self.groups.values() for run in runs}
        other = f" ({', '.join(f'{size:,}' for size in sorted(filter(None, sizes)))} neurons)" if sizes - ours else ""
        return f"{self.published.source}{other}"

    def marked_steps(self, precision: Precision) -> list[int]:
        """Indices of a few steps, even on the logarithmic axis, so that markers of different precisions stay apart."""
        shift = (self.precisions.index(precision) + 0.5) / len(self.precisions)
        count = 5
        steps = self.timesteps ** ((np.arange(count) + shift) / count)
        return sorted({round(float(step)) - 1 for step in steps})

    def finish(self, ylabel: str, *, room: float = 1.0) -> None:
        """Title and axes; with room to the right of the last step, so many times it."""
        title(self.axes, self.net)
        time_axis(self.axes, self.last_step)
        self.axes.set_xlim(0.93, max(self.last_step, 2) * 1.08 * room)
        self.axes.set_ylabel(ylabel)
        self.axes.grid(True)
        self.axes.set_axisbelow(True)


def read(directory: Path, runs: Iterable[tuple[str, int, str]], published: str | None = None) -> Results:
    """The workflow's curves, see :func:`negspike.results.collect.collect`, and what they are drawn beside."""
    results = collect(directory, runs)
    return beside(results, read_published(published)) if published else results


def build_panels(kind: str, results: Results, draw_panel: Callable[[Panel], None]) -> Figure:
    """A figure with a panel for each net.

    Raises:
        InputError: no curves, or curves of one net that differ in their number of time steps.
    """
    nets, precisions = grouped(kind, results.curves)
    axes = []
    figure = canvas()
    for net, groups in nets.items():
        if len({run.timesteps for runs in groups.values() for run in runs}) > 1:
            raise InputError(f"figure '{kind}': the runs of {net} differ in their number of time steps")
        axes.append(figure.add_axes((0, 0, 1, 1), label=net))
        fp32 = tuple(results.fp32.get(net, ()))
        draw_panel(Panel(axes[-1], net, groups, fp32, precisions, results.published))
    columns = 1 if len(nets) == 1 else 2
    arrange(figure, [axes[start : start + columns] for start in range(0, len(axes), columns)])
    return figure


def zoom(axes: Axes, every: Sequence[float], finals: Sequence[float]) -> None:
    """Accuracies (per cent) close enough to tell the final ones apart, with the last part of the rise."""
    span = max(max(every) - min(finals), 0.5)
    top = max(every) + 0.4 * span
    axes.set_ylim(max(0.0, top - 6 * span), min(top, 100.0 + 0.1 * span))


def still_spiking(runs: Sequence[Curves]) -> str:
    """A legend's note on runs that were not silent at the end; empty if all were."""
    count = sum(run.still_spiking for run in runs)
    return f"still spiking at step {runs[0].timesteps}{of_seeds(count, runs)}" if count else ""


def published(value: float | None, form: str, unit: str = "") -> str:
    """A legend's words on a published number; empty where there is none."""
    return "" if value is None else f"published {value:{form}}{unit}"


def of_seeds(count: int, runs: Sequence[Curves]) -> str:
    """Of how many seeds a legend's words are said, where it is not the only one."""
    return f" ({count} of {len(runs)} seeds)" if len(runs) > 1 else ""


def table_by_step(results: Results, header: Sequence[str], row: Callable[[Curves, int], Sequence[Any]]) -> str:
    """CSV with a row for each run and step; numbers in as many digits as bring the same number back.

    What is drawn beside them follows, with its source in a column of its own.
    """
    rows: list[tuple[Named, tuple[Any, ...]]] = [
        (run, (index + 1, *row(run, index))) for run in results.curves for index in range(run.timesteps)
    ]
    if (published := results.published) is None:
        return table(("timestep", *header), rows)
    ours = dict.fromkeys((run.net, run.precision) for run in results.curves)
    known = [published.curves.get(net, {}).get(precision) for net, precision in ours]
    curves = [curve for curve in known if curve is not None and curve.series.keys() & {*header}]
    theirs: list[tuple[Named, tuple[Any, ...]]] = [
        (curve, (int(step), *_published_row(curve, header, index, published), published.source))
        for curve in curves
        for index, step in enumerate(curve.steps)
    ]
    return table(("timestep", *header, "source"), [*((run, (*cells, "")) for run, cells in rows), *theirs])


def _published_row(curve: PublishedCurve, header: Sequence[str], index: int, published: Published) -> list[Any]:
    """Its cells: empty where nothing is published."""
    constant = {"neurons": curve.neurons, "fp32_accuracy": published.fp32.get(curve.net, "")}
    return [curve.series[name][index] if name in curve.series else constant.get(name, "") for name in header]
