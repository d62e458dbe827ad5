"""What the logs of a simulation say: accuracy, spikes and synaptic operations, step by step (docs/counting.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from negspike.errors import InputError
from negspike.precision import Precision
from negspike.spiking.logs import Logs
from negspike.tables import write_csv

Series = npt.NDArray[np.float64]

_SERIES = ("accuracy", "spikes", "net_spikes", "sops")


@dataclass(frozen=True, eq=False)
class Curves:
    """One simulated network, over time. Every array is float64 of shape (T,); entry 0 is time step 1.

    Attributes:
        net: name of the net.
        seed: training repetition.
        k: quantisation level, activations are multiples of 2^-k; None where there are ``levels``.
        images: N, how many were simulated.
        accuracy: fraction of the images whose prediction is right at this step.
        spikes: spikes so far, positive and negative, mean of an image.
        net_spikes: positive minus negative spikes so far, mean of an image.
        sops: synaptic operations so far, mean of an image.
        neurons: outputs of all spiking layers.
        reference_operations: additions an image of the reference ANN, 3 for each multiply-accumulate.
        levels: the largest count of its activations, or None.
        ann_accuracy: of the integer quantised ANN, a fraction; None if not known.
        equal_images: images whose every neuron ended at the integer ANN's activation; None if not known.
    """

    net: str
    seed: int
    k: int | None
    images: int
    accuracy: Series
    spikes: Series
    net_spikes: Series
    sops: Series
    neurons: int
    reference_operations: int
    levels: int | None = None
    ann_accuracy: float | None = None
    equal_images: int | None = None

    @property
    def precision(self) -> Precision:
        """k or levels."""
        return Precision.of(self.k, self.levels)

    @property
    def timesteps(self) -> int:
        """T, the number of time steps."""
        return len(self.accuracy)

    @property
    def final_accuracy(self) -> float:
        """Accuracy after the last step, a fraction."""
        return float(self.accuracy[-1])

    @property
    def correct(self) -> npt.NDArray[np.int64]:
        """(T,) how many images are predicted right at each step."""
        return np.rint(self.accuracy * self.images).astype(np.int64)

    @property
    def settled_step(self) -> int:
        """The step from which on the accuracy stays what it is at the end; see :func:`settled_step`."""
        return settled_step(self.correct)

    @property
    def still_spiking(self) -> bool:
        """Whether a neuron still fired in the last step, so that the network had not fallen silent at T."""
        return bool(self.spikes[-1] > (self.spikes[-2] if self.timesteps > 1 else 0.0))

    def continued(self, timesteps: int) -> Curves:
        """The same up to ``timesteps``, as if a silent network had run on."""
        more = timesteps - self.timesteps
        series: dict[str, Any] = {name: np.pad(getattr(self, name), (0, more), "edge") for name in _SERIES}
        return replace(self, **series)

    @property
    def positive_spikes(self) -> Series:
        """(T,) positive spikes so far, mean of an image."""
        return (self.spikes + self.net_spikes) / 2

    @property
    def negative_spikes(self) -> Series:
        """(T,) negative spikes so far, mean of an image."""
        return (self.spikes - self.net_spikes) / 2

    @property
    def negative_share(self) -> float:
        """Negative spikes as a fraction of all spikes, at the end; 0 where there was no spike."""
        return float(self.negative_spikes[-1] / self.spikes[-1]) if self.spikes[-1] else 0.0

    @property
    def spikes_per_neuron(self) -> Series:
        """(T,) spikes so far, mean of a neuron and an image."""
        return self.spikes / self.neurons

    @property
    def net_spikes_per_neuron(self) -> Series:
        """(T,) net spikes so far, mean of a neuron and an image."""
        return self.net_spikes / self.neurons

    @property
    def sops_over_reference(self) -> float:
        """Synaptic operations at the end over the operations of the reference ANN."""
        return float(self.sops[-1] / self.reference_operations)


def settled_step(correct: npt.NDArray[np.int64]) -> int:
    """The first step from which on the number of right answers stays at its final value.

    With steps counted from 1 that is one more than the last step whose number still differs from the final one, and
    1 if none does. It compares the whole test set's integers, not the predictions: two images that swap leave it alone.

    Args:
        correct: (T,) how many images of the whole test set are predicted right at each step.
    """
    different = np.flatnonzero(correct != correct[-1])
    return int(different[-1]) + 2 if len(different) else 1


def curves_from_logs(
    logs: Logs,
    *,
    net: str,
    seed: int,
    images: int,
    neurons: int,
    reference_operations: int,
    k: int | None = None,
    levels: int | None = None,
) -> Curves:
    """Means of an image over the whole test set.

    Args:
        logs: the four logs, (batches, T).
        net, seed, k, levels: which network it was.
        images: N, of all batches together; the last may be smaller than the others.
        neurons: outputs of all spiking layers.
        reference_operations: additions an image of the reference ANN.

    Raises:
        InputError: there are more batches than images, or more right answers than images.
    """
    correct, which = logs.accuracy.sum(axis=0), Precision.of(k, levels)
    if images < logs.batches:
        raise InputError(f"{net}, {which}: {logs.batches} batches in the logs cannot hold {images} images")
    if correct.max() > images:
        raise InputError(f"{net}, {which}: the logs have {correct.max()} right answers for {images} images")
    return Curves(
        net=net,
        seed=seed,
        k=k,
        images=images,
        accuracy=correct / images,
        spikes=logs.spike_num.sum(axis=0) / images,
        net_spikes=logs.spike_collect.sum(axis=0) / images,
        sops=logs.sop_num.sum(axis=0) / images,
        neurons=neurons,
        reference_operations=reference_operations,
        levels=levels,
    )


def write_table(curves: Sequence[Curves], path: Path | str) -> None:
    """Write one CSV row a network: what it reaches, when, and what it costs an image."""
    rows = [
        {
            "net": run.net,
            "seed": run.seed,
            "k": run.k,
            "levels": run.levels,
            "accuracy": run.final_accuracy,
            "settled_step": run.settled_step,
            "still_spiking": str(run.still_spiking).lower(),
            "spikes_per_image": run.spikes[-1],
            "net_spikes_per_image": run.net_spikes[-1],
            "sops_per_image": run.sops[-1],
            "sops_over_reference": run.sops_over_reference,
        }
        for run in curves
    ]
    write_csv(path, rows)
