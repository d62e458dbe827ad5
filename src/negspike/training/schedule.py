"""The training schedule of a network, phase by phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Recipe = Literal["published", "fast"]
# From this share of a phase on, images are whole.
WHOLE_IMAGES = 0.6


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
        initial_resolution: share of its height and width that an image is scaled down to at the beginning.
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
    initial_resolution: float = 1.0
    distillation: float = 0.0
    temperature: float = 1.0
    spike_penalty: float = 0.0

    def resolution(self, done: float) -> float:
        """Share of an image's height and width when so large a share of the updates is made: it grows to 1 evenly."""
        return min(1.0, self.initial_resolution + (1 - self.initial_resolution) * done / WHOLE_IMAGES)

    @property
    def mean_pixels(self) -> float:
        """Share of the pixels of whole images that the phase shows, over all its updates."""
        first = self.initial_resolution
        return 1 - WHOLE_IMAGES * (1 - (1 + first + first**2) / 3)

    def plain(self) -> dict[str, Any]:
        """Its values by name, without distillation, penalty, translation and smaller images where there are none."""
        absent = {"distillation", "temperature"} if not self.distillation else set()
        absent |= {"spike_penalty"} if not self.spike_penalty else set()
        absent |= {"translation"} if self.translation is None else set()
        absent |= {"initial_resolution"} if self.initial_resolution == 1 else set()
        return {name: value for name, value in vars(self).items() if name not in absent}
