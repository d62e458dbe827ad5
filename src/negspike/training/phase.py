"""Training one phase of one network: deterministic, resumable after every epoch, on the CPU or CUDA.

Every random number is drawn from a generator seeded by (seed, phase, epoch), so that a training that was interrupted
goes on from its last finished epoch to the same weights, to the bit. On another device, another number of threads or
another PyTorch it goes on as well, to weights that are as good but not the same; the result says so.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from negspike.console import Progress
from negspike.data.augmentation import training_images
from negspike.data.dataset import Dataset, Images
from negspike.data.images import prepare_images
from negspike.data.registry import DatasetSpec
from negspike.devices import environment
from negspike.errors import InputError
from negspike.fingerprint import code_of
from negspike.training.checkpoint import read_checkpoint, write_checkpoint
from negspike.training.history import Epoch
from negspike.training.layout import quick_layout
from negspike.training.network import predict
from negspike.training.objective import Objective
from negspike.training.quantizers import learned_steps
from negspike.training.recipes import make_optimizer, set_rate
from negspike.training.resolution import scale_down, smaller_images
from negspike.training.schedule import Phase

PROGRESS_SECONDS = 15.0


@dataclass(frozen=True, eq=False)
class PhaseResult:
    """What a phase leaves behind.

    Attributes:
        history: one row an epoch.
        sessions: one entry for each environment it was trained in, usually one in all: ``first_epoch`` and
            ``environment``, as :func:`negspike.devices.environment` describes it.
    """

    history: list[Epoch]
    sessions: list[dict[str, Any]]


def train_phase(
    network: nn.Module,
    dataset: Dataset,
    phase: Phase,
    seed: int,
    checkpoint: Path,
    report: Callable[[str], None] = print,
    about: str = "",
    teacher: nn.Module | None = None,
) -> PhaseResult:
    """Train ``network`` in place for one phase; its last epoch is the model, as published.

    Args:
        network: weights to start from, on the device that trains.
        dataset: training, validation and test images.
        phase: what to do.
        seed: of this repetition.
        checkpoint: the state after the last finished epoch; used when it belongs to these very settings, replaced
            otherwise. It stays when the phase is finished.
        report: takes progress lines.
        about: what the network computes, as far as its weights and ``print(network)`` do not say it.
        teacher: the full-precision network, on the same device, for a phase with distillation.

    Raises:
        InputError: there are fewer than two images, no teacher or quantiser where the phase needs one, images of its
            resolution do not go through, or the loss or a weight is no longer finite.
        OSError: the checkpoint cannot be written, or is there but cannot be read.
    """
    if len(dataset.train.labels) < 2:
        raise InputError(
            f"dataset {dataset.spec.name} has {len(dataset.train.labels)} training image: batch norm needs at least 2"
        )
    network.to(memory_format=quick_layout(network))
    device = next(network.parameters()).device
    pixels = torch.from_numpy(dataset.train.pixels).to(device)
    labels = torch.from_numpy(dataset.train.labels).to(device)
    first_mirrored = torch.rand(len(labels), generator=_generator(seed, phase.number, 0)).to(device) < 0.5
    held_out = _held_out(dataset, device)
    optimizer = make_optimizer(network, phase)
    objective = Objective(network, phase, teacher, dataset.spec.input_shape)
    if objective.teacher is not None:
        about += f" teacher={_checksum(objective.teacher)}"
    settings = _settings(network, dataset, phase, seed, about)
    history, sessions = read_checkpoint(checkpoint, settings, network, optimizer, phase.epochs, report)
    already, here = len(history), environment(device, torch.get_num_threads())
    if history:
        report(f"phase {phase.number}: going on after epoch {already} of {phase.epochs}, from {checkpoint}")
    if already < phase.epochs and (not sessions or sessions[-1]["environment"] != here):
        if sessions:
            report(f"phase {phase.number}: {_changes(sessions[-1]['environment'], here)}")
        sessions.append({"first_epoch": already + 1, "environment": here})
    pace = Progress(phase.epochs * len(labels), "images", already=already * len(labels))
    for epoch in range(already + 1, phase.epochs + 1):
        epoch_started = time.monotonic()
        random = _generator(seed, phase.number, epoch)

        def progress(done: int, loss: float, accuracy: float, epoch: int = epoch) -> None:
            report(
                f"phase {phase.number} epoch {epoch}/{phase.epochs} image {done}/{len(labels)}: "
                f"loss {loss:.4f}, training accuracy {accuracy:.2%}, {pace.pace((epoch - 1) * len(labels) + done)}"
            )

        # alternating flips (K. Jordan 2024): two epochs show both sides of an image, where chance may show one twice
        mirrored = first_mirrored ^ (epoch % 2 == 0) if phase.recipe == "fast" else None
        with smaller_images(network, phase, dataset.spec.input_shape):
            loss, accuracy = train_epoch(
                objective, dataset.spec, (pixels, labels, mirrored), optimizer, random, progress, epoch=epoch
            )
        if not math.isfinite(loss):
            raise InputError(
                f"phase {phase.number}, epoch {epoch}: the loss is {loss}; lower learning_rate ({phase.learning_rate})"
            )
        for name, value in network.state_dict().items():
            if not torch.isfinite(value).all():  # after the last step, which no loss has seen
                raise InputError(
                    f"phase {phase.number}, epoch {epoch}: {name} is no longer finite; "
                    f"lower learning_rate ({phase.learning_rate})"
                )
        if any(step.item() <= 0 for step in learned_steps(network)):
            raise InputError(
                f"phase {phase.number}, epoch {epoch}: a quantiser's step is no longer above 0; "
                f"lower learning_rate ({phase.learning_rate})"
            )
        accuracies = {name: evaluation.accuracy(network) for name, evaluation in held_out.items()}
        row = Epoch(
            phase.number,
            epoch,
            phase.learning_rate,
            loss,
            accuracy,
            accuracies.get("validation"),
            accuracies["test"],
            round(time.monotonic() - epoch_started, 3),
        )
        history.append(row)
        report(
            f"phase {phase.number} epoch {epoch}/{phase.epochs} done: loss {loss:.4f}, training accuracy "
            f"{accuracy:.2%}, test accuracy {row.test_accuracy:.2%}"
        )
        unfinished = optimizer if epoch < phase.epochs else None
        write_checkpoint(checkpoint, settings, network, unfinished, history, sessions)
    return PhaseResult(history, sessions)


def start_row(network: nn.Module, dataset: Dataset, device: torch.device) -> Epoch:
    """What a network reaches before any training."""
    started = time.monotonic()
    network.to(device)
    accuracies = {name: evaluation.accuracy(network) for name, evaluation in _held_out(dataset, device).items()}
    seconds = round(time.monotonic() - started, 3)
    return Epoch(0, 0, 0.0, None, None, accuracies.get("validation"), accuracies["test"], seconds)


def train_epoch(
    objective: Objective,
    spec: DatasetSpec,
    shown: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None],
    optimizer: torch.optim.Optimizer,
    random: torch.Generator,
    progress: Callable[[int, float, float], None],
    *,
    epoch: int = 1,
) -> tuple[float, float]:
    """One pass over a training set, in an order of its own.

    Args:
        objective: the network in training and its loss.
        spec: of the images.
        shown: (N, C, H, W) uint8 pixels, (N,) int64 labels and (N,) bool, which are mirrored; None for by chance.
        optimizer: of the network.
        random: draws the order and the augmentation.
        progress: is told now and then how many images were shown, the mean loss and the training accuracy so far.
        epoch: its number in the phase, from 1.

    Returns:
        The mean loss and the training accuracy; the loss that is no longer finite, and 0.
    """
    (pixels, labels, mirrored), phase = shown, objective.phase
    layout = quick_layout(objective.network)
    objective.network.train()
    torch.manual_seed(random.initial_seed())  # of the model's own: dropout
    order = torch.randperm(len(labels), generator=random).to(labels.device)
    total_loss = torch.zeros((), dtype=torch.float64, device=labels.device)
    correct = torch.zeros((), dtype=torch.int64, device=labels.device)
    done, clock = 0, Progress(len(labels), "images", PROGRESS_SECONDS)
    batches = order.split(phase.batch_size)  # type: ignore[no-untyped-call]
    for number, batch in enumerate(batches):
        if len(batch) == 1:
            continue  # batch norm has no variance over a single image
        over = (epoch - 1 + number / len(batches)) / phase.epochs
        sides = None if mirrored is None else mirrored[batch]
        images = training_images(spec, pixels[batch], random, translation=phase.translation, mirrored=sides)
        images = scale_down(images, phase.resolution(over)).contiguous(memory_format=layout)
        logits, loss = objective(images, labels[batch])
        set_rate(optimizer, phase, over)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total_loss += loss.detach().double() * len(batch)
        correct += (logits.detach().argmax(1) == labels[batch]).sum()
        done += len(batch)
        if clock.due():
            mean = total_loss.item() / done
            if not math.isfinite(mean):
                return mean, 0.0
            progress(done, mean, correct.item() / done)
    return total_loss.item() / done, correct.item() / done


@dataclass(frozen=True, eq=False)
class _Evaluation:
    images: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def prepare(cls, dataset: Dataset, images: Images, device: torch.device) -> _Evaluation:
        prepared = torch.from_numpy(prepare_images(dataset.spec, images.pixels)).to(device)
        return cls(prepared.contiguous(memory_format=torch.channels_last), torch.from_numpy(images.labels).to(device))

    def accuracy(self, network: nn.Module) -> float:
        return (predict(network, self.images) == self.labels).double().mean().item()


def _held_out(dataset: Dataset, device: torch.device) -> dict[str, _Evaluation]:
    return {
        name: _Evaluation.prepare(dataset, images, device)
        for name, images in (("validation", dataset.validation), ("test", dataset.test))
        if len(images.labels)
    }


def _generator(*key: int) -> torch.Generator:
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def _settings(network: nn.Module, dataset: Dataset, phase: Phase, seed: int, about: str) -> str:
    """Everything that decides the weights, as text; the starting weights by their checksum.

    A checkpoint of other code is no more worth than finished weights, which Snakemake redoes.
    """
    return (
        f"{network} {about} data={dataset.checksum} seed={seed} {phase} start={_checksum(network)} "
        f"code={code_of(Path(__file__))}"
    )


def _checksum(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    changed = ", ".join(f"{key} {before.get(key)} (now {now[key]})" for key in now if before.get(key) != now[key])
    return (
        f"its first epochs were trained with {changed}: the weights will not be those of an uninterrupted training "
        "to the bit; ann.json records it"
    )
