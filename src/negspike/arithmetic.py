"""How a process computes: float32 as such, the same bits each time, memory that stays.

What a result is depends on it, so that it counts in the checksums of code (:mod:`negspike.fingerprint`).
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import torch


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 are quicker than those of float32: CUDA from Ampere on, CPUs with instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # PyTorch has told it since 2.10; where it does not, float32 is right, if slower.
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("amx_bf16") or known.get("avx512_bf16"))


def keep_float32() -> None:
    """This process computes float32 as such: cuDNN's convolutions would be those of TF32, with 11 bits of 24."""
    torch.backends.cudnn.allow_tf32 = False


def prepare_training(threads: int) -> None:
    """This process trains: same seed, same machine, same threads, the same weights to the bit, and its memory stays."""
    keep_float32()
    # cuBLAS reads this when it first starts; without it PyTorch refuses its deterministic mode.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # As use_deterministic_algorithms, which imports the compiler to tell it too: longer than a small training takes.
    torch.set_deterministic_debug_mode("error")
    # It fills memory before giving it out, a sixth of the time of a training; nothing here reads before it writes.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Large tensors come and go with every batch: to have their pages mapped anew takes a seventh of a training."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return  # another C library than glibc
    trim_threshold, mmap_max = -1, -4  # names of malloc.h
    mallopt(trim_threshold, -1)
    mallopt(mmap_max, 0)
