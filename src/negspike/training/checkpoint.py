"""The state of a training after its last finished epoch, so that one that was interrupted goes on from there.

It lies beside the results in a hidden file that Snakemake knows nothing of, and so does not delete when a job failed or
is run again. That of a finished phase stays: whatever changes in later phases leaves it as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from negspike.training.history import Epoch
from negspike.training.weights import like, read_tensors, write_tensors


def checkpoint_path(folder: Path, phase: int) -> Path:
    """Where the state of a phase is kept."""
    return folder / f".phase{phase}.checkpoint"


def read_checkpoint(
    path: Path,
    settings: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    epochs: int,
    report: Callable[[str], None],
) -> tuple[list[Epoch], list[dict[str, Any]]]:
    """Take over what a checkpoint holds, if it belongs to these very settings; report why not otherwise.

    Args:
        path: of the checkpoint.
        settings: everything that decides the weights.
        network: takes the weights.
        optimizer: takes the moments, unless the phase is finished.
        epochs: of the whole phase.
        report: takes one line.

    Returns:
        The rows and sessions so far; none of either if there is nothing to go on from.

    Raises:
        OSError: it is there but cannot be read: it may be readable tomorrow, and is not to be replaced.
    """
    try:
        state = read_tensors(path)
        if state["settings"] != settings:
            report(f"{path}: of another net, schedule, seed, data or code, not used")
            return [], []
        history = [Epoch(*row) for row in state["history"]]
        sessions = [
            {"first_epoch": int(one["first_epoch"]), "environment": {**one["environment"]}} for one in state["sessions"]
        ]
        _restore(network, None if len(history) >= epochs else optimizer, state)
    except FileNotFoundError:
        return [], []
    except OSError:
        raise
    except Exception as error:
        report(f"{path}: damaged ({type(error).__name__}), its epochs are trained again")
        return [], []
    return history, sessions


def _restore(network: nn.Module, optimizer: torch.optim.Optimizer | None, state: dict[str, Any]) -> None:
    """Take over weights and the optimizer's moments; raises something, and changes nothing, where they do not fit."""
    weights = state["weights"]
    for name, value in network.state_dict().items():
        if not like(weights[name], value):
            raise ValueError(f"other {name}")
    if optimizer is not None:
        moments = state["optimizer"]["state"]
        _check_moments(optimizer, moments)
        # the settings are the same, so that the hyperparameters are, too
        optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    network.load_state_dict({name: weights[name] for name in network.state_dict()})


def _check_moments(optimizer: torch.optim.Optimizer, moments: dict[int, dict[str, torch.Tensor]]) -> None:
    adam = isinstance(optimizer, torch.optim.Adam)
    parameters = (one for group in optimizer.param_groups for one in group["params"])
    for number, parameter in enumerate(parameters):
        if not parameter.requires_grad or number not in moments:
            continue  # no gradient has ever reached it
        known = {"exp_avg": parameter, "exp_avg_sq": parameter, "step": torch.zeros((), device="cpu")}
        known, found = known if adam else {"momentum_buffer": parameter}, moments[number]
        if found.keys() != known.keys() or not all(like(found[name], value) for name, value in known.items()):
            raise ValueError(f"other moments of parameter {number}")
        if adam and not 1 <= float(found["step"]) < 1 << 53:
            raise ValueError(f"{found['step']} steps")


def write_checkpoint(
    path: Path,
    settings: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    history: list[Epoch],
    sessions: list[dict[str, Any]],
) -> None:
    """Write the state, atomically; ``optimizer`` is None when the phase is finished: nobody needs its moments then.

    Raises:
        OSError: it cannot be written.
    """
    write_tensors(
        path,
        {
            "settings": settings,
            "weights": network.state_dict(),
            "optimizer": None if optimizer is None else optimizer.state_dict(),
            "history": [list(asdict(row).values()) for row in history],
            "sessions": sessions,
        },
    )
