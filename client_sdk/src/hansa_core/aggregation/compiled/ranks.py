"""Compiled loops that sort each element's values: medians, trimmed means, and Bulyan's means.

A block of every row is turned into integers that compare as the floats do and goes through a
sorting network in the L1 cache, row against row: vector instructions for the least and the greatest
of integers, where those of floats would have to look for NaN at each step. So one compiled function
serves every number of updates. -0.0 sorts before 0.0; no sum shows it.

Invariants: those of loops.py; and a NaN in any row makes the element NaN.

Shape suffixes: _k contributions; _b elements of a block; _kb both; _t elements of one tile.
"""

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.compiled import bits
from hansa_core.aggregation.compiled.jit import compiled, inlined
from hansa_core.aggregation.compiled.rows import itemsize, keys, value, widen

_I64s, _U64s, _I32s = NDArray[np.int64], NDArray[np.uint64], NDArray[np.int32]
_F64s, _F32s = NDArray[np.float64], NDArray[np.float32]


@inlined
def _sort(low_c: _I64s, high_c: _I64s, keys_kb: _I32s, size: int) -> None:
    """Put keys in order by a network's comparators."""
    for c in range(low_c.shape[0]):
        low_b, high_b = keys_kb[low_c[c], :size], keys_kb[high_c[c], :size]
        for i in range(size):
            one, other = low_b[i], high_b[i]
            low_b[i] = min(one, other)
            high_b[i] = max(one, other)


@inlined
def _load_all(kinds_k: _I64s, addresses_k: _U64s, start: int, keys_kb: _I32s, size: int) -> bool:
    unordered = False
    for k in range(addresses_k.shape[0]):
        address = addresses_k[k] + np.uint64(start * itemsize(kinds_k[k]))
        unordered |= keys(kinds_k[k], address, keys_kb[k, :size])
    return unordered


@inlined
def _mark_nan(kinds_k: _I64s, addresses_k: _U64s, start: int, spare_b: _F64s, out_b: _F64s) -> None:
    """Make every element NaN that is NaN in any row."""
    for k in range(addresses_k.shape[0]):
        address = addresses_k[k] + np.uint64(start * itemsize(kinds_k[k]))
        values_b = spare_b[: out_b.shape[0]]
        widen(kinds_k[k], address, values_b)
        for i in range(out_b.shape[0]):
            if np.isnan(values_b[i]):
                out_b[i] = np.nan


@compiled
def middle_mean(
    kinds_k: _I64s,
    addresses_k: _U64s,
    low_c: _I64s,
    high_c: _I64s,
    trimmed: int,
    keys_kb: _I32s,
    spare_b: _F64s,
    out_t: _F64s,
) -> None:
    """Write the mean of all but the `trimmed` least and greatest, of F32, F16 and BF16.

    The comparators low_c, high_c bring the kept ranks to their rows. `keys_kb`, (contributions,
    elements at a time), and `spare_b` are spent.
    """
    block, count = keys_kb.shape[1], addresses_k.shape[0]
    kept = count - 2 * trimmed
    for start in range(0, out_t.shape[0], block):
        out_b = out_t[start : start + block]
        size = out_b.shape[0]
        unordered = _load_all(kinds_k, addresses_k, start, keys_kb, size)
        _sort(low_c, high_c, keys_kb, size)
        first_b = keys_kb[trimmed]
        for i in range(size):
            out_b[i] = value(first_b[i])
        for rank in range(trimmed + 1, count - trimmed):
            row_b = keys_kb[rank]
            for i in range(size):
                out_b[i] += value(row_b[i])
        for i in range(size):
            out_b[i] = out_b[i] / kept + 0.0
        if unordered:
            _mark_nan(kinds_k, addresses_k, start, spare_b, out_b)


@inlined
def _median(values_kb: _F32s, size: int, out_b: _F64s) -> None:
    """Write the middle of rows in ascending order, or the mean of the middle two."""
    count = values_kb.shape[0]
    one_b, other_b = values_kb[(count - 1) // 2], values_kb[count // 2]
    for i in range(size):
        out_b[i] = np.float64(other_b[i])
        if count % 2 == 0:
            out_b[i] = (out_b[i] + np.float64(one_b[i])) / 2


@inlined
def _sum_closest(
    values_kb: _F32s, kept: int, median_b: _F64s, dropped_b: _I64s, out_b: _F64s
) -> None:
    """Write the sum of the `kept` values closest to the median, of rows in ascending order."""
    count, size = values_kb.shape[0], out_b.shape[0]
    dropped_b[:size] = 0
    for rank in range(count - kept):
        low_b, high_b = values_kb[rank], values_kb[rank + kept]
        for i in range(size):
            low, high = np.float64(low_b[i]), np.float64(high_b[i])
            dropped_b[i] += median_b[i] - low > high - median_b[i]
    out_b[:] = 0.0
    for rank in range(count):
        row_b = values_kb[rank]
        for i in range(size):
            inside = dropped_b[i] <= rank < dropped_b[i] + kept
            out_b[i] += np.float64(row_b[i]) if inside else 0.0


@compiled
def closest_mean(
    kinds_k: _I64s,
    addresses_k: _U64s,
    low_c: _I64s,
    high_c: _I64s,
    kept: int,
    keys_kb: _I32s,
    work_b: _F64s,
    dropped_b: _I64s,
    out_t: _F64s,
) -> None:
    """Write the mean of the `kept` values closest to the median, of F32, F16 and BF16.

    Of two equally far the lesser is kept. Of sorted values v the kept ones are neighbours; how many
    lie below them is how often median - v[r] > v[r + kept] - median: that falls with r. `keys_kb`,
    `work_b` and `dropped_b`, of as many elements a row, are spent.
    """
    block, count = keys_kb.shape[1], addresses_k.shape[0]
    for start in range(0, out_t.shape[0], block):
        out_b = out_t[start : start + block]
        size = out_b.shape[0]
        unordered = _load_all(kinds_k, addresses_k, start, keys_kb, size)
        _sort(low_c, high_c, keys_kb, size)
        for k in range(count):
            for i in range(size):
                keys_kb[k, i] = bits.ordered32(keys_kb[k, i])
        values_kb = keys_kb.view(np.float32)
        _median(values_kb, size, work_b)
        _sum_closest(values_kb, kept, work_b, dropped_b, out_b)
        for i in range(size):
            out_b[i] /= kept
        if unordered:
            _mark_nan(kinds_k, addresses_k, start, work_b, out_b)
