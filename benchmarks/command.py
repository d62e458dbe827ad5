"""What the commands of this folder have in common: progress, and one line for what the user got wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps

from negspike.errors import InputError


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def command(work: Callable[[Sequence[str] | None], int | None]) -> Callable[..., int]:
    """A command that gives its exit code, 1 with one line on standard error for an :class:`InputError`.

    Args:
        work: takes the arguments, or None for those of the process.
    """

    @wraps(work)
    def main(arguments: Sequence[str] | None = None) -> int:
        try:
            return work(arguments) or 0
        except InputError as error:
            say(f"error: {error}")
            return 1

    return main
