"""What callers hand over, as what it is meant to be, or one line that says what it is instead."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch

from negspike.errors import InputError


def as_array(name: str, values: Any) -> np.ndarray:
    """An array, whatever device a tensor is on and whether NumPy knows its type.

    Raises:
        InputError: nested lists of different lengths, or a tensor that NumPy cannot hold.
    """
    try:
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            values = values.float() if values.dtype == torch.bfloat16 else values
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} are not an array of numbers") from error


def whole(name: str, value: Any) -> int:
    """A whole number of any integer type as ``int``; truth values are none.

    Raises:
        InputError: it is something else.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}: it must be a whole number") from None


def within(name: str, value: Any, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``; errors as of :func:`whole`."""
    number = whole(name, value)
    if not low <= number <= high:
        raise InputError(f"{name} is {number}: it must be from {low} to {high}")
    return number
