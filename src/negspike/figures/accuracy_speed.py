"""Accuracy versus speed: accuracy over time steps, where it has settled, and the quantised ANN's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.markers import TICKRIGHT
from matplotlib.transforms import blended_transform_factory

from negspike.figures.curves import THIN, Panel, build_panels, of_seeds, published, read, still_spiking, table_by_step
from negspike.figures.style import DASHED, GREY, legend_label, spread
from negspike.precision import Precision
from negspike.results.collect import Results
from negspike.results.metrics import Curves

__all__ = ["TITLE", "build", "numbers", "read"]
TITLE = "Accuracy versus speed"
_SETTLED: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "markeredgewidth": 1.4, "zorder": 3}
_TICK: dict[str, Any] = {"linestyle": "none", "marker": TICKRIGHT, "markersize": 5, "markeredgewidth": 1.4}


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
                markersize=6.5 if len(runs) == 1 else 5,
                clip_on=False,
                **_SETTLED,
            )
        own = [100 * run.ann_accuracy for run in runs if run.ann_accuracy is not None]
        if own:
            edge = blended_transform_factory(axes.transAxes, axes.transData)
            tick = _TICK | {"color": line.get_color(), "gid": f"ANN {precision.name}"}
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
        axes.axhline(mean, color=GREY, linestyle=DASHED, linewidth=1.0, zorder=1.5, label=label)
        highest += [mean] if theirs is None else [mean, theirs]
        finals += [mean] if theirs is None else [mean, theirs]
    runs = [run for group in panel.groups.values() for run in group]
    if not all(run.still_spiking for run in runs):
        label = "settled: the accuracy no longer changes"
        axes.plot([], [], color=GREY, marker="o", markersize=6, label=label, **_SETTLED)
    if any(run.ann_accuracy is not None for run in runs):
        axes.plot([], [], color=GREY, label="at the right edge: the quantised ANN itself", **_TICK)
    if any("accuracy" in curve.series for curve in panel.theirs.values()):
        axes.plot([], [], color=GREY, label=f"thin: {panel.cited}", **THIN)
    # Close enough to tell the final accuracies apart, with the last part of the rise; the whole rise is in the CSV.
    span = max(max(highest) - min(finals), 0.5)
    top = max(highest) + 0.4 * span
    axes.set_ylim(max(0.0, top - 6 * span), min(top, 100.0 + 0.1 * span))
    panel.finish("accuracy (%)")


def _full_precision(panel: Panel) -> float | None:
    """The published accuracy in full precision, per cent, as a thin line."""
    if panel.published is None or not panel.theirs or panel.net not in panel.published.fp32:
        return None
    accuracy = 100 * panel.published.fp32[panel.net]
    panel.axes.axhline(accuracy, color=GREY, linestyle=DASHED, linewidth=THIN["linewidth"], zorder=1.5)
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
