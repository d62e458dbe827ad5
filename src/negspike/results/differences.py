"""How much of what a network computes another one computes otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from negspike.errors import InputError
from negspike.spiking.graph import SpikingNetwork

BATCH = 50


@dataclass(frozen=True)
class Differences:
    """Of the integer ANNs of two networks with the same populations, on the same images; prints itself.

    Attributes:
        images, activations: compared, activations of all images together.
        differing_predictions, differing_activations: of these, those that are not the same.
    """

    images: int
    activations: int
    differing_predictions: int
    differing_activations: int

    def __str__(self) -> str:
        return (
            f"{self.differing_predictions:,} of {self.images:,} predictions and {self.differing_activations:,} of "
            f"{self.activations:,} activations differ"
        )


def differences(first: SpikingNetwork, second: SpikingNetwork, images: np.ndarray) -> Differences:
    """Compare two networks' integer ANNs.

    Args:
        first, second: networks that take the same images and have the same populations.
        images: (N, C, H, W) standardised floats.

    Raises:
        InputError: they have other populations.
    """
    if [(one.name, one.shape) for one in first.populations] != [(one.name, one.shape) for one in second.populations]:
        raise InputError("the two networks have different populations")
    predictions = activations = 0
    for start in range(0, len(images), BATCH):
        one, other = (network.activations(images[start : start + BATCH]) for network in (first, second))
        logits = one.pop(first.readout.name), other.pop(second.readout.name)
        predictions += int((logits[0].argmax(1) != logits[1].argmax(1)).sum())
        activations += sum(int((one[name] != other[name]).sum()) for name in one)
    return Differences(len(images), len(images) * first.neurons, predictions, activations)
