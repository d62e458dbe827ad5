"""How weights are updated: the published protocol, and a fast one that reaches more in few epochs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from negspike.arithmetic import has_fast_bfloat16
from negspike.training.muon import Muon, matrices
from negspike.training.optimizers import Adam
from negspike.training.quantizers import QuantIdentity, QuantReLU, learned_steps
from negspike.training.schedule import Phase, Recipe

# The fast recipe: what carries over from hlb-CIFAR10 and airbench (K. Jordan, "94 % on CIFAR-10 in 3.29 seconds on a
# single GPU", 2024) without changing what a spiking network computes.
MOMENTUM = 0.6
LABEL_SMOOTHING = 0.1
WARMING_UP = 0.1


def make_optimizer(network: nn.Module, phase: Phase) -> torch.optim.Optimizer:
    """Adam as published; or Muon for matrices, and SGD with Nesterov momentum for all other parameters."""
    if phase.recipe == "published":
        return adam(network, phase.learning_rate)
    orthogonal = {id(one) for one in matrices(network)}
    groups = [
        {
            "params": [one for one in network.parameters() if (id(one) in orthogonal) == matrix],
            "lr": phase.learning_rate,
            "orthogonal": matrix,
        }
        for matrix in (True, False)
    ]
    return Muon(groups, momentum=MOMENTUM)


def adam(network: nn.Module, learning_rate: float) -> Adam:
    """It changes a number by about its rate, whatever its size: a quantiser's step by that share of itself."""
    steps = learned_steps(network)
    others = [one for one in network.parameters() if all(one is not step for step in steps)]
    groups: list[dict[str, Any]] = [{"params": others}]
    groups += [{"params": [step], "lr": learning_rate * step.item()} for step in steps]
    return Adam(groups, lr=learning_rate)


def set_rate(optimizer: torch.optim.Optimizer, phase: Phase, done: float) -> None:
    """Constant as published; or up in a tenth of the phase and down to nothing in the rest.

    Args:
        optimizer: of this phase.
        phase: what to do.
        done: share of the phase's updates that were made, from 0 to below 1.
    """
    if phase.recipe == "fast":
        rate = phase.learning_rate * min(done / WARMING_UP, (1 - done) / (1 - WARMING_UP))
        for group in optimizer.param_groups:
            group["lr"] = rate


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """() loss of (N, classes) logits and (N,) labels; the fast recipe smooths the labels."""
    return F.cross_entropy(logits.float(), labels, label_smoothing=LABEL_SMOOTHING if recipe == "fast" else 0.0)


@contextmanager
def arithmetic(network: nn.Module, recipe: Recipe, device: torch.device) -> Iterator[None]:
    """The fast recipe multiplies in bfloat16 where a device is quick at it; quantisers and batch norms stay in float32.

    Test accuracies are outside of it: they are those of float32.
    """
    if recipe == "published" or not has_fast_bfloat16(device):
        yield
        return

    def widen(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(one.float() for one in inputs)

    exact = (nn.BatchNorm1d, nn.BatchNorm2d, QuantReLU, QuantIdentity)
    handles = [one.register_forward_pre_hook(widen) for one in network.modules() if isinstance(one, exact)]
    try:
        with torch.autocast(device.type, torch.bfloat16):
            yield
    finally:
        for handle in handles:
            handle.remove()
