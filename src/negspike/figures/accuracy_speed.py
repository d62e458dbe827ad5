"""Accuracy versus speed: accuracy over time steps, where it has settled, and the quantised ANN's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import TICKRIGHT
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator
from matplotlib.transforms import blended_transform_factory

from negspike.figures.curves import (
    THIN,
    Panel,
    build_panels,
    of_seeds,
    published,
    read,
    still_spiking,
    table_by_step,
    zoom,
)
from negspike.figures.style import DASHED, GREY, legend_label, look, marks, points, spread
from negspike.precision import Precision
from negspike.results.collect import Results
from negspike.results.metrics import Curves

__all__ = ["TITLE", "build", "numbers", "read"]
TITLE = "Accuracy versus speed"
_SETTLED: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "markeredgewidth": 1.4, "zorder": 3}
_TICK: dict[str, Any] = {"linestyle": "none", "marker": TICKRIGHT, "markersize": 5, "markeredgewidth": 1.4}

# As fractions of the panel: width and height of the inset, the width of a curve's name, how high the first one stands,
# how much higher each next one, and one that the inset would cover.
_INSET, _NAME, _NAMED, _ABOVE = (0.33, 0.4), 0.16, (0.12, 0.08), 0.62
_LEFT = (0.66, 0.12, 0.4, 0.53, 0.26)  # of the inset, the first place that is empty


def build(results: Results) -> Figure:
    """A panel a net."""
    return build_panels("accuracy_speed", results, _draw_panel)


def _draw_panel(panel: Panel) -> None:
    """Draw one net's accuracy (per cent), its settled steps and the accuracies of the networks without spikes."""
    axes = panel.axes
    highest, finals = [], []
    for precision, runs in panel.groups.items():
        values = [100 * run.accuracy for run in runs]
        accuracy = f"{spread([100 * run.final_accuracy for run in runs], 2)} %"
        theirs = panel.thin(precision, "accuracy", scale=100)
        parts = (accuracy, _settled(runs), still_spiking(runs), _equal(runs), published(theirs, ".2f", " %"))
        line = panel.line(precision, values, legend_label(precision, *parts))
        at = np.unique([run.settled_step for run in runs if not run.still_spiking]).astype(int)
        if len(at):
            axes.plot(
                at,
                np.mean(values, axis=0)[at - 1],
                gid=f"settled {precision.name}",
                color=line.get_color(),
                marker=line.get_marker(),
                clip_on=False,
                **marks(_SETTLED | {"markersize": 6.5 if len(runs) == 1 else 5}),
            )
        own = [100 * run.ann_accuracy for run in runs if run.ann_accuracy is not None]
        if own:
            edge = blended_transform_factory(axes.transAxes, axes.transData)
            tick = marks(_TICK) | {"color": line.get_color(), "gid": f"ANN {precision.name}"}
            axes.plot([1], [np.mean(own)], transform=edge, clip_on=False, **tick)
        highest += [float(value.max()) for value in values] + own
        finals += [float(value[-1]) for value in values] + own
        highest += [] if theirs is None else [theirs]
        finals += [] if theirs is None else [theirs]
    if panel.fp32:
        mean = 100 * float(np.mean(panel.fp32))
        theirs = _full_precision(panel)
        accuracy = f"{spread([100 * value for value in panel.fp32], 2)} %"
        label = legend_label(Precision("fp32"), accuracy, published(theirs, ".2f", " %"))
        axes.axhline(mean, color=GREY, linestyle=DASHED, linewidth=points(1.0), zorder=1.5, label=label)
        highest += [mean] if theirs is None else [mean, theirs]
        finals += [mean] if theirs is None else [mean, theirs]
    runs = [run for group in panel.groups.values() for run in group]
    if not all(run.still_spiking for run in runs):
        label = "settled: the accuracy no longer changes"
        axes.plot([], [], color=GREY, marker="o", label=label, **marks(_SETTLED | {"markersize": 6}))
    if any(run.ann_accuracy is not None for run in runs):
        axes.plot([], [], color=GREY, label="at the right edge: the quantised ANN itself", **marks(_TICK))
    if any("accuracy" in curve.series for curve in panel.theirs.values()):
        axes.plot([], [], color=GREY, label=f"thin: {panel.cited}", **marks(THIN))
    zoom(axes, highest, finals)
    panel.finish("accuracy (%)")
    _name_curves(panel, _draw_whole(panel))


def _name_curves(panel: Panel, inset: float | None) -> None:
    """Each curve's name beside it, where it rises through the lower part of the panel; the legend has it anyway.

    To the right, or to the left or above the inset, which begins at that fraction of the panel's width.
    """
    axes = panel.axes
    lowest, highest = axes.get_ylim()
    for number, (precision, runs) in enumerate(panel.groups.items()):
        mean = np.mean([100 * run.accuracy for run in runs], axis=0)
        for up in (_NAMED[0] + number * _NAMED[1], _ABOVE):
            at = (_reached(mean, lowest + up * (highest - lowest)), lowest + up * (highest - lowest))
            across = axes.transAxes.inverted().transform(axes.transData.transform(at))[0]
            beside = inset is None or up == _ABOVE or not inset - _NAME < across < inset + _INSET[0]
            if beside or across < inset:
                break
        if at[0] > 1:
            axes.annotate(
                str(precision),
                at,
                (points(3.5) if beside else -points(3.5), 0),
                textcoords="offset points",
                ha="left" if beside else "right",
                va="center",
                color=look(precision, panel.precisions)["color"],
                fontsize=points(7),
                path_effects=[withStroke(linewidth=points(2), foreground="white")],
                zorder=3.5,
            )


def _reached(values: np.ndarray, height: float) -> float:
    """When a curve first comes to a height, between two steps of a logarithmic axis; 1 if it starts there."""
    above = int(np.argmax(values > height))
    if not above:
        return 1.0
    share = (height - values[above - 1]) / (values[above] - values[above - 1])
    return float(above * (1 + 1 / above) ** share)


def _draw_whole(panel: Panel) -> float | None:
    """The whole range in an inset, where the panel shows the upper part of it; its numbers are in the CSV too.

    Returns:
        Where it begins, as a fraction of the panel's width; None if there is none, for want of room too.
    """
    lowest, highest = panel.axes.get_ylim()
    means = {one: np.mean([100 * run.accuracy for run in runs], axis=0) for one, runs in panel.groups.items()}
    if lowest <= min(float(mean.min()) for mean in means.values()):
        return None
    drawn = [(np.arange(1, panel.timesteps + 1), mean) for mean in means.values()]
    theirs = [curve for curve in panel.theirs.values() if "accuracy" in curve.series]
    drawn += [(curve.steps, 100 * curve.series["accuracy"]) for curve in theirs]
    left = _room(panel.axes, drawn)
    if left is None:
        return None
    inset = panel.axes.inset_axes((left, 0.13, *_INSET), zorder=4)
    for precision, mean in means.items():
        style = marks(
            look(precision, panel.precisions) | {"markersize": 2.2, "markevery": panel.marked_steps(precision)}
        )
        inset.plot(np.arange(1, panel.timesteps + 1), mean, linewidth=points(0.8), **style)
    inset.axhspan(lowest, highest, color="#DDDDDD", linewidth=0, zorder=0)
    inset.set(xscale="log", xlim=panel.axes.get_xlim(), ylim=(0, 100), yticks=(0, 50, 100))
    inset.xaxis.set_major_locator(FixedLocator(panel.axes.get_xticks().tolist()))
    inset.xaxis.set_minor_locator(NullLocator())
    inset.xaxis.set_major_formatter(NullFormatter())
    inset.tick_params(labelsize=points(6), length=points(2), pad=points(1.5))
    inset.set_facecolor("white")
    return left


def _room(axes: Axes, drawn: Sequence[tuple[np.ndarray, np.ndarray]]) -> float | None:
    """Where along the panel the curves leave room below them for the inset, as a fraction of its width, if anywhere."""
    at = np.geomspace(1, max(int(steps[-1]) for steps, _ in drawn), 2000)
    curves = np.stack([np.interp(at, steps, values) for steps, values in drawn])
    points = np.stack([np.broadcast_to(at, curves.shape), curves], -1).reshape(-1, 2)
    across, up = axes.transAxes.inverted().transform(axes.transData.transform(points)).T
    low = (up > 0) & (up < 0.13 + _INSET[1] + 0.03)
    return next((left for left in _LEFT if not (low & (across > left - 0.06) & (across < left + 0.35)).any()), None)


def _full_precision(panel: Panel) -> float | None:
    """The published accuracy in full precision, per cent, as a thin line."""
    if panel.published is None or not panel.theirs or panel.net not in panel.published.fp32:
        return None
    accuracy = 100 * panel.published.fp32[panel.net]
    panel.axes.axhline(accuracy, color=GREY, linestyle=DASHED, linewidth=points(THIN["linewidth"]), zorder=1.5)
    return accuracy


def _settled(runs: Sequence[Curves]) -> str:
    """``settled at step 5`` or ``steps 5–7``, of those that are silent; what still spikes may still change."""
    steps = [run.settled_step for run in runs if not run.still_spiking]
    if not steps:
        return ""
    where = f"step {steps[0]}" if len(set(steps)) == 1 else f"steps {min(steps)}–{max(steps)}"
    return f"settled at {where}{of_seeds(len(steps), runs) if len(steps) < len(runs) else ''}"


def _equal(runs: Sequence[Curves]) -> str:
    """In how many images every neuron has the quantised ANN's activation, where it is known."""
    equal = [run.equal_images for run in runs if run.equal_images is not None]
    return f"equal in {sum(equal):,} of {sum(run.images for run in runs):,} images" if len(equal) == len(runs) else ""


def numbers(results: Results) -> str:
    """The CSV: accuracies are fractions, one row a run and step; no settled step of what still spikes."""
    settled = {id(run): "" if run.still_spiking else run.settled_step for run in results.curves}
    fp32 = {net: float(np.mean(values)) for net, values in results.fp32.items() if values}
    return table_by_step(
        results,
        ("accuracy", "settled_step", "still_spiking", "fp32_accuracy", "ann_accuracy", "equal_images", "images"),
        lambda run, index: (
            run.accuracy[index],
            settled[id(run)],
            str(run.still_spiking).lower(),
            fp32.get(run.net, ""),
            run.ann_accuracy,
            run.equal_images,
            run.images,
        ),
    )
