"""Where and when it fires: spikes a neuron and image of each layer and time step, positive and negative."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from negspike.figures.style import (
    COLOUR_MAP,
    canvas,
    colour_bar,
    grouped,
    place,
    points,
    table,
    time_axis,
    title,
    whole_ticks,
)
from negspike.results.spikes import Spikes
from negspike.results.spikes import read_spikes as read

__all__ = ["TITLE", "build", "numbers", "read"]
TITLE = "Firing of each layer and time step"
_SIGNS = ("positive", "negative")
_FAINTEST = 1e-4  # of the brightest; what is less has the faintest colour
# in inches
_WIDTH, _LAYER, _LEAST, _MOST = 2.0, 0.13, 0.55, 1.6
_LEFT, _GAP, _BETWEEN, _TOP, _BOTTOM, _BAR = 0.56, 0.1, 0.12, 0.3, 0.44, 0.94


def build(every: Sequence[Spikes]) -> Figure:
    """A row a net, a column a precision, two maps each."""
    nets, precisions = grouped("firing", every)
    layers = [len(next(iter(groups.values()))[0].layers) for groups in nets.values()]
    heights = [min(max(_LAYER * count, _LEAST), _MOST) for count in layers]
    rows = [2 * height + _BETWEEN + _TOP + _BOTTOM for height in heights]
    figure = canvas()
    figure.set_size_inches((_LEFT + _WIDTH + _GAP) * len(precisions) + _BAR, sum(rows))
    maps = {
        (net, precision): [_mean(runs, sign) for sign in _SIGNS]
        for net, groups in nets.items()
        for precision, runs in groups.items()
    }
    brightest = max([float(one.max(initial=0)) for pair in maps.values() for one in pair]) or 1.0
    faintest = min([float(one[one > 0].min(initial=brightest)) for pair in maps.values() for one in pair])
    norm = LogNorm(max(min(faintest, brightest / 10), _FAINTEST * brightest), brightest)
    bottom = sum(rows)
    for net, height, row in zip(nets, heights, rows, strict=True):
        bottom -= row
        timesteps = max(one.shape[1] for precision in nets[net] for one in maps[net, precision])
        for precision in nets[net]:
            left = precisions.index(precision) * (_LEFT + _WIDTH + _GAP) + _LEFT
            for number, (sign, values) in enumerate(zip(_SIGNS, maps[net, precision], strict=True)):
                axes = figure.add_axes((0, 0, 1, 1), label=f"{net} {precision} {sign}")
                place(axes, left, bottom + _BOTTOM + (1 - number) * (height + _BETWEEN), _WIDTH, height)
                _draw(axes, values, timesteps, norm)
                axes.set_ylabel(f"{sign}\nlayer", fontsize=points(7))
                if number == 0:
                    title(axes, f"{net}, {precision}", _WIDTH + _GAP, pad=points(4))
                    axes.set_xlabel("")
                    axes.tick_params(labelbottom=False)
    extend = "min" if faintest < norm.vmin else "neither"  # type: ignore[operator]
    colour_bar(figure, norm, "spikes per neuron,\nimage and step", right=_BAR - 0.04, top=_TOP, extend=extend)
    return figure


def _mean(runs: Sequence[Spikes], sign: str) -> np.ndarray:
    """(P, T), the mean of the seeds; one that fell silent earlier has no spikes from there on."""
    found = [getattr(run, sign) for run in runs]
    timesteps = max(one.shape[1] for one in found)
    return np.asarray(np.mean([np.pad(one, ((0, 0), (0, timesteps - one.shape[1]))) for one in found], 0))


def _draw(axes: Axes, values: np.ndarray, timesteps: int, norm: LogNorm) -> None:
    layers, steps = values.shape
    axes.pcolormesh(
        np.arange(steps + 1) + 0.5,
        np.arange(layers + 1) + 0.5,
        np.ma.masked_equal(values, 0),
        norm=norm,
        cmap=COLOUR_MAP,
        rasterized=True,  # a cell a step and layer: as drawings they would be megabytes
    )
    time_axis(axes, timesteps)
    axes.set(xlim=(0.5, timesteps + 0.5), ylim=(layers + 0.5, 0.5))
    axes.yaxis.set_major_locator(whole_ticks(min(layers, 8)))


def numbers(every: Sequence[Spikes]) -> str:
    """The CSV: spikes a neuron and image of each layer and step, one row each."""
    return table(
        ("layer", "timestep", *(f"{sign}_spikes_per_neuron" for sign in _SIGNS)),
        (
            (run, (name, step + 1, run.positive[layer, step], run.negative[layer, step]))
            for run in every
            for layer, name in enumerate(run.layers)
            for step in range(run.positive.shape[1])
        ),
    )
