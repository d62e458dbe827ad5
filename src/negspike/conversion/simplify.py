"""Quantisers as people write them, made plain: straight-through estimators, and clips behind the rounding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from negspike.conversion.calls import Operation, composed_bounds, needed
from negspike.errors import InputError

# Bounds such as 15 * step are rounded as float32; further off, a bound lies between two counts.
TOLERANCE = 1e-5


def simplify(operations: Sequence[Operation]) -> list[Operation]:
    """The operations without sums that cancel, and without clips of what a quantiser has rounded.

    Raises:
        InputError: a clip lies between two of the quantiser's values; it names the module.
    """
    return _without_clips(_without_straight_through(operations))


def _without_straight_through(operations: Sequence[Operation]) -> list[Operation]:
    """(round(x) - x).detach() + x is round(x): sums in which something cancels become sums of what is left."""
    sums: dict[str, dict[str, float]] = {}  # of each operation: whose results it adds up, and with which factors
    same, found = dict[str, str](), list[Operation]()
    shapes = {operation.name: operation.shape for operation in operations}
    for operation in operations:
        operation = replace(operation, inputs=tuple(same.get(name, name) for name in operation.inputs))
        made = {operation.name: 1.0}
        if operation.kind == "reshape" and shapes[operation.inputs[0]] == operation.shape:
            made = sums[operation.inputs[0]]
        elif operation.kind == "add":
            total: Counter[str] = Counter()
            for name, factor in zip(operation.inputs, operation.values["factors"], strict=True):
                for part, times in sums[name].items():
                    total[part] += factor * times
            made = {name: factor for name, factor in total.items() if factor}
            if len(made) == 1 and next(iter(made.values())) == 1:
                same[operation.name] = next(iter(made))
            elif made and len(made) < len(total):
                operation = replace(operation, inputs=tuple(made), values={"factors": tuple(made.values())})
        sums[operation.name] = made
        if operation.name not in same:
            found.append(operation)
    return needed(found, same.get(operations[-1].name, operations[-1].name))


def _without_clips(operations: Sequence[Operation]) -> list[Operation]:
    """clamp(round(x), 0, 15) is a quantiser with these counts; one that changes nothing is left out as well."""
    made = {operation.name: operation for operation in operations}
    quantised = {one.inputs[0] for one in operations if one.kind == "quantize"}
    uses = Counter(name for operation in operations for name in operation.inputs)
    for operation in operations:
        if operation.kind != "clip":
            continue
        chain, source = list[Operation](), made[operation.inputs[0]]
        while source.kind in ("affine", "reshape") and uses[source.name] == 1 and _uniform(source):
            chain.append(source)
            source = made[source.inputs[0]]
        if source.kind != "quantize" or uses[source.name] > 1 or operation.shape != made[operation.inputs[0]].shape:
            continue
        unit, shift = source.values["step"], 0.0
        for step in reversed(chain):
            if step.kind == "affine":
                numerator, denominator, more = (step.values[name][0] for name in ("numerator", "denominator", "shift"))
                unit, shift = unit * numerator / denominator, shift * numerator / denominator + more
        if not unit:
            continue
        ends = [operation.values["low"], operation.values["high"]][:: 1 if unit > 0 else -1]
        ends = [None if end is None else (end - shift) / unit for end in ends]
        if operation.name in quantised and uses[operation.name] == 1 and not all(map(_is_whole, ends)):
            continue  # bounds of the next quantiser
        low, high = (None if end is None else _count(operation, end) for end in ends)
        low, high = composed_bounds((source.values["low"], source.values["high"]), (low, high))
        made[source.name] = replace(source, values=source.values | {"low": low, "high": high})
        made[operation.name] = replace(operation, kind="reshape", values={})
    return [made[operation.name] for operation in operations]


def _uniform(operation: Operation) -> bool:
    """Whether it does the same to all channels."""
    return all(len(np.unique(values)) == 1 for values in operation.values.values())


def _is_whole(bound: float | None) -> bool:
    """Whether a bound is at one of the quantiser's counts, as far as float32 can tell."""
    return bound is None or abs(bound - round(bound)) <= TOLERANCE * max(1.0, abs(bound))


def _count(operation: Operation, bound: float) -> int:
    if not _is_whole(bound):
        raise InputError(
            f"{operation.path or operation.name}: {operation.values['what']} behind a quantiser is at {bound:g} of its "
            "steps: it must be at a whole number of them"
        )
    return round(bound)
