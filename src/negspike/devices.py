"""Choosing the device, and making it repeat itself."""

from __future__ import annotations

import os

import torch

from negspike.errors import InputError


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU; anything else is taken at its word.

    Raises:
        InputError: the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} is unknown: it is auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' was asked for, but PyTorch finds no CUDA device; use auto or cpu")
    return torch.device(name)


def make_deterministic(threads: int) -> None:
    """Same seed, same machine, same threads: the same weights to the bit."""
    # cuBLAS reads this when it first starts; without it PyTorch refuses its deterministic mode.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)
