"""Numba as the engine needs it: a cache on disk that may be missing, full or damaged, and no switch that turns it off."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import config
from numba.core.caching import FunctionCache, NullCache

_INNER = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_log = logging.getLogger("negspike")


@contextmanager
def _switched_on() -> Iterator[None]:
    """NUMBA_DISABLE_JIT is for debugging other code; vector operations exist in compiled code only."""
    before, config.DISABLE_JIT = config.DISABLE_JIT, 0
    try:
        yield
    finally:
        config.DISABLE_JIT = before


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function for the use of compiled functions only. It makes no arrays, and counts no references to them.

    Numba counts those to each array of a tuple whenever it is handed over, which takes longer than what is done then.
    """
    with _switched_on():
        return njit(_nrt=False, **_INNER)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """The same, compiled into its callers, for what is called in each step: it has hundreds of arguments, array by array."""
    with _switched_on():
        return njit(_nrt=False, forceinline=True, **_INNER)(function)


def kept(function: Callable[..., Any]) -> Any:
    """Compile a function, to run without Python's lock, and keep the machine code on disk where that is possible."""
    with _switched_on():
        dispatcher = njit(nogil=True, no_cfunc_wrapper=True)(function)
    try:
        dispatcher._cache = _Cache(function)
    except (RuntimeError, OSError):  # nowhere to write
        dispatcher._cache = _NoCache()
    return dispatcher


def sources_checksum() -> str:
    """Of this package's files. Numba's cache notices changes of a function's own file and of its closure only."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):  # type: ignore[misc]
    """A cache that may fail: then machine code is made anew and not kept."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # whatever a damaged file makes of itself
            found = None
        if found is None:
            _log.warning("compiling the event-driven engine, once for this machine: about 20 s")
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        for _ in range(2):
            try:
                return super().save_overload(sig, data)  # type: ignore[no-any-return]
            except Exception:
                try:
                    self.flush()  # an index that cannot be read is begun anew
                except Exception:
                    return None
        return None


class _NoCache(NullCache):  # type: ignore[misc]
    """Stands in where no folder can be written."""

    def load_overload(self, sig: Any, target_context: Any) -> None:
        _log.warning("compiling the event-driven engine: about 20 s; no folder to keep it in (NUMBA_CACHE_DIR)")
