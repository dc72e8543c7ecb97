"""What can be wrong with the bytes of records: numbers that are not finite, places out of order.

Each function looks at records of one size and tells the first one that is wrong, so that a file has
the same fault however it is cut.
"""

from dataclasses import dataclass

import numpy as np

from hansa_core.codecs import blocks
from hansa_core.codecs.blocks import Bytes, Floats
from hansa_core.codecs.plans import HalfType
from hansa_core.problems import RefusalReason

_EXPONENT = {HalfType.BF16: 0x7F80, HalfType.FP16: 0x7C00}  # all ones in a NaN and an infinity
_DISORDER = RefusalReason.MALFORMED


@dataclass(frozen=True, slots=True)
class Fault:
    """The first record whose bytes mean nothing."""

    record: int
    reason: RefusalReason
    what: str  # continues a sentence that begins with the record's place


def first(*faults: Fault | None) -> Fault | None:
    """Return the fault of the first record; of several in one record, the first given."""
    found = [fault for fault in faults if fault is not None]
    return min(found, key=lambda fault: fault.record) if found else None


def float_fault(values_rn: Floats) -> Fault | None:
    """Return the fault of values that are not finite."""
    finite_r = np.isfinite(values_rn).all(axis=1)
    if finite_r.all():
        return None
    record = int(np.argmin(finite_r))
    value = values_rn[record, 0]
    return Fault(record, RefusalReason.NON_FINITE, f"holds {value}, wanted finite values")


def scale_fault(raw_rb: Bytes) -> Fault | None:
    """Return the fault of a scale that could make a code infinite, or is none."""
    scales_r = blocks.scales_of(raw_rb)
    good_r = (scales_r >= 0) & (scales_r <= blocks.MAX_SCALE)  # a NaN is neither
    if good_r.all():
        return None
    record = int(np.argmin(good_r))
    return Fault(
        record,
        RefusalReason.NON_FINITE,
        f"has the scale {scales_r[record]}, wanted 0 to {blocks.MAX_SCALE:.6g}",
    )


def half_fault(raw_rb: Bytes, kind: HalfType) -> Fault | None:
    """Return the fault of halves that are not finite."""
    bits_rk = np.ascontiguousarray(raw_rb).view("<u2")
    bad_rk = (bits_rk & _EXPONENT[kind]) == _EXPONENT[kind]
    if not bad_rk.any():
        return None
    record, place = divmod(int(np.argmax(bad_rk)), bits_rk.shape[1])
    value = np.empty(1, np.float32)
    widen = blocks.bf16_to_floats if kind is HalfType.BF16 else blocks.fp16_to_floats
    widen(bits_rk[record, place : place + 1], value)
    return Fault(record, RefusalReason.NON_FINITE, f"holds {value[0]}, wanted finite values")


def level_fault(raw_rb: Bytes) -> Fault | None:
    """Return the fault of two magnitudes that are none."""
    bits_r2 = np.ascontiguousarray(raw_rb).view("<u2")
    bad_r = (bits_r2 >= _EXPONENT[HalfType.BF16]).any(axis=1)  # a sign is above all exponents
    if not bad_r.any():
        return None
    record = int(np.argmax(bad_r))
    levels = np.empty(2, np.float32)
    blocks.bf16_to_floats(bits_r2[record], levels)
    return Fault(
        record,
        RefusalReason.NON_FINITE,
        f"has the magnitudes {levels[0]} and {levels[1]}, wanted finite ones, not below 0",
    )


def position_fault(raw_rb: Bytes, kept: int, count: int) -> Fault | None:
    """Return the fault of positions that do not ascend, or not below `count`."""
    positions_rk = blocks.unpack_positions(raw_rb[:, : blocks.positions_size(kept)], kept)
    bad_r = blocks.unordered(positions_rk, count)
    if not bad_r.any():
        return None
    record = int(np.argmax(bad_r))
    row = positions_rk[record].astype(np.int64)
    if row[-1] >= count:
        what = f"ends at position {row[-1]}, wanted at most {count - 1}"
    else:
        place = int(np.argmin(row[1:] > row[:-1]))
        what = f"has position {row[place + 1]} after {row[place]}, wanted ascending ones"
    return Fault(record, _DISORDER, what)


def padding_fault(last_r: Bytes, bits: int) -> Fault | None:
    """Return the fault of records whose last byte has something in its upper `bits` bits."""
    if not bits or not (last_r >> (8 - bits)).any():
        return None
    record = int(np.argmax(last_r >> (8 - bits) != 0))
    return Fault(record, _DISORDER, f"ends with the byte {last_r[record]}, wanted {bits} zero bits")
