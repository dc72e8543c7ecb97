"""Element types of tensors, and exact conversion between them and float64.

numpy has no bfloat16. Here such an array has the dtype `BFLOAT16`, a record of one uint16: the
tag travels with the array, views cost nothing, and a stray uint16 array is never mistaken for it.
Every conversion to float64 is exact; every conversion from it rounds once, half to even.
"""

from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa_core.problems import TensorFormatError

BFLOAT16 = np.dtype([("bfloat16", "<u2")])


class DType(StrEnum):
    """The safetensors element types that Hansa accepts."""

    F64 = "F64"  # IEEE 754 binary64
    F32 = "F32"  # IEEE 754 binary32
    F16 = "F16"  # IEEE 754 binary16
    BF16 = "BF16"  # the upper half of a binary32
    I64 = "I64"  # two's complement, as all signed integers
    I32 = "I32"
    I16 = "I16"
    I8 = "I8"
    U8 = "U8"
    BOOL = "BOOL"  # one byte, 0 or 1

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.numpy.itemsize

    @property
    def is_float(self) -> bool:
        return self in _FLOATS

    @property
    def numpy(self) -> np.dtype[Any]:
        """The little-endian numpy dtype that holds such elements."""
        return _NUMPY[self]


_FLOATS = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16})
_NUMPY: dict[DType, np.dtype[Any]] = {
    DType.F64: np.dtype("<f8"),
    DType.F32: np.dtype("<f4"),
    DType.F16: np.dtype("<f2"),
    DType.BF16: BFLOAT16,
    DType.I64: np.dtype("<i8"),
    DType.I32: np.dtype("<i4"),
    DType.I16: np.dtype("<i2"),
    DType.I8: np.dtype("i1"),
    DType.U8: np.dtype("u1"),
    DType.BOOL: np.dtype("?"),
}
_BY_NUMPY = {dtype: name for name, dtype in _NUMPY.items()}

_BF16_EXPONENT = 0x7F80  # all ones in a NaN and in an infinity
_INT64 = np.iinfo(np.int64)
_LARGEST_BELOW_2_63 = float(2**63 - 1024)  # the largest float64 that fits an int64


def dtype_of(array: NDArray[Any]) -> DType:
    """Return the element type of `array`, whatever its byte order.

    Raises TensorFormatError where no accepted type matches. Plain uint16 has none: bfloat16
    bits say so by `bits.view(BFLOAT16)`.
    """
    dtype = _BY_NUMPY.get(array.dtype) or _BY_NUMPY.get(array.dtype.newbyteorder("<"))
    if dtype is None:
        raise TensorFormatError(
            f"array dtype is {array.dtype}, wanted one of {', '.join(DType)} "
            "(bfloat16 bits as a BFLOAT16 view)"
        )
    return dtype


def bf16_to_f32(bits: NDArray[Any]) -> NDArray[np.float32]:
    """Widen bfloat16, given as uint16 bits or as a BFLOAT16 array, to float32. Exact."""
    wide = bits.view("<u2").astype(np.uint32)
    np.left_shift(wide, 16, out=wide)
    return wide.view(np.float32)


def f32_to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round float32 to bfloat16 bits, half to even. A NaN stays a NaN, made quiet, sign kept."""
    bits = np.atleast_1d(values).view(np.uint32)
    rounded = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    nan = np.atleast_1d(np.isnan(values))
    rounded[nan] = ((bits[nan] >> 16) | 0x0040).astype(np.uint16)
    return rounded.reshape(values.shape)


def f64_to_bf16(values: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Round float64 to bfloat16 bits, half to even, once.

    Going through float32 with ordinary rounding would round twice. float32 rounded *to odd*
    (toward zero, then the last bit set if anything was lost) keeps the second rounding right,
    since it has more than two bits to spare: Boldo and Melquiond 2008, "Emulation of FMA and
    correctly rounded sums: proved algorithms using rounding to odd", theorem 3.
    """
    values = np.atleast_1d(values)
    with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are carried through
        nearest = values.astype(np.float32)
        widened = nearest.astype(np.float64)
        lost = (widened != values) & ~np.isnan(values)
        away = np.abs(widened) > np.abs(values)
    bits = nearest.view(np.uint32)
    bits -= away  # one step toward zero; from infinity to the largest finite value
    bits |= lost
    return f32_to_bf16(nearest)


def widen(raw: NDArray[np.uint8], dtype: DType, out: NDArray[np.float64]) -> None:
    """Decode the elements in the bytes `raw` into `out`, float64 of exactly as many elements.

    Exact, but for I64 beyond 2**53, which rounds half to even. `raw` need not be aligned.
    """
    if dtype is DType.BF16:
        np.copyto(out, bf16_to_f32(raw.view("<u2")))
    else:
        np.copyto(out, raw.view(dtype.numpy))


def narrow(values: NDArray[np.float64], dtype: DType, out: NDArray[np.uint8]) -> bool:
    """Round `values` once into `out`, the bytes of as many elements of a float `dtype`.

    Returns False if an element came out NaN or infinite.
    """
    if dtype is DType.BF16:
        bits = out.view("<u2")
        bits[:] = f64_to_bf16(values)
        return not bool(((bits & _BF16_EXPONENT) == _BF16_EXPONENT).any())
    elements = out.view(dtype.numpy)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        np.copyto(elements, values, casting="same_kind")
    return bool(np.isfinite(elements).all())


def add_saturating(
    raw: NDArray[np.uint8], addend: NDArray[np.float64], dtype: DType, out: NDArray[np.uint8]
) -> None:
    """Add `addend`, rounded half to even, to the integers in `raw`; stay within `dtype`'s range.

    BOOL counts as an integer of range 0..1. `addend` is finite.
    """
    if dtype is DType.BOOL:
        elements, low, high = raw.view(np.uint8), 0, 1
    else:
        elements = raw.view(dtype.numpy)
        low, high = int(np.iinfo(elements.dtype).min), int(np.iinfo(elements.dtype).max)
    step = np.rint(addend)
    beyond = step > _LARGEST_BELOW_2_63
    whole = np.clip(step, float(_INT64.min), _LARGEST_BELOW_2_63).astype(np.int64)
    whole[beyond] = _INT64.max
    base = elements.astype(np.int64)
    # Clip the step so that the int64 sum cannot wrap, then the sum to the dtype's own range.
    floor = _INT64.min - np.minimum(base, 0)
    ceiling = _INT64.max - np.maximum(base, 0)
    base += np.clip(whole, floor, ceiling)
    out.view(elements.dtype)[:] = np.clip(base, low, high)
