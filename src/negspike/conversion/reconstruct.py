"""A quantised model learns, without labels, to give the activations of the float model that it was made of."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from negspike.console import Progress
from negspike.training.quantizers import learned_steps
from negspike.training.recipes import adam

BATCH_SIZE = 64
LEARNING_RATE = 1e-3
REPORT_SECONDS = 10.0

# The values that an activation function clips to; None where it does not.
Limits = tuple[float | None, float | None]
_log = logging.getLogger("negspike")


def reconstruct(quantised: nn.Module, images: torch.Tensor, activations: dict[str, Limits], *, steps: int) -> None:
    """Some hundred steps of Adam on calibration images, in place: weights, biases and the quantisers' steps learn.

    The float model is the quantised one as it comes in, with activation functions in place of its quantisers. The loss
    is the divergence of the two models' probabilities and, less and less, the squared error of each quantiser's output
    relative to the mean square of the float model's: the layer-wise reconstruction of AdaRound (Nagel et al., ICML
    2020) and BRECQ (Li et al., ICLR 2021), of all layers at once and straight through. The statistics of batch norms
    stay. Every eighth image is held out: where the models agree on fewer of these afterwards than before, the model
    stays as it came in, and a line says so.

    Args:
        quantised: in evaluation mode, its steps chosen.
        images: (N, C, H, W) floats on the model's device.
        activations: by the path of its quantiser, what each activation function clips to.
        steps: updates, of 64 images each, in an order that is always the same.
    """
    original = copy.deepcopy(quantised)
    held_out = (torch.arange(len(images)) % 8 == 0).to(images.device)
    judged, shown = images[held_out], images[~held_out] if len(images) > 1 else images
    with outputs(original, activations) as wanted, outputs(quantised, dict.fromkeys(activations)) as found:
        optimizer = adam(quantised, LEARNING_RATE)
        least = [(one, 0.01 * one.item()) for one in learned_steps(quantised)]
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        progress = Progress(steps, "steps", REPORT_SECONDS)
        for step, chosen in zip(range(1, steps + 1), _batches(len(shown)), strict=False):
            batch = shown[chosen.to(images.device)]
            with torch.no_grad():
                logits = original(batch)
            with torch.enable_grad():
                loss = _divergence(quantised(batch), logits)
                for one, other in zip(found, wanted, strict=True):
                    loss = loss + (1 - step / steps) * _relative_error(one, other)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                for one, bound in least:
                    one.clamp_(min=bound)
            schedule.step()
            wanted.clear()
            found.clear()
            if progress.due():
                _log.info("reconstruction, step %d/%d: %s", step, steps, progress.pace(step))
        optimizer.zero_grad()
        with torch.no_grad():
            classes = original(judged).argmax(1)
    with torch.no_grad():
        before, after = (int((one(judged).argmax(1) == classes).sum()) for one in (original, quantised))
    finite = all(bool(torch.isfinite(one).all()) for one in quantised.parameters())
    if after < before or not finite:
        quantised.load_state_dict(original.state_dict())
        _log.warning(
            "reconstruction undone: of %d images held out, %d are classified as by the float model, %d were before",
            *(len(judged), after, before),
        )


def _batches(images: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from torch.split(torch.randperm(images, generator=generator), BATCH_SIZE)


def _relative_error(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return (found - wanted).square().mean() / wanted.square().mean().clamp(min=torch.finfo(wanted.dtype).tiny)


def _divergence(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Kullback-Leibler divergence of (N, classes) logits: how far the float model's probabilities are from these."""
    return F.kl_div(found.log_softmax(1), wanted.softmax(1), reduction="batchmean")


@contextmanager
def outputs(model: nn.Module, activations: Mapping[str, Limits | None]) -> Iterator[list[torch.Tensor]]:
    """What quantisers give, in the order in which they are called; with limits, what these let pass, unrounded."""
    given: list[torch.Tensor] = []

    def note(_: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor, limits: Limits | None) -> torch.Tensor:
        if limits is not None:
            output = inputs[0] if limits == (None, None) else inputs[0].clamp(*limits)
        given.append(output)
        return output

    handles = [
        model.get_submodule(name).register_forward_hook(partial(note, limits=limits))
        for name, limits in activations.items()
    ]
    try:
        yield given
    finally:
        for handle in handles:
            handle.remove()
