"""Squared Euclidean lengths of deltas and of their differences, exact enough to tell sites apart.

Differences are formed first, in float64, then squared and added: |a|^2 + |b|^2 - 2ab, the usual
shortcut, cancels when two large deltas lie close together (in float32 nothing is left of distances
below about 1e-4 of the length). Here the relative error is at most 2**-53 for each block added:
below 1e-11 for a hundred million elements.

Invariants
- Squares are added by blocks of BLOCK elements, numbered within each section: where a block lies
  depends on the layout alone. Within one they are added pairwise (numpy's own order for one
  contiguous row), blocks one after the other. So the bits depend on neither arrival order, nor how
  many blocks are in hand at a time, nor threads.
- No BLAS and no fused multiply-add: another machine finds the same bits.
- Memory is READ_BYTES, and WIDE_BYTES or a block of float64 per contribution, whichever is more.

Only float tensors are measured: a counter of steps would drown the weights.

Shape suffixes: _b elements of a few whole blocks; _k contributions; _kk pairs of them.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.inputs import Inputs
from hansa_core.dtypes import DType, widen
from hansa_core.problems import RefusalReason, UpdateRefusedError

BLOCK = 1024  # elements; part of what the rules are: another value gives other last bits
READ_BYTES = 8 << 20  # of all files together, read at a time
WIDE_BYTES = 512 << 10  # of float64 in hand: more would leave the L2 cache
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
    width = _blocks_in_hand(len(total_k)) * BLOCK
    term_kb, centre_b = np.empty((min(_ROWS, len(total_k)), width)), np.empty(width)
    with np.errstate(all="ignore"):
        for rows_kb in float_rows(inputs):
            if c_k.any():
                v_b = centre_b[: rows_kb.shape[1]]
                _weighted_sum(rows_kb, c_k, term_kb, v_b)
                np.subtract(rows_kb, v_b, out=rows_kb)
            np.multiply(rows_kb, rows_kb, out=rows_kb)
            _add_blocks(rows_kb, total_k)
    for contribution, total in zip(inputs.contributions, total_k.tolist(), strict=True):
        _check(f"the squared length of update {contribution.digest}", total)
    return total_k


def pairwise_squared_distances(inputs: Inputs) -> NDArray[np.float64]:
    """Return |delta_i - delta_j|^2, shape (contributions, contributions), symmetric.

    One pass over all files; 8 bytes per pair. Raises UpdateRefusedError if not finite.
    """
    count = len(inputs.files)
    total_kk = np.zeros((count, count))
    space = np.empty((min(_ROWS, count), _blocks_in_hand(count) * BLOCK))
    with np.errstate(all="ignore"):
        for rows_kb in float_rows(inputs):
            for one in range(count - 1):
                for first in range(one + 1, count, _ROWS):
                    others_kb = rows_kb[first : first + _ROWS]
                    apart_kb = space[: len(others_kb), : rows_kb.shape[1]]
                    np.subtract(others_kb, rows_kb[one], out=apart_kb)
                    np.multiply(apart_kb, apart_kb, out=apart_kb)
                    _add_blocks(apart_kb, total_kk[one, first : first + _ROWS])
    total_kk += total_kk.T
    digests = [contribution.digest for contribution in inputs.contributions]
    if not np.isfinite(total_kk).all():
        one, other = np.argwhere(~np.isfinite(total_kk))[0].tolist()
        what = f"the squared distance between updates {digests[one]} and {digests[other]}"
        _check(what, float(total_kk[one, other]))
    return total_kk


def float_rows(inputs: Inputs) -> Iterator[NDArray[np.float64]]:
    """Yield all deltas' float elements, (contributions, whole blocks or what is left), to spend."""
    count = len(inputs.files)
    width = _blocks_in_hand(count) * BLOCK
    rows = np.empty((count, width))
    held = max(1, READ_BYTES // (count * width * DType.F64.itemsize)) * width  # elements
    raw = np.empty((count, held * DType.F64.itemsize), np.uint8)
    for section in inputs.sections:
        if not section.dtype.is_float:
            continue
        itemsize = section.dtype.itemsize
        for start in range(0, section.count, held):
            size = min(held, section.count - start) * itemsize
            for file, row in zip(inputs.files, raw, strict=True):
                file.fill(section, start, row[:size])
            for first in range(0, size, width * itemsize):
                stored = raw[:, first : min(first + width * itemsize, size)]
                rows_kb = rows[:, : stored.shape[1] // itemsize]
                widen(stored, section.dtype, rows_kb)
                yield rows_kb


def _blocks_in_hand(count: int) -> int:
    """Return how many blocks of `count` rows are worked on at a time. No result depends on it."""
    return max(1, WIDE_BYTES // (count * BLOCK * DType.F64.itemsize))


def _add_blocks(squares_kb: NDArray[np.float64], total_k: NDArray[np.float64]) -> None:
    """Add each row's sum to its total, block after block."""
    whole = squares_kb.shape[1] // BLOCK
    blocks = squares_kb[:, : whole * BLOCK].reshape(len(squares_kb), whole, BLOCK)
    sums = np.add.reduce(blocks, axis=2)
    for index in range(whole):
        total_k += sums[:, index]
    if whole * BLOCK < squares_kb.shape[1]:
        total_k += np.add.reduce(squares_kb[:, whole * BLOCK :], axis=1)


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
