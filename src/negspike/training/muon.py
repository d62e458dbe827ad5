"""Muon: momentum whose update of every weight matrix is orthogonalised, in proportion to the matrix.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024. PyTorch's own takes matrices alone,
no kernels, and moves each by the same length, however long it is: weights before a batch norm, whose length means
nothing, would learn at a rate that depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from negspike.training.optimizers import Optimizer

# Jordan's polynomial: after five times all singular values are between 0.7 and 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
SMALLEST = 1e-7
# Norm of a row, at the root mean square, below which a matrix changes as if it had it: one of zeros would never learn.
LEAST_ROW = 0.01


def orthogonalized(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix with orthonormal rows or columns, about, (m, n) float32: Newton-Schulz iterations."""
    wide: torch.Tensor = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + SMALLEST)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide if len(matrix) <= matrix.shape[1] else wide.T


def matrices(network: nn.Module) -> list[nn.Parameter]:
    """The weights whose rows see the same inputs: of linear layers and convolutions, not of grouped ones."""
    grouped = {id(one.weight) for one in network.modules() if isinstance(one, nn.Conv1d | nn.Conv2d) and one.groups > 1}
    return [one for one in network.parameters() if one.dim() > 1 and id(one) not in grouped]


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised where a group says so: W - rate |W| O / |O| with Frobenius norms.

    Args:
        groups: as of any optimiser, each with ``lr`` and ``orthogonal``: whether its parameters are matrices,
            (outputs, ...) each, which change by this share of their norm. The others are those of SGD.
        momentum: from 0 to below 1.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, momentum: float) -> None:
        super().__init__(groups, {"momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One update from the gradients that are there; nothing waits for the device."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
        update = gradient.add(buffer, alpha=group["momentum"])
        if group["orthogonal"]:
            update = orthogonalized(update.flatten(1)).view_as(update)
            norm = parameter.norm().clamp_min(LEAST_ROW * len(parameter) ** 0.5)
            update *= norm / (update.norm() + SMALLEST)
        parameter.add_(update * -group["lr"])
