"""The training schedule of a network, phase by phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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
        translation: how many pixels random crops are off the centre at most; None: as many as there are.
        distillation: share of the loss that is the distance from the full-precision network's distribution.
        temperature: by which both networks' logits are divided for it.
        spike_penalty: what the loss grows by for net spikes of as many synaptic operations as the ANN has MACs.
    """

    number: int
    epochs: int
    learning_rate: float
    batch_size: int
    recipe: Recipe = "published"
    translation: int | None = None
    distillation: float = 0.0
    temperature: float = 1.0
    spike_penalty: float = 0.0

    def plain(self) -> dict[str, Any]:
        """Its values by name, without distillation, penalty and translation where there is none."""
        absent = {"distillation", "temperature"} if not self.distillation else set()
        absent |= {"spike_penalty"} if not self.spike_penalty else set()
        absent |= {"translation"} if self.translation is None else set()
        return {name: value for name, value in vars(self).items() if name not in absent}
