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
from hansa_core.aggregation.compiled.kinds import BF16, F32, INT4, INT8
from hansa_core.aggregation.compiled.records import int4, int8
from hansa_core.aggregation.compiled.rows import add_four_scaled, add_scaled, itemsize, widen

BLOCK = 1024  # elements of a sum of squares
PIECE = 512  # elements of a weighted sum: it stays in the L1 cache
_AT_ONCE = 4  # rows of F32 that it adds
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

    A row begins `firsts_k` elements after its address. What lies there as records (INT8, INT4; of
    `blocks_k` elements each) is decoded to F32 first, a piece at a time, in the L1 cache.
    """
    count = addresses_k.shape[0]
    decoded_rb = np.empty((_AT_ONCE, PIECE), np.float32)
    places_r = np.empty(_AT_ONCE, np.uint64)
    for start in range(0, out_t.shape[0], PIECE):
        out_b = out_t[start : start + PIECE]
        size, decoded = out_b.shape[0], np.uint64(decoded_rb.ctypes.data)
        k = 0
        while k < count:
            rows = _AT_ONCE if 0 < k <= count - _AT_ONCE and _are_f32(kinds_k, k) else 1
            for r in range(rows):
                kind, block, first = kinds_k[k + r], blocks_k[k + r], firsts_k[k + r] + start
                space = decoded + np.uint64(r * PIECE * 4)
                places_r[r] = _elements(kind, block, addresses_k[k + r], first, space, size)
            if k == 0:
                widen(_decoded(kinds_k[k]), places_r[0], out_b)
                for i in range(size):
                    out_b[i] *= factors_k[0]
            elif rows == _AT_ONCE:
                add_four_scaled(places_r, factors_k[k : k + rows], out_b)
            else:
                add_scaled(_decoded(kinds_k[k]), places_r[0], factors_k[k], out_b)
            k += rows
        if divisor != 1:
            for i in range(size):
                out_b[i] /= divisor


@inlined
def _elements(
    kind: int, block: int, address: np.uint64, first: int, space: np.uint64, size: int
) -> np.uint64:
    """Return where the elements lie, in `space` if they had to be decoded."""
    if kind == INT8:
        int8(address, block, first, space, size)
        return space
    if kind == INT4:
        int4(address, block, first, space, size)
        return space
    return address + np.uint64(first * itemsize(kind))


@inlined
def _decoded(kind: int) -> int:
    """Return what a row is of when its records are decoded."""
    return F32 if kind in (INT8, INT4) else kind


@inlined
def _are_f32(kinds_k: _I64s, first: int) -> bool:
    same = True
    for k in range(first, first + _AT_ONCE):
        same &= _decoded(kinds_k[k]) == F32
    return same


@compiled
def add_base(kind: int, base: int, delta_t: _F64s, out: int) -> bool:
    """Write base + delta, F32, F64 or BF16, rounded once, to an address; whether all is finite."""
    count = delta_t.shape[0]
    lost = 0
    if kind == F32:
        base32 = bits.carray(bits.f32_at(base), (count,))
        out32 = bits.carray(bits.f32_at(out), (count,))
        for i in range(count):
            made = np.float32(delta_t[i] + np.float64(base32[i]))
            out32[i] = made
            lost += 0 if abs(made) < np.float32(np.inf) else 1
    elif kind == BF16:
        base16 = bits.carray(bits.u16_at(base), (count,))
        out16 = bits.carray(bits.u16_at(out), (count,))
        for i in range(count):
            out16[i] = bits.to_bf16(delta_t[i] + bits.bf16_value(base16[i]))
        for i in range(count):
            lost += 0 if abs(bits.bf16_value(out16[i])) < np.inf else 1
    else:
        base64 = bits.carray(bits.f64_at(base), (count,))
        out64 = bits.carray(bits.f64_at(out), (count,))
        for i in range(count):
            total = delta_t[i] + base64[i]
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
