"""Exact integer arithmetic in float32: weights in parts small enough, and settings that leave no room for rounding.

Every integer of up to 2^24 is a float32. Where the absolute terms of a sum come to no more than that, no partial sum,
in whatever order, can round (docs/exactness.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import torch

from negspike.machine import available_cores

FLOAT32_EXACT = 1 << 24
# of a process they stay as they are
_cores = cache(available_cores)


def weight_parts(weight: np.ndarray, largest: int = 1) -> list[tuple[np.ndarray, int]]:
    """Split integer weights so that convolving integers with each part is exact in float32.

    Args:
        weight: (outputs, inputs, kernel height, kernel width) integers.
        largest: no input is absolutely larger than this; 1 for spikes.

    Returns:
        (float32 part, left shift) pairs; the sum of part * 2^shift is the weight. The bound that makes each exact,
        ``largest`` times the largest sum of a neuron's absolute part, is at most 2^24.

    Raises:
        OverflowError: ``largest`` times the inputs of a neuron is more than 2^24.
    """
    limit = FLOAT32_EXACT // largest
    parts: list[tuple[np.ndarray, int]] = []
    rest, shift = weight.astype(np.int64), 0
    inputs = int(np.prod(weight.shape[1:]))
    # 8 bits for spikes and neurons of up to 65,793 inputs, fewer beyond.
    bits = min(8, (limit // max(inputs, 1) + 1).bit_length() - 1)
    while np.abs(rest).sum((1, 2, 3)).max(initial=0) > limit:
        if bits < 1:
            raise OverflowError(f"{inputs} weights of one bit can leave the exact range of float32")
        parts.append(((rest & ((1 << bits) - 1)).astype(np.float32), shift))
        rest, shift = rest >> bits, shift + bits
    parts.append((rest.astype(np.float32), shift))
    return parts


@contextmanager
def exact_arithmetic(threads: int | None) -> Iterator[None]:
    """Only plain float32 sums of products, on ``threads`` threads; the caller's settings are restored afterwards.

    Several threads of a process may be in here at once: the last one that leaves restores what belongs to the process.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        for device_type in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            stack.enter_context(torch.autocast(device_type, enabled=False))
        stack.enter_context(_PROCESS)
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        # PyTorch's own choice knows no quota of a container
        torch.set_num_threads(threads or min(torch.get_num_threads(), _cores()))
        yield


class _ProcessWide:
    """Settings of the whole process, made by the first of several threads and restored by the last."""

    def __init__(self) -> None:
        self._lock, self._inside, self._settings = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                # Without cuDNN a convolution on CUDA is a matrix product over unfolded windows; NNPACK has transforms
                # only.
                self._settings.enter_context(_switched(torch.backends.cudnn, "enabled", False))
                self._settings.enter_context(torch.backends.nnpack.flags(enabled=False))
                self._settings.enter_context(_full_precision())
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._settings.close()


_PROCESS = _ProcessWide()


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32 and no bfloat16 inside products of float32 matrices, on CUDA and in oneDNN on the CPU."""
    with ExitStack() as stack:
        if hasattr(torch.backends, "fp32_precision"):
            # Since PyTorch 2.9. The older interface refuses to be read once the caller has used this one.
            onednn: Any = torch.backends.mkldnn
            for operation in (torch.backends.cuda.matmul, onednn.matmul, onednn.conv):
                stack.enter_context(_switched(operation, "fp32_precision", "ieee", inherited="none"))
        else:
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        yield


@contextmanager
def _switched(owner: Any, name: str, value: Any, inherited: Any = None) -> Iterator[None]:
    """Set an attribute and restore it, to ``inherited`` where that makes it what it was."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if inherited is not None:
            setattr(owner, name, inherited)
        if getattr(owner, name) != before:
            setattr(owner, name, before)
