"""The encoded file read as docs/codecs.md describes it, number by number: slow, and on its own."""

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa_core.codecs.plans import CodecPlan, Int4Plan, Int8Plan, Sparse2Plan, TopKPlan
from hansa_core.layouts import Layout

HEADER = 64
CHUNK = 4096


def plain_decode(file: bytes, layout: Layout, plan: CodecPlan) -> dict[str, NDArray[Any]]:
    """Return the tensors of a good file; lossy plans only."""
    at = HEADER
    decoded: dict[str, NDArray[Any]] = {}
    for tensor in layout.tensors:
        if not tensor.dtype.is_float:
            data = file[at : at + tensor.size]
            decoded[tensor.name] = np.frombuffer(data, tensor.dtype.numpy).reshape(tensor.shape)
            at += tensor.size
            continue
        values: list[float] = []
        if len(tensor.shape) <= 1 and tensor.count <= 65_536:
            values = list(struct.unpack_from(f"<{tensor.count}f", file, at))
            at += 4 * tensor.count
        while len(values) < tensor.count:
            record, size = _record(file, at, tensor.count - len(values), plan)
            values += record
            at += size
        decoded[tensor.name] = np.array(values, np.float32).reshape(tensor.shape)
    assert at == len(file)
    return decoded


def plain_kept(count: int, plan: TopKPlan | Sparse2Plan) -> int:
    """Return how many of a chunk are sent."""
    whole = math.ceil(round(plan.fraction * CHUNK, 6))
    return math.ceil(count * whole / CHUNK)


def half(bits: int, kind: str) -> float:
    """Return the value of 16 bits."""
    if kind == "bf16":
        return struct.unpack("<f", struct.pack("<I", bits << 16))[0]
    return struct.unpack("<e", struct.pack("<H", bits))[0]


def number(file: bytes, at: int, bits: int, index: int) -> int:
    """Return the index-th of packed numbers, by counting bits."""
    value = 0
    for bit in range(bits):
        place = index * bits + bit
        value |= ((file[at + place // 8] >> (place % 8)) & 1) << bit
    return value


def _record(file: bytes, at: int, left: int, plan: CodecPlan) -> tuple[list[float], int]:
    match plan:
        case Int8Plan() | Int4Plan():
            return _block(file, at, min(left, plan.block), plan)
        case TopKPlan() | Sparse2Plan():
            return _chunk(file, at, min(left, CHUNK), plan)
        case _:
            return [half(int.from_bytes(file[at : at + 2], "little"), plan.name)], 2


def _block(file: bytes, at: int, count: int, plan: Int8Plan | Int4Plan) -> tuple[list[float], int]:
    scale = struct.unpack_from("<f", file, at)[0]
    if isinstance(plan, Int8Plan):
        codes = list(struct.unpack_from(f"<{count}b", file, at + 4))
        size = 4 + count
    else:
        codes = [number(file, at + 4, 4, index) - 8 for index in range(count)]
        size = 4 + math.ceil(count / 2)
    # The product of a float32 and a byte is exact in float64, so it is rounded once, below.
    return [
        float(np.float32(scale * code)) if code else math.copysign(0, scale) for code in codes
    ], size


def _chunk(
    file: bytes, at: int, count: int, plan: TopKPlan | Sparse2Plan
) -> tuple[list[float], int]:
    kept = plain_kept(count, plan)
    values = [0.0] * count
    indices = math.ceil(12 * kept / 8)
    for rank in range(kept):
        if isinstance(plan, TopKPlan):
            position = number(file, at, 12, rank)
            bits = int.from_bytes(file[at + indices + 2 * rank :][:2], "little")
            values[position] = half(bits, plan.values)
        else:
            position = number(file, at + 4, 12, rank)
            code = number(file, at + 4 + indices, 2, rank)
            bits = int.from_bytes(file[at + 2 * (code & 1) :][:2], "little")
            values[position] = half(bits, "bf16") * (-1 if code & 2 else 1)
    extra = 2 * kept if isinstance(plan, TopKPlan) else 4 + math.ceil(kept / 4)
    return values, indices + extra
