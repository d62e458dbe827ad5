"""Figures of curves over time steps: one panel a net, a line a precision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from negspike.errors import InputError
from negspike.figures.style import arrange, canvas, grouped, line, look, table, time_axis
from negspike.precision import Precision
from negspike.results.collect import Results, collect
from negspike.results.metrics import Curves, Series


@dataclass(frozen=True, eq=False)
class Panel:
    """One net's panel: the runs of each precision and where they are drawn."""

    axes: Axes
    net: str
    groups: dict[Precision, list[Curves]]
    fp32: tuple[float, ...]
    precisions: list[Precision]

    @property
    def timesteps(self) -> int:
        """T of every run of this net."""
        return next(iter(self.groups.values()))[0].timesteps

    def line(self, precision: Precision, values: Sequence[Series], label: str, **style: Any) -> Line2D:
        """The mean of the seeds as a line and, of several, their range as a band."""
        marked = look(precision, self.precisions) | {"markevery": self.marked_steps(precision), "label": label}
        return line(self.axes, np.arange(1, self.timesteps + 1), values, **(marked | style))

    def marked_steps(self, precision: Precision) -> list[int]:
        """Indices of a few steps, even on the logarithmic axis, so that markers of different precisions stay apart."""
        shift = (self.precisions.index(precision) + 0.5) / len(self.precisions)
        count = 5
        steps = self.timesteps ** ((np.arange(count) + shift) / count)
        return sorted({round(float(step)) - 1 for step in steps})

    def finish(self, ylabel: str) -> None:
        """Title and axes."""
        self.axes.set_title(self.net, loc="left", fontweight="bold")
        time_axis(self.axes, self.timesteps)
        self.axes.set_xlim(0.93, max(self.timesteps, 2) * 1.08)
        self.axes.set_ylabel(ylabel)
        self.axes.grid(True)
        self.axes.set_axisbelow(True)


def read(directory: Path, runs: Iterable[tuple[str, int, str]]) -> Results:
    """The workflow's curves; see :func:`negspike.results.collect.collect`."""
    return collect(directory, runs)


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
        draw_panel(Panel(axes[-1], net, groups, tuple(results.fp32.get(net, ())), precisions))
    columns = 1 if len(nets) == 1 else 2
    arrange(figure, [axes[start : start + columns] for start in range(0, len(axes), columns)])
    return figure


def still_spiking(runs: Sequence[Curves]) -> str:
    """A legend's note on runs that were not silent at the end; empty if all were."""
    count = sum(run.still_spiking for run in runs)
    return f"still spiking at step {runs[0].timesteps}{of_seeds(count, runs)}" if count else ""


def of_seeds(count: int, runs: Sequence[Curves]) -> str:
    """Of how many seeds a legend's words are said, where it is not the only one."""
    return f" ({count} of {len(runs)} seeds)" if len(runs) > 1 else ""


def table_by_step(results: Results, header: Sequence[str], row: Callable[[Curves, int], Sequence[Any]]) -> str:
    """CSV with a row for each run and step; numbers in as many digits as bring the same number back."""
    return table(
        ("timestep", *header),
        ((run, (index + 1, *row(run, index))) for run in results.curves for index in range(run.timesteps)),
    )
