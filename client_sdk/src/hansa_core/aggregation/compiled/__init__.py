"""Compiled inner loops, where numba is installed; the rules do without, at a third of the speed.

    if compiled.usable():
        from hansa_core.aggregation.compiled import loops

Invariants
- What a rule writes does not depend on whether it uses them: same IEEE operations, same order.
- Importing hansa_core does not import numba. The first `usable` does, for half a second and 70 MB;
  the first call of each loop takes it from the cache of an earlier process (caches.py) or compiles
  it, a second or two. A process in which nobody may wait for that calls `warm` when it starts.
- The environment has the last word: HANSA_COMPILED=0 means numpy, 1 that numba must be there.
"""

import importlib
import os
from functools import cache

SWITCH = "HANSA_COMPILED"


def usable() -> bool:
    """Whether the compiled loops are to be used.

    Raises ImportError where the environment insists on them and numba cannot be imported.
    """
    switch = os.environ.get(SWITCH)
    if switch == "0":
        return False
    error = _import_error()
    if error is not None and switch == "1":
        raise error
    return error is None


def warm() -> bool:
    """Get all loops ready to run, so that no round waits for it; return whether they are usable."""
    if not usable():
        return False
    from hansa_core.aggregation.compiled.warming import run_all  # noqa: PLC0415 -- imports numba

    run_all()
    return True


@cache
def _import_error() -> ImportError | None:
    try:
        for name in ("loops", "ranks"):
            importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:
        return error
    return None
