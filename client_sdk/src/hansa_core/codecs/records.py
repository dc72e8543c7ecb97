"""The codecs as records: so many values of one tensor in so many bytes, whatever the values are.

A tensor is cut into records of `elements` values, the last one shorter. Since the size of a record
follows from the number of its values alone, where the n-th value of a tensor lies is arithmetic, a
file's size is known before it arrives, and any part can be decoded without the rest.

Invariants: `decode` reads and writes nothing out of bounds, whatever the bytes are; bytes without a
`fault` decode to finite values.

Shape suffixes as in blocks.py: r records, n elements, k kept elements, b bytes of each.
"""

from dataclasses import dataclass
from typing import Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from hansa_core.codecs import blocks, faults
from hansa_core.codecs.blocks import Bytes, Floats
from hansa_core.codecs.faults import Fault
from hansa_core.codecs.plans import (
    CHUNK,
    Bf16Plan,
    Fp16Plan,
    HalfType,
    Int4Plan,
    Int8Plan,
    LossyPlan,
    Rounding,
    Sparse2Plan,
    TopKPlan,
    kept_of,
)
from hansa_core.dtypes import f32_to_bf16
from hansa_core.problems import TensorFormatError

CODECS = {1: "bf16", 2: "fp16", 3: "int8", 4: "int4", 5: "topk", 6: "sparse2"}  # by header number

_VALUE_TYPES = {HalfType.BF16: 1, HalfType.FP16: 2}  # by header number
_FLOAT_SIZE = 4  # bytes
_SCALE_SIZE = _FLOAT_SIZE
_HALF_SIZE = 2
_LEVELS_SIZE = 2 * _HALF_SIZE


class Records(Protocol):
    """One codec with its settings."""

    @property
    def elements(self) -> int:
        """Values of a whole record."""
        ...

    def described(self) -> tuple[int, int, int]:
        """Return what the header has of it: codec, type of values, values kept of a record."""
        ...

    def size(self, count: int) -> int:
        """Return the bytes of a record of `count` values, from 1 to `elements`."""
        ...

    def encode(self, values_rn: Floats, generator: np.random.Generator | None) -> Bytes:
        """Return the bytes of finite values, rb. What does not fit shows as a fault of them."""
        ...

    def decode(self, raw_rb: Bytes, out_rn: Floats) -> None:
        """Write the values of whole records to `out_rn`, which is contiguous.

        Raises TensorFormatError for positions out of order.
        """
        ...

    def fault(self, raw_rb: Bytes, count: int) -> Fault | None:
        """Return what is wrong with records of `count` values each, or None."""
        ...

    def sent(self, raw_rb: Bytes, count: int) -> Floats:
        """Return all values but those that are zero because they were not sent."""
        ...


@dataclass(frozen=True, slots=True)
class Halves:
    """Every value in 16 bits; a record is one value."""

    kind: HalfType
    elements: int = 1

    def described(self) -> tuple[int, int, int]:
        return _VALUE_TYPES[self.kind], 0, 0

    def size(self, count: int) -> int:
        return _HALF_SIZE * count

    def encode(self, values_rn: Floats, generator: np.random.Generator | None) -> Bytes:
        del generator
        return _from_halves(_to_halves(values_rn, self.kind))

    def decode(self, raw_rb: Bytes, out_rn: Floats) -> None:
        bits = raw_rb.reshape(-1).view("<u2")
        if self.kind is HalfType.BF16:
            blocks.bf16_to_floats(bits, out_rn.reshape(-1))
        else:
            blocks.fp16_to_floats(bits, out_rn.reshape(-1))

    def fault(self, raw_rb: Bytes, count: int) -> Fault | None:
        del count
        return faults.half_fault(raw_rb, self.kind)

    def sent(self, raw_rb: Bytes, count: int) -> Floats:
        return _decoded(self, raw_rb, count)


@dataclass(frozen=True, slots=True)
class WholeFloats:
    """Every value as float32; a record is one value. For tensors that no codec touches."""

    elements: int = 1

    def described(self) -> tuple[int, int, int]:
        return 0, 0, 0

    def size(self, count: int) -> int:
        return _FLOAT_SIZE * count

    def encode(self, values_rn: Floats, generator: np.random.Generator | None) -> Bytes:
        del generator
        return values_rn.astype("<f4").view(np.uint8)

    def decode(self, raw_rb: Bytes, out_rn: Floats) -> None:
        np.copyto(out_rn, raw_rb.view("<f4"))

    def fault(self, raw_rb: Bytes, count: int) -> Fault | None:
        del count
        return faults.float_fault(raw_rb.view("<f4"))

    def sent(self, raw_rb: Bytes, count: int) -> Floats:
        del count
        return raw_rb.view("<f4")


@dataclass(frozen=True, slots=True)
class Int8Blocks:
    """A float32 scale, then a signed byte per value."""

    elements: int
    rounding: Rounding

    def described(self) -> tuple[int, int, int]:
        return 3, 0, 0

    def size(self, count: int) -> int:
        return _SCALE_SIZE + count

    def encode(self, values_rn: Floats, generator: np.random.Generator | None) -> Bytes:
        scales_r, codes_rn = blocks.quantize(values_rn, 127, _drawn(self.rounding, generator))
        return np.concatenate([_from_scales(scales_r), codes_rn.view(np.uint8)], axis=1)

    def decode(self, raw_rb: Bytes, out_rn: Floats) -> None:
        codes_rn = raw_rb[:, _SCALE_SIZE:].view(np.int8)
        blocks.scale_bytes(codes_rn, blocks.scales_of(raw_rb), out_rn)

    def fault(self, raw_rb: Bytes, count: int) -> Fault | None:
        del count
        return faults.scale_fault(raw_rb)

    def sent(self, raw_rb: Bytes, count: int) -> Floats:
        return _decoded(self, raw_rb, count)


@dataclass(frozen=True, slots=True)
class Int4Blocks:
    """A float32 scale, then 4 bits per value: 8 more than the code."""

    elements: int  # even
    rounding: Rounding

    def described(self) -> tuple[int, int, int]:
        return 4, 0, 0

    def size(self, count: int) -> int:
        return _SCALE_SIZE + (count + 1) // 2

    def encode(self, values_rn: Floats, generator: np.random.Generator | None) -> Bytes:
        scales_r, codes_rn = blocks.quantize(values_rn, 7, _drawn(self.rounding, generator))
        return np.concatenate([_from_scales(scales_r), blocks.pack_nibbles(codes_rn)], axis=1)

    def decode(self, raw_rb: Bytes, out_rn: Floats) -> None:
        packed_rb, scales_r = raw_rb[:, _SCALE_SIZE:], blocks.scales_of(raw_rb)
        if out_rn.shape[1] % 2 == 0:
            blocks.scale_nibbles(packed_rb, scales_r, out_rn)
            return
        even_rn = np.empty((len(out_rn), out_rn.shape[1] + 1), np.float32)
        blocks.scale_nibbles(packed_rb, scales_r, even_rn)
        np.copyto(out_rn, even_rn[:, :-1])

    def fault(self, raw_rb: Bytes, count: int) -> Fault | None:
        return faults.first(
            faults.scale_fault(raw_rb), faults.padding_fault(raw_rb[:, -1], 4 * (count % 2))
        )

    def sent(self, raw_rb: Bytes, count: int) -> Floats:
        return _decoded(self, raw_rb, count)


@dataclass(frozen=True, slots=True)
class TopKChunks:
    """The kept positions in 12 bits each, then their values in 16 bits each."""

    kept: int  # of a whole chunk
    kind: HalfType
    elements: int = CHUNK

    def described(self) -> tuple[int, int, int]:
        return 5, _VALUE_TYPES[self.kind], self.kept

    def size(self, count: int) -> int:
        kept = kept_among(count, self.kept)
        return blocks.positions_size(kept) + _HALF_SIZE * kept

    def encode(self, values_rn: Floats, generator: np.random.Generator | None) -> Bytes:
        del generator
        positions_rk = blocks.greatest(values_rn, kept_among(values_rn.shape[1], self.kept))
        values_rk = np.take_along_axis(values_rn, positions_rk.astype(np.intp), axis=1)
        halves = _from_halves(_to_halves(values_rk, self.kind))
        return np.concatenate([blocks.pack_positions(positions_rk), halves], axis=1)

    def decode(self, raw_rb: Bytes, out_rn: Floats) -> None:
        kept = kept_among(out_rn.shape[1], self.kept)
        positions_rk = _positions(raw_rb, kept, out_rn.shape[1])
        blocks.scatter(positions_rk, self.sent(raw_rb, out_rn.shape[1]), out_rn)

    def fault(self, raw_rb: Bytes, count: int) -> Fault | None:
        kept = kept_among(count, self.kept)
        size = blocks.positions_size(kept)
        return faults.first(
            faults.position_fault(raw_rb, kept, count),
            faults.padding_fault(raw_rb[:, size - 1], 4 * (kept % 2)),
            faults.half_fault(raw_rb[:, size:], self.kind),
        )

    def sent(self, raw_rb: Bytes, count: int) -> Floats:
        kept = kept_among(count, self.kept)
        halves = np.ascontiguousarray(raw_rb[:, blocks.positions_size(kept) :])
        values_rk = np.empty((len(raw_rb), kept), np.float32)
        Halves(self.kind).decode(halves, values_rk)
        return values_rk


@dataclass(frozen=True, slots=True)
class Sparse2Chunks:
    """Two bfloat16 magnitudes, then kept positions in 12 bits and their codes in 2 bits each."""

    kept: int  # of a whole chunk
    elements: int = CHUNK

    def described(self) -> tuple[int, int, int]:
        return 6, 0, self.kept

    def size(self, count: int) -> int:
        kept = kept_among(count, self.kept)
        return _LEVELS_SIZE + blocks.positions_size(kept) + blocks.pairs_size(kept)

    def encode(self, values_rn: Floats, generator: np.random.Generator | None) -> Bytes:
        del generator
        positions_rk = blocks.greatest(values_rn, kept_among(values_rn.shape[1], self.kept))
        values_rk = np.take_along_axis(values_rn, positions_rk.astype(np.intp), axis=1)
        bits_r2, codes_rk = blocks.two_levels(values_rk)
        parts = [
            _from_halves(bits_r2),
            blocks.pack_positions(positions_rk),
            blocks.pack_pairs(codes_rk),
        ]
        return np.concatenate(parts, axis=1)

    def decode(self, raw_rb: Bytes, out_rn: Floats) -> None:
        kept = kept_among(out_rn.shape[1], self.kept)
        positions_rk = _positions(raw_rb[:, _LEVELS_SIZE:], kept, out_rn.shape[1])
        blocks.scatter(positions_rk, self.sent(raw_rb, out_rn.shape[1]), out_rn)

    def fault(self, raw_rb: Bytes, count: int) -> Fault | None:
        kept = kept_among(count, self.kept)
        size = blocks.positions_size(kept)
        return faults.first(
            faults.level_fault(raw_rb[:, :_LEVELS_SIZE]),
            faults.position_fault(raw_rb[:, _LEVELS_SIZE:], kept, count),
            faults.padding_fault(raw_rb[:, _LEVELS_SIZE + size - 1], 4 * (kept % 2)),
            faults.padding_fault(raw_rb[:, -1], -2 * kept % 8),
        )

    def sent(self, raw_rb: Bytes, count: int) -> Floats:
        kept = kept_among(count, self.kept)
        bits_r2 = np.ascontiguousarray(raw_rb[:, :_LEVELS_SIZE]).view("<u2")
        packed_rb = raw_rb[:, _LEVELS_SIZE + blocks.positions_size(kept) :]
        return blocks.from_two_levels(bits_r2, blocks.unpack_pairs(packed_rb, kept))


def records_of(plan: LossyPlan) -> Records:
    """Return the codec of a plan."""
    match plan:
        case Bf16Plan():
            return Halves(HalfType.BF16)
        case Fp16Plan():
            return Halves(HalfType.FP16)
        case Int8Plan():
            return Int8Blocks(plan.block, plan.rounding)
        case Int4Plan():
            return Int4Blocks(plan.block, plan.rounding)
        case TopKPlan():
            return TopKChunks(kept_of(plan), plan.values)
        case Sparse2Plan():
            return Sparse2Chunks(kept_of(plan))
        case _:
            assert_never(plan)


def kept_among(count: int, kept: int) -> int:
    """Return how many of a chunk of `count` values are kept, if `kept` of a whole one are."""
    return -(-count * kept // CHUNK)


def _decoded(records: Records, raw_rb: Bytes, count: int) -> Floats:
    out_rn = np.empty((len(raw_rb), count), np.float32)
    records.decode(raw_rb, out_rn)
    return out_rn


def _drawn(rounding: Rounding, generator: np.random.Generator | None) -> np.random.Generator | None:
    if rounding is Rounding.NEAREST:
        return None
    if generator is None:
        raise ValueError("stochastic rounding needs a generator, got None")
    return generator


def _to_halves(values: Floats, kind: HalfType) -> NDArray[np.uint16]:
    if kind is HalfType.BF16:
        return f32_to_bf16(np.ascontiguousarray(values))
    with np.errstate(over="ignore", under="ignore"):  # what overflows shows as a fault
        return values.astype(np.float16).view(np.uint16)


def _from_halves(bits_rk: NDArray[np.uint16]) -> Bytes:
    return bits_rk.astype("<u2").view(np.uint8)


def _from_scales(scales_r: Floats) -> Bytes:
    return scales_r.astype("<f4").view(np.uint8).reshape(-1, _SCALE_SIZE)


def _positions(raw_rb: Bytes, kept: int, count: int) -> NDArray[np.uint16]:
    """Return positions that are safe to write to. Raises TensorFormatError."""
    positions_rk = blocks.unpack_positions(raw_rb[:, : blocks.positions_size(kept)], kept)
    if blocks.unordered(positions_rk, count).any():
        raise TensorFormatError(f"a chunk's positions do not ascend, or not below {count}")
    return positions_rk
