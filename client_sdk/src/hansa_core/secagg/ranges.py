"""The ranges that tensors are quantised to, from round to round, and what a run of them costs.

A range is public and the same for all sites. It starts from an update as long as the clip, spread
over all values, and then follows the securely summed statistics of the round before: `headroom`
times the root mean square of what sites sent, twice that where more than one value in 100,000 was
clipped, never above the clip, and never below 2 ** -40 of it, which a tensor that does not move
keeps.

Invariant: ranges are float32 numbers, rounded up, so JSON carries them the same everywhere.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa_core.secagg.decoding import Totals
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.packing import Packing
from hansa_core.secagg.terms import QuantiserPlan
from hansa_core.secagg.vectors import VectorLayout, check_ranges

MOST_CLIPPED = 1e-5  # of a tensor's values, before its range is doubled
LEAST_SHARE = 2.0**-40  # of the clip

_WORD_SIZE = 8  # bytes


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a vector costs and how far the mean is off, before a run begins."""

    words: int
    bytes: int  # of an update
    value_bits: int  # of one site's value
    first_step: float  # between values in the first round, in units of a delta at full weight
    first_error: float  # of the mean in the first round: standard deviation, in the same units
    step: float  # later, in root mean squares of a site's values
    error: float  # of the mean later: standard deviation, in root mean squares of a site's values


def first_ranges(layout: VectorLayout, terms: QuantiserPlan) -> tuple[float, ...]:
    """Return the ranges of a first round, one per float tensor.

    `headroom` times the root mean square of an update as long as the clip, or the clip itself where
    that is less: no value of an update is greater.
    """
    return (_rounded_up(_first_range(layout.elements, terms)),) * len(layout.floats)


def next_ranges(
    layout: VectorLayout, terms: QuantiserPlan, previous: Sequence[float], totals: Totals
) -> tuple[float, ...]:
    """Return the ranges after a round of these totals, which was in the ranges `previous`.

    Raises SecaggError for ranges or totals of other tensors.
    """
    check_ranges(layout, previous)
    seen = tuple(tensor.name for tensor in totals.tensors)
    if seen != layout.float_tensors:
        raise SecaggError(
            f"the totals are of {len(seen)} tensors that are not the layout's, "
            f"wanted its {len(layout.floats)}"
        )
    ranges: list[float] = []
    for slot, tensor in zip(layout.floats, totals.tensors, strict=True):
        wanted = terms.headroom * tensor.rms
        if tensor.clipped > MOST_CLIPPED * totals.updates * slot.tensor.count:
            wanted *= 2
        ranges.append(_rounded_up(min(max(wanted, terms.clip * LEAST_SHARE), terms.clip)))
    return tuple(ranges)


def estimate(layout: VectorLayout, terms: QuantiserPlan, sites: int) -> Estimate:
    """Return what updates of `sites` sites cost, laid out as in `layout` for so many.

    A stochastic rounding is off by 1/6 of a squared step on average, over all places between two
    values. `first_error` is that of sites of the greatest weight; it is w times as large where the
    mean weight is a w-th of that. Later ranges follow what sites send, whatever their weights.
    Raises SecaggError for sites that do not fit into the lanes.
    """
    packing = Packing(terms.lanes, sites)
    words = layout.words - layout.integers_at + packing.words(layout.elements)
    step = 2 * terms.headroom / packing.top
    first = 2 * _first_range(layout.elements, terms) / packing.top
    return Estimate(
        words=words,
        bytes=_WORD_SIZE * words,
        value_bits=packing.value_bits,
        first_step=first,
        first_error=first / math.sqrt(6 * sites),
        step=step,
        error=step / math.sqrt(6 * sites),
    )


def _first_range(elements: int, terms: QuantiserPlan) -> float:
    return terms.clip * min(1.0, terms.headroom / math.sqrt(max(elements, 1)))


def _rounded_up(value: float) -> float:
    nearest = np.float32(value)
    up = nearest if float(nearest) >= value else np.nextafter(nearest, np.float32(np.inf))
    return float(up)
