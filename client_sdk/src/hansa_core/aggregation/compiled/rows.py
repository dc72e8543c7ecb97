"""Elements at an address, as compiled loops read them, whatever their float dtype."""
# ruff: noqa: ANN401 -- what numba knows types of

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from hansa_core.aggregation.compiled import bits
from hansa_core.aggregation.compiled.jit import inlined
from hansa_core.aggregation.compiled.kinds import BF16, F32, F64

_overload: Callable[..., Callable[[Any], Any]] = cast("Any", overload)


@inlined
def itemsize(kind: int) -> int:
    """Return the bytes of an element."""
    if kind == F64:
        return 8
    return 4 if kind == F32 else 2


@inlined
def widen(kind: int, address: int, out_b: NDArray[np.float64]) -> None:
    """Write the elements as float64."""
    count = out_b.shape[0]
    if kind == F32:
        f32 = bits.carray(bits.f32_at(address), (count,))
        for i in range(count):
            out_b[i] = f32[i]
    elif kind == F64:
        f64 = bits.carray(bits.f64_at(address), (count,))
        for i in range(count):
            out_b[i] = f64[i]
    elif kind == BF16:
        bf16 = bits.carray(bits.u16_at(address), (count,))
        for i in range(count):
            out_b[i] = bits.bf16_value(bf16[i])
    else:
        f16 = bits.carray(bits.u16_at(address), (count,))
        for i in range(count):
            out_b[i] = bits.f16_value(f16[i])


@inlined
def add_scaled(kind: int, address: int, factor: float, out_b: NDArray[np.float64]) -> None:
    """Add factor * element to `out_b`."""
    count = out_b.shape[0]
    if kind == F32:
        f32 = bits.carray(bits.f32_at(address), (count,))
        for i in range(count):
            out_b[i] += factor * np.float64(f32[i])
    elif kind == F64:
        f64 = bits.carray(bits.f64_at(address), (count,))
        for i in range(count):
            out_b[i] += factor * f64[i]
    elif kind == BF16:
        bf16 = bits.carray(bits.u16_at(address), (count,))
        for i in range(count):
            out_b[i] += factor * bits.bf16_value(bf16[i])
    else:
        f16 = bits.carray(bits.u16_at(address), (count,))
        for i in range(count):
            out_b[i] += factor * bits.f16_value(f16[i])


@inlined
def _keys32(kind: int, address: int, out_b: NDArray[np.int32]) -> bool:
    """Write F32, F16 or BF16 as integers that compare as they do; whether there is a NaN."""
    count = out_b.shape[0]
    if kind == F32:
        f32 = bits.carray(bits.i32_at(address), (count,))
        for i in range(count):
            out_b[i] = f32[i]
    elif kind == BF16:
        bf16 = bits.carray(bits.u16_at(address), (count,))
        for i in range(count):
            out_b[i] = bits.bf16_bits(bf16[i])
    else:
        f16 = bits.carray(bits.u16_at(address), (count,))
        for i in range(count):
            out_b[i] = bits.f16_bits(f16[i])
    unordered = np.int32(0)
    for i in range(count):
        unordered |= bits.is_nan32(out_b[i])
        out_b[i] = bits.ordered32(out_b[i])
    return unordered != 0


@inlined
def _keys64(kind: int, address: int, out_b: NDArray[np.int64]) -> bool:
    """Write any float dtype as integers that compare as float64 does; whether there is a NaN."""
    values = out_b.view(np.float64)
    widen(kind, address, values)
    unordered = np.int64(0)
    for i in range(out_b.shape[0]):
        unordered |= bits.is_nan64(out_b[i])
        out_b[i] = bits.ordered64(out_b[i])
    return unordered != 0


def keys(kind: int, address: int, out_b: NDArray[Any]) -> bool:
    """Write the elements as integers of the width of `out_b` that compare as they do.

    Returns whether there is a NaN. 32 bits are enough for F32, F16 and BF16.
    """
    raise NotImplementedError("runs in compiled code alone")


def value(key: int) -> float:
    """Return the float that `keys` made a key of."""
    raise NotImplementedError("runs in compiled code alone")


@_overload(keys)
def _keys(kind: Any, address: Any, out_b: Any) -> Callable[..., bool]:
    def narrow(kind: Any, address: Any, out_b: Any) -> bool:
        return _keys32(kind, address, out_b)

    def wide(kind: Any, address: Any, out_b: Any) -> bool:
        return _keys64(kind, address, out_b)

    return narrow if out_b.dtype == numba.int32 else wide


@_overload(value)
def _value(key: Any) -> Callable[..., float]:
    def narrow(key: Any) -> float:
        return bits.f32_value(bits.ordered32(key))

    def wide(key: Any) -> float:
        return bits.f64_value(bits.ordered64(key))

    return narrow if key == numba.int32 else wide
