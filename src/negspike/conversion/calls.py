"""What the tracer hands on: calls in the exported graph, and the operations they come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from negspike.errors import InputError


@dataclass(frozen=True)
class Activation:
    """A tensor that depends on the image: which operation gave it, and its shape without the batch."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """Where an activation is above a number, or below it: for torch.where, or as numbers, 0 and 1.

    Attributes:
        activation: what is compared.
        above: or below.
        strict: the number itself is not in it.
        bound: the number.
    """

    activation: Activation
    above: bool
    strict: bool
    bound: float


def depends_on_image(arguments: Any) -> bool:
    """Whether an activation is among them, in lists too."""
    if isinstance(arguments, list | tuple):
        return any(depends_on_image(one) for one in arguments)
    return isinstance(arguments, Activation | Comparison)


Number = float | None

# What an operation of PyTorch comes to: (kind, activations, values) for negspike.conversion.fold; a list for several
# results.
Entry = tuple[str, list[Activation], dict[str, Any]]


@dataclass(frozen=True)
class Chain:
    """Several operations one after the other: each but the first reads what the one before it gives."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, eq=False)
class Operation:
    """One step of the model.

    Attributes:
        name: unique.
        kind: which handler of :mod:`negspike.conversion.fold` it is for; ``input`` is the image.
        inputs: names of the operations that it takes activations from.
        path: module path, for names and messages.
        shape: of its result, without the batch.
        values: what else the kind needs; arrays are float64.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    path: str
    shape: tuple[int, ...]
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Call:
    """One call in the exported graph, with its arguments by name.

    Attributes:
        function: ``aten.conv2d``; an in-place form has the name of the other.
        arguments: by the names of PyTorch's schema; activations are :class:`Activation`, parameters tensors.
        path: module path.
        shape: of the result, without the batch; of each part where there are several.
    """

    function: str
    arguments: dict[str, Any]
    path: str
    shape: tuple[int, ...]

    def refuse(self, why: str) -> InputError:
        """An error that names the module."""
        return InputError(f"{self.path or 'the model'}: {why}")

    def activation(self, name: str) -> Activation:
        """The argument of that name, which must depend on the image."""
        value = self.argument(name)
        if not isinstance(value, Activation):
            raise self.refuse(f"{self.short} of a constant by an activation cannot be converted")
        return value

    def constant(self, name: str) -> np.ndarray | None:
        """The argument of that name as float64; None if there is none. It must not depend on the image."""
        value = self.argument(name)
        if value is None:
            return None
        if isinstance(value, Activation):
            raise self.refuse(f"{self.short} of two activations is not linear and cannot be converted")
        tensor = value.detach() if isinstance(value, torch.Tensor) else torch.as_tensor(value, device="cpu")
        array: np.ndarray = tensor.cpu().double().numpy()
        if not np.isfinite(array).all():
            raise self.refuse(f"{name} of {self.short} holds a number that is not finite")
        return array

    def argument(self, name: str) -> Any:
        """The argument of that name, which is no comparison."""
        value = self.arguments[name]
        if isinstance(value, Comparison):
            raise self.refuse("a comparison can be converted in torch.where, or with .float() behind it, alone")
        return value

    @property
    def short(self) -> str:
        """The operation without its library."""
        return self.function.split(".")[-1]


def composed_bounds(first: tuple[Number, Number], then: tuple[Number, Number]) -> tuple[Any, Any]:
    """(low, high) of a clip to ``first`` and another one to ``then``; None is no bound."""

    def within(end: Number, instead: Number) -> Number:
        if end is None:
            return instead
        end = end if then[0] is None else max(end, then[0])
        return end if then[1] is None else min(end, then[1])

    return within(first[0], then[0]), within(first[1], then[1])


def needed(operations: Sequence[Operation], last: str) -> list[Operation]:
    """Those that the last one depends on, in order."""
    wanted, kept = {last}, []
    for operation in reversed(operations):
        if operation.name in wanted:
            kept.append(operation)
            wanted.update(operation.inputs)
    return kept[::-1]
