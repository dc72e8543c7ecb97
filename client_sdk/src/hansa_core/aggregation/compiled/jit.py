"""How loops are compiled: IEEE operations as written, without the interpreter's lock, kept on disk.

Without fastmath numba gives LLVM no leave to fuse or reorder floating-point operations.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from hansa_core.aggregation.compiled.caches import cache_folder

_Function = TypeVar("_Function", bound=Callable[..., Any])
_njit: Callable[..., Callable[[Any], Any]] = cast("Any", numba.njit)
_config: Any = cast("Any", numba).config


def compiled(function: _Function) -> _Function:
    """Compile a loop at its first call, or take it from the folder of caches.py."""
    folder = _folder()
    before = _config.CACHE_DIR  # the process's own choice, for loops that are not ours
    _config.CACHE_DIR = "" if folder is None else str(folder)
    try:
        made = _njit(nogil=True, cache=folder is not None, error_model="numpy")(function)
    finally:
        _config.CACHE_DIR = before
    return cast("_Function", made)


def inlined(function: _Function) -> _Function:
    """Compile a function into the loops that call it."""
    return cast("_Function", _njit(nogil=True, error_model="numpy")(function))


@cache
def _folder() -> Path | None:
    return cache_folder()
