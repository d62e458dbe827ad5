"""A float model becomes a quantised one: quantisers in place of activations, their steps from calibration images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from negspike.arguments import within
from negspike.conversion.reconstruct import Limits, outputs, reconstruct
from negspike.conversion.rewrite import Quantiser, Rewriter
from negspike.conversion.rounding import round_weights
from negspike.conversion.trace import AXES, check_module, tensor_of
from negspike.errors import InputError, one_line

# What the error of a step is measured on, and how many steps are tried in each of two rounds.
MOST_VALUES = 1 << 18
CALIBRATION_IMAGES = 512
TRIED = 48


def quantize(
    model: nn.Module,
    calibration: Any,
    *,
    levels: int = 15,
    percentile: float | None = None,
    reconstruction_steps: int = 0,
) -> nn.Module:
    """A copy of a float model that :func:`negspike.convert` takes, trainable in a loop of one's own.

    Each ReLU and ReLU6, and each clamp from 0, as a module, function or method, becomes a :class:`negspike.QuantReLU`
    of its own. A :class:`negspike.QuantIdentity` is put behind a Hardtanh or clamp from below 0, and where a map needs
    one, as between the linear maps of a bottleneck or behind a max pool of a residual sum. Layer by layer, on what the
    quantised layers before give, the step is chosen. Weights are rounded to 24 bits (:func:`negspike.round_weights`);
    they and batch norm keep the names that they have.

    Args:
        model: made of what ``torch.fx`` can trace; it is left as it is.
        calibration: (N, C, H, W) floats, some dozens to hundreds of images as the model is used with, or (N, C, L) or
            (N, F); steps are chosen by at most 512 of them, spread evenly.
        levels: largest count L; 15 makes activations of 4 bits. A QuantIdentity has as many values, half
            below 0 unless it is given sums of ReLUs.
        percentile: the largest count stands for this percentile of the positive inputs; None: the step with the least
            squared error.
        reconstruction_steps: so many updates of weights, biases and steps towards the float model's activations on the
            calibration images, without labels (:mod:`negspike.conversion.reconstruct`); some hundred gain most of
            what few levels lose.

    Returns:
        The model in the same mode, with evaluation-mode control flow.

    Raises:
        InputError: the model cannot be traced or has an activation that spikes cannot follow; it names the module.
    """
    check_module(model)
    count = within("levels", levels, 1, (1 << 24) - 1)
    updates = within("reconstruction_steps", reconstruction_steps, 0, (1 << 24) - 1)
    if percentile is not None and not (isinstance(percentile, int | float) and 0 < percentile <= 100):
        raise InputError(f"percentile is {percentile!r}: it must be a number above 0 and at most 100")
    images = tensor_of(calibration)
    if images.dim() not in AXES or 0 in images.shape:
        raise InputError(f"calibration images have shape {tuple(images.shape)}, expected (N, channels, height, width)")
    parameter = next(model.parameters(), None)
    if parameter is not None:
        images = images.to(parameter.device, parameter.dtype)
    with torch.device("cpu"):  # not where the caller's new tensors would be, but where the model is
        rewriter = Rewriter(model, count)
        rewritten = rewriter.rewrite().eval()
        _check_trace(rewriter, images)
        quantised = round_weights(rewritten).to(images.device)
    chosen = images[:: -(-len(images) // CALIBRATION_IMAGES)]
    _calibrate(quantised, chosen, percentile, rewriter.activations)
    if updates and rewriter.activations:
        reconstruct(quantised, images, rewriter.activations, steps=updates)
        round_weights(quantised)
    quantised.train(model.training)
    made = dict(quantised.named_modules())
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) and not module.training and name in made:
            made[name].eval()  # frozen by whoever trains
    return quantised


@torch.no_grad()
def _check_trace(rewriter: Rewriter, calibration: torch.Tensor) -> None:
    """Modules may do something else with what is no tensor: transforms of torchvision let it pass."""
    images = calibration[:2]
    with _fitting(calibration), outputs(rewriter.module, rewriter.activations):
        expected, found = rewriter.original(images.clone()), rewriter.module(images.clone())
    name = type(rewriter.original).__name__
    if not isinstance(expected, torch.Tensor):
        raise InputError(f"{name}: the model returns a {type(expected).__name__}, expected one tensor of logits")
    if not torch.allclose(expected, found, rtol=1e-3, equal_nan=True):
        raise InputError(
            f"{name}: torch.fx traces another function than the model computes, which is random, looks at what kind of "
            "value it is given, or changes one in place that something else reads; put a QuantReLU in the place of "
            "each activation yourself"
        )


@contextmanager
def _fitting(images: torch.Tensor) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"calibration images have shape {tuple(images.shape)} and do not fit the model: {one_line(error)[:200]}"
        ) from error


# --- steps ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _calibrate(
    model: nn.Module, images: torch.Tensor, percentile: float | None, activations: dict[str, Limits]
) -> None:
    """One pass: each quantiser chooses its step by what it is given, and quantises with it."""

    def choose(module: nn.Module, inputs: tuple[torch.Tensor], limit: float | None) -> None:
        assert isinstance(module, Quantiser)
        module.step.fill_(best_step(inputs[0], module.low, module.high, percentile, limit))

    handles = [
        model.get_submodule(name).register_forward_pre_hook(partial(choose, limit=high if low == 0 else None))
        for name, (low, high) in activations.items()
    ]
    try:
        with _fitting(images):
            model(images.clone())
    finally:
        for handle in handles:
            handle.remove()


def best_step(
    x: torch.Tensor,
    low: int | None,
    high: int | None,
    percentile: float | None = None,
    limit: float | None = None,
) -> float:
    """The step with which rounding to counts from ``low`` to ``high`` has the least squared error.

    Args:
        x: floats of any shape; of many a sample is looked at, always the same.
        low, high: bounds of the counts, whole numbers.
        percentile: instead, the step that puts this percentile of the positive values at ``high``.
        limit: values above are clipped, as ReLU6 does.
    """
    assert low is not None and high is not None
    values = x.detach().reshape(-1)
    if len(values) > MOST_VALUES:
        # At random places: at regular ones, a whole number of rows apart, all might lie at an image's edge.
        places = torch.randint(len(values), (MOST_VALUES,), generator=torch.Generator().manual_seed(0), device="cpu")
        values = torch.cat([values[places.to(values.device)], values.amin()[None], values.amax()[None]])
    values = values.double()
    if not bool(torch.isfinite(values).all()):
        raise InputError("the calibration images give values that are not finite")
    values = values if low else values.clamp(0.0, limit)
    largest = max(float(values.max()) / high, float(values.min()) / low if low else 0.0)
    if largest <= 0:
        return (1.0 if limit is None else limit) / high
    if percentile is not None:
        sizes = values.abs()
        sizes = sizes[sizes > 0]
        return float(sizes.quantile(percentile / 100)) / high

    def error(step: float) -> float:
        return float((values.div(step).add_(0.5).floor_().clamp_(low, high).mul_(step) - values).square_().sum())

    steps = [largest * (number + 1) / TRIED for number in range(TRIED)]
    best = min(steps, key=error)
    fine = [best + largest * (number / TRIED - 0.5) * 2 / TRIED for number in range(1, TRIED)]
    return min((step for step in [best, *fine] if 0 < step <= largest), key=error)
