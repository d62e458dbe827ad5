"""Neurons that walk to their target: potential, thresholds, spikes of both signs, the ANN's activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from negspike.errors import InputError
from negspike.figures.style import DASHED, GREY, canvas, grouped, place, points, table, title, whole_ticks
from negspike.results.traces import TracedImage
from negspike.results.traces import read_traces as read
from negspike.spiking.trace import Trace

__all__ = ["TITLE", "build", "numbers", "read"]
TITLE = "Neurons on the way to their activation"
_POTENTIAL, _BACK = "#0072B2", "#D55E00"
_UP: dict[str, Any] = {"marker": "^", "color": "black", "linestyle": "none", "zorder": 4}
_DOWN = _UP | {"marker": "v", "color": _BACK, "markerfacecolor": "white"}
# in inches
_WIDTH, _HEIGHT, _LEFT, _GAP, _TOP, _BOTTOM, _LEGEND = 2.2, 1.9, 0.5, 0.14, 0.52, 0.46, 0.36


def chosen(trace: Trace) -> dict[str, int]:
    """Which of the watched neurons are drawn, and why; the first of equals, none twice.

    The one with the most positive spikes that took none back, the one that took most back, and of the last population
    the one with the most spikes. Where there is none, it is left out.
    """
    spikes = trace.spikes
    up, down = (spikes > 0).sum(1), (spikes < 0).sum(1)
    wanted = {
        "positive spikes alone": up * (down == 0),
        "most spikes taken back": down,
        "most spikes of the last layer": (up + down) * (trace.population == len(trace.populations) - 1),
    }
    found: dict[str, int] = {}
    for why, many in wanted.items():
        many = many.copy()
        many[list(found.values())] = 0
        if many.any():
            found[why] = int(many.argmax())
    return found


def build(every: Sequence[TracedImage]) -> Figure:
    """A row a net, a panel a neuron."""
    grouped("neuron", every)
    figure, columns = canvas(), max(len(chosen(one.trace)) for one in every)
    if not columns:
        raise InputError("figure 'neuron': no neuron that is watched spikes")
    row = _TOP + _HEIGHT + _BOTTOM
    figure.set_size_inches((_LEFT + _WIDTH + _GAP) * max(columns, 2), row * len(every) + _LEGEND)
    for number, one in enumerate(every):
        bottom = (len(every) - number - 1) * row + _BOTTOM + _LEGEND
        for column, (why, m) in enumerate(chosen(one.trace).items()):
            axes = figure.add_axes((0, 0, 1, 1), label=f"{one.net} {why}")
            place(axes, _LEFT + column * (_LEFT + _WIDTH + _GAP), bottom, _WIDTH, _HEIGHT)
            _draw(axes, one.trace, m)
            layer = one.trace.populations[one.trace.population[m]]
            axes.text(
                0,
                1.03,
                f"{layer[-20:]}, neuron {one.trace.neuron[m]}:\n{why}",
                transform=axes.transAxes,
                fontsize=points(6.5),
            )
            if column == 0:
                words = f"{one.net}, {one.precision}: test image {one.image} (class {one.label})"
                title(axes, words, max(columns, 2) * (_LEFT + _WIDTH + _GAP) - _LEFT - _GAP, pad=points(24))
            else:
                axes.set_ylabel("")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    every_label = dict(zip(labels, handles, strict=True))
    figure.legend(every_label.values(), every_label, loc="lower left", ncols=3, handlelength=1.8, columnspacing=1.2)
    return figure


def potential(trace: Trace, m: int) -> np.ndarray:
    """(T,) the membrane potential over the base, in thresholds: +1 from one more than the net count on, -1 below it."""
    return np.asarray((trace.potentials[m] - trace.base[m]) / trace.theta[m])


def _draw(axes: Axes, trace: Trace, m: int) -> None:
    steps = np.arange(trace.counts.shape[1] + 1)
    counts = np.append(0, trace.counts[m])
    z = potential(trace, m)
    # What a step compares its potential with is the count of the step before: all jumps are at the step.
    axes.fill_between(
        steps, counts, counts + 1, step="post", color="#DDDDDD", linewidth=0, label="between both thresholds: at rest"
    )
    axes.step(steps, counts, where="post", color=GREY, linewidth=points(1.0), label="net spike count")
    axes.plot(
        steps[1:],
        z,
        color=_POTENTIAL,
        linewidth=points(0.9),
        marker="o",
        markersize=points(2),
        label="membrane potential",
    )
    for sign, style, label in ((1, _UP, "+1 spike"), (-1, _DOWN, "−1 spike")):
        at = np.flatnonzero(trace.spikes[m] == sign)
        axes.plot(at + 1, z[at], label=label, markersize=points(4.5), **style)
    axes.axhline(
        trace.activations[m], color="black", linestyle=DASHED, linewidth=points(0.9), label="activation of the ANN"
    )
    axes.set(xlabel="time step", ylabel="potential in thresholds")
    axes.set_xlim(0, len(steps) - 0.5)
    axes.xaxis.set_major_locator(whole_ticks(7))
    axes.yaxis.set_major_locator(whole_ticks(7))


def numbers(every: Sequence[TracedImage]) -> str:
    """The CSV: a row for each neuron and step; the potential in thresholds above the base."""
    return table(
        ("image", "layer", "neuron", "why", "timestep", "potential", "spike", "net_spike_count", "activation"),
        (
            (one, (one.image, trace.populations[trace.population[m]], trace.neuron[m], why, t + 1, z, *rest))
            for one in every
            for trace in (one.trace,)
            for why, m in chosen(trace).items()
            for t, z in enumerate(potential(trace, m).tolist())
            for rest in ((trace.spikes[m, t], trace.counts[m, t], trace.activations[m]),)
        ),
    )
