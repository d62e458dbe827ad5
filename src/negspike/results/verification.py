"""The lossless check for people: simulate, compare every neuron and every prediction, and print what was found."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from negspike.arguments import as_array
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
            float64, on weights rounded as the network's: there the rounding of floats made the difference.
    """

    images: int
    silent_images: int
    neurons: int
    equal_neurons: int
    latest_silent_step: int
    latency_bound: int | None
    predictions: dict[str, int] = field(hash=False)
    float64_predictions: int = 0

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
        for name, equal in self.predictions.items():
            rows.append((f"predictions equal to the {name}", f"{equal:,} of {self.images:,}"))
            if name == QUANTISED and equal < self.images:
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

    Args:
        network: the integer spiking network.
        images: (N, C, H, W) standardised floats, array or tensor.
        model: the quantised model that was converted, to compare its predictions too.
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
    others = ~equal.get(QUANTISED, np.ones(len(array), bool))
    exact = 0
    if model is not None and others.any():
        in_float64 = round_weights(copy.deepcopy(model).cpu(), network.weight_bits).double()
        try:
            found = _predict(in_float64, array[others], network.classes)
        except InputError:  # it makes some numbers float32 itself, as (x > 0).float() does
            with _InFloat64():
                found = _predict(in_float64, array[others], network.classes)
        exact = int((found == spiking[others]).sum())
    return Verification(
        images=len(array),
        silent_images=int(silent.sum()),
        neurons=compared,
        equal_neurons=compared - int(evaluation.differing_neurons[silent].sum()),
        latest_silent_step=int(log.silent.max(initial=0)),
        latency_bound=network.latency_bound,
        predictions={name: int(alike.sum()) for name, alike in equal.items()},
        float64_predictions=exact,
    )


class _InFloat64(TorchFunctionMode):
    """What a model makes float32 itself, as ``(x > 0).float()`` does, is float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        wide = {name: torch.float64 if one is torch.float32 else one for name, one in (kwargs or {}).items()}
        func = torch.Tensor.double if func is torch.Tensor.float else func
        found = func(*(torch.float64 if one is torch.float32 else one for one in args), **wide)
        return found.double() if isinstance(found, torch.Tensor) and found.dtype == torch.float32 else found


@torch.no_grad()
def _predict(model: torch.nn.Module, images: np.ndarray, classes: int) -> np.ndarray:
    """Classes that a model in eval mode predicts for (N, C, H, W) images, rounded as the network sees them, (N,)."""
    parameter = next(model.parameters(), torch.zeros((), dtype=torch.float32, device="cpu"))
    rounded = integer_images(images) / 2.0**IMAGE_FRACTION_BITS
    training = model.training
    model.eval()
    try:
        batches = [
            model(torch.from_numpy(rounded[first : first + MODEL_BATCH]).to(parameter.device, parameter.dtype))
            for first in range(0, len(rounded), MODEL_BATCH)
        ]
    except RuntimeError as error:
        raise InputError(f"the model cannot take images of shape {images.shape[1:]}: {one_line(error)}") from error
    finally:
        model.train(training)
    logits = torch.cat(batches).flatten(1)  # (N, classes, 1, 1) of a head of convolutions
    if logits.shape != (len(images), classes):
        raise InputError(f"the model gives {tuple(logits.shape)}, the network {(len(images), classes)}")
    return logits.argmax(1).cpu().numpy()
