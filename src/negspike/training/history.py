"""The history of a training: one row an epoch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from negspike.tables import write_csv


@dataclass(frozen=True)
class Epoch:
    """One row of the history table.

    Attributes:
        phase, epoch: count from 1; epochs count within their phase. Both 0: before any training.
        learning_rate: of the phase, its largest.
        loss: mean of what is minimised, over the epoch's training images; None before any training.
        training_accuracy: over the same images, while the weights were changing; None as well.
        validation_accuracy: after the epoch; None for a dataset that holds out no image.
        test_accuracy: after the epoch. It is recorded, never used to choose a model.
        seconds: that training and testing took.
    """

    phase: int
    epoch: int
    learning_rate: float
    loss: float | None
    training_accuracy: float | None
    validation_accuracy: float | None
    test_accuracy: float
    seconds: float = field(compare=False)


def write_history(path: Path, history: Iterable[Epoch]) -> None:
    """Write the history, at least one epoch, as CSV: one line each, columns named after :class:`Epoch`."""
    write_csv(path, [asdict(row) for row in history])
