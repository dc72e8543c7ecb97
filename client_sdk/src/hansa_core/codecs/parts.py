"""Decoding a part of a tensor that begins and ends anywhere, not only where records do.

By compiled loops (compiled.py) where numba is installed and there is one for the codec, otherwise
by whole records (records.py) of which the ends are cut off. Both give the same bits.
"""

import importlib
from functools import lru_cache
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation import compiled
from hansa_core.aggregation.compiled.kinds import BF16, F16, INT4, INT8
from hansa_core.codecs import blocks
from hansa_core.codecs.blocks import Bytes, Floats
from hansa_core.codecs.plans import HalfType
from hansa_core.codecs.records import (
    Halves,
    Int4Blocks,
    Int8Blocks,
    Records,
    Sparse2Chunks,
    TopKChunks,
)
from hansa_core.problems import TensorFormatError


class PartDecoder(Protocol):
    """What `decode_part` and `decode_plain` are."""

    def __call__(
        self, records: Records, raw: Bytes, available: int, skip: int, out_n: Floats
    ) -> None: ...


def decode_part(records: Records, raw: Bytes, available: int, skip: int, out_n: Floats) -> None:
    """Write the values from element `skip` on of consecutive records.

    The first of them, which has that element, begins `available` elements before the end of its
    tensor; `raw` reaches to the end of the last one. Raises TensorFormatError for positions that do
    not ascend.
    """
    loops = _loops()
    if loops is None or not _decode_compiled(loops, records, raw, available, skip, out_n):
        decode_plain(records, raw, available, skip, out_n)


def decode_plain(records: Records, raw: Bytes, available: int, skip: int, out_n: Floats) -> None:
    """Do what `decode_part` does without compiled loops."""
    elements, size = records.elements, records.size(records.elements)
    done = 0
    if skip:
        count = min(elements, available)
        head_n = out_n[: count - skip]
        _decode_one(records, raw[: records.size(count)], count, skip, head_n)
        done, raw, available = len(head_n), raw[records.size(count) :], available - count
    whole = (len(out_n) - done) // elements
    if whole:
        out_rn = out_n[done : done + whole * elements].reshape(whole, elements)
        records.decode(raw[: whole * size].reshape(whole, size), out_rn)
        done, raw, available = done + out_rn.size, raw[whole * size :], available - out_rn.size
    if done < len(out_n):
        _decode_one(records, raw, min(elements, available), 0, out_n[done:])


def kind_of(records: Records) -> int | None:
    """Return what compiled loops that decode what they add call the records, if they do so."""
    match records:
        case Halves(HalfType.BF16):
            return BF16
        case Halves():
            return F16
        case Int8Blocks():
            return INT8
        case Int4Blocks():
            return INT4
        case _:
            return None


def _decode_one(records: Records, raw: Bytes, count: int, skip: int, out_n: Floats) -> None:
    """Decode values from `skip` on of one record of `count`."""
    all_1n = np.empty((1, count), np.float32)
    records.decode(raw.reshape(1, -1), all_1n)
    np.copyto(out_n, all_1n[0, skip : skip + len(out_n)])


def _decode_compiled(
    loops: ModuleType, records: Records, raw: Bytes, available: int, skip: int, out_n: Floats
) -> bool:
    """Decode if there is a loop for it."""
    ordered = True
    match records:
        case Halves(HalfType.BF16):
            loops.bf16(raw.view("<u2"), out_n.view(np.uint32))
        case Halves(kind):
            loops.fp16(raw.view("<u2"), _half_bits(kind), out_n.view(np.uint32))
        case Int8Blocks(elements):
            loops.int8(raw, elements, skip, out_n)
        case Int4Blocks(elements):
            loops.int4(raw, elements, skip, out_n)
        case TopKChunks(kept, kind):
            bits_n = out_n.view(np.uint32)
            ordered = loops.topk(raw, kept, available, skip, _half_bits(kind), bits_n)
        case Sparse2Chunks(kept):
            ordered = loops.sparse2(raw, kept, available, skip, out_n.view(np.uint32))
        case _:
            return False
    if not ordered:
        raise TensorFormatError("a chunk's positions do not ascend, or not below its length")
    return True


def _loops() -> ModuleType | None:
    """Return the compiled loops, where they are to be used."""
    return importlib.import_module("hansa_core.codecs.compiled") if compiled.usable() else None


@lru_cache(maxsize=2)
def _half_bits(kind: HalfType) -> NDArray[np.uint32]:
    """Return the float32 bits of every half."""
    halves_n = np.arange(2**16, dtype=np.uint16)
    floats_n = np.empty(len(halves_n), np.float32)
    widen = blocks.bf16_to_floats if kind is HalfType.BF16 else blocks.fp16_to_floats
    widen(halves_n, floats_n)
    return floats_n.view(np.uint32)
