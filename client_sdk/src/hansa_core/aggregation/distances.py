"""Squared Euclidean lengths of deltas and of their differences, exact enough to tell sites apart.

Differences are formed first, in float64, then squared and added: |a|^2 + |b|^2 - 2ab, the usual
shortcut, cancels when two large deltas lie close together (in float32 nothing is left of distances
below about 1e-4 of the length). Here the relative error is at most 2**-53 for each block added:
below 1e-11 for a hundred million elements.

Invariants
- Squares are added by blocks of BLOCK elements, numbered within each section: where a block lies
  depends on the layout alone. Within one they are added pairwise (numpy's own order for one
  contiguous row), blocks one after the other.
- Blocks are numbered through all float sections, and every CELL_BLOCKS of them are a cell. A cell's
  sum begins at zero, and cells are added in order. So the cells of one model may be measured on
  several machines (`*_parts` for some of them, then one of the functions that take parts), to the
  same bits as in one pass, which is made of the same cells. Nothing is changed by cells below
  CELL_BLOCKS * BLOCK elements.
- So the bits depend on neither arrival order, nor how many blocks are in hand at a time, nor
  threads, nor on whether loops are compiled: their sums are numpy's (compiled/bits.py).
- No BLAS and no fused multiply-add: another machine finds the same bits.
- Memory is that of readers.py, and WIDE_BYTES or a block of float64 per contribution, whichever is
  more, and nine numbers per pair.

BLOCK and CELL_BLOCKS are part of what the rules are: other values give other last bits.

Measured with float32 in memory on one core (2.5 GHz, AVX-512), GB/s of input of compiled loops at
10 and 50 updates: all pairs 2.6 and 0.83, lengths 5.6, lengths from a centre 4.1, products 4.5.

Only float tensors are measured: a counter of steps would drown the weights.

Shape suffixes: _b elements of a few whole blocks; _k contributions; _kk pairs of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation import compiled
from hansa_core.aggregation.inputs import Inputs, Section
from hansa_core.aggregation.readers import Rows
from hansa_core.dtypes import DType, widen
from hansa_core.problems import RefusalReason, UpdateRefusedError

BLOCK = 1024  # elements
CELL_BLOCKS = 2**16  # blocks: 2**26 elements
WIDE_BYTES = 512 << 10  # of float64 in hand: more would leave the L2 cache
_ROWS = 64  # of a temporary result

_F64s = NDArray[np.float64]
_Floats = Callable[[_F64s], None]  # takes rows of whole blocks, or a section's last, to spend


def squared_norms(inputs: Inputs) -> _F64s:
    """Return |delta_k|^2, shape (contributions,). Raises UpdateRefusedError if not finite."""
    return squared_distances(inputs, [0.0] * len(inputs.files))


def squared_distances(inputs: Inputs, coefficients_k: Sequence[float]) -> _F64s:
    """Return |delta_k - v|^2, shape (contributions,), where v = sum_k c_k * delta_k.

    One pass over all files; v is never held whole. Raises UpdateRefusedError if not finite.
    """
    cells = inputs.measure(
        "squared distances", lambda it, part: squared_distance_parts(it, coefficients_k, part)
    )
    return squared_distances_of(inputs, cells)


def pairwise_squared_distances(inputs: Inputs) -> _F64s:
    """Return |delta_i - delta_j|^2, shape (contributions, contributions), symmetric.

    One pass over all files; 8 bytes per pair. Raises UpdateRefusedError if not finite.
    """
    return pairwise_squared_distances_of(
        inputs, inputs.measure("pairwise squared distances", pairwise_parts)
    )


def products_with(inputs: Inputs, root: int) -> tuple[_F64s, _F64s]:
    """Return |delta_k|^2 and delta_k . delta_root, both of shape (contributions,).

    One pass over all files. Raises UpdateRefusedError if not finite.
    """
    cells = inputs.measure("products", lambda it, part: product_parts(it, root, part))
    return products_of(inputs, cells)


# Cells


def cell_count(inputs: Inputs) -> int:
    """Return how many cells the float sections have."""
    return -(-sum(blocks for _, blocks in _float_sections(inputs)) // CELL_BLOCKS)


def squared_distance_parts(
    inputs: Inputs, coefficients_k: Sequence[float], cells: range | None = None
) -> Iterator[_F64s]:
    """Yield each cell's share of `squared_distances`, unchecked; of all cells without `cells`."""
    c_k = np.asarray(coefficients_k, np.float64)
    centred = bool(c_k.any())
    column_k, count = c_k[:, np.newaxis], len(inputs.files)
    width = _blocks_in_hand(count) * BLOCK
    term_kb, centre_b = np.empty((min(_ROWS, count), width)), np.empty(width)
    block_kb = np.empty((count, BLOCK))

    def add(rows_kb: _F64s) -> None:
        if centred:
            v_b = centre_b[: rows_kb.shape[1]]
            _weighted_sum(rows_kb, column_k, term_kb, v_b)
            np.subtract(rows_kb, v_b, out=rows_kb)
        np.multiply(rows_kb, rows_kb, out=rows_kb)
        _add_blocks(rows_kb, total_k)

    def add_compiled(kinds_k: NDArray[np.int64], at_k: NDArray[np.uint64], blocks: int) -> None:
        from hansa_core.aggregation.compiled import loops  # noqa: PLC0415 -- imports numba

        loops.squares_apart(
            kinds_k, at_k, c_k, centred, blocks, block_kb, centre_b[:BLOCK], total_k
        )

    rows = Rows(inputs.files)
    for cell in _cells(inputs, cells):
        total_k = np.zeros(count)
        _measure(inputs, rows, cell, add, add_compiled)
        yield total_k


def pairwise_parts(inputs: Inputs, cells: range | None = None) -> Iterator[_F64s]:
    """Yield each cell's share of `pairwise_squared_distances`, of pairs i < j, unchecked."""
    count = len(inputs.files)
    space = np.empty((min(_ROWS, count), _blocks_in_hand(count) * BLOCK))
    made: list[tuple[_F64s, _F64s]] = []  # space of compiled loops

    def add(rows_kb: _F64s) -> None:
        for one in range(count - 1):
            for first in range(one + 1, count, _ROWS):
                others_kb = rows_kb[first : first + _ROWS]
                apart_kb = space[: len(others_kb), : rows_kb.shape[1]]
                np.subtract(others_kb, rows_kb[one], out=apart_kb)
                np.multiply(apart_kb, apart_kb, out=apart_kb)
                _add_blocks(apart_kb, total_kk[one, first : first + _ROWS])

    def add_compiled(kinds_k: NDArray[np.int64], at_k: NDArray[np.uint64], blocks: int) -> None:
        from hansa_core.aggregation.compiled import bits, loops  # noqa: PLC0415 -- imports numba

        if not made:
            leaf_kb = np.empty((count, bits.LEAF))
            made.append((leaf_kb, np.zeros((loops.LEAVES, count, count))))
        loops.pairwise_squares(kinds_k, at_k, blocks, *made[0], total_kk)

    rows = Rows(inputs.files)
    for cell in _cells(inputs, cells):
        total_kk = np.zeros((count, count))
        _measure(inputs, rows, cell, add, add_compiled)
        yield np.triu(total_kk, 1)


def product_parts(inputs: Inputs, root: int, cells: range | None = None) -> Iterator[_F64s]:
    """Yield each cell's share of `products_with`, (2, contributions), unchecked."""
    count = len(inputs.files)
    space = np.empty((count, _blocks_in_hand(count) * BLOCK))
    block_kb = np.empty((count, BLOCK))

    def add(rows_kb: _F64s) -> None:
        terms_kb = space[:, : rows_kb.shape[1]]
        for total_k, other in ((totals[0], rows_kb), (totals[1], rows_kb[root])):
            np.multiply(rows_kb, other, out=terms_kb)
            _add_blocks(terms_kb, total_k)

    def add_compiled(kinds_k: NDArray[np.int64], at_k: NDArray[np.uint64], blocks: int) -> None:
        from hansa_core.aggregation.compiled import loops  # noqa: PLC0415 -- imports numba

        loops.products_with(root, kinds_k, at_k, blocks, block_kb, totals[0], totals[1])

    rows = Rows(inputs.files)
    for cell in _cells(inputs, cells):
        totals = np.zeros((2, count))
        _measure(inputs, rows, cell, add, add_compiled)
        yield totals


def squared_distances_of(inputs: Inputs, parts: Iterable[_F64s]) -> _F64s:
    """Add the parts of all cells, in order. Raises UpdateRefusedError if not finite."""
    total_k = _added(parts, (len(inputs.files),))
    for contribution, total in zip(inputs.contributions, total_k.tolist(), strict=True):
        _check(f"the squared length of update {contribution.digest}", total)
    return total_k


def pairwise_squared_distances_of(inputs: Inputs, parts: Iterable[_F64s]) -> _F64s:
    """Add the parts of all cells, in order. Raises UpdateRefusedError if not finite."""
    count = len(inputs.files)
    total_kk = _added(parts, (count, count))
    total_kk += total_kk.T
    if not np.isfinite(total_kk).all():
        one, other = np.argwhere(~np.isfinite(total_kk))[0].tolist()
        digests = [contribution.digest for contribution in inputs.contributions]
        what = f"the squared distance between updates {digests[one]} and {digests[other]}"
        _check(what, float(total_kk[one, other]))
    return total_kk


def products_of(inputs: Inputs, parts: Iterable[_F64s]) -> tuple[_F64s, _F64s]:
    """Add the parts of all cells, in order. Raises UpdateRefusedError if not finite."""
    squares_k, products_k = _added(parts, (2, len(inputs.files)))
    for index, contribution in enumerate(inputs.contributions):
        _check(f"the squared length of update {contribution.digest}", float(squares_k[index]))
        _check(f"the product of update {contribution.digest}", float(products_k[index]))
    return squares_k, products_k


def float_rows(inputs: Inputs) -> Iterator[_F64s]:
    """Yield all deltas' float elements, (contributions, whole blocks or what is left), to spend."""
    rows = Rows(inputs.files)
    for section, _ in _float_sections(inputs):
        yield from _widened(rows, section, 0, section.count)


def _float_sections(inputs: Inputs) -> list[tuple[Section, int]]:
    """Return the float sections with their blocks."""
    return [(it, -(-it.count // BLOCK)) for it in inputs.sections if it.dtype.is_float]


def _cells(inputs: Inputs, cells: range | None) -> Iterator[list[tuple[Section, int, int]]]:
    """Yield each cell as the elements that it has of sections: (section, start, stop)."""
    sections = _float_sections(inputs)
    for cell in range(cell_count(inputs)) if cells is None else cells:
        spans: list[tuple[Section, int, int]] = []
        before = 0
        for section, blocks in sections:
            first = max(cell * CELL_BLOCKS - before, 0)
            last = min((cell + 1) * CELL_BLOCKS - before, blocks)
            if first < last:
                spans.append((section, first * BLOCK, min(last * BLOCK, section.count)))
            before += blocks
        yield spans


def _measure(
    inputs: Inputs,
    rows: Rows,
    cell: Sequence[tuple[Section, int, int]],
    add: _Floats,
    add_compiled: Callable[[NDArray[np.int64], NDArray[np.uint64], int], None],
) -> None:
    """Pass all blocks of a cell on: addresses of whole ones to compiled loops, or float64 rows."""
    use = bool(inputs.files) and compiled.usable()
    with np.errstate(all="ignore"):  # what overflows is found in the result, and named
        for section, start, stop in cell:
            whole = stop - (stop - start) % BLOCK if use else start
            kinds_k = rows.kinds(section)
            for _, count, at_k in rows.addresses(section, start, whole, step=BLOCK):
                add_compiled(kinds_k, at_k, count // BLOCK)
            for rows_kb in _widened(rows, section, whole, stop):
                add(rows_kb)


def _widened(rows: Rows, section: Section, start: int, stop: int) -> Iterator[_F64s]:
    dtypes = rows.dtypes(section)
    width = _blocks_in_hand(len(dtypes)) * BLOCK
    space: _F64s = np.empty((len(dtypes), width if stop > start else 0))
    for span in rows.spans(section, start, stop, most=width, step=BLOCK):
        rows_kb = space[:, : span.count]
        for raw, dtype, row_b in zip(span.rows, dtypes, rows_kb, strict=True):
            widen(raw, dtype, row_b)
        yield rows_kb


def _blocks_in_hand(count: int) -> int:
    """Return how many blocks of `count` rows are worked on at a time. No result depends on it."""
    return max(1, WIDE_BYTES // (max(1, count) * BLOCK * DType.F64.itemsize))


def _add_blocks(squares_kb: _F64s, total_k: _F64s) -> None:
    """Add each row's sum to its total, block after block."""
    whole = squares_kb.shape[1] // BLOCK
    blocks = squares_kb[:, : whole * BLOCK].reshape(len(squares_kb), whole, BLOCK)
    sums = np.add.reduce(blocks, axis=2)
    for index in range(whole):
        total_k += sums[:, index]
    if whole * BLOCK < squares_kb.shape[1]:
        total_k += np.add.reduce(squares_kb[:, whole * BLOCK :], axis=1)


def _weighted_sum(rows_kb: _F64s, c_k: _F64s, term_kb: _F64s, out_b: _F64s) -> None:
    """Add up c_k * row_k in the order of k, a few rows multiplied at a time."""
    out_b[:] = 0
    for first in range(0, len(rows_kb), len(term_kb)):
        part_kb = rows_kb[first : first + len(term_kb)]
        product_kb = term_kb[: len(part_kb), : len(out_b)]
        np.multiply(part_kb, c_k[first : first + len(term_kb)], out=product_kb)
        for product_b in product_kb:
            out_b += product_b


def _added(parts: Iterable[_F64s], shape: tuple[int, ...]) -> _F64s:
    total = np.zeros(shape)
    with np.errstate(all="ignore"):
        for part in parts:
            total += part
    return total


def _check(what: str, seen: float) -> None:
    if not np.isfinite(seen):
        raise UpdateRefusedError(
            RefusalReason.NON_FINITE, f"{what} is {seen}, wanted a finite number"
        )
