"""Accuracy versus speed: accuracy over time steps, with the step at which it has settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from negspike.figures.style import DASHED, GREY, Panel, legend_label, spread, step_range, still_spiking, table_by_step
from negspike.results.metrics import Curves

_SETTLED: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "markeredgewidth": 1.4, "zorder": 3}


def draw_panel(panel: Panel) -> None:
    """Draw one net's accuracy (per cent), its settled steps and the full-precision accuracy."""
    axes = panel.axes
    highest = []
    finals = []
    for precision, runs in panel.groups:
        values = [100 * run.accuracy for run in runs]
        settled = [run.settled_step for run in runs]
        accuracy = f"{spread([100 * run.final_accuracy for run in runs], 2)} %"
        line = panel.line(
            precision,
            values,
            legend_label(precision, accuracy, f"settled at {step_range(settled)}", still_spiking(runs)),
        )
        at = np.unique(settled)
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
        highest += [float(value.max()) for value in values]
        finals += [float(value[-1]) for value in values]
    if panel.fp32:
        mean = 100 * float(np.mean(panel.fp32))
        label = f"FP32: {spread([100 * value for value in panel.fp32], 2)} %"
        axes.axhline(mean, color=GREY, linestyle=DASHED, linewidth=1.0, zorder=1.5, label=label)
        highest.append(mean)
        finals.append(mean)
    axes.plot([], [], color=GREY, marker="o", markersize=6, label="settled: the accuracy no longer changes", **_SETTLED)
    # Close enough to tell the final accuracies apart, with the last part of the rise; the whole rise is in the CSV.
    span = max(max(highest) - min(finals), 0.5)
    top = max(highest) + 0.4 * span
    axes.set_ylim(max(0.0, top - 6 * span), min(top, 100.0 + 0.1 * span))
    panel.finish("accuracy (%)")


def numbers(curves: Sequence[Curves], fp32: Mapping[str, Sequence[float]]) -> str:
    """The CSV: accuracies are fractions, one row a run and step."""
    settled = {id(run): (run.settled_step, str(run.still_spiking).lower()) for run in curves}
    return table_by_step(
        ("accuracy", "settled_step", "still_spiking", "fp32_accuracy"),
        curves,
        lambda run, index: (
            run.accuracy[index],
            *settled[id(run)],
            float(np.mean(fp32[run.net])) if fp32.get(run.net) else "",
        ),
    )
