"""What a network's activations are: full precision, multiples of 2^-k, or counts up to a largest one."""

from __future__ import annotations

import re
from typing import NamedTuple

from negspike.errors import InputError


class Precision(NamedTuple):
    """Full precision, the published quantiser or one with a largest count; sorted in this order.

    Attributes:
        kind: ``fp32``, ``k`` or ``levels``.
        number: k, or the largest count; 0 in full precision.
    """

    kind: str
    number: int = 0

    @classmethod
    def parse(cls, name: str) -> Precision:
        """From the name of a folder: ``fp32``, ``k1``, ``levels3``.

        Raises:
            InputError: it is none of these.
        """
        if name == "fp32":
            return cls(name)
        if found := re.fullmatch(r"(k)([0-9]{1,2})|(levels)([1-9][0-9]{0,7})", name, re.ASCII):
            return cls(found[1] or found[3], int(found[2] or found[4]))
        raise InputError(f"precision {name!r} is unknown: there are fp32, k0, k1, ..., levels1, levels2, ...")

    @classmethod
    def of(cls, k: int | None, levels: int | None = None) -> Precision:
        """From what is quantised to; ``fp32`` if nothing is."""
        return cls("levels", levels) if levels is not None else cls("fp32") if k is None else cls("k", k)

    @property
    def k(self) -> int | None:
        """Activations are multiples of 2^-k; None for other kinds."""
        return self.number if self.kind == "k" else None

    @property
    def levels(self) -> int | None:
        """Activations are 0 to ``levels`` steps; None for other kinds."""
        return self.number if self.kind == "levels" else None

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.kind if self.kind == "fp32" else f"{self.kind}{self.number}"

    def __str__(self) -> str:
        """As in a legend: ``FP32``, ``k = 1``, ``3 levels``."""
        words = {"fp32": "FP32", "k": f"k = {self.number}", "levels": f"{self.number} levels"}
        return "1 level" if self == ("levels", 1) else words[self.kind]
