"""Computing operations: synaptic operations an image over time steps, next to the ANN's."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from negspike.figures.curves import Panel, build_panels, read, still_spiking, table_by_step
from negspike.figures.style import DASHED, GREY, legend_label, spread
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
    largest = max(reference, *(float(run.sops[-1]) for run in every))
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if largest >= 10 * scale), (1.0, ""))
    for precision, runs in panel.groups.items():
        sops = [float(run.sops[-1]) / scale for run in runs]
        share = spread([100 * run.sops_over_reference for run in runs], 1)
        label = legend_label(
            precision, f"{spread(sops, _digits(sops))}{unit} SOPs", f"{share} % of the ANN", still_spiking(runs)
        )
        panel.line(precision, [run.sops / scale for run in runs], label)
    operations = reference / scale
    label = f"ANN: {operations:.{_digits([operations])}f}{unit} operations, 3 for each MAC"
    panel.axes.axhline(operations, color=GREY, linestyle=DASHED, linewidth=1.0, zorder=1.5, label=label)
    panel.axes.set_ylim(bottom=0)
    panel.finish(f"cumulative operations\nper image{f' ({unit.strip()}s)' if unit else ''}")


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
