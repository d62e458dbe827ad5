"""Choosing the device, and saying how a result was made."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch

from negspike import __version__
from negspike.errors import InputError


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; anything else is taken at its word.

    Raises:
        InputError: the device is not there.
    """
    if isinstance(name, str) and name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not isinstance(name, str) or name not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} is unknown: it is auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' was asked for, but PyTorch finds no CUDA device; use auto or cpu")
    return torch.device(name)


def environment(device: torch.device, threads: int) -> dict[str, Any]:
    """Versions, device and threads of this process, as plain values."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "negspike": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": str(torch.__version__),  # a class of its own, which a checkpoint cannot hold
        "device": f"{device.type} ({name})",
        "threads": threads,
    }
