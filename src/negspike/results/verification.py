"""The lossless check for people: simulate, compare every neuron and every prediction, and print what was found."""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from negspike.arguments import as_array
from negspike.conversion.float64 import Float64Model
from negspike.conversion.rounding import round_weights
from negspike.errors import InputError, one_line
from negspike.fixed_point import IMAGE_FRACTION_BITS, integer_images
from negspike.results.evaluation import evaluate
from negspike.spiking.graph import SpikingNetwork
from negspike.spiking.simulation import UNTIL_SILENT, make_engine
from negspike.tables import Table

MODEL_BATCH = 50
QUANTISED, FLOAT = "quantised model", "float model"


@dataclass(frozen=True, repr=False)
class Verification(Table):
    """What :func:`verify` found; prints itself.

    Attributes:
        images: how many were simulated.
        silent_images: how many had fallen silent at the end.
        neurons: compared in all silent images together.
        equal_neurons: of these, those whose net spike count is the integer ANN's activation.
        latest_silent_step: time steps after which the last silent image had fallen silent.
        latency_bound: the certified number of these steps, or None.
        predictions: images predicted alike by the spiking network and the integer ANN, and by each model given.
        float64_predictions: of the images that the quantised model predicts otherwise, those that it predicts alike in
            float64: there the rounding of floats made the difference. None without a model that can be converted.
        model_neurons: activations of the quantised model's quantisers, of whatever kind, in all images, computed in
            float64 on weights rounded as the network's; 0 without a model that has the network's neurons.
        equal_model_neurons: of these, those that are the integer ANN's; None without such a model. Where conversion is
            right, others are nearer to a tie than the integers' scales can tell.
    """

    images: int
    silent_images: int
    neurons: int
    equal_neurons: int
    latest_silent_step: int
    latency_bound: int | None
    predictions: dict[str, int] = field(hash=False)
    float64_predictions: int | None = None
    model_neurons: int = 0
    equal_model_neurons: int | None = None

    @property
    def lossless(self) -> bool:
        """Every image fell silent, and every neuron of it equals the integer ANN."""
        return self.silent_images == self.images and self.equal_neurons == self.neurons

    def _table(self) -> tuple[str, list[tuple[str, str]]]:
        title = "lossless" if self.lossless else "not yet silent"
        if self.equal_neurons < self.neurons:
            title = "NOT lossless"
        bound = "no bound" if self.latency_bound is None else f"certified {self.latency_bound}"
        rows = [
            ("images silent", f"{self.silent_images:,} of {self.images:,}"),
            ("neurons equal to the integer ANN", f"{self.equal_neurons:,} of {self.neurons:,}"),
            ("latest silent step", f"{self.latest_silent_step if self.silent_images else 'none'} ({bound})"),
        ]
        if QUANTISED in self.predictions:
            known = "unknown: this model's neurons are others"
            if self.equal_model_neurons is not None:
                known = f"{self.equal_model_neurons:,} of {self.model_neurons:,}"
            rows.insert(2, ("neurons equal to the quantised model", known))
        for name, equal in self.predictions.items():
            rows.append((f"predictions equal to the {name}", f"{equal:,} of {self.images:,}"))
            if name == QUANTISED and equal < self.images and self.float64_predictions is not None:
                others = self.images - equal
                rows.append(("  the others, computed in float64", f"{self.float64_predictions:,} of {others:,}"))
        return title, rows


def verify(
    network: SpikingNetwork,
    images: Any,
    model: torch.nn.Module | None = None,
    *,
    float_model: torch.nn.Module | None = None,
    timesteps: int | str = UNTIL_SILENT,
    engine: str = "auto",
    device: str = "auto",
    threads: int | None = None,
) -> Verification:
    """Prove neuron by neuron that the spiking network computes what the quantised network does.

    Two steps: each silent neuron has the integer ANN's activation, which is exact; and the integer ANN has the model's,
    computed in float64, which says whether conversion was right.

    Args:
        network: the integer spiking network.
        images: (N, C, H, W) standardised floats, array or tensor.
        model: the quantised model that was converted, to compare the activations of its quantisers and its predictions.
        float_model: the model before it was quantised, likewise.
        timesteps, engine, device, threads: as in :func:`negspike.simulate`.

    Returns:
        The numbers; ``lossless`` says whether everything is silent and equal.

    Raises:
        InputError: images or models do not fit the network.
    """
    array = np.atleast_1d(as_array("images", images))
    runner = make_engine(network, engine, threads=threads, device=device)
    evaluation = evaluate(network, array, timesteps=timesteps, runner=runner)
    log = evaluation.log
    silent = log.silent >= 0
    compared = int(silent.sum()) * network.neurons
    spiking = log.predictions
    equal = {"integer ANN": evaluation.integer_predictions == spiking}
    for name, one in ((QUANTISED, model), (FLOAT, float_model)):
        if one is not None:
            equal[name] = _predict(one, array, network.classes) == spiking
    exact = None
    if model is not None:
        with suppress(InputError):  # what is compared need not be what was converted
            exact = in_float64(network, array, model)
    others = ~equal.get(QUANTISED, np.ones(len(array), bool))
    return Verification(
        images=len(array),
        silent_images=int(silent.sum()),
        neurons=compared,
        equal_neurons=compared - int(evaluation.differing_neurons[silent].sum()),
        latest_silent_step=int(log.silent.max(initial=0)),
        latency_bound=network.latency_bound,
        predictions={name: int(alike.sum()) for name, alike in equal.items()},
        float64_predictions=None if exact is None else int((exact.predictions == spiking)[others].sum()),
        model_neurons=0 if exact is None else exact.neurons,
        equal_model_neurons=None if exact is None else exact.equal,
    )


class InFloat64(NamedTuple):
    """What the quantised model computes in float64, on weights rounded as the network's.

    Attributes:
        predictions: (N,) classes.
        neurons: activations of its quantisers in all images.
        equal: of these, those that are the integer ANN's; None: the model has other neurons than the network.
    """

    predictions: np.ndarray
    neurons: int
    equal: int | None


def in_float64(network: SpikingNetwork, images: np.ndarray, model: torch.nn.Module) -> InFloat64:
    """Compute a quantised model in float64, and compare its activations with the integer ANN's.

    Args:
        network: that the model was converted to.
        images: (N, C, H, W) standardised floats.
        model: it is left as it is.

    Raises:
        InputError: the model cannot be converted.
    """
    exact = round_weights(copy.deepcopy(model).cpu(), network.weight_bits).eval()
    computed = Float64Model(exact, images.astype(np.float32), batch=min(max(len(images), 2), MODEL_BATCH))
    rounded, predictions, neurons, equal = _rounded(images), [], 0, 0
    # by their order: the model may be wrapped in another one, so that its modules have other paths
    same = [one.shape for one in computed.populations] == [one.shape for one in network.populations]
    for part in (slice(first, first + MODEL_BATCH) for first in range(0, len(images), MODEL_BATCH)):
        logits, found = computed(rounded[part])
        predictions.append(logits.reshape(len(logits), -1).argmax(1))
        activations = network.activations(images[part]) if same else {}
        for node, counts, one in zip(computed.populations, found, network.populations, strict=same):
            if counts is not None and same:
                wanted = node.pooled(activations[one.name])
                neurons += counts.size
                equal += int((counts.reshape(wanted.shape) == wanted).sum())
    return InFloat64(np.concatenate(predictions), neurons, equal if same else None)


@torch.no_grad()
def _predict(model: torch.nn.Module, images: np.ndarray, classes: int) -> np.ndarray:
    """Classes that a model in eval mode predicts for (N, C, H, W) images, rounded as the network sees them, (N,)."""
    parameter = next(model.parameters(), torch.zeros((), dtype=torch.float32, device="cpu"))
    rounded, training = torch.from_numpy(_rounded(images)), model.training
    model.eval()
    try:
        found = [model(part.to(parameter.device, parameter.dtype)) for part in torch.split(rounded, MODEL_BATCH)]
    except RuntimeError as error:
        raise InputError(f"the model cannot take images of shape {images.shape[1:]}: {one_line(error)}") from error
    finally:
        model.train(training)
    logits = torch.cat(found).flatten(1)  # (N, classes, 1, 1) of a head of convolutions
    if logits.shape != (len(images), classes):
        raise InputError(f"the model gives {tuple(logits.shape)}, the network {(len(images), classes)}")
    return logits.argmax(1).cpu().numpy()


def _rounded(images: np.ndarray) -> np.ndarray:
    """As the network sees them, float64."""
    rounded: np.ndarray = integer_images(images) / 2.0**IMAGE_FRACTION_BITS
    return rounded
