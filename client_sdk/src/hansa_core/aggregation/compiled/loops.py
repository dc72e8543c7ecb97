"""The inner loops of the rules, compiled by numba: one pass over the bytes as they lie in files.

Files come as addresses, one for each row, with a code for what their elements are, so that one
compiled function serves any number of updates of any float dtypes. The caller keeps what the
addresses point to, and sees to it that elements are aligned, if they are no records.

Invariants
- Every value is what the numpy code beside each rule makes of it, to the bit (a NaN may have
  another payload): the same operations in the same order, none fused, none reordered.
- No loop holds the interpreter's lock or allocates more than 8 KB; each has one signature.
- Sums of squares are numpy's: pairwise within BLOCK elements, blocks one after the other.

Import after `compiled.usable()` alone: numba comes with it.

Shape suffixes: _k contributions; _b elements of a block; _kb both; _t elements of one tile.
"""

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.compiled import bits
from hansa_core.aggregation.compiled.jit import compiled, inlined
from hansa_core.aggregation.compiled.kinds import BF16, F32, F64, INT4, INT8
from hansa_core.aggregation.compiled.records import int4, int8
from hansa_core.aggregation.compiled.rows import add_scaled, halves, itemsize, widen

BLOCK = 1024  # elements of a sum of squares
PIECE = 1024  # elements of a weighted sum: it stays in the L1 cache
_AT_ONCE = 4  # rows that it adds: so many are decoded in the L1 cache
LEAVES = BLOCK // bits.LEAF
SIX = 6  # rows: two and four others
_I64s, _U64s = NDArray[np.int64], NDArray[np.uint64]
_F64s = NDArray[np.float64]


@compiled
def weighted_sum(
    kinds_k: _I64s,
    blocks_k: _I64s,
    addresses_k: _U64s,
    firsts_k: _I64s,
    factors_k: _F64s,
    divisor: float,
    out_t: _F64s,
) -> None:
    """Write sum_k factor_k * row_k / divisor; the first term is not added to a zero.

    A row begins `firsts_k` elements after its address, and lies there as its kind says: in records
    of `blocks_k` elements each if it is INT8 or INT4.
    """
    spaces = np.empty((_AT_ONCE, PIECE), np.float32), np.empty(_AT_ONCE, np.uint64)
    out = np.uint64(out_t.ctypes.data)
    for start in range(0, out_t.shape[0], PIECE):
        out_b = _floats(out + np.uint64(8 * start), min(PIECE, out_t.shape[0] - start))
        _add_up(kinds_k, blocks_k, addresses_k, firsts_k, factors_k, start, spaces, out_b)
        if divisor != 1:
            for i in range(out_b.shape[0]):
                out_b[i] /= divisor


@compiled
def weighted_sum_onto(
    kinds_k: _I64s,
    blocks_k: _I64s,
    addresses_k: _U64s,
    firsts_k: _I64s,
    factors_k: _F64s,
    divisor: float,
    out: int,
    size: int,
) -> bool:
    """Write what `weighted_sum` and then `add_base` do; whether all is finite.

    The last row is the base's: it has no factor. What lies between the two stays in the L1 cache.
    """
    spaces = np.empty((_AT_ONCE, PIECE), np.float32), np.empty(_AT_ONCE, np.uint64)
    sum_b = np.empty(PIECE)
    kind, each, finite = kinds_k[-1], itemsize(kinds_k[-1]), True
    base = addresses_k[-1] + np.uint64(firsts_k[-1] * each)
    for start in range(0, size, PIECE):
        out_b = _floats(np.uint64(sum_b.ctypes.data), min(PIECE, size - start))
        _add_up(kinds_k, blocks_k, addresses_k, firsts_k, factors_k, start, spaces, out_b)
        shift = np.uint64(start * each)
        finite &= _add_base(kind, base + shift, out_b, divisor, np.uint64(out) + shift)
    return finite


@inlined
def _floats(address: np.uint64, count: int) -> _F64s:
    """Return float64 at an address.

    Slices of arrays would do, but counting who refers to an array is an atomic operation, at which
    the processor waits for all that it has asked of the memory before.
    """
    return bits.carray(bits.f64_at(address), (count,))


@inlined
def _add_up(
    kinds_k: _I64s,
    blocks_k: _I64s,
    addresses_k: _U64s,
    firsts_k: _I64s,
    factors_k: _F64s,
    start: int,
    spaces: tuple[NDArray[np.float32], _U64s],
    out_b: _F64s,
) -> None:
    """Write the sum of a piece, of as many rows as there are factors.

    All but F64 is decoded to F32 first, a few rows at a time, in the L1 cache. `spaces` are for
    that: the callers own them, for compiled code frees an array after the last use of its name.
    """
    count, size = factors_k.shape[0], out_b.shape[0]
    whole = size - size % bits.SIDE_BY_SIDE
    sums, factors = np.uint64(out_b.ctypes.data), np.uint64(factors_k.ctypes.data)
    decoded, places = np.uint64(spaces[0].ctypes.data), np.uint64(spaces[1].ctypes.data)
    places_r = bits.carray(bits.u64_at(places), (_AT_ONCE,))
    out_b[:] = -0.0  # which changes no number that is added to it, a zero's sign included
    k = 0
    while k < count:
        rows = 0
        while rows < min(_AT_ONCE, count - k) and kinds_k[k + rows] != F64:
            at, space = k + rows, decoded + np.uint64(4 * PIECE * rows)
            first = firsts_k[at] + start
            places_r[rows] = _as_f32(kinds_k[at], blocks_k[at], addresses_k[at], first, space, size)
            rows += 1
        for i in range(0, whole if rows else 0, bits.SIDE_BY_SIDE):
            bits.add_rows(
                places, factors + np.uint64(8 * k), rows, np.uint64(4 * i), sums + np.uint64(8 * i)
            )
        for r in range(rows if whole < size else 0):
            rest_b = _floats(sums + np.uint64(8 * whole), size - whole)
            add_scaled(F32, places_r[r] + np.uint64(4 * whole), factors_k[k + r], rest_b)
        if rows == 0:
            row = addresses_k[k] + np.uint64(8 * (firsts_k[k] + start))
            add_scaled(F64, row, factors_k[k], out_b)
        k += max(1, rows)


@inlined
def _as_f32(
    kind: int, block: int, address: np.uint64, first: int, space: np.uint64, size: int
) -> np.uint64:
    """Return where the elements lie, in `space` if they had to be decoded."""
    if kind == F32:
        return address + np.uint64(4 * first)
    if kind == INT8:
        int8(address, block, first, space, size)
    elif kind == INT4:
        int4(address, block, first, space, size)
    else:
        halves(kind, address + np.uint64(2 * first), space, size)
    return space


@compiled
def add_base(kind: int, base: int, delta_t: _F64s, out: int) -> bool:
    """Write base + delta, F32, F64 or BF16, rounded once, to an address; whether all is finite."""
    return _add_base(kind, np.uint64(base), delta_t, 1.0, np.uint64(out))


@inlined
def _add_base(kind: int, base: np.uint64, delta_t: _F64s, divisor: float, out: np.uint64) -> bool:
    """Write base + delta / divisor: dividing takes longest, and so goes on beside the rest."""
    count = delta_t.shape[0]
    lost = 0
    if kind == F32:
        base32 = bits.carray(bits.f32_at(base), (count,))
        out32 = bits.carray(bits.f32_at(out), (count,))
        for i in range(count):
            made = np.float32(delta_t[i] / divisor + np.float64(base32[i]))
            out32[i] = made
            lost += 0 if abs(made) < np.float32(np.inf) else 1
    elif kind == BF16:
        base16 = bits.carray(bits.u16_at(base), (count,))
        out16 = bits.carray(bits.u16_at(out), (count,))
        for i in range(count):
            out16[i] = bits.to_bf16(delta_t[i] / divisor + bits.bf16_value(base16[i]))
        for i in range(count):
            lost += 0 if abs(bits.bf16_value(out16[i])) < np.inf else 1
    else:
        base64 = bits.carray(bits.f64_at(base), (count,))
        out64 = bits.carray(bits.f64_at(out), (count,))
        for i in range(count):
            total = delta_t[i] / divisor + base64[i]
            out64[i] = total
            lost += 0 if abs(total) < np.inf else 1
    return lost == 0


# Squared lengths. All of them take whole blocks.


@inlined
def _address(row_b: _F64s) -> np.uint64:
    return np.uint64(row_b.ctypes.data)


@inlined
def _sum_of_leaves(sums: _F64s) -> float:
    """Add the sums of a block's eight leaves as numpy's pairwise summation does."""
    left = (sums[0] + sums[1]) + (sums[2] + sums[3])
    return left + ((sums[4] + sums[5]) + (sums[6] + sums[7]))


@inlined
def _square_length(row_b: _F64s, sums: _F64s) -> float:
    for leaf in range(LEAVES):
        at = _address(row_b) + np.uint64(leaf * bits.LEAF * 8)
        sums[leaf] = bits.products(at, at)
    return _sum_of_leaves(sums)


@compiled
def squares_apart(
    kinds_k: _I64s,
    addresses_k: _U64s,
    factors_k: _F64s,
    centred: bool,
    blocks: int,
    rows_kb: _F64s,
    centre_b: _F64s,
    totals_k: _F64s,
) -> None:
    """Add |row_k - centre|^2 to the totals, block after block.

    The centre is sum_k factor_k * row_k, begun at zero; without `centred` it is left out.
    `rows_kb` (contributions, BLOCK) and `centre_b` (BLOCK) are spent.
    """
    sums = np.empty(LEAVES)
    count = addresses_k.shape[0]
    for block in range(blocks):
        for k in range(count):
            shift = np.uint64(block * BLOCK * itemsize(kinds_k[k]))
            widen(kinds_k[k], addresses_k[k] + shift, rows_kb[k])
        if centred:
            centre_b[:] = 0.0
            for k in range(count):
                row_b = rows_kb[k]
                for i in range(BLOCK):
                    centre_b[i] += row_b[i] * factors_k[k]
        for k in range(count):
            if centred:
                for leaf in range(LEAVES):
                    shift = np.uint64(leaf * bits.LEAF * 8)
                    one, other = _address(rows_kb[k]) + shift, _address(centre_b) + shift
                    sums[leaf] = bits.squares_apart(one, other)
                totals_k[k] += _sum_of_leaves(sums)
            else:
                totals_k[k] += _square_length(rows_kb[k], sums)


@compiled
def products_with(
    root: int,
    kinds_k: _I64s,
    addresses_k: _U64s,
    blocks: int,
    rows_kb: _F64s,
    squares_k: _F64s,
    products_k: _F64s,
) -> None:
    """Add |row_k|^2 and row_k . row_root to the totals, block after block."""
    sums = np.empty(LEAVES)
    count = addresses_k.shape[0]
    for block in range(blocks):
        for k in range(count):
            shift = np.uint64(block * BLOCK * itemsize(kinds_k[k]))
            widen(kinds_k[k], addresses_k[k] + shift, rows_kb[k])
        for k in range(count):
            squares_k[k] += _square_length(rows_kb[k], sums)
            for leaf in range(LEAVES):
                shift = np.uint64(leaf * bits.LEAF * 8)
                one, other = _address(rows_kb[k]) + shift, _address(rows_kb[root]) + shift
                sums[leaf] = bits.products(one, other)
            products_k[k] += _sum_of_leaves(sums)


@compiled
def pairwise_squares(
    kinds_k: _I64s,
    addresses_k: _U64s,
    blocks: int,
    leaf_kb: _F64s,
    sums_lkk: NDArray[np.float64],
    totals_kk: _F64s,
) -> None:
    """Add |row_i - row_j|^2 to totals_kk[i, j], i < j, block after block.

    Two rows against four at a time, a leaf at a time: what is loaded once serves several pairs.
    `leaf_kb` (contributions, LEAF) and `sums_lkk` (LEAVES, n, n) are spent.
    """
    count = addresses_k.shape[0]
    row, line = np.uint64(bits.LEAF * 8), np.uint64(count * 8)
    first = _address(leaf_kb[0])
    for block in range(blocks):
        for leaf in range(LEAVES):
            for k in range(count):
                elements = (block * LEAVES + leaf) * bits.LEAF
                shift = np.uint64(elements * itemsize(kinds_k[k]))
                widen(kinds_k[k], addresses_k[k] + shift, leaf_kb[k])
            sums_kk = sums_lkk[leaf]
            for i in range(0, count - 1, 2):
                one = first + np.uint64(i) * row
                sums_kk[i, i + 1] = bits.squares_apart(one, one + row)
                if count - i < SIX:
                    for j in range(i + 2, count):
                        other = first + np.uint64(j) * row
                        sums_kk[i, j] = bits.squares_apart(one, other)
                        sums_kk[i + 1, j] = bits.squares_apart(one + row, other)
                else:
                    for start in range(i + 2, count, 4):
                        j = min(start, count - 4)  # the last four again, some of them
                        other = first + np.uint64(j) * row
                        out = _address(sums_kk[i]) + np.uint64(j * 8)
                        bits.squares_apart_2x4(one, other, out, out + line)
        _add_blocks(sums_lkk, totals_kk)


@inlined
def _add_blocks(sums_lkk: NDArray[np.float64], totals_kk: _F64s) -> None:
    count = totals_kk.shape[0]
    for i in range(count - 1):
        total = totals_kk[i]
        for j in range(i + 1, count):
            left = (sums_lkk[0, i, j] + sums_lkk[1, i, j]) + (sums_lkk[2, i, j] + sums_lkk[3, i, j])
            right = (sums_lkk[4, i, j] + sums_lkk[5, i, j]) + (
                sums_lkk[6, i, j] + sums_lkk[7, i, j]
            )
            total[j] += left + right
