"""Firing sparsity: spikes a neuron and image over time steps, all of them and net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from negspike.figures.style import DOTTED, GREY, Panel, legend_label, spread, still_spiking, table_by_step
from negspike.results.metrics import Curves


def draw_panel(panel: Panel) -> None:
    """Draw one net's cumulative spikes a neuron and image: all, and positive minus negative."""
    for precision, runs in panel.groups:
        spikes = spread([float(run.spikes_per_neuron[-1]) for run in runs], 3)
        share = spread([100 * run.negative_share for run in runs], 1)
        label = legend_label(precision, f"{spikes} spikes per neuron", f"{share} % negative", still_spiking(runs))
        panel.line(precision, [run.spikes_per_neuron for run in runs], label)
        panel.line(
            precision, [run.net_spikes_per_neuron for run in runs], "_net", linestyle=DOTTED, markerfacecolor="white"
        )
    panel.axes.plot([], [], color=GREY, label="all spikes, positive and negative")
    panel.axes.plot([], [], color=GREY, linestyle=DOTTED, label="net spikes, positive minus negative")
    panel.axes.set_ylim(bottom=0)
    panel.finish("cumulative spikes\nper neuron and image")


def numbers(curves: Sequence[Curves], fp32: Mapping[str, Sequence[float]]) -> str:
    """The CSV: cumulative spikes a neuron and image, one row a run and step."""
    return table_by_step(
        ("spikes_per_neuron", "net_spikes_per_neuron", "neurons"),
        curves,
        lambda run, index: (run.spikes_per_neuron[index], run.net_spikes_per_neuron[index], run.neurons),
    )
