"""Elements at an address, as compiled loops read them, whatever their float dtype."""

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.compiled import bits
from hansa_core.aggregation.compiled.jit import inlined
from hansa_core.aggregation.compiled.kinds import BF16, F32, F64


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
    """Add factor * element, F32 or F64, to `out_b`."""
    count = out_b.shape[0]
    if kind == F32:
        f32 = bits.carray(bits.f32_at(address), (count,))
        for i in range(count):
            out_b[i] += factor * np.float64(f32[i])
    else:
        f64 = bits.carray(bits.f64_at(address), (count,))
        for i in range(count):
            out_b[i] += factor * f64[i]


@inlined
def halves(kind: int, address: np.uint64, out: np.uint64, count: int) -> None:
    """Write elements, BF16 or F16, as float32 to an address."""
    out_b = bits.carray(bits.f32_at(out), (count,))
    half = bits.carray(bits.u16_at(address), (count,))
    if kind == BF16:
        for i in range(count):
            out_b[i] = np.float32(bits.bf16_value(half[i]))
    else:
        for i in range(count):
            out_b[i] = np.float32(bits.f16_value(half[i]))


@inlined
def keys(kind: int, address: int, out_b: NDArray[np.int32]) -> bool:
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
def value(key: int) -> float:
    """Return the float that `keys` made a key of."""
    return bits.f32_value(bits.ordered32(key))
