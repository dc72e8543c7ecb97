"""One site's update as the words that are masked and summed (docs/secure-aggregation.md).

A float x becomes floor((x s + r) / (2r) * top + u), with s what clipping and weighing leave of x,
r the tensor's range and u uniform in [0, 1): Gupta et al. 2015, "Deep Learning with Limited
Numerical Precision", section 3.1, so the mean of many roundings is the value. u has 32 bits, of the
AES-256-CTR key stream of a seed that nobody else has: who could guess them would know more of an
update than the sum tells.

Invariants
- The same update, terms and seed give the same words, on every machine: all is IEEE arithmetic in
  float64 one operation at a time, and sums are in one order whatever numpy there is.
- A value is never above `top`: the last step is a shift of an integer of 63 bits.
- Memory beyond the words is a few tiles, and one tensor if it does not lie in one piece.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from hansa_core.dtypes import DType, bf16_to_f32
from hansa_core.inspection import describe_mismatch
from hansa_core.layouts import Layout
from hansa_core.local_work import Scalar
from hansa_core.problems import TensorFormatError
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.packing import TILE_BLOCKS, Words
from hansa_core.secagg.terms import QuantiserPlan, Weighing
from hansa_core.secagg.vectors import (
    INTEGER_LIMIT,
    VALUE_LIMIT,
    Piece,
    Slot,
    VectorLayout,
    check_ranges,
)

SEED_SIZE = 32  # bytes

_CHUNK = 65_536  # integers that are written together
_UNIFORM_BITS = 32  # of u
_LEAF = 128  # elements: numpy has one way to sum so many, and several to sum more
_SURELY_WITHIN = 0.999  # squares of shares of a range: rounding is far less than what is left
_MASK = 2**64 - 1

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Squares:
    """The squares of one piece of one tile."""

    total: float
    bound: float  # none of them is above it


@dataclass(frozen=True, slots=True)
class _Scales:
    """What elements are multiplied by."""

    share: float  # of the update in the sum: its weight over the greatest
    floats: Mapping[str | None, float]  # every float of a part, or of what is uploaded itself
    shortened: bool  # the update or a part of it was longer than the clip


def encode(
    layout: VectorLayout,
    terms: QuantiserPlan,
    ranges: Sequence[float],
    tensors: Tensors,
    parts: Mapping[str, Tensors],
    *,
    weight: int,
    weighing: Weighing,
    scalars: Mapping[str, float],
    metrics: Mapping[str, tuple[float, int]],
    rounding_seed: bytes,
) -> Words:
    """Return the words of an update, of shape (layout.words,).

    Args:
        layout: where everything goes.
        terms: the run's, with clip and greatest weight.
        ranges: of the float tensors, in the layout's order.
        tensors: the delta that is uploaded.
        parts: what goes with it, by part.
        weight: examples of the site.
        weighing: what the weight does to the vector.
        scalars: the strategy's, by name.
        metrics: value and examples by name in the vector ("train/loss"); others are left out.
        rounding_seed: 32 bytes, fresh and secret; used for one update.

    Raises:
        SecaggError: tensors, scalars or ranges other than the layout's, a value that is not finite,
            a weight below 1, a seed of another size.
    """
    check_ranges(layout, ranges)
    if len(rounding_seed) != SEED_SIZE:
        raise SecaggError(f"the rounding seed has {len(rounding_seed)} bytes, wanted {SEED_SIZE}")
    _check_layouts(layout, tensors, parts)
    _check_numbers(layout, weight, scalars, metrics)
    squares = _squares(layout, tensors, parts)
    scales = _scales(layout, terms, squares, weight, weighing, scalars)
    words_w: Words = np.zeros(layout.words, np.uint64)
    _encode_floats(layout, ranges, tensors, parts, squares, scales, rounding_seed, words_w)
    _encode_integers(layout, tensors, scales, words_w)
    totals = (min(weight, terms.max_examples), 1, int(scales.shortened))
    words_w[layout.totals_at : layout.scalars_at] = totals
    counted = round(scales.share * terms.max_examples)
    at = layout.scalars_at
    for name in layout.scalars:
        _put_value(layout, words_w, at, scalars[name] * scales.share, counted)
        at += 2
    for name in layout.metrics:
        if name in metrics:
            value, examples = metrics[name]
            limited = min(max(value, -VALUE_LIMIT), VALUE_LIMIT)
            counted = min(examples, terms.max_examples)
            _put_value(layout, words_w, at, limited * (counted / terms.max_examples), counted)
        at += 2
    return words_w


def _check_layouts(layout: VectorLayout, tensors: Tensors, parts: Mapping[str, Tensors]) -> None:
    if set(parts) != set(layout.parts):
        raise SecaggError(f"the update has parts {sorted(parts)}, wanted {sorted(layout.parts)}")
    wanted = {"the update": (tensors, layout.uploaded)}
    wanted |= {f"part {name!r}": (parts[name], part) for name, part in layout.parts.items()}
    for what, (seen, expected) in wanted.items():
        try:
            found = Layout.of(seen)
        except TensorFormatError as error:
            raise SecaggError(f"{what}: {error}") from error
        if found != expected:
            raise SecaggError(f"{what}: {describe_mismatch(found, expected)}")


def _check_numbers(
    layout: VectorLayout,
    weight: int,
    scalars: Mapping[str, float],
    metrics: Mapping[str, tuple[float, int]],
) -> None:
    if weight < 1:
        raise SecaggError(f"the update has weight {weight}, wanted 1 example or more")
    if set(scalars) != set(layout.scalars):
        raise SecaggError(
            f"the update has scalars {sorted(map(str, scalars))}, wanted {sorted(layout.scalars)}"
        )
    for name, value in scalars.items():
        if not abs(value) <= VALUE_LIMIT:  # refuses NaN as well
            raise SecaggError(
                f"scalar {str(name)!r} is {value!r}, wanted at most {VALUE_LIMIT} either way"
            )
    for name in layout.metrics:
        value, examples = metrics.get(name, (0.0, 1))
        if not math.isfinite(value) or examples < 1:
            raise SecaggError(
                f"metric {name!r} is {value!r} over {examples} examples, "
                "wanted a finite number over 1 or more"
            )


def _squares(
    layout: VectorLayout, tensors: Tensors, parts: Mapping[str, Tensors]
) -> list[_Squares]:
    """Return the squares of every piece of every tile. Raises SecaggError for bad floats."""
    squares: list[_Squares] = []
    flats = _Flats(tensors, parts)
    wide_t = np.empty(min(TILE_BLOCKS * layout.packing.block_elements, layout.elements))
    with np.errstate(all="ignore"):  # found in the sum, and named
        for tile in layout.packing.tiles(0, layout.integers_at, layout.elements):
            for piece in layout.float_pieces(tile.begin, tile.end):
                wide_e = wide_t[: piece.count]
                np.copyto(wide_e, flats.values(piece))
                leaves = _leaves(np.square(wide_e, out=wide_e))
                squares.append(_Squares(_sum(leaves), max(leaves)))
                if not math.isfinite(squares[-1].total):
                    _tell_bad(piece, flats.values(piece))
    return squares


def _scales(
    layout: VectorLayout,
    terms: QuantiserPlan,
    squares: Iterable[_Squares],
    weight: int,
    weighing: Weighing,
    scalars: Mapping[str, float],
) -> _Scales:
    share = 1.0
    if weighing is not Weighing.EQUAL:
        share = min(weight, terms.max_examples) / terms.max_examples
    per_step = 1.0
    if weighing is Weighing.NORMALISED:
        steps = scalars.get(Scalar.NORMALISER, 0.0)
        if not steps >= 1 / VALUE_LIMIT:
            raise SecaggError(
                f"the normaliser is {steps!r}, wanted {1 / VALUE_LIMIT:g} or more local steps"
            )
        per_step = 1 / steps
    of_parts: dict[str | None, float] = dict.fromkeys((None, *layout.parts), 0.0)
    tiles = layout.packing.tiles(0, layout.integers_at, layout.elements)
    pieces = (piece for tile in tiles for piece in layout.float_pieces(tile.begin, tile.end))
    for piece, its_squares in zip(pieces, squares, strict=True):
        of_parts[piece.slot.part] += its_squares.total
    floats: dict[str | None, float] = {}
    shortened = False
    for part, square in of_parts.items():
        # A part counts once, whatever the weight, and is no sum of steps.
        factor = per_step if part is None else 1.0
        norm = math.sqrt(square) * factor
        if not math.isfinite(norm):
            raise SecaggError("the update's squared norm exceeds float64, wanted a finite one")
        if norm > terms.clip:
            shortened, factor = True, factor * (terms.clip / norm)
        floats[part] = factor * share if part is None else factor
    return _Scales(share, floats, shortened)


def _tell_bad(piece: Piece, values_e: NDArray[Any]) -> NoReturn:
    finite_e = np.isfinite(values_e)
    at = int(np.argmin(finite_e))
    place = f"tensor {piece.slot.name!r} element {piece.start + at}"
    if finite_e[at]:
        raise SecaggError(f"the squared norm exceeds float64 after {place}, wanted a finite one")
    raise SecaggError(f"{place} is {values_e[at]}, wanted finite values")


def _encode_floats(
    layout: VectorLayout,
    ranges: Sequence[float],
    tensors: Tensors,
    parts: Mapping[str, Tensors],
    squares: Iterable[_Squares],
    scales: _Scales,
    rounding_seed: bytes,
    words_w: Words,
) -> None:
    """Write the packed floats and their statistics. Scaled values are in steps of 2 ** -32."""
    packing = layout.packing
    half = packing.top * 2.0 ** (_UNIFORM_BITS - 1)  # what a range is scaled to
    factors = [scales.floats[it.part] / ranges[it.index] for it in layout.floats]  # range to 1
    most = min(TILE_BLOCKS * packing.block_elements, layout.elements)
    uniforms, flats = _Uniforms(rounding_seed, most), _Flats(tensors, parts)
    squared = iter(squares)
    scaled_t, values_t = np.empty(most), np.empty(most, np.int64)
    squares_s, beyond_s = [0.0] * len(layout.floats), [0] * len(layout.floats)
    with np.errstate(over="ignore", under="ignore"):  # what is beyond is clipped
        for tile in packing.tiles(0, layout.integers_at, layout.elements):
            scaled_e = scaled_t[: tile.end - tile.begin]
            values_e = values_t[: tile.end - tile.begin]
            at = 0
            for piece in layout.float_pieces(tile.begin, tile.end):
                piece_e = scaled_e[at : at + piece.count]
                at += piece.count
                np.copyto(piece_e, flats.values(piece))
                index = piece.slot.index
                factor, its_squares = factors[index], next(squared)
                np.multiply(piece_e, factor * half, out=piece_e)
                square = its_squares.total * factor * factor
                if its_squares.bound * factor * factor > _SURELY_WITHIN:
                    beyond = _clip(piece_e, half)
                    if beyond:
                        beyond_s[index] += beyond
                        square = _sum(_leaves(np.square(piece_e / half)))
                squares_s[index] += square
            np.add(scaled_e, half, out=scaled_e)
            np.copyto(values_e, scaled_e, casting="unsafe")
            np.add(values_e, uniforms.take(len(values_e)), out=values_e)
            np.right_shift(values_e, _UNIFORM_BITS, out=values_e)
            packing.pack(values_e, words_w[tile.first : tile.stop])
    for slot in layout.floats:
        square = min(squares_s[slot.index], float(slot.tensor.count))
        at = layout.statistics_at + 2 * slot.index
        words_w[at] = round(math.ldexp(square, layout.square_fraction(slot)))
        words_w[at + 1] = beyond_s[slot.index]


def _encode_integers(
    layout: VectorLayout, tensors: Tensors, scales: _Scales, words_w: Words
) -> None:
    one = 2.0**layout.integer_fraction
    flats, count = _Flats(tensors, {}), layout.statistics_at - layout.integers_at
    for begin in range(0, count, _CHUNK):
        for piece in layout.integer_pieces(begin, min(begin + _CHUNK, count)):
            scaled_e = np.empty(piece.count)
            np.multiply(flats.values(piece), scales.share, out=scaled_e, dtype=np.float64)
            np.clip(scaled_e, -INTEGER_LIMIT, INTEGER_LIMIT, out=scaled_e)
            np.multiply(scaled_e, one, out=scaled_e)
            np.rint(scaled_e, out=scaled_e)
            at = layout.integers_at + piece.slot.start + piece.start
            words_w[at : at + piece.count].view(np.int64)[:] = scaled_e.astype(np.int64)


def _put_value(
    layout: VectorLayout, words_w: Words, at: int, weighted: float, counted: int
) -> None:
    """Write a number in fixed point, then its weight."""
    words_w[at] = round(math.ldexp(weighted, layout.value_fraction)) & _MASK
    words_w[at + 1] = counted


def _clip(values_e: NDArray[np.float64], most: float) -> int:
    """Bring values to at most `most` either way; return how many were beyond."""
    if max(float(values_e.max()), -float(values_e.min())) <= most:
        return 0
    beyond = int(np.count_nonzero(np.abs(values_e) > most))
    np.clip(values_e, -most, most, out=values_e)
    return beyond


def _leaves(values_e: NDArray[np.float64]) -> list[float]:
    """Return the sums of 128 values each, then those that are left."""
    whole = len(values_e) - len(values_e) % _LEAF
    leaves_e = np.add.reduce(values_e[:whole].reshape(-1, _LEAF), axis=1)
    return [*leaves_e.tolist(), *values_e[whole:].tolist()]


def _sum(leaves: Sequence[float]) -> float:
    """Return the sum, exactly rounded; NaN or infinite if that is what it is."""
    try:
        return math.fsum(leaves)
    except (OverflowError, ValueError):  # beyond float64; infinities of either sign
        return math.nan


class _Uniforms:
    """The key stream of a seed: 32 bits for every float, in the order of the packed floats."""

    def __init__(self, seed: bytes, most: int) -> None:
        """Enter the stream; nobody will take more than `most` at once."""
        self._cipher = Cipher(AES256(seed), CTR(bytes(16))).encryptor()
        self._zeros = bytes(4 * most)
        self._stream = np.empty(len(self._zeros), np.uint8)

    def take(self, count: int) -> NDArray[np.uint32]:
        """Return the next so many, valid until the next call."""
        size = 4 * count
        self._cipher.update_into(memoryview(self._zeros)[:size], self._stream[:size].data)
        return self._stream[:size].view("<u4")


class _Flats:
    """The tensor in hand as one row; those that do not lie in one piece are copied one by one."""

    def __init__(self, tensors: Tensors, parts: Mapping[str, Tensors]) -> None:
        self._tensors, self._parts = tensors, parts
        self._slot: Slot | None = None
        self._flat_e: NDArray[Any] = np.empty(0)

    def values(self, piece: Piece) -> NDArray[Any]:
        """Return a piece as numpy's own numbers."""
        slot = piece.slot
        if slot is not self._slot:
            source = self._tensors if slot.part is None else self._parts[slot.part]
            self._flat_e = np.ascontiguousarray(source[slot.tensor.name]).reshape(-1)
            self._slot = slot
        raw_e = self._flat_e[piece.start : piece.start + piece.count]
        return bf16_to_f32(raw_e) if slot.tensor.dtype is DType.BF16 else raw_e
