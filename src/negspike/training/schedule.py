"""The training schedule of a network, phase by phase."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """One phase of a schedule: Adam at a constant learning rate, started afresh.

    Attributes:
        number: counts from 1.
        epochs: passes over the training images.
        learning_rate: of Adam.
        batch_size: images a step.
    """

    number: int
    epochs: int
    learning_rate: float
    batch_size: int
