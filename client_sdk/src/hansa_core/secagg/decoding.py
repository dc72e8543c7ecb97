"""What the sum of the sites' words says: totals, and the mean delta piece by piece.

A lane's sum V over n updates stands for (V - n * top / 2) * 2r / top, and that over the sum of the
weights is the mean. FedNova's mean is multiplied by the mean normaliser (Wang et al. 2020); a
part's mean counts every update once.

Invariants: an element of the mean depends on its own lane and on the totals, so a vector may be cut
at any block and decoded by several workers; memory is a tile, whatever the vector. A sum that no
updates add up to is refused.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hansa_core.local_work import Scalar
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.packing import TILE_BLOCKS, Tile, Words, check_words
from hansa_core.secagg.terms import QuantiserPlan, Weighing
from hansa_core.secagg.vectors import (
    INTEGER_LIMIT,
    TOTALS,
    VALUE_LIMIT,
    Slot,
    VectorLayout,
    check_ranges,
)

_INTEGERS = 65_536  # wide integers that are decoded together


@dataclass(frozen=True, slots=True)
class Mean:
    """A metric's mean over examples, and how many those are."""

    mean: float
    weight: int


@dataclass(frozen=True, slots=True)
class TensorTotals:
    """What all sites say together of one float tensor, weighted and clipped as it was sent."""

    name: str
    rms: float  # root mean square over elements and sites
    clipped: int  # values beyond the range, of all sites


@dataclass(frozen=True, slots=True)
class Totals:
    """What a sum says beside the tensors."""

    weight: int  # examples, none of a site beyond the greatest weight
    updates: int
    clipped_updates: int  # longer than the clip, or with a part that was
    scalars: Mapping[str, float]  # means, weighted as the vector is
    metrics: Mapping[str, Mean]  # without those that no site reported
    tensors: tuple[TensorTotals, ...]  # in the order of the ranges


@dataclass(frozen=True, slots=True)
class DeltaPiece:
    """The mean of neighbouring elements of one tensor, valid until the next piece is asked for."""

    slot: Slot
    start: int  # first element of the tensor
    values: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MeanDelta:
    """Turns words of a sum into the mean delta."""

    layout: VectorLayout
    terms: QuantiserPlan
    ranges: tuple[float, ...]
    weighing: Weighing
    totals: Totals

    @classmethod
    def of(
        cls,
        layout: VectorLayout,
        terms: QuantiserPlan,
        ranges: Sequence[float],
        weighing: Weighing,
        totals: Totals,
    ) -> Self:
        """Return the decoder of one sum. Raises SecaggError for ranges that do not fit."""
        check_ranges(layout, ranges)
        return cls(layout, terms, tuple(ranges), weighing, totals)

    def pieces(self, words_w: Words, first: int) -> Iterator[DeltaPiece]:
        """Yield the mean delta of the tensors that words [first, first + len) of the sum hold.

        In the order of the vector, all pieces of a tensor in order; empty tensors have none. The
        words may be any part of the vector that does not cut a block of packed floats; what lies
        behind the tensors is passed over. Raises SecaggError for a cut block, and for a lane or an
        integer that these updates cannot add up to.
        """
        check_words(words_w, len(words_w), "a part of the sum")
        layout, stop = self.layout, first + len(words_w)
        if first < layout.integers_at:
            end = min(stop, layout.integers_at)
            yield from self._floats(words_w[: end - first], first)
        begin, end = max(first, layout.integers_at), min(stop, layout.statistics_at)
        if begin < end:
            yield from self._integers(words_w[begin - first : end - first], begin)

    def _floats(self, words_w: Words, first: int) -> Iterator[DeltaPiece]:
        layout, packing = self.layout, self.layout.packing
        most = TILE_BLOCKS * packing.block_elements
        lanes_t, means_t = np.empty(most, np.int64), np.empty(most)
        centre = self.totals.updates * packing.top / 2
        uploaded = self._factor()
        for tile in packing.tiles(first, first + len(words_w), layout.elements):
            count = tile.end - tile.begin
            lanes_e, means_e = lanes_t[:count], means_t[:count]
            packing.unpack(words_w[tile.first - first : tile.stop - first], lanes_e)
            self._check_lanes(tile, lanes_e)
            np.subtract(lanes_e, centre, out=means_e)
            at = 0
            for piece in layout.float_pieces(tile.begin, tile.end):
                slot, values_e = piece.slot, means_e[at : at + piece.count]
                factor = uploaded if slot.part is None else 1 / self.totals.updates
                values_e *= 2 * self.ranges[slot.index] / packing.top * factor
                yield DeltaPiece(slot, piece.start, values_e)
                at += piece.count

    def _integers(self, words_w: Words, first: int) -> Iterator[DeltaPiece]:
        layout = self.layout
        one = 2.0**layout.integer_fraction
        most = self.totals.updates * INTEGER_LIMIT * 2**layout.integer_fraction
        begin = first - layout.integers_at
        for piece in layout.integer_pieces(begin, begin + len(words_w)):
            at = piece.slot.start + piece.start - begin
            for start in range(0, piece.count, _INTEGERS):
                count = min(_INTEGERS, piece.count - start)
                sums_e = words_w[at + start : at + start + count].view(np.int64)
                wrong_e = (sums_e > most) | (sums_e < -most)
                if wrong_e.any():
                    seen = int(np.argmax(wrong_e))
                    raise SecaggError(
                        f"tensor {piece.slot.name!r} element {piece.start + start + seen} sums up "
                        f"to {sums_e[seen]}, wanted at most {most} either way"
                    )
                values_e = sums_e / one
                values_e /= self._weight()
                yield DeltaPiece(piece.slot, piece.start + start, values_e)

    def _weight(self) -> float:
        """Return the sum of what updates were multiplied by."""
        if self.weighing is Weighing.EQUAL:
            return float(self.totals.updates)
        return self.totals.weight / self.terms.max_examples

    def _factor(self) -> float:
        """Return what the sum of floats that are uploaded is multiplied by."""
        if self.weighing is Weighing.NORMALISED:
            return self.totals.scalars[Scalar.NORMALISER] / self._weight()
        return 1 / self._weight()

    def _check_lanes(self, tile: Tile, lanes_e: NDArray[np.int64]) -> None:
        """Refuse a sum that is too great; what is below zero as int64 has a bit beyond any lane."""
        raw_e = lanes_e.view(np.uint64)
        most = self.totals.updates * self.layout.packing.top
        if int(raw_e.max()) <= most:
            return
        at = int(np.argmax(raw_e > most))
        piece = next(self.layout.float_pieces(tile.begin + at, tile.end))
        raise SecaggError(
            f"tensor {piece.slot.name!r} element {piece.start} sums up to {raw_e[at]} in its lane, "
            f"wanted at most {most} of {self.totals.updates} updates"
        )


def read_totals(
    tail_w: Words,
    layout: VectorLayout,
    terms: QuantiserPlan,
    ranges: Sequence[float],
    weighing: Weighing,
    survivors: int,
) -> Totals:
    """Return what the words behind the tensors say (`VectorLayout.tail_of`).

    Raises SecaggError for a sum that `survivors` updates cannot add up to.
    """
    check_ranges(layout, ranges)
    check_words(tail_w, layout.words - layout.statistics_at, "the sum behind the tensors")
    numbers = [int(word) for word in tail_w]
    at = layout.totals_at - layout.statistics_at
    weight, updates, clipped = numbers[at : at + TOTALS]
    _check("number of survivors", survivors, 1, layout.packing.sites)
    _check("number of updates", updates, survivors, survivors)
    most = survivors * terms.max_examples
    _check("weight", weight, survivors, most)
    _check("number of clipped updates", clipped, 0, survivors)
    tensors = tuple(
        _tensor_totals(layout, slot, ranges[slot.index], numbers, survivors)
        for slot in layout.floats
    )
    at = layout.scalars_at - layout.statistics_at
    scalars: dict[str, float] = {}
    wanted = most if weighing is Weighing.EQUAL else weight
    for name in layout.scalars:
        found = _mean(layout, terms, f"scalar {name!r}", numbers[at : at + 2], survivors)
        _check(f"weight of scalar {name!r}", found.weight, wanted, wanted)
        scalars[name] = found.mean
        at += 2
    if weighing is Weighing.NORMALISED and not scalars.get(Scalar.NORMALISER, 0.0) > 0:
        raise SecaggError(
            f"the mean normaliser is {scalars.get(Scalar.NORMALISER)}, wanted above 0"
        )
    metrics: dict[str, Mean] = {}
    for name in layout.metrics:
        if any(numbers[at : at + 2]):
            what = f"metric {name!r}"
            metrics[name] = _mean(layout, terms, what, numbers[at : at + 2], survivors)
        at += 2
    return Totals(weight, updates, clipped, scalars, metrics, tensors)


def _tensor_totals(
    layout: VectorLayout, slot: Slot, reach: float, numbers: Sequence[int], survivors: int
) -> TensorTotals:
    squares, clipped = numbers[2 * slot.index : 2 * slot.index + 2]
    values = survivors * slot.tensor.count
    fraction = layout.square_fraction(slot)
    _check(f"sum of squares of {slot.name!r}", squares, 0, values << fraction)
    _check(f"number of clipped values of {slot.name!r}", clipped, 0, values)
    mean = math.ldexp(squares / values, -fraction) if values else 0.0
    return TensorTotals(slot.name, reach * math.sqrt(mean), clipped)


def _mean(
    layout: VectorLayout, terms: QuantiserPlan, what: str, words: Sequence[int], survivors: int
) -> Mean:
    """Return a mean from the sums of weighted values and of weights."""
    value, weight = words
    value -= (value >> 63) << 64
    _check(f"weight of {what}", weight, 1, survivors * terms.max_examples)
    most = survivors * VALUE_LIMIT << layout.value_fraction
    _check(f"sum of {what}", value, -most, most)
    mean = math.ldexp(value, -layout.value_fraction) * (terms.max_examples / weight)
    return Mean(mean, weight)


def _check(what: str, seen: int, least: int, most: int) -> None:
    if not least <= seen <= most:
        raise SecaggError(f"the sum has a {what} of {seen}, wanted {least} to {most}")
