"""Numba as the engine needs it: its cache on disk may be missing, full or damaged, and no switch turns it off."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

_SWITCH = "NUMBA_DISABLE_JIT"
_disabled = os.environ.get(_SWITCH)
if _disabled is not None:  # Numba's own functions would not be compiled either, and what calls them could not be
    os.environ[_SWITCH] = "0"
import numba  # noqa: E402
from numba.core import config as numba_config  # noqa: E402
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, NullCache  # noqa: E402
from numba.misc.appdirs import AppDirs  # noqa: E402

if _disabled is not None:
    os.environ[_SWITCH] = _disabled
    numba_config.reload_config()
_njit: Any = numba.njit
_INNER = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_log = logging.getLogger("negspike")


@contextmanager
def _switched_on() -> Iterator[None]:
    """NUMBA_DISABLE_JIT is for debugging other code; vector operations exist in compiled code only."""
    config: Any = numba_config
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
        return _njit(_nrt=False, **_INNER)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """The same, compiled into its callers, for what is called in each step: tuples of arrays are many arguments."""
    with _switched_on():
        return _njit(_nrt=False, forceinline=True, **_INNER)(function)


def kept(function: Callable[..., Any], *, notice: str = "") -> Any:
    """Compile a function, to run without Python's lock, and keep the machine code on disk where that is possible.

    ``notice`` is logged where it has to be compiled.
    """
    with _switched_on():
        dispatcher = _njit(nogil=True, no_cfunc_wrapper=True)(function)
    compile_now = dispatcher.compile

    def compile_switched_on(signature: Any) -> Any:
        with _switched_on():
            return compile_now(signature)

    dispatcher.compile = compile_switched_on
    try:
        dispatcher._cache = _Cache(function)
    except (RuntimeError, OSError):  # nowhere to write
        dispatcher._cache = _NoCache()
    dispatcher._cache.notice = notice
    return dispatcher


@cache
def _sources_checksum() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _ByContent:
    """Where machine code is kept: one folder of the user's, for every copy of these sources on the machine.

    Where it cannot be written, beside the sources. Numba's own cache belongs to one copy, and notices changes of a
    function's own file only.
    """

    def __init__(self, file: str, folder: Path) -> None:
        self._py_file, self._folder = file, folder
        self._checksum = hashlib.sha256(_sources_checksum().encode() + Path(file).read_bytes()).hexdigest()

    @classmethod
    def from_function(cls, _: Callable[..., Any], file: str) -> _ByContent | None:
        """None where there is nowhere to write."""
        config: Any = numba_config
        own = Path(config.CACHE_DIR, "negspike") if config.CACHE_DIR else Path(AppDirs("negspike").user_cache_dir)
        for folder in (own, Path(file).parent / "__pycache__"):
            locator = cls(file, folder)
            with suppress(OSError):
                locator.ensure_cache_path()
                return locator
        return None

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=self._folder).close()

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return self._checksum

    def get_disambiguator(self) -> str:
        return self._checksum[:16]


class _ImplByContent(CompileResultCacheImpl):
    _locator_classes: list[Any] = [_ByContent]  # noqa: RUF012


class _Cache(FunctionCache):
    """A cache that may fail: then machine code is made anew and not kept."""

    _impl_class = _ImplByContent
    notice = ""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            self._choose_file(sig, target_context.codegen())
            found = super().load_overload(sig, target_context)
        except Exception:  # whatever a damaged file makes of itself
            found = None
        if found is None and self.notice:
            _log.warning("compiling %s, once for this machine", self.notice)
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        for _ in range(2):
            try:
                self._choose_file(sig, data.codegen)
                super().save_overload(sig, data)
                return
            except Exception:
                with suppress(Exception):
                    self.flush()  # an index that cannot be read is begun anew

    def _choose_file(self, sig: Any, codegen: Any) -> None:
        """One for each signature and processor: processes that write at the same time write the same."""
        key = repr(self._index_key(sig, codegen)).encode()
        name = f"{self._impl.filename_base}-{hashlib.sha256(key).hexdigest()[:16]}"
        self._cache_file = IndexDataCacheFile(self._cache_path, name, self._impl.locator.get_source_stamp())


class _NoCache(NullCache):
    """Stands in where no folder can be written."""

    notice = ""

    def load_overload(self, sig: Any, target_context: Any) -> None:
        if self.notice:
            _log.warning("compiling %s; no folder to keep it in (NUMBA_CACHE_DIR)", self.notice)
