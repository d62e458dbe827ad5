"""Images that change: operations a frame, next to simulating each frame from the beginning."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from negspike.figures.style import (
    DASHED,
    GREY,
    arrange,
    canvas,
    grouped,
    line,
    marks,
    points,
    table,
    title,
    whole_ticks,
)
from negspike.results.streams import Streamed
from negspike.results.streams import read_streams as read

__all__ = ["TITLE", "build", "numbers", "read"]
TITLE = "Operations of images that change"
_STREAM: dict[str, Any] = {"color": "#0072B2", "marker": "o", "markersize": 3}
_FRESH: dict[str, Any] = {
    "color": GREY,
    "marker": "s",
    "markersize": 3,
    "markerfacecolor": "white",
    "linestyle": DASHED,
}


def build(every: Sequence[Streamed]) -> Figure:
    """A row a net: frame by frame, and against the pixels that changed."""
    grouped("streaming", every)
    figure, rows = canvas(), []
    for one in every:
        rows.append([figure.add_axes((0, 0, 1, 1), label=f"{one.net} {what}") for what in ("frames", "pixels")])
        frames, pixels = rows[-1]
        _draw_frames(frames, one)
        for values, style in ((one.fresh, _FRESH), (one.sops, _STREAM)):
            pixels.plot(
                one.changed.ravel(), values.ravel() / 1e3, **marks(style | {"linestyle": "none"}), rasterized=True
            )
        pixels.set(xlabel="changed pixels per frame", ylabel="SOPs per frame (thousands)")
        for axes in rows[-1]:
            title(axes, f"{one.net}, {one.precision}", pad=points(10))
            axes.set_ylim(bottom=0)
            axes.grid(True)
            axes.set_axisbelow(True)
    arrange(figure, rows)
    return figure


def _draw_frames(axes: Axes, one: Streamed) -> None:
    frames = np.arange(1, len(one.kinds) + 1)
    later = slice(1, None)  # the first frame costs the same either way
    share = one.sops[later].sum() / max(int(one.fresh[later].sum()), 1)
    labels = (
        "each frame from the beginning",
        f"state kept, changes fed in: {100 * share:.0f} % of these SOPs,\n"
        f"    equal in {one.equal.sum():,} of {one.equal.size:,} frames",
    )
    for values, style, label in zip((one.fresh, one.sops), (_FRESH, _STREAM), labels, strict=True):
        line(axes, frames, list(values.T / 1e3), **marks(style), label=label)
    start = 0.5
    for number, (kind, group) in enumerate(groupby(one.kinds)):
        end = start + len(list(group))
        axes.axvspan(start, end, color="#EEEEEE" if number % 2 == 0 else "white", linewidth=0, zorder=0)
        if kind != "first":
            at = ((start + end) / 2, 1.01)
            axes.text(*at, kind, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=points(6))
        start = end
    axes.set(xlim=(0.5, start), xlabel="frame", ylabel="SOPs per frame (thousands)")
    axes.xaxis.set_major_locator(whole_ticks(8))


def numbers(every: Sequence[Streamed]) -> str:
    """The CSV: a row a frame and stream."""
    return table(
        ("frame", "stream", "kind", "changed_pixels", "sops", "fresh_sops", "equal"),
        (
            (
                one,
                (
                    frame + 1,
                    stream,
                    kind,
                    *(int(values[frame, stream]) for values in (one.changed, one.sops, one.fresh, one.equal)),
                ),
            )
            for one in every
            for frame, kind in enumerate(one.kinds)
            for stream in range(one.sops.shape[1])
        ),
    )
