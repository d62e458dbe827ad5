"""Computing operations: synaptic operations an image over time steps, next to the ANN's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from negspike.figures.curves import Panel, build_panels, published, read, still_spiking, table_by_step
from negspike.figures.style import DASHED, GREY, legend_label, look, points, spread
from negspike.precision import Precision
from negspike.results.collect import Results

__all__ = ["TITLE", "build", "numbers", "read"]
TITLE = "Computing operations"
_UNITS = ((1e9, " billion"), (1e6, " million"), (1e3, " thousand"))


def build(results: Results) -> Figure:
    """A panel a net."""
    return build_panels("sops", results, _draw_panel)


def _draw_panel(panel: Panel) -> None:
    """Draw one net's cumulative synaptic operations an image, and the reference ANN's operations."""
    every = [run for runs in panel.groups.values() for run in runs]
    reference = every[0].reference_operations
    theirs = {
        precision: float(curve.series["sops_per_image"][-1])
        for precision, curve in panel.theirs.items()
        if "sops_per_image" in curve.series
    }
    largest = max(reference, *theirs.values(), *(float(run.sops[-1]) for run in every))
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if largest >= 10 * scale), (1.0, ""))
    for precision, runs in panel.groups.items():
        sops = [float(run.sops[-1]) / scale for run in runs]
        share = spread([100 * run.sops_over_reference for run in runs], 1)
        other = published(theirs[precision] / scale, f".{_digits(sops)}f", unit) if precision in theirs else ""
        shown = f"{spread(sops, _digits(sops))}{unit} SOPs"
        label = legend_label(precision, shown, f"{share} % of the ANN", still_spiking(runs), other)
        panel.line(precision, [run.sops / scale for run in runs], label)
    operations = reference / scale
    label = f"ANN: {operations:.{_digits([operations])}f}{unit} operations, 3 for each MAC"
    panel.axes.axhline(operations, color=GREY, linestyle=DASHED, linewidth=points(1.0), zorder=1.5, label=label)
    room = _draw_totals(panel, {precision: value / scale for precision, value in theirs.items()}, scale)
    panel.axes.set_ylim(bottom=0)
    panel.finish(f"cumulative operations\nper image{f' ({unit.strip()}s)' if unit else ''}", room=room)


def _draw_totals(panel: Panel, theirs: Mapping[Precision, float], scale: float) -> float:
    """Bars of what it comes to, ours filled and the published outlined, beyond the last step; how much room they take.

    The axis is logarithmic, so a bar's right edge is a multiple of its left edge.
    """
    if not theirs:
        return 1.0
    wide: float = max(panel.last_step, 2) ** (0.2 / (3 * len(panel.groups)))
    left = panel.last_step * wide**2
    for precision, runs in panel.groups.items():
        colour = look(precision, panel.precisions)["color"]
        ours = float(np.mean([run.sops[-1] for run in runs])) / scale
        panel.axes.bar(left, ours, left * (wide - 1), align="edge", color=colour, linewidth=0)
        left *= wide
        if precision in theirs:
            outline = {"facecolor": "none", "edgecolor": colour, "linewidth": points(0.8), "align": "edge"}
            panel.axes.bar(left, theirs[precision], left * (wide - 1), gid=f"published {precision.name}", **outline)
        left *= wide**2
    label = f"bars, at the end: filled ours,\noutlined {panel.cited}"
    panel.axes.bar(1, 0, 0, facecolor="none", edgecolor=GREY, linewidth=points(0.8), label=label)
    return left / panel.last_step / wide


def _digits(values: Sequence[float]) -> int:
    """Decimals that show four digits of the largest value."""
    return max(0, 3 - math.floor(math.log10(max(*values, 1.0))))


def numbers(results: Results) -> str:
    """The CSV: cumulative synaptic operations an image, one row a run and step."""
    return table_by_step(
        results,
        ("sops_per_image", "reference_operations"),
        lambda run, index: (run.sops[index], run.reference_operations),
    )
