"""Weights on disk: written atomically, read without unpickling anything but tensors and plain values."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from negspike.errors import InputError, foreign_file
from negspike.files import write_bytes


def read_tensors(path: Path) -> dict[str, Any]:
    """What :func:`torch.save` wrote, on the CPU; damage raises nearly any kind of exception, but no OSError."""
    # torch.load does not compare the checksums that torch.save writes: a flipped bit would become another weight
    content = io.BytesIO(path.read_bytes())  # what cannot be read is told from what is damaged
    with zipfile.ZipFile(content) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} is damaged")
    content.seek(0)
    # weights_only: nothing but tensors and plain values is ever unpickled
    stored = torch.load(content, weights_only=True, map_location="cpu")
    if not isinstance(stored, dict):
        raise TypeError(f"a {type(stored).__name__} instead of a mapping")
    return stored


def like(found: Any, expected: torch.Tensor) -> bool:
    """Whether something that was read is a dense tensor of the same type and shape, with numbers in it."""
    dense = isinstance(found, torch.Tensor) and found.layout == torch.strided and found.device.type == "cpu"
    return dense and (found.dtype, found.shape) == (expected.dtype, expected.shape)


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
    with foreign_file(path, "a weights file of this workflow", "delete it and run again"):
        stored = read_tensors(path)
        weights: dict[str, torch.Tensor] = dict(stored["weights"])
        metadata: dict[str, Any] = dict(stored["metadata"])
        check_shapes(network, weights, path)
        for name, value in network.state_dict().items():
            if not like(weights[name], value):
                raise TypeError(f"{name} is not a dense tensor of {value.dtype}")
    network.load_state_dict(weights)
    return metadata


def check_shapes(network: nn.Module, weights: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse weights that are not those of a network.

    Raises:
        InputError: the first tensor that is missing, too many or of another shape or type.
    """
    found, expected = (
        {name: (tuple(value.shape), value.dtype) for name, value in some.items()}
        for some in (weights, network.state_dict())
    )
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            (shape, dtype), (needed, wanted) = found.get(name, (None, None)), expected.get(name, (None, None))
            of = getattr(getattr(network, "topology", None), "text", type(network).__name__)
            if shape is None:
                raise InputError(f"{path}: weights of another net: {name}, {needed}, is missing; {of} needs it")
            if needed is None:
                raise InputError(f"{path}: weights of another net: {of} has no {name}")
            raise InputError(
                f"{path}: weights of another net: {name} has shape {shape}, {of} needs {needed}"
                f"{f', and is {dtype}, not {wanted}' if shape == needed else ''}"
            )
