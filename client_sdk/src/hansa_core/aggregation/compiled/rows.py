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
def add_four_scaled(
    addresses_r: NDArray[np.uint64], factors_r: NDArray[np.float64], out_b: NDArray[np.float64]
) -> None:
    """Add four rows of F32, one after the other: a quarter faster than one at a time."""
    count = out_b.shape[0]
    a = bits.carray(bits.f32_at(addresses_r[0]), (count,))
    b = bits.carray(bits.f32_at(addresses_r[1]), (count,))
    c = bits.carray(bits.f32_at(addresses_r[2]), (count,))
    d = bits.carray(bits.f32_at(addresses_r[3]), (count,))
    of_a, of_b, of_c, of_d = factors_r[0], factors_r[1], factors_r[2], factors_r[3]
    for i in range(count):
        two = (out_b[i] + of_a * np.float64(a[i])) + of_b * np.float64(b[i])
        out_b[i] = (two + of_c * np.float64(c[i])) + of_d * np.float64(d[i])


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
