"""The inner loops of the codecs: arrays in, arrays out, nothing of files or plans.

Bits are packed from the least significant end: of two 4-bit or 12-bit numbers the first is in the
low bits, of four 2-bit numbers the first is in the lowest two. Numbers are little-endian.

Shape suffixes: _r records (blocks or chunks), n elements of each, k those of them that are kept, b
bytes of each; _n alone: all elements in a row.
"""

from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from hansa_core.dtypes import f32_to_bf16

# Any code, as far as -128, times a scale up to this is finite: a decoder need not look at codes.
MAX_SCALE = float(np.finfo(np.float32).max) / 128
# Quotients by subnormal scales lose their bits; blocks that would need one become zeros.
MIN_SCALE = float(np.finfo(np.float32).tiny)

_REFINEMENTS = 8  # of two levels; few magnitudes still change sides after that

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Number = TypeVar("Number", np.uint8, np.uint16)


def quantize(
    values_rn: Floats, greatest: int, generator: np.random.Generator | None
) -> tuple[Floats, NDArray[np.int8]]:
    """Return a scale per record and codes from -greatest to `greatest`; values are finite.

    Without a generator codes are the nearest; with one, the two neighbours by their distance.
    """
    scales_r = np.abs(values_rn).max(axis=1, initial=0) / np.float32(greatest)
    scales_r[scales_r < MIN_SCALE] = 0
    zero_r = scales_r == 0
    steps_rn = values_rn / np.where(zero_r, np.float32(1), scales_r)[:, None]
    if generator is None:
        np.rint(steps_rn, out=steps_rn)
    else:
        steps_rn += generator.random(steps_rn.shape, np.float32)
        np.floor(steps_rn, out=steps_rn)
    np.clip(steps_rn, -greatest, greatest, out=steps_rn)
    steps_rn[zero_r] = 0
    return scales_r, steps_rn.astype(np.int8)


def scale_bytes(codes_rn: NDArray[np.int8], scales_r: Floats, out_rn: Floats) -> None:
    """Write codes times their record's scale."""
    np.multiply(codes_rn, scales_r[:, None], out=out_rn)


def scale_nibbles(packed_rb: Bytes, scales_r: Floats, out_rn: Floats) -> None:
    """Write 4-bit codes (8 more than the value) times their record's scale; n = 2 b."""
    pairs = out_rn.view(np.float64)  # two float32 at a time, moved and never computed with
    np.take(_nibble_pairs(), packed_rb, out=pairs, mode="clip")
    np.multiply(out_rn, scales_r[:, None], out=out_rn)


def pack_nibbles(codes_rn: NDArray[np.int8]) -> Bytes:
    """Return codes from -8 to 7 in 4 bits each; after an odd number, 4 zero bits."""
    raised_rn = _padded((codes_rn + np.int8(8)).view(np.uint8), 2)
    return raised_rn[:, 0::2] | (raised_rn[:, 1::2] << np.uint8(4))


def scales_of(raw_rb: Bytes) -> Floats:
    """Return the float32 that every record begins with, r."""
    return np.ascontiguousarray(raw_rb[:, :4]).view("<f4").reshape(-1)


def bf16_to_floats(bits_n: NDArray[np.uint16], out_n: Floats) -> None:
    """Widen bfloat16 bits, exactly."""
    wide_n = out_n.view(np.uint32)
    np.copyto(wide_n, bits_n)
    np.left_shift(wide_n, 16, out=wide_n)


def fp16_to_floats(bits_n: NDArray[np.uint16], out_n: Floats) -> None:
    """Widen half precision bits, exactly. A table is three times as fast as numpy's own way."""
    np.take(_halves(), bits_n, out=out_n, mode="clip")


def greatest(values_rn: Floats, kept: int) -> NDArray[np.uint16]:
    """Return the ascending positions of the `kept` greatest magnitudes, rk; values are finite.

    Of equal magnitudes the first ones count, so the choice does not depend on how numpy sorts.
    """
    records, count = values_rn.shape
    # The bits of floats that are not negative are in the order of the floats, and quicker to sort.
    sizes_rn = (values_rn.view(np.uint32) & np.uint32(0x7FFF_FFFF)).view(np.int32)
    least_r1 = np.partition(sizes_rn, count - kept, axis=1)[:, count - kept : count - kept + 1]
    chosen_rn: NDArray[np.bool_] = np.greater_equal(sizes_rn, least_r1)
    tied_r = np.flatnonzero(np.count_nonzero(chosen_rn, axis=1) > kept)
    for record in tied_r:
        equal = np.flatnonzero(sizes_rn[record] == least_r1[record])
        above = np.count_nonzero(sizes_rn[record] > least_r1[record])
        chosen_rn[record, equal[kept - above :]] = False
    positions_rk = np.flatnonzero(chosen_rn).reshape(records, kept)
    return (positions_rk % count).astype(np.uint16)


def scatter(positions_rk: NDArray[np.uint16], values_rk: Floats, out_rn: Floats) -> None:
    """Write zeros, and the values at their positions, all below n. `out_rn` is contiguous."""
    records, count = out_rn.shape
    out_rn.fill(0)
    starts_r1 = np.arange(0, records * count, count, dtype=np.intp)[:, None]
    out_rn.reshape(-1)[positions_rk + starts_r1] = values_rk


def pack_positions(positions_rk: NDArray[np.uint16]) -> Bytes:
    """Return numbers below 4096 in 12 bits each; after an odd number, 4 zero bits."""
    kept = positions_rk.shape[1]
    even_rk = _padded(positions_rk, 2)
    first, second = even_rk[:, 0::2], even_rk[:, 1::2]
    triples = np.stack(
        [first & 0xFF, (first >> 8) | ((second & 0xF) << 4), second >> 4], axis=-1
    ).astype(np.uint8)
    return triples.reshape(len(positions_rk), -1)[:, : positions_size(kept)]


def unpack_positions(packed_rb: Bytes, kept: int) -> NDArray[np.uint16]:
    """Return what `pack_positions` packed, rk."""
    triples = _padded(packed_rb, 3).reshape(len(packed_rb), -1, 3).astype(np.uint16)
    even_rk = np.empty((len(packed_rb), triples.shape[1], 2), np.uint16)
    even_rk[:, :, 0] = triples[:, :, 0] | ((triples[:, :, 1] & 0xF) << 8)
    even_rk[:, :, 1] = (triples[:, :, 1] >> 4) | (triples[:, :, 2] << 4)
    return even_rk.reshape(len(packed_rb), -1)[:, :kept]


def positions_size(kept: int) -> int:
    """Return the bytes of `kept` positions."""
    return (12 * kept + 7) // 8


def two_levels(values_rk: Floats) -> tuple[NDArray[np.uint16], Bytes]:
    """Return two magnitudes per record, bfloat16 bits r2, and a code per value, rk.

    A code is 1 for the greater magnitude, plus 2 for a negative value. The magnitudes are the means
    of those that they stand for: Lloyd's quantizer of two levels, begun at the mean of all. Where
    there are zeros the lower one is 0, so that what has not changed stays as it is.
    """
    sizes_rk: Doubles = np.abs(values_rk).astype(np.float64)
    with_zeros_r = np.any(sizes_rk == 0, axis=1)
    levels_r2 = np.repeat(sizes_rk.mean(axis=1, keepdims=True), 2, axis=1)
    levels_r2[with_zeros_r] = 0
    for _ in range(_REFINEMENTS):
        levels_r2 = _means(sizes_rk, _upper(sizes_rk, levels_r2))
        levels_r2[with_zeros_r, 0] = 0
    bits_r2 = f32_to_bf16(levels_r2.astype(np.float32))
    upper_rk = _upper(sizes_rk, _from_bf16(bits_r2).astype(np.float64))
    codes_rk = upper_rk.view(np.uint8) | (np.signbit(values_rk).view(np.uint8) << np.uint8(1))
    return bits_r2, codes_rk


def from_two_levels(bits_r2: NDArray[np.uint16], codes_rk: Bytes) -> Floats:
    """Return the values of codes that `two_levels` made."""
    levels_r2 = _from_bf16(bits_r2)
    levels_r4 = np.concatenate([levels_r2, -levels_r2], axis=1)
    return np.take_along_axis(levels_r4, codes_rk.astype(np.intp), axis=1)


def pack_pairs(codes_rk: Bytes) -> Bytes:
    """Return codes below 4 in 2 bits each; after the last one, zero bits."""
    full_rk = _padded(codes_rk, 4)
    packed_rb = full_rk[:, 0::4].copy()
    for place in (1, 2, 3):
        packed_rb |= full_rk[:, place::4] << np.uint8(2 * place)
    return packed_rb


def unpack_pairs(packed_rb: Bytes, kept: int) -> Bytes:
    """Return what `pack_pairs` packed, rk."""
    shifts_4 = np.array([0, 2, 4, 6], np.uint8)
    codes = np.right_shift(packed_rb[:, :, None], shifts_4) & np.uint8(3)
    return codes.reshape(len(packed_rb), -1)[:, :kept]


def pairs_size(kept: int) -> int:
    """Return the bytes of `kept` 2-bit codes."""
    return (2 * kept + 7) // 8


def unordered(positions_rk: NDArray[np.uint16], count: int) -> NDArray[np.bool_]:
    """Return which records have positions that do not ascend strictly, or not below `count`."""
    bad_r = positions_rk[:, -1] >= count
    bad_r |= (positions_rk[:, 1:] <= positions_rk[:, :-1]).any(axis=1)
    return bad_r


def _upper(sizes_rk: Doubles, levels_r2: Doubles) -> NDArray[np.bool_]:
    """Return which sizes are closer to the greater level."""
    return np.greater(sizes_rk, levels_r2.mean(axis=1, keepdims=True))


def _means(sizes_rk: Doubles, upper_rk: NDArray[np.bool_]) -> Doubles:
    """Return the means of the lower and of the upper sizes; without upper ones, one mean twice."""
    above_r = np.count_nonzero(upper_rk, axis=1)
    high_sum_r: Doubles = np.sum(sizes_rk * upper_rk, axis=1)
    low_sum_r: Doubles = np.sum(sizes_rk * ~upper_rk, axis=1)
    low_r: Doubles = low_sum_r / np.maximum(upper_rk.shape[1] - above_r, 1)
    high_r = np.where(above_r > 0, high_sum_r / np.maximum(above_r, 1), low_r)
    return np.stack([low_r, high_r], axis=1)


def _from_bf16(bits: NDArray[np.uint16]) -> Floats:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _padded(rows: NDArray[Number], multiple: int) -> NDArray[Number]:
    missing = -rows.shape[1] % multiple
    return np.pad(rows, ((0, 0), (0, missing))) if missing else rows


@lru_cache(maxsize=1)
def _nibble_pairs() -> NDArray[np.float64]:
    """Return, for each byte, its two codes as float32, in the bits of one float64."""
    both = np.arange(256, dtype=np.uint8)
    pairs = np.stack([both & 15, both >> 4], axis=1).astype(np.float32) - 8
    return pairs.view(np.float64).reshape(-1)


@lru_cache(maxsize=1)
def _halves() -> Floats:
    return np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
