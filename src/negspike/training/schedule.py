"""The training schedule of a network, phase by phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Recipe = Literal["published", "fast"]


@dataclass(frozen=True)
class Phase:
    """One phase of a schedule, its optimizer started afresh.

    Attributes:
        number: counts from 1.
        epochs: passes over the training images.
        learning_rate: the largest; the published recipe keeps to it.
        batch_size: images a step.
        recipe: how weights are updated (:mod:`negspike.training.recipes`).
    """

    number: int
    epochs: int
    learning_rate: float
    batch_size: int
    recipe: Recipe = "published"
