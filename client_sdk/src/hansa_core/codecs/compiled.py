"""Decoding loops compiled by numba, an optional dependency: the bits of records.py, but faster.

Each takes `raw`, whole records one after the other, and writes `len(out)` values from element
`skip` on; where it has to know, the first record begins `available` elements before the end of its
tensor. Invariants: no floating point but one multiplication; nothing is read or written out of
bounds if `raw` has all records that `out` reaches into. Importing this takes half a second:
parts.py does so when needed.
"""

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.compiled import records
from hansa_core.aggregation.compiled.jit import compiled, inlined
from hansa_core.codecs.plans import CHUNK

_LEVELS_SIZE = 4
_SIGN = 0x80000000


@compiled
def bf16(halves: NDArray[np.uint16], out: NDArray[np.uint32]) -> None:
    """Decode Halves of bfloat16 as bits: `skip` is 0 and `available` does not matter."""
    for i in range(len(out)):
        out[i] = np.uint32(halves[i]) << np.uint32(16)


@compiled
def fp16(halves: NDArray[np.uint16], bits: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    """Decode Halves as bits; `bits` has those of each half."""
    for i in range(len(out)):
        out[i] = bits[halves[i]]


@compiled
def int8(raw: NDArray[np.uint8], elements: int, skip: int, out: NDArray[np.float32]) -> None:
    """Decode Int8Blocks."""
    places = np.uint64(raw.ctypes.data), np.uint64(out.ctypes.data)
    records.int8(places[0], elements, skip, places[1], len(out))


@compiled
def int4(raw: NDArray[np.uint8], elements: int, skip: int, out: NDArray[np.float32]) -> None:
    """Decode Int4Blocks."""
    places = np.uint64(raw.ctypes.data), np.uint64(out.ctypes.data)
    records.int4(places[0], elements, skip, places[1], len(out))


@compiled
def topk(
    raw: NDArray[np.uint8],
    kept: int,
    available: int,
    skip: int,
    halves: NDArray[np.uint32],
    out: NDArray[np.uint32],
) -> bool:
    """Decode TopKChunks as bits; `halves` has the float32 bits of each half. False: disorder."""
    out[:] = 0
    done, base = 0, 0
    while done < len(out):
        count = min(CHUNK, available)
        many = -(-count * kept // CHUNK)
        values = base + (12 * many + 7) // 8
        stop = min(count - skip, len(out) - done)
        before = -1
        for rank in range(many):
            position = _position(raw, base, rank)
            if position <= before or position >= count:
                return False
            before = position
            place = position - skip
            if 0 <= place < stop:
                at = values + 2 * rank
                out[done + place] = halves[np.int64(raw[at]) | (np.int64(raw[at + 1]) << 8)]
        done += stop
        base = values + 2 * many
        available -= CHUNK
        skip = 0
    return True


@compiled
def sparse2(
    raw: NDArray[np.uint8], kept: int, available: int, skip: int, out: NDArray[np.uint32]
) -> bool:
    """Decode Sparse2Chunks as bits. False: positions out of order."""
    out[:] = 0
    levels = np.empty(4, np.uint32)
    done, base = 0, 0
    while done < len(out):
        count = min(CHUNK, available)
        many = -(-count * kept // CHUNK)
        both = _word(raw, base)
        levels[0] = (both & 0xFFFF) << 16
        levels[1] = both & 0xFFFF0000
        levels[2] = levels[0] ^ _SIGN
        levels[3] = levels[1] ^ _SIGN
        positions = base + _LEVELS_SIZE
        codes = positions + (12 * many + 7) // 8
        stop = min(count - skip, len(out) - done)
        before = -1
        for rank in range(many):
            position = _position(raw, positions, rank)
            if position <= before or position >= count:
                return False
            before = position
            place = position - skip
            if 0 <= place < stop:
                out[done + place] = levels[(raw[codes + rank // 4] >> (2 * (rank % 4))) & 3]
        done += stop
        base = codes + (2 * many + 7) // 8
        available -= CHUNK
        skip = 0
    return True


@inlined
def _word(raw: NDArray[np.uint8], at: int) -> np.int64:
    """Return 32 bits, little-endian."""
    low = np.int64(raw[at]) | (np.int64(raw[at + 1]) << 8)
    high = np.int64(raw[at + 2]) | (np.int64(raw[at + 3]) << 8)
    return low | (high << 16)


@inlined
def _position(raw: NDArray[np.uint8], base: int, rank: int) -> np.int64:
    """Return one of the 12-bit numbers from `base` on."""
    at = base + 3 * (rank // 2)
    if rank % 2:
        return (np.int64(raw[at + 1]) >> 4) | (np.int64(raw[at + 2]) << 4)
    return np.int64(raw[at]) | ((np.int64(raw[at + 1]) & 15) << 8)
