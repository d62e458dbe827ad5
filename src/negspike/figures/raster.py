"""One image's spikes: a row a neuron, layer below layer, and in each the neurons as they fall silent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from negspike.figures.style import GREY, canvas, grouped, marks, place, points, table, title, whole_ticks
from negspike.results.traces import TracedImage
from negspike.results.traces import read_traces as read
from negspike.spiking.trace import Trace

__all__ = ["TITLE", "build", "numbers", "read"]
TITLE = "One image's spikes"
# Colour, shape and place in its step of each sign: fine dark strokes, and light triangles behind them.
_SIGNS = {
    1: ("+1 spike", -0.13, {"marker": "|", "markersize": 2.4, "markeredgewidth": 0.8, "color": "#004C7F"}),
    -1: ("−1 spike", 0.17, {"marker": "<", "markersize": 1.7, "markeredgewidth": 0.0, "color": "#E8702A"}),
}
_GAP = 0.08  # between layers, of the height of one
_MOST_LAYERS = 24
# in inches
_WIDTH, _LAYER, _LEAST, _LEFT, _RIGHT, _TOP, _BOTTOM, _KEY = 3.9, 0.8, 0.16, 0.95, 1.05, 0.28, 0.44, 0.24


def build(every: Sequence[TracedImage]) -> Figure:
    """A panel a net, one below the other."""
    grouped("raster", every)
    figure = canvas()
    each = [max(_LAYER * min(1, 8 / len(one.trace.populations)), _LEAST) for one in every]
    heights = [height * min(len(one.trace.populations), _MOST_LAYERS) for height, one in zip(each, every, strict=True)]
    figure.set_size_inches(_LEFT + _WIDTH + _RIGHT, sum(heights) + (_TOP + _BOTTOM) * len(every) + _KEY)
    bottom = figure.get_figheight()
    for one, height in zip(every, heights, strict=True):
        bottom -= _TOP + height + _BOTTOM
        axes = figure.add_axes((0, 0, 1, 1), label=one.net)
        place(axes, _LEFT, bottom + _BOTTOM, _WIDTH, height)
        _draw(axes, one.trace)
        words = f"{one.net}, {one.precision}: test image {one.image} (class {one.label})"
        title(axes, words, _WIDTH + _RIGHT)
    key = [Line2D([], [], linestyle="none", label=words, **marks(style, 2.2)) for words, _, style in _SIGNS.values()]
    key.append(Line2D([], [], color=GREY, linewidth=points(1.0), label="last spike of any neuron of the layer"))
    figure.legend(handles=key, loc="lower left", ncols=3, handletextpad=0.4, columnspacing=1.2)
    return figure


def shown(trace: Trace) -> list[int]:
    """Which populations are drawn: all, or so many at equal distances, the first and the last among them."""
    every = np.linspace(0, len(trace.populations) - 1, _MOST_LAYERS)
    return sorted({int(layer) for layer in every})


def last_spikes(trace: Trace) -> np.ndarray:
    """(P,) the last step, counted from 1, in which any neuron of a population spiked; 0 if none ever did."""
    busy = (trace.positive + trace.negative) > 0
    return np.asarray((busy * np.arange(1, busy.shape[1] + 1)).max(1))


def _draw(axes: Axes, trace: Trace) -> None:
    spikes, last, steps = trace.spikes, last_spikes(trace), trace.counts.shape[1]
    layers = shown(trace)
    for row, layer in enumerate(layers):
        axes.axhspan(row + _GAP / 2, row + 1 - _GAP / 2, color="#F2F2F2", linewidth=0, zorder=0)
        axes.plot([last[layer] + 0.5] * 2, [row, row + 1], color=GREY, linewidth=points(1.0), zorder=1)
        of_layer = spikes[trace.population == layer]
        ends = ((of_layer != 0) * np.arange(1, steps + 1)).max(1)
        of_layer = of_layer[np.argsort(-ends, kind="stable")]
        for sign, (_, shift, style) in _SIGNS.items():
            neuron, step = np.nonzero(of_layer == sign)
            height = row + _GAP / 2 + (neuron + 0.5) / len(of_layer) * (1 - _GAP)
            axes.plot(step + 1 + shift, height, linestyle="none", rasterized=True, **marks(style))
        words = f"silent after {last[layer]}" if last[layer] < steps else f"still spiking at {steps}"
        axes.text(1.01, row + 0.5, words, transform=axes.get_yaxis_transform(), va="center", fontsize=points(6.5))
    axes.set(xlim=(0.3, steps + 0.7), ylim=(len(layers), 0), xlabel="time step")
    axes.xaxis.set_major_locator(whole_ticks(10))
    names = [trace.populations[layer] for layer in layers]
    sizes = [(int((trace.population == layer).sum()), int(trace.sizes[layer])) for layer in layers]
    tall = len(layers) == len(trace.populations) and len(layers) <= 12
    labels = [
        f"{name[-18:]}\n{few} of {many:,}" if tall else name[-18:]
        for name, (few, many) in zip(names, sizes, strict=True)
    ]
    axes.set_yticks(np.arange(len(layers)) + 0.5, labels, fontsize=points(6.5))
    axes.tick_params(axis="y", length=0)
    for spine in ("left", "bottom"):
        axes.spines[spine].set_visible(spine == "bottom")


def numbers(every: Sequence[TracedImage]) -> str:
    """The CSV: a row for each spike that is drawn; neurons are counted in the order of channels, rows, columns."""
    return table(
        ("image", "layer", "neuron", "timestep", "spike"),
        (
            (one, (one.image, trace.populations[trace.population[m]], trace.neuron[m], t + 1, trace.spikes[m, t]))
            for one in every
            for trace in (one.trace,)
            for m, t in zip(*np.nonzero(trace.spikes * np.isin(trace.population, shown(trace))[:, None]), strict=True)
        ),
    )
