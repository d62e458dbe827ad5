"""A quantised model learns, without labels, to give the activations of the float model that it was made of."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from negspike.console import Progress

BATCH_SIZE = 64
LEARNING_RATE = 1e-3
REPORT_SECONDS = 10.0

# The values that an activation function clips to; None where it does not.
Limits = tuple[float | None, float | None]
_log = logging.getLogger("negspike")


def reconstruct(quantised: nn.Module, images: torch.Tensor, activations: dict[str, Limits], *, steps: int) -> None:
    """Some hundred steps of Adam on calibration images, in place: weights, biases and the quantisers' steps learn.

    The float model is the quantised one as it comes in, with activation functions in place of its quantisers. The loss
    is the squared error of each quantiser's output and of the model's, each relative to the mean square of the float
    model's. That is the layer-wise reconstruction of AdaRound (Nagel et al., ICML 2020) and BRECQ (Li et al., ICLR
    2021), of all layers at once and straight through the quantisers. The statistics of batch norms stay.

    Args:
        quantised: in evaluation mode, its steps chosen.
        images: (N, C, H, W) floats on the model's device.
        activations: by the path of its quantiser, what each activation function clips to.
        steps: updates, of 64 images each, in an order that is always the same.
    """
    teacher = copy.deepcopy(quantised)
    optimizer = torch.optim.Adam(quantised.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    batches = _batches(len(images))
    progress = Progress(steps, "steps", REPORT_SECONDS)
    with (
        torch.enable_grad(),
        _outputs(teacher, activations) as wanted,
        _outputs(quantised, dict.fromkeys(activations)) as found,
    ):
        for step in range(1, steps + 1):
            batch = images[next(batches).to(images.device)]
            with torch.no_grad():
                wanted.append(teacher(batch))
            found.append(quantised(batch))
            errors = [_relative_error(one, other) for one, other in zip(found, wanted, strict=True)]
            optimizer.zero_grad()
            torch.stack(errors).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            wanted.clear()
            found.clear()
            if progress.due():
                _log.info("reconstruction, step %d/%d: %s", step, steps, progress.pace(step))


def _batches(images: int) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from torch.split(torch.randperm(images, generator=generator), BATCH_SIZE)


def _relative_error(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return (found - wanted).square().mean() / wanted.square().mean().clamp(min=torch.finfo(wanted.dtype).tiny)


@contextmanager
def _outputs(model: nn.Module, activations: Mapping[str, Limits | None]) -> Iterator[list[torch.Tensor]]:
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
