"""What accuracy costs: against synaptic operations and against energy, one curve a precision through its time steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from negspike.figures.curves import THIN, still_spiking, zoom
from negspike.figures.style import (
    GREY,
    Named,
    arrange,
    canvas,
    grouped,
    legend_label,
    look,
    marks,
    spread,
    table,
    title,
)
from negspike.precision import Precision
from negspike.results.efficiency import Efficiency, read_efficiency
from negspike.results.published import Published, PublishedCurve, read_published

TITLE = "Accuracy against operations and energy"
_SETTLED: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 5}
_ANN = _SETTLED | {"markerfacecolor": "white", "markeredgewidth": 1.2}


@dataclass(frozen=True, eq=False)
class Costs:
    """What is drawn: networks, and published ones beside them.

    Attributes:
        networks: ours.
        published: theirs, or none.
    """

    networks: Sequence[Efficiency]
    published: Published | None = None

    @property
    def theirs(self) -> list[PublishedCurve]:
        """The published networks that are ours, too, with their operations."""
        curves = self.published.curves if self.published else {}
        ours = dict.fromkeys((run.net, run.precision) for run in self.networks)
        found = [curves.get(net, {}).get(precision) for net, precision in ours]
        return [curve for curve in found if curve and {"accuracy", "sops_per_image"} <= curve.series.keys()]


def read(directory: Path, runs: Iterable[tuple[str, int, str]], published: str | None = None) -> Costs:
    """Read the workflow's results, see :func:`negspike.results.efficiency.read_efficiency`, and published curves."""
    return Costs(read_efficiency(directory, runs), read_published(published) if published else None)


@dataclass(frozen=True, eq=False)
class _Price:
    """A panel's axis: what has been spent up to each step, and what the quantised ANN spends."""

    label: str
    unit: str
    spent: Callable[[Efficiency], np.ndarray]
    ann: Callable[[Efficiency], float]


_PRICES = (
    _Price(
        "SOPs, or operations of the ANN, per image",
        "",
        lambda run: run.curves.sops,
        lambda run: float(run.curves.reference_operations),
    ),
    _Price(
        "energy per image, arithmetic alone",
        "J",
        lambda run: run.energy[0] * 1e-12,
        lambda run: run.ann_energy[0] * 1e-12,
    ),
    _Price(
        "energy per image, with memory", "J", lambda run: run.energy[1] * 1e-12, lambda run: run.ann_energy[1] * 1e-12
    ),
)
_SCALES = {
    "": ((1e9, "billion"), (1e6, "million"), (1e3, "thousand"), (1.0, "")),
    "J": ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ"), (1e-12, "pJ")),
}


def build(costs: Costs) -> Figure:
    """A row a net: against operations, published ones as thin lines; against energy without and with memory."""
    nets, precisions = grouped("tradeoff", costs.networks)
    figure, rows = canvas(), []
    for net, groups in nets.items():
        rows.append([figure.add_axes((0, 0, 1, 1), label=f"{net} {price.label}") for price in _PRICES])
        for axes, price in zip(rows[-1], _PRICES, strict=True):
            _draw(axes, price, groups, precisions)
            title(axes, net)
        scale = _scale(_PRICES[0], groups)[0]
        theirs = [curve for curve in costs.theirs if curve.net == net]
        for curve in theirs:
            style = marks(look(curve.precision, precisions) | THIN) | {"gid": f"published {curve.precision.name}"}
            rows[-1][0].plot(curve.series["sops_per_image"] / scale, 100 * curve.series["accuracy"], **style)
        if theirs and costs.published:
            rows[-1][0].plot([], [], color=GREY, label=f"thin: {costs.published.source}", **marks(THIN))
            most = max(float(curve.series["sops_per_image"][-1]) for curve in theirs) / scale
            _finish(rows[-1][0], rows[-1][0].get_xlim()[0], max(rows[-1][0].get_xlim()[1], 1.25 * most))
    arrange(figure, rows)
    return figure


def _scale(price: _Price, groups: dict[Precision, list[Efficiency]]) -> tuple[float, str]:
    most = max(max(price.ann(run), float(price.spent(run)[-1])) for runs in groups.values() for run in runs)
    return next(((scale, unit) for scale, unit in _SCALES[price.unit] if most >= scale), _SCALES[price.unit][-1])


def _draw(axes: Axes, price: _Price, groups: dict[Precision, list[Efficiency]], precisions: list[Precision]) -> None:
    scale, unit = _scale(price, groups)
    least, most, highest, finals = [], [], [], []
    for precision, runs in groups.items():
        accuracy = np.mean([100 * run.curves.accuracy for run in runs], 0)
        spent = np.mean([price.spent(run) for run in runs], 0) / scale
        some = spent > 0  # a logarithm's
        ends, ann = [float(price.spent(run)[-1]) / scale for run in runs], [price.ann(run) / scale for run in runs]
        share = [end / other for end, other in zip(ends, ann, strict=True)]
        cost = f"{spread(ends, _digits(ends))} {unit}".strip()
        label = legend_label(
            precision, cost, f"{spread(share, 2)} of the ANN's", still_spiking([run.curves for run in runs])
        )
        style = look(precision, precisions)
        mark = style.pop("marker")
        axes.plot(spent[some], accuracy[some], **style)
        axes.plot([], [], label=label, marker=mark, **style)
        settled = [run.curves.settled_step for run in runs if not run.curves.still_spiking]
        at = np.unique(settled).astype(int) - 1
        at = at[some[at]]
        dot = {"marker": mark, "color": style["color"], "clip_on": False, "zorder": 3}
        if len(at):
            axes.plot(spent[at], accuracy[at], gid=f"settled {precision.name}", **marks(_SETTLED | dot))
        own = [100 * run.curves.ann_accuracy for run in runs if run.curves.ann_accuracy is not None]
        if own:
            axes.plot([np.mean(ann)], [np.mean(own)], gid=f"ANN {precision.name}", **marks(_ANN | dot))
        least.append(float(spent[some].min(initial=min(ann))))
        most += [*ends, *ann]
        highest += [float(accuracy.max()), *own]
        finals += [float(accuracy[-1]), *own]
    axes.plot([], [], label="settled: the accuracy no longer changes", **marks(_SETTLED | {"color": GREY}))
    axes.plot([], [], label="the quantised ANN", **marks(_ANN | {"color": GREY}))
    zoom(axes, highest, finals)
    axes.set(xscale="log", xlabel=price.label + f" ({unit})" * bool(unit), ylabel="accuracy (%)")
    _finish(axes, min(least) * 0.8, max(most) * 1.25)


def _finish(axes: Axes, left: float, right: float) -> None:
    axes.set_xlim(left, right)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if right < 300 * left else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(True)
    axes.set_axisbelow(True)


def _digits(values: Sequence[float]) -> int:
    """Decimals that show three digits of the largest value."""
    return max(0, 2 - int(np.floor(np.log10(max(*values, 1e-9)))))


def numbers(costs: Costs) -> str:
    """The CSV: one row a run and step; accuracies are fractions, energies picojoules an image."""
    header = ("accuracy", "sops_per_image", "energy_pj", "energy_with_memory_pj", "settled_step")
    ann = ("ann_accuracy", "ann_operations", "ann_energy_pj", "ann_energy_with_memory_pj")
    rows: list[tuple[Named, tuple[Any, ...]]] = []
    for run in costs.networks:
        one = run.curves
        constant = ("" if one.still_spiking else one.settled_step, one.ann_accuracy, one.reference_operations)
        rows += [
            (run, (t + 1, one.accuracy[t], one.sops[t], *run.energy[:, t], *constant, *run.ann_energy))
            for t in range(one.timesteps)
        ]
    if costs.published is None:
        return table(("timestep", *header, *ann), rows)
    blank = [""] * (len(header) + len(ann) - 2)
    theirs: list[tuple[Named, tuple[Any, ...]]] = [
        (curve, (int(step), accuracy, operations, *blank, costs.published.source))
        for curve in costs.theirs
        for step, accuracy, operations in zip(
            curve.steps, curve.series["accuracy"], curve.series["sops_per_image"], strict=True
        )
    ]
    return table(("timestep", *header, *ann, "source"), [*((run, (*cells, "")) for run, cells in rows), *theirs])
