"""Firing sparsity: spikes a neuron and image over time steps, all of them and net."""

from __future__ import annotations

from matplotlib.figure import Figure

from negspike.figures.curves import THIN, Panel, build_panels, published, read, still_spiking, table_by_step
from negspike.figures.style import DOTTED, GREY, legend_label, marks, spread
from negspike.results.collect import Results

__all__ = ["TITLE", "build", "numbers", "read"]
TITLE = "Firing sparsity"


def build(results: Results) -> Figure:
    """A panel a net."""
    return build_panels("sparsity", results, _draw_panel)


def _draw_panel(panel: Panel) -> None:
    """Draw one net's cumulative spikes a neuron and image: all, and positive minus negative."""
    for precision, runs in panel.groups.items():
        totals = [float(run.spikes_per_neuron[-1]) for run in runs]
        share = spread([100 * run.negative_share for run in runs], 1)
        each_step = f"{spread([total / panel.timesteps for total in totals], 4)} a step"
        theirs = published(panel.thin(precision, "spikes_per_neuron"), ".3f")
        panel.thin(precision, "net_spikes_per_neuron", linestyle=DOTTED)
        shown = f"{spread(totals, 3)} spikes per neuron"
        parts = (shown, each_step, f"{share} % negative", still_spiking(runs), theirs)
        panel.line(precision, [run.spikes_per_neuron for run in runs], legend_label(precision, *parts))
        panel.line(
            precision, [run.net_spikes_per_neuron for run in runs], "_net", linestyle=DOTTED, markerfacecolor="white"
        )
    panel.axes.plot([], [], color=GREY, label="all spikes, positive and negative")
    panel.axes.plot([], [], color=GREY, linestyle=DOTTED, label="net spikes, positive minus negative")
    if any("spikes_per_neuron" in curve.series for curve in panel.theirs.values()):
        panel.axes.plot([], [], color=GREY, label=f"thin: {panel.cited}", **marks(THIN))
    if panel.axes.dataLim.y0 >= 0:  # net spikes of signed quantisers can be negative
        panel.axes.set_ylim(bottom=0)
    panel.finish("cumulative spikes\nper neuron and image")


def numbers(results: Results) -> str:
    """The CSV: cumulative spikes a neuron and image, one row a run and step."""
    return table_by_step(
        results,
        ("spikes_per_neuron", "net_spikes_per_neuron", "neurons"),
        lambda run, index: (run.spikes_per_neuron[index], run.net_spikes_per_neuron[index], run.neurons),
    )
