"""What a phase minimises: cross-entropy, and on request the distance from a teacher and the spikes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from negspike.errors import InputError
from negspike.training.activity import Activity
from negspike.training.recipes import arithmetic, cross_entropy
from negspike.training.schedule import Phase


class Objective:
    """The loss of one phase.

    Args:
        network: what is trained.
        phase: its recipe, distillation and spike penalty.
        teacher: of a distillation: gives logits, is left as it is.
        shape: of an image, (channels, height, width).

    Raises:
        InputError: a distillation without a teacher, a spike penalty without quantisers.
    """

    def __init__(
        self, network: nn.Module, phase: Phase, teacher: nn.Module | None, shape: tuple[int, int, int]
    ) -> None:
        if phase.distillation and teacher is None:
            raise InputError(f"phase {phase.number}: distillation needs the full-precision network as a teacher")
        self.network, self.phase = network, phase
        self.teacher = teacher.eval() if teacher is not None and phase.distillation else None
        self.activity = Activity(network, shape) if phase.spike_penalty else None

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, classes) logits and the () loss of (N, C, H, W) images and (N,) labels."""
        if self.activity is None:
            logits, operations = self._forward(images), None
        else:
            with self.activity.watched():
                logits = self._forward(images)
            operations = self.activity.operations()
        loss = cross_entropy(logits, labels, self.phase.recipe)
        if self.teacher is not None:
            with torch.no_grad(), arithmetic(self.teacher, self.phase.recipe, labels.device):
                wanted = self.teacher(images)
            share = self.phase.distillation
            loss = (1 - share) * loss + share * distance(logits, wanted, self.phase.temperature)
        return logits, loss if operations is None else loss + self.phase.spike_penalty * operations

    def _forward(self, images: torch.Tensor) -> torch.Tensor:
        with arithmetic(self.network, self.phase.recipe, images.device):
            logits: torch.Tensor = self.network(images)
        return logits


def distance(logits: torch.Tensor, wanted: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 times the Kullback-Leibler divergence of softmax(logits / T) from softmax(wanted / T) (Hinton et al. 2015).

    Args:
        logits, wanted: (N, classes); the second is the teacher's.
        temperature: T, above 0.
    """
    found, target = ((one.float() / temperature).log_softmax(1) for one in (logits, wanted))
    return F.kl_div(found, target, reduction="batchmean", log_target=True) * temperature**2
