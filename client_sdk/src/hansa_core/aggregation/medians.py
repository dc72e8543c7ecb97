"""The coordinate-wise median and trimmed mean of deltas.

Yin, Chen, Kannan and Bartlett 2018, "Byzantine-Robust Distributed Learning: Towards Optimal
Statistical Rates", definitions 1 and 2, over deltas. Each site counts once: the number of examples
is what a site says of itself, so no robust rule weighs by it.

Determinism and memory are those of ranks.py: no result depends on arrival order, tile or threads;
a megabyte or two of values, and 4096 bytes per update where there are more than 256.

Integers and BOOL: the same, rounded half to even and added, within the dtype's range.
"""

import math
from fractions import Fraction

from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.ranks import MiddleMean
from hansa_core.problems import AggregationError


def coordinate_median(inputs: Inputs) -> Combine:
    """Take the median delta of each element; of an even number, the middle two's mean.

    Raises UpdateRefusedError for a scale other than 1.
    """
    inputs.require(unscaled=True)
    return MiddleMean(inputs, median_trim(len(inputs.files)))


def trimmed_mean(inputs: Inputs, *, trim: float) -> Combine:
    """Take the mean of each element without the fraction `trim` at either end.

    `trim` is 0 or more, below 0.5; `trimmed_count` says how many values that is. Raises
    AggregationError for another; UpdateRefusedError for a scale other than 1.
    """
    if not 0 <= trim < 0.5:  # noqa: PLR2004 -- half of them at each end leaves nothing
        raise AggregationError(f"trim is {trim!r}, wanted at least 0 and below 0.5")
    inputs.require(unscaled=True)
    return MiddleMean(inputs, trimmed_count(len(inputs.files), trim))


def median_trim(count: int) -> int:
    """Return how many values at each end are not the median of `count`, or its middle two."""
    return (count - 1) // 2


def trimmed_count(count: int, trim: float) -> int:
    """Return how many of `count` values are taken off at each end: trim * count, rounded down.

    `trim` is taken as it is written in decimal: 0.29 of 100 are 29, not 28.
    """
    return math.floor(Fraction(repr(trim)) * count)
