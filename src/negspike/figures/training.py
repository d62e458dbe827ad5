"""Trainings: loss and test accuracy over epochs, in full precision and quantised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from negspike.errors import InputError
from negspike.figures.style import arrange, canvas, grouped, legend_label, line, look, spread, table, title, whole_ticks
from negspike.precision import Precision
from negspike.results.histories import History
from negspike.results.histories import read_histories as read

__all__ = ["TITLE", "build", "numbers", "read"]
TITLE = "Training curves"


def build(every: Sequence[History]) -> Figure:
    """A row a net: loss, and test accuracy."""
    nets, precisions = grouped("training", every)
    figure, rows = canvas(), []
    for net, groups in nets.items():
        rows.append([figure.add_axes((0, 0, 1, 1), label=f"{net} {what}") for what in ("loss", "accuracy")])
        for precision, runs in groups.items():
            if len({tuple(run.epochs) for run in runs}) > 1:
                raise InputError(f"figure 'training': the seeds of {net}, {precision} differ in their number of epochs")
            _draw(rows[-1], precision, runs, precisions)
        loss, accuracy = rows[-1]
        loss.set(ylabel="training loss", yscale="log")
        loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        loss.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        loss.yaxis.set_minor_locator(NullLocator())
        accuracy.set(ylabel="test accuracy (%)")
        finals = [100 * run.accuracy[-1] for runs in groups.values() for run in runs]
        best = max(100 * run.accuracy.max() for runs in groups.values() for run in runs)
        span = max(best - min(finals), 0.5)
        accuracy.set_ylim(max(0.0, best - 8 * span), min(best + 0.5 * span, 100 + 0.1 * span))
        for axes in rows[-1]:
            title(axes, net)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(whole_ticks(6))
            axes.grid(True)
            axes.set_axisbelow(True)
    arrange(figure, rows)
    return figure


def _draw(panels: Sequence[Axes], precision: Precision, runs: Sequence[History], precisions: list[Precision]) -> None:
    epochs = runs[0].epochs
    losses, accuracies = [run.loss for run in runs], [100 * run.accuracy for run in runs]
    trained = epochs[-1] > 0
    after = f"after epoch {epochs[-1]}" if trained else "without training"
    ends = (
        f"{spread([float(one[-1]) for one in losses], 4)} {after}" if trained else "no training, no loss",
        f"{spread([float(one[-1]) for one in accuracies], 2)} % {after}",
    )
    style = {"marker": "o"} if len(epochs) == 1 else {}  # of one point, a line would not be seen
    style |= look(precision, precisions) | {"markevery": max(1, len(epochs) // 6)}
    for axes, values, end in zip(panels, (losses, accuracies), ends, strict=True):
        line(axes, epochs, values, label=legend_label(precision, end), **style)


def numbers(every: Sequence[History]) -> str:
    """The CSV: one row a training and epoch; accuracies are fractions. FP32 has neither k nor levels."""
    return table(
        ("epoch", "loss", "test_accuracy"),
        (
            (run, (epoch, "" if np.isnan(loss) else loss, accuracy))
            for run in every
            for epoch, loss, accuracy in zip(run.epochs.tolist(), run.loss.tolist(), run.accuracy.tolist(), strict=True)
        ),
    )
