"""The lossless check: net spike counts against the integer ANN's activations, of all neurons of all test images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from negspike.figures.style import (
    COLOUR_MAP,
    GREY,
    canvas,
    colour_bar,
    grouped,
    place,
    points,
    table,
    title,
    whole_ticks,
)
from negspike.results.spikes import Spikes
from negspike.results.spikes import read_spikes as read

__all__ = ["TITLE", "build", "numbers", "read"]
TITLE = "Net spike counts against the integer ANN's activations"
_DIFFERS = "#D55E00"
_MOST_CELLS = 64  # along an axis
# in inches
_SIDE, _LEFT, _GAP, _TOP, _BOTTOM, _BAR = 1.65, 0.52, 0.14, 0.62, 0.42, 0.62


def build(every: Sequence[Spikes]) -> Figure:
    """A row a net, a column a precision."""
    nets, precisions = grouped("lossless", every)
    height = _TOP + _SIDE + _BOTTOM
    figure = canvas()
    figure.set_size_inches((_LEFT + _SIDE + _GAP) * len(precisions) + _BAR, height * len(nets))
    panels = [(row, net, one, nets[net][one]) for row, net in enumerate(nets) for one in nets[net]]
    binned = [_binned(np.concatenate([run.joint for run in runs], 1)) for *_, runs in panels]
    norm = LogNorm(1, max(10.0, *(neurons.max(initial=0) for *_, neurons in binned)))
    for (row, net, precision, runs), cells in zip(panels, binned, strict=True):
        axes = figure.add_axes((0, 0, 1, 1), label=f"{net} {precision}")
        left = precisions.index(precision) * (_LEFT + _SIDE + _GAP) + _LEFT
        place(axes, left, (len(nets) - row - 1) * height + _BOTTOM, _SIDE, _SIDE)
        _draw(axes, *cells, norm)
        title(axes, f"{net}, {precision}", _SIDE + _GAP, pad=points(22))
        axes.text(0, 1.04, _proof(runs), transform=axes.transAxes, fontsize=points(6.2), linespacing=1.3)
    colour_bar(figure, norm, "neurons of all images", right=_BAR - 0.04, top=_TOP)
    return figure


def _proof(runs: Sequence[Spikes]) -> str:
    """How many images and neurons are equal, of all seeds."""
    images = sum(len(run.differing) for run in runs)
    neurons = sum(int(run.joint[2].sum()) for run in runs)
    equal = sum(int((run.differing == 0).sum()) for run in runs)
    same = neurons - sum(int(run.differing.sum()) for run in runs)
    return f"{equal:,} of {images:,} images,\n{same:,} of {neurons:,} neurons equal"


def _binned(joint: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """The width of a cell; of those with neurons, (2, cells) lowest activation and count, and (cells,) how many."""
    least, most = int(joint[:2].min()), int(joint[:2].max())
    width = -(-(most - least + 1) // _MOST_CELLS)
    corners, places = np.unique(joint[:2] // width * width, axis=1, return_inverse=True)
    neurons = np.zeros(corners.shape[1], np.int64)
    np.add.at(neurons, places.ravel(), joint[2])
    return width, corners, neurons


def _draw(axes: Axes, width: int, corners: np.ndarray, neurons: np.ndarray, norm: LogNorm) -> None:
    low, high = corners.min() - 0.5, corners.max() + width - 0.5
    margin = 0.03 * (high - low)
    axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
    axes.axline((0, 0), slope=1, color=GREY, linewidth=points(0.4), zorder=0.5)
    square = np.array([[0, 0], [width, 0], [width, width], [0, width]]) - 0.5
    equal = corners[0] == corners[1]
    for which, edge, thickness in ((equal, "face", 0.3), (~equal, _DIFFERS, 0.8)):
        cells = PolyCollection([*(corners.T[which, None] + square)], norm=norm, cmap=COLOUR_MAP, edgecolors=edge)
        cells.set(array=neurons[which], linewidth=points(thickness))
        axes.add_collection(cells, autolim=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(whole_ticks(5))
    axes.set_xlabel("activation of the integer ANN")
    axes.set_ylabel("net spike count" + (f" (cells of {width})" if width > 1 else ""))


def numbers(every: Sequence[Spikes]) -> str:
    """The CSV: how many neurons of all images have an activation and a net count, one row a pair that occurs."""
    rows = ((run, pair) for run in every for pair in run.joint.T.tolist())
    return table(("activation", "net_spike_count", "neurons"), rows)
