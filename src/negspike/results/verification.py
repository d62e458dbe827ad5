"""The lossless check for people: simulate, compare every neuron and every prediction, and print what was found."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
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
from negspike.training.quantizers import QuantIdentity, QuantReLU

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
            float64: there the rounding of floats made the difference.
        model_neurons: activations of the quantised model's QuantReLU and QuantIdentity in all images, computed in
            float64 on weights rounded as the network's; 0 without a model.
        equal_model_neurons: of these, those that are the integer ANN's; None: it cannot be computed in float64. Where
            conversion is right, others are nearer to a tie than the integers' scales can tell.
    """

    images: int
    silent_images: int
    neurons: int
    equal_neurons: int
    latest_silent_step: int
    latency_bound: int | None
    predictions: dict[str, int] = field(hash=False)
    float64_predictions: int = 0
    model_neurons: int = 0
    equal_model_neurons: int | None = 0

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
        if self.model_neurons or self.equal_model_neurons is None:
            known = "unknown: it cannot be computed in float64"
            if self.equal_model_neurons is not None:
                known = f"{self.equal_model_neurons:,} of {self.model_neurons:,}"
            rows.insert(2, ("neurons equal to the quantised model", known))
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
    others = ~equal.get(QUANTISED, np.ones(len(array), bool))
    exact, computable = None, True
    if model is not None and (others.any() or _quantisers(model)):
        try:
            exact = _InFloat64(network, array, model)
        except InputError:
            if others.any():
                raise
            computable = False
    return Verification(
        images=len(array),
        silent_images=int(silent.sum()),
        neurons=compared,
        equal_neurons=compared - int(evaluation.differing_neurons[silent].sum()),
        latest_silent_step=int(log.silent.max(initial=0)),
        latency_bound=network.latency_bound,
        predictions={name: int(alike.sum()) for name, alike in equal.items()},
        float64_predictions=0 if exact is None else int((exact.predictions == spiking)[others].sum()),
        model_neurons=0 if exact is None else exact.neurons,
        equal_model_neurons=None if not computable else 0 if exact is None else exact.equal,
    )


def _quantisers(model: torch.nn.Module) -> dict[str, QuantReLU | QuantIdentity]:
    """By all of their names."""
    every = model.named_modules(remove_duplicate=False)
    return {name: module for name, module in every if isinstance(module, QuantReLU | QuantIdentity)}


class _InFloat64:
    """What the quantised model computes in float64, on weights rounded as the network's.

    Attributes:
        predictions: (N,) classes.
        neurons: activations of its quantisers in all images.
        equal: of these, those that are the integer ANN's.
    """

    def __init__(self, network: SpikingNetwork, images: np.ndarray, model: torch.nn.Module) -> None:
        exact = round_weights(copy.deepcopy(model).cpu(), network.weight_bits).double()
        quantisers = _quantisers(exact)
        # Populations are called as their quantisers are, the second use of one with a number.
        populations: dict[QuantReLU | QuantIdentity, list[str]] = {module: [] for module in quantisers.values()}
        for one in network.populations:
            if module := quantisers.get(one.name) or quantisers.get(re.sub(r"_\d+$", "", one.name)):
                populations[module].append(one.name)
        seen: dict[QuantReLU | QuantIdentity, list[torch.Tensor]] = {module: [] for module in populations}
        for module in populations:
            module.register_forward_hook(lambda one, _, output: seen[one].append(output))

        def compare(part: slice) -> None:
            activations = network.activations(images[part])
            for module, outputs in seen.items():
                for name, output in zip(populations[module], outputs, strict=False):
                    counts = (output / module.step).round().numpy()
                    # one that conversion has moved, in front of a max pool say, has another shape
                    if counts.size == activations[name].size:
                        self.neurons += counts.size
                        self.equal += int((counts == activations[name].reshape(counts.shape)).sum())
                outputs.clear()

        try:
            self.neurons = self.equal = 0
            self.predictions = _predict(exact, images, network.classes, compare)
        except InputError:  # it makes some numbers float32 itself, as (x > 0).float() does
            self.neurons = self.equal = 0
            for outputs in seen.values():
                outputs.clear()
            with _Wide():
                self.predictions = _predict(exact, images, network.classes, compare)


class _Wide(TorchFunctionMode):
    """What is made float32 is float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        wide = {name: torch.float64 if one is torch.float32 else one for name, one in (kwargs or {}).items()}
        func = torch.Tensor.double if func is torch.Tensor.float else func
        found = func(*(torch.float64 if one is torch.float32 else one for one in args), **wide)
        return found.double() if isinstance(found, torch.Tensor) and found.dtype == torch.float32 else found


@torch.no_grad()
def _predict(
    model: torch.nn.Module, images: np.ndarray, classes: int, each: Callable[[slice], None] = lambda part: None
) -> np.ndarray:
    """Classes that a model in eval mode predicts for (N, C, H, W) images, rounded as the network sees them, (N,)."""
    parameter = next(model.parameters(), torch.zeros((), dtype=torch.float32, device="cpu"))
    rounded = integer_images(images) / 2.0**IMAGE_FRACTION_BITS
    training = model.training
    model.eval()
    try:
        batches = []
        for part in (slice(first, first + MODEL_BATCH) for first in range(0, len(rounded), MODEL_BATCH)):
            batches.append(model(torch.from_numpy(rounded[part]).to(parameter.device, parameter.dtype)))
            each(part)
    except RuntimeError as error:
        raise InputError(f"the model cannot take images of shape {images.shape[1:]}: {one_line(error)}") from error
    finally:
        model.train(training)
    logits = torch.cat(batches).flatten(1)  # (N, classes, 1, 1) of a head of convolutions
    if logits.shape != (len(images), classes):
        raise InputError(f"the model gives {tuple(logits.shape)}, the network {(len(images), classes)}")
    return logits.argmax(1).cpu().numpy()
