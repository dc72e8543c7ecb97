"""Updates, layouts and a plain quantiser that the tests of the quantiser share."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from hansa_core.dtypes import BFLOAT16, DType, f64_to_bf16, widen
from hansa_core.layouts import Layout
from hansa_core.secagg.decoding import MeanDelta, Totals, read_totals
from hansa_core.secagg.encoding import encode
from hansa_core.secagg.packing import Packing, Words
from hansa_core.secagg.terms import QuantiserPlan, Weighing
from hansa_core.secagg.vectors import VectorLayout, vector_layout

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class SiteUpdate:
    """What one site would send, in the clear."""

    tensors: Tensors
    weight: int = 1
    parts: Mapping[str, Tensors] = field(default_factory=dict[str, Tensors])
    scalars: Mapping[str, float] = field(default_factory=dict[str, float])
    metrics: Mapping[str, tuple[float, int]] = field(default_factory=dict[str, tuple[float, int]])


def seed_of(number: int) -> bytes:
    """Return a rounding seed that differs from number to number."""
    return number.to_bytes(32, "big")


def layout_of(
    update: SiteUpdate,
    *,
    lanes: int = 3,
    sites: int = 10,
    train: Sequence[str] = (),
    evaluation: Sequence[str] = (),
) -> VectorLayout:
    """Return the layout of vectors of such updates."""
    parts = {name: Layout.of(tensors) for name, tensors in update.parts.items()}
    uploaded = Layout.of(update.tensors)
    names = tuple(sorted(update.scalars))
    return vector_layout(uploaded, parts, names, train, evaluation, Packing(lanes, sites))


def encoded(
    layout: VectorLayout,
    terms: QuantiserPlan,
    ranges: Sequence[float],
    update: SiteUpdate,
    *,
    weighing: Weighing = Weighing.EXAMPLES,
    seed: int = 0,
) -> Words:
    """Return one site's words."""
    return encode(
        layout,
        terms,
        ranges,
        update.tensors,
        update.parts,
        weight=update.weight,
        weighing=weighing,
        scalars=update.scalars,
        metrics=update.metrics,
        rounding_seed=seed_of(seed),
    )


def summed(vectors: Sequence[Words]) -> Words:
    """Return the sum mod 2 ** 64."""
    total = np.zeros_like(vectors[0])
    for words in vectors:
        total += words
    return total


def opened(
    layout: VectorLayout,
    terms: QuantiserPlan,
    ranges: Sequence[float],
    total: Words,
    survivors: int,
    weighing: Weighing = Weighing.EXAMPLES,
) -> tuple[Totals, Tensors]:
    """Return a sum's totals and the whole mean delta in float64, by name in the vector."""
    totals = read_totals(layout.tail_of(total), layout, terms, ranges, weighing, survivors)
    decoder = MeanDelta.of(layout, terms, ranges, weighing, totals)
    return totals, gathered(layout, decoder, [(0, layout.words)], total)


def gathered(
    layout: VectorLayout, decoder: MeanDelta, spans: Sequence[tuple[int, int]], total: Words
) -> Tensors:
    """Return the mean delta that these spans of words give; NaN where they give nothing."""
    means: Tensors = {
        slot.name: np.full(slot.tensor.count, np.nan) for slot in (*layout.floats, *layout.integers)
    }
    for first, stop in spans:
        for piece in decoder.pieces(total[first:stop], first):
            means[piece.slot.name][piece.start : piece.start + len(piece.values)] = piece.values
    shapes = {slot.name: slot.tensor.shape for slot in (*layout.floats, *layout.integers)}
    return {name: mean.reshape(shapes[name]) for name, mean in means.items()}


def wide(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return an array's values in float64."""
    out = np.empty(array.size)
    dtype = DType.BF16 if array.dtype == BFLOAT16 else Layout.of({"x": array}).tensors[0].dtype
    widen(np.ascontiguousarray(array).reshape(-1).view(np.uint8), dtype, out)
    return out.reshape(array.shape)


def bfloats(values: NDArray[np.float64]) -> NDArray[Any]:
    """Return values rounded to bfloat16."""
    return f64_to_bf16(values).view(BFLOAT16).reshape(values.shape)


def a_model(seed: int = 0, scale: float = 1e-2) -> Tensors:
    """Return a delta of every kind of dtype and shape, with more than a block of floats."""
    rng = np.random.default_rng(seed)
    return {
        "conv": (rng.standard_normal((91, 237)) * scale).astype("f4"),
        "bias": (rng.standard_normal(12) * scale).astype("f4"),
        "scale": np.array(scale, "f4"),
        "empty": np.zeros((3, 0), "f4"),
        "half": (rng.standard_normal((7, 43)) * scale).astype("f2"),
        "brain": bfloats(rng.standard_normal((5, 9)) * scale),
        "double": rng.standard_normal((2, 3)) * scale,
        "steps": rng.integers(-50, 50, (4,), dtype="i8"),
        "small": rng.integers(-100, 100, (2, 2), dtype="i1"),
        "bytes": rng.integers(0, 200, (3,), dtype="u1"),
        "seen": rng.integers(0, 2, (6,)).astype(bool),
        "none": np.zeros((0,), "i4"),
    }


def uniforms(seed: int, count: int) -> list[int]:
    """Return the 32 random bits of each packed element."""
    stream = Cipher(AES256(seed_of(seed)), CTR(bytes(16))).encryptor().update(bytes(4 * count))
    return [int.from_bytes(stream[4 * i : 4 * i + 4], "little") for i in range(count)]


def plain_lane(value: float, reach: float, top: int, uniform: int) -> int:
    """Quantise a weighted value in exact arithmetic, but for the place within one 2 ** -24 step."""
    share = min(max(value / reach, -1.0), 1.0)
    return math.floor((share + 1) / 2 * top + uniform / 2**32)


def plain_place(packing: Packing, element: int, elements: int) -> tuple[int, int]:
    """Return word and lane of an element as the documentation has it."""
    block = element // (4096 * packing.lanes)
    held = min(elements - block * 4096 * packing.lanes, 4096 * packing.lanes)
    width = 4096 if held == 4096 * packing.lanes else -(-held // packing.lanes)
    within = element - block * 4096 * packing.lanes
    return block * 4096 + within % width, within // width
