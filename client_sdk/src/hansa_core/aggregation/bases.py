"""From a tile of deltas to a tile of the checkpoint: base + delta in float64, rounded once.

Compiled for all floats but F16, which numpy rounds as fast; to the same bits by both. In numpy this
took a third of a weighted mean of ten updates: each of its five passes writes what the next reads.

Shape suffixes: _t elements of one tile.
"""

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation import compiled
from hansa_core.aggregation.compiled.kinds import KINDS
from hansa_core.dtypes import DType, narrow, widen


def add_base(
    base: NDArray[np.uint8],
    dtype: DType,
    delta_t: NDArray[np.float64],
    scratch_t: NDArray[np.float64],
    out: NDArray[np.uint8],
) -> bool:
    """Write base + delta, both the bytes of a float `dtype`, to `out`; whether all is finite.

    `delta_t` and `scratch_t` are spent.
    """
    if dtype is not DType.F16 and compiled.usable():
        from hansa_core.aggregation.compiled import loops  # noqa: PLC0415 -- imports numba

        places = base.ctypes.data, out.ctypes.data
        if not any(place % dtype.itemsize for place in places):
            return bool(loops.add_base(KINDS[dtype], places[0], delta_t, places[1]))
    widen(base, dtype, scratch_t)
    delta_t += scratch_t
    return narrow(delta_t, dtype, out)
