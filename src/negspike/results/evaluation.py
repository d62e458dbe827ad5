"""Evaluating a spiking network, and proving for every image that the conversion lost nothing (docs/exactness.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from negspike.files import atomic_path
from negspike.spiking.dense import largest_float32_sum
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.joint import join_histograms
from negspike.spiking.recording import SimulationLog
from negspike.spiking.simulation import MOST_STEPS, Engine, run_logged


class NotLosslessError(ArithmeticError):
    """A silent image's counts differ from the integer ANN's: a defect of an engine, never of the user's input."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A simulated test set next to the integer ANN.

    Attributes:
        log: of the simulation, without net counts.
        integer_predictions: (N,) int64, the integer quantised ANN's.
        differing_neurons: (N,) int64, neurons of each image, of all layers, whose net count at the end is not the
            integer ANN's activation. Zero for every silent image; others may still be on their way.
        joint: (3, M) int64, columns of an activation, a net count, and how many neurons of all images have both.
    """

    log: SimulationLog
    integer_predictions: np.ndarray
    differing_neurons: np.ndarray
    joint: np.ndarray

    def lossless_check(self) -> dict[str, int]:
        """The proof in numbers.

        Raises:
            NotLosslessError: a silent image has a neuron that differs.
        """
        silent = self.log.silent >= 0
        wrong = int((self.differing_neurons[silent] > 0).sum())
        if wrong:
            raise NotLosslessError(
                f"{wrong} of {int(silent.sum())} silent images differ from the integer ANN, by up to "
                f"{int(self.differing_neurons[silent].max())} neurons; the engine is defective, please report this"
            )
        return {
            "images": len(silent),
            "silent_images": int(silent.sum()),
            "silent_images_equal_to_integer_ann": int(silent.sum()) - wrong,
            "images_still_spiking": int((~silent).sum()),
            "images_still_spiking_equal_to_integer_ann": int((self.differing_neurons[~silent] == 0).sum()),
            "neurons": int(self.joint[2].sum()),
            "neurons_equal_to_integer_ann": int(self.joint[2].sum() - self.differing_neurons.sum()),
        }


def evaluate(
    network: SpikingNetwork,
    images: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    timesteps: int | str,
    runner: Engine,
    batch_size: int = 50,
    timesteps_cap: int = MOST_STEPS,
    report: Callable[[str], None] | None = None,
) -> Evaluation:
    """Simulate and compare every neuron's net count with the integer ANN.

    Args:
        network, images, labels, timesteps, batch_size: as in :func:`negspike.simulate`; images are an array.
        runner: made for this network by :func:`negspike.spiking.simulation.make_engine`.
        timesteps_cap: with ``until_silent``, simulate no more steps than this.
        report: takes progress lines.
    """
    integer_predictions = np.zeros(len(images), np.int64)
    differing = np.zeros(len(images), np.int64)
    histograms = []

    def compare(chunk: slice, counts: Mapping[str, np.ndarray]) -> None:
        integer_predictions[chunk], differing[chunk], joint = network.compare(images[chunk], counts)
        histograms.append(joint)

    log = run_logged(
        network,
        images,
        labels,
        timesteps=timesteps,
        runner=runner,
        batch_size=batch_size,
        each=compare,
        cap=timesteps_cap,
        report=report,
    )
    return Evaluation(log, integer_predictions, differing, join_histograms(histograms))


def log_facts(network: SpikingNetwork, log: SimulationLog) -> dict[str, Any]:
    """What it takes to read the four logs: of how many images, steps and neurons they tell."""
    return {
        "images": len(log.predictions),
        "timesteps": log.timesteps,
        "latency_bound": network.latency_bound,
        "signed": network.signed,
        "batch_size": log.batch_size,
        "neurons": network.neurons,
        "reference_operations": network.reference_operations,
    }


def describe_layers(network: SpikingNetwork, log: SimulationLog) -> list[dict[str, Any]]:
    """Per population: size, spikes per image, and the bounds that make the engines' 32 bits exact.

    ``largest_potential_bound`` is there if the engine had 32-bit potentials in this population.
    """
    images = len(log.predictions)
    return [
        {
            "name": population.name,
            "neurons": population.neurons,
            "positive_spikes_per_image": float(log.positive[number].sum() / images),
            "negative_spikes_per_image": float(log.negative[number].sum() / images),
            "largest_sum_of_weights": max(int(one.largest_sums.max()) for one in population.synapses),
            "largest_float32_sum": max(largest_float32_sum(one) for one in population.synapses),
        }
        | ({"largest_potential_bound": int(log.potential_bounds[number])} if log.potential_bounds[number] else {})
        for number, population in enumerate(network.populations)
    ]


def save_evaluation(evaluation: Evaluation, labels: np.ndarray, ann_predictions: np.ndarray, path: Path) -> None:
    """Write per-image and per-layer numbers as a compressed ``.npz``, atomically.

    Arrays: ``correct`` (N, T) bool; ``spikes``, ``net_spikes``, ``sops`` (N, T) int64, cumulative; ``positive``,
    ``negative`` (populations, T) int64, of each step; ``silent`` (N,) int64, the first silent step or -1; ``labels``,
    ``spiking_predictions``, ``integer_predictions``, ``ann_predictions``, ``differing_neurons`` (N,) int64; ``joint``
    (3, M) int64, as :class:`Evaluation` has it.
    """
    log = evaluation.log
    assert log.correct is not None, "a test set has labels"
    of_log = ("correct", "spikes", "net_spikes", "sops", "positive", "negative", "silent")
    arrays = {name: getattr(log, name) for name in of_log}
    arrays |= {"labels": labels, "spiking_predictions": log.predictions, "ann_predictions": ann_predictions}
    arrays |= {name: getattr(evaluation, name) for name in ("integer_predictions", "differing_neurons", "joint")}
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(stream, **arrays)
