"""Squared Euclidean lengths of deltas and of their differences, exact enough to tell sites apart.

Differences are formed first, in float64, then squared and added: |a|^2 + |b|^2 - 2ab, the usual
shortcut, cancels when two large deltas lie close together (in float32 nothing is left of distances
below about 1e-4 of the length). Here the relative error is at most 2**-53 for each block added:
below 1e-11 for a hundred million elements.

Invariants
- Elements are taken in blocks of BLOCK, numbered within each section: where a block lies depends on
  the layout alone. A block's squares are added pairwise (numpy's own order for one contiguous row),
  blocks one after the other. So the bits depend on neither arrival order, tiles nor threads.
- No BLAS and no fused multiply-add: another machine finds the same bits.
- Memory is READ_BYTES and a block of float64 per contribution.

Only float tensors are measured: a counter of steps would drown the weights.

Shape suffixes: _b elements of one block; _k contributions; _kk pairs of them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.inputs import Inputs
from hansa_core.dtypes import DType, widen
from hansa_core.problems import RefusalReason, UpdateRefusedError

BLOCK = 1024  # elements; part of what the rules are: another value gives other last bits
READ_BYTES = 8 << 20  # of all files together, read at a time
_ROWS = 64  # of a temporary result


def squared_norms(inputs: Inputs) -> NDArray[np.float64]:
    """Return |delta_k|^2, shape (contributions,). Raises UpdateRefusedError if not finite."""
    return squared_distances(inputs, [0.0] * len(inputs.files))


def squared_distances(inputs: Inputs, coefficients_k: Sequence[float]) -> NDArray[np.float64]:
    """Return |delta_k - v|^2, shape (contributions,), where v = sum_k c_k * delta_k.

    One pass over all files; v is never held whole. Raises UpdateRefusedError if not finite.
    """
    c_k = np.asarray(coefficients_k, np.float64)[:, np.newaxis]  # a column
    total_k = np.zeros(len(inputs.files))
    term_kb, centre_b = np.empty((min(_ROWS, len(total_k)), BLOCK)), np.empty(BLOCK)
    with np.errstate(all="ignore"):
        for rows_kb in _blocks(inputs):
            if c_k.any():
                v_b = centre_b[: rows_kb.shape[1]]
                _weighted_sum(rows_kb, c_k, term_kb, v_b)
                np.subtract(rows_kb, v_b, out=rows_kb)
            np.multiply(rows_kb, rows_kb, out=rows_kb)
            total_k += np.add.reduce(rows_kb, axis=1)
    for contribution, total in zip(inputs.contributions, total_k.tolist(), strict=True):
        _check(f"the squared length of update {contribution.digest}", total)
    return total_k


def pairwise_squared_distances(inputs: Inputs) -> NDArray[np.float64]:
    """Return |delta_i - delta_j|^2, shape (contributions, contributions), symmetric.

    One pass over all files; 8 bytes per pair. Raises UpdateRefusedError if not finite.
    """
    count = len(inputs.files)
    total_kk = np.zeros((count, count))
    space = np.empty((min(_ROWS, count), BLOCK))
    with np.errstate(all="ignore"):
        for rows_kb in _blocks(inputs):
            for one in range(count - 1):
                for first in range(one + 1, count, _ROWS):
                    others_kb = rows_kb[first : first + _ROWS]
                    apart_kb = space[: len(others_kb), : rows_kb.shape[1]]
                    np.subtract(others_kb, rows_kb[one], out=apart_kb)
                    np.multiply(apart_kb, apart_kb, out=apart_kb)
                    total_kk[one, first : first + _ROWS] += np.add.reduce(apart_kb, axis=1)
    total_kk += total_kk.T
    digests = [contribution.digest for contribution in inputs.contributions]
    if not np.isfinite(total_kk).all():
        one, other = np.argwhere(~np.isfinite(total_kk))[0].tolist()
        what = f"the squared distance between updates {digests[one]} and {digests[other]}"
        _check(what, float(total_kk[one, other]))
    return total_kk


def _blocks(inputs: Inputs) -> Iterator[NDArray[np.float64]]:
    """Yield all deltas' float elements, (contributions, BLOCK or what is left), to be spent."""
    count = len(inputs.files)
    rows = np.empty((count, BLOCK))
    held = max(1, READ_BYTES // (count * BLOCK * DType.F64.itemsize))  # blocks read at a time
    raw = np.empty((count, held * BLOCK * DType.F64.itemsize), np.uint8)
    for section in inputs.sections:
        if not section.dtype.is_float:
            continue
        itemsize = section.dtype.itemsize
        for start in range(0, section.count, held * BLOCK):
            size = min(held * BLOCK, section.count - start) * itemsize
            for file, row in zip(inputs.files, raw, strict=True):
                file.fill(section, start, row[:size])
            for first in range(0, size, BLOCK * itemsize):
                stored = raw[:, first : min(first + BLOCK * itemsize, size)]
                rows_kb = rows[:, : stored.shape[1] // itemsize]
                widen(stored, section.dtype, rows_kb)
                yield rows_kb


def _weighted_sum(
    rows_kb: NDArray[np.float64],
    c_k: NDArray[np.float64],
    term_kb: NDArray[np.float64],
    out_b: NDArray[np.float64],
) -> None:
    """Add up c_k * row_k in the order of k, a few rows multiplied at a time."""
    out_b[:] = 0
    for first in range(0, len(rows_kb), len(term_kb)):
        part_kb = rows_kb[first : first + len(term_kb)]
        product_kb = term_kb[: len(part_kb), : len(out_b)]
        np.multiply(part_kb, c_k[first : first + len(term_kb)], out=product_kb)
        for product_b in product_kb:
            out_b += product_b


def _check(what: str, seen: float) -> None:
    if not np.isfinite(seen):
        raise UpdateRefusedError(
            RefusalReason.NON_FINITE, f"{what} is {seen}, wanted a finite number"
        )
