"""Elements that lie in files as records: blocks of whole numbers, each behind its float32 scale.

The bits of codecs/records.py: no floating point but one multiplication of float32. `address` is
where a record begins, `first` counts elements from there on, and may lie in a later record. `out`
is where `size` float32 go. Nothing is read beyond the records that the elements are in.
"""

import numpy as np

from hansa_core.aggregation.compiled import bits
from hansa_core.aggregation.compiled.jit import inlined

SCALE_SIZE = 4  # bytes


@inlined
def int8(address: np.uint64, block: int, first: int, out: np.uint64, size: int) -> None:
    """Decode signed bytes."""
    step = np.uint64(SCALE_SIZE + block)
    record = address + np.uint64(first // block) * step
    skip, done = first % block, 0
    while done < size:
        count = min(block - skip, size - done)
        scale = bits.f32_anywhere(record)
        codes = bits.carray(bits.i8_at(record + np.uint64(SCALE_SIZE + skip)), (count,))
        values = bits.carray(bits.f32_at(out + np.uint64(4 * done)), (count,))
        for i in range(count):
            values[i] = np.float32(codes[i]) * scale
        done += count
        record += step
        skip = 0


@inlined
def int4(address: np.uint64, block: int, first: int, out: np.uint64, size: int) -> None:
    """Decode pairs of 4 bits, the first in the lower ones, 8 more than the number each."""
    step = np.uint64(SCALE_SIZE + block // 2)
    record = address + np.uint64(first // block) * step
    out_b = bits.carray(bits.f32_at(out), (size,))
    skip, done = first % block, 0
    while done < size:
        count = min(block - skip, size - done)
        scale = bits.f32_anywhere(record)
        begin = record + np.uint64(SCALE_SIZE + skip // 2)
        if skip % 2:
            out_b[done] = _of_nibble(bits.carray(bits.u8_at(begin), (1,))[0] >> 4) * scale
            begin += np.uint64(1)
            done += 1
            count -= 1
        codes = bits.carray(bits.u8_at(begin), ((count + 1) // 2,))
        values = bits.carray(bits.f32_at(out + np.uint64(4 * done)), (count,))
        for i in range(count // 2):
            values[2 * i] = _of_nibble(codes[i] & 15) * scale
            values[2 * i + 1] = _of_nibble(codes[i] >> 4) * scale
        if count % 2:
            values[count - 1] = _of_nibble(codes[count // 2] & 15) * scale
        done += count
        record += step
        skip = 0


@inlined
def _of_nibble(code: int) -> np.float32:
    return np.float32(np.uint8(code)) - np.float32(8)
