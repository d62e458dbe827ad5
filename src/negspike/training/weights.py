"""Weights on disk: written atomically, read without unpickling anything but tensors and plain values."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from negspike.errors import InputError
from negspike.files import write_bytes


def read_tensors(path: Path) -> dict[str, Any]:
    """What :func:`torch.save` wrote, on the CPU; raises nearly any kind of exception for a damaged file."""
    # torch.load does not compare the checksums that torch.save writes: a flipped bit would become another weight
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} is damaged")
    # weights_only: nothing but tensors and plain values is ever unpickled
    stored = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(stored, dict):
        raise TypeError(f"a {type(stored).__name__} instead of a mapping")
    return stored


def write_tensors(path: Path, stored: Mapping[str, Any]) -> None:
    """Write tensors and plain values atomically; read with :func:`read_tensors`."""
    # Given a path, torch writes its temporary name into the file; given a full disk, it fails in words of its own.
    content = io.BytesIO()
    torch.save(stored, content)
    write_bytes(path, content.getbuffer())


def save_weights(network: nn.Module, path: Path, metadata: Mapping[str, str | int | float | bool | None]) -> None:
    """Write a network's weights, on the CPU, and how they were made; read with :func:`load_weights`."""
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    write_tensors(path, {"weights": weights, "metadata": dict(metadata)})


def load_weights(network: nn.Module, path: Path) -> dict[str, Any]:
    """Load weights into ``network`` and return their metadata.

    Raises:
        InputError: the file is not one of ours, or its weights belong to another network.
    """
    try:
        stored = read_tensors(path)
        weights: dict[str, torch.Tensor] = stored["weights"]
        metadata: dict[str, Any] = dict(stored["metadata"])
        _ = {name: value.shape for name, value in weights.items()}
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except Exception as error:
        raise InputError(
            f"{path}: not a weights file of this workflow ({type(error).__name__}); delete it and run again"
        ) from error
    check_shapes(network, weights, path)
    network.load_state_dict(weights)
    return metadata


def check_shapes(network: nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse weights that are not those of a network.

    Raises:
        InputError: the first tensor that is missing, too many or of another shape.
    """
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            of = getattr(getattr(network, "topology", None), "text", type(network).__name__)
            raise InputError(
                f"{path}: weights of another net: {name} has shape {found.get(name)}, {of} needs {expected.get(name)}"
            )


def checkpoint_path(weights: Path) -> Path:
    """Where the state of an unfinished phase is kept, beside the weights it will write.

    Snakemake knows nothing of it, and so does not delete it when a job failed or is run again. It stays until a later
    stage reads the weights: what is written can be thrown away as long as Snakemake has not recorded the job as done.
    """
    return weights.with_name(f".{weights.stem}.checkpoint")
