"""Bulyan: Krum chooses, and of what it has chosen each element takes the values near the median.

El Mhamdi, Guerraoui and Rouault 2018, "The Hidden Vulnerability of Distributed Learning in
Byzantium", section 4. Krum alone lets an attacker hide one large element behind many small
differences. Among n updates of which f may be anything, n >= 4f + 3:

1. theta = n - 2f updates are chosen, one after the other: each time the one of the least Krum score
   among those that are left.
2. Each element becomes the mean of the beta = theta - 2f of its theta values that are closest to
   their median.

The paper leaves open: how many neighbours count among m that are left, here m - f - 2 and at least
one (Krum's number, for m instead of n); the median of an even number, here the mean of the middle
two; and which of two values equally far from it is kept, here the lesser.

Invariants
- Scores are sums of the distances of distances.py, added without rounding; of equal ones the lesser
  digest wins. Values are compared exactly, their distances from the median in float64, rounded
  once. Arrival order, tiles, threads and the machine do not matter.
- Memory is that of distances.py and ranks.py and 100 bytes per pair of updates.

Integers and BOOL are not measured. They take the coordinate-wise median of the chosen updates.

Shape suffixes: _kk pairs of contributions; _t elements of one tile.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.distances import pairwise_squared_distances
from hansa_core.aggregation.inputs import Inputs, Section
from hansa_core.aggregation.krum import least_updates
from hansa_core.aggregation.medians import median_trim
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.ranks import MiddleMean, SortedRows, comparators
from hansa_core.problems import AggregationError

MOST_UPDATES = 300  # choosing then takes a second


def bulyan(inputs: Inputs, *, byzantine: int, tile_bytes: int) -> Combine:
    """Take the mean of the values closest to the median of chosen updates, with f = `byzantine`.

    Reads every update once and the chosen ones twice. Raises AggregationError for fewer than
    4f + 3 updates or more than MOST_UPDATES; UpdateRefusedError for a scale other than 1 or a
    distance that is not finite.
    """
    del tile_bytes  # values are sorted a few at a time, in whatever tiles they are asked for
    if byzantine < 0:
        raise AggregationError(f"byzantine is {byzantine}, wanted 0 or more")
    inputs.require(least=least_updates(byzantine, 4), unscaled=True)
    count = len(inputs.files)
    if count > MOST_UPDATES:
        raise AggregationError(
            f"there are {count} contributions, wanted at most {MOST_UPDATES}: "
            "bulyan compares every two again and again"
        )
    chosen = selection(pairwise_squared_distances(inputs), byzantine)
    return _ClosestMean(inputs, sorted(chosen), len(chosen) - 2 * byzantine)


def selection(distances_kk: NDArray[np.float64], byzantine: int) -> list[int]:
    """Return the indexes of theta = n - 2 * byzantine updates in the order that Krum takes them."""
    rows = distances_kk.tolist()
    order = [
        [int(other) for other in np.argsort(row, kind="stable") if other != index]
        for index, row in enumerate(distances_kk)
    ]
    left = list(range(len(rows)))
    chosen: list[int] = []
    while len(chosen) < len(rows) - 2 * byzantine:
        neighbours = max(1, len(left) - byzantine - 2)
        scores = [
            math.fsum([rows[index][other] for other in order[index][:neighbours]]) for index in left
        ]
        taken = left[scores.index(min(scores))]
        chosen.append(taken)
        left.remove(taken)
        for index in left:
            order[index].remove(taken)
    return chosen


class _ClosestMean:
    """A Combine: the mean of the `kept` values closest to the median of floats."""

    def __init__(self, inputs: Inputs, which: list[int], kept: int) -> None:
        self._sorted = SortedRows([inputs.files[index] for index in which])
        self._others = MiddleMean(inputs, median_trim(len(which)), which)
        self._kept = kept

    def __call__(self, section: Section, start: int, out_t: NDArray[np.float64]) -> None:
        rows, count = self._sorted.rows, self._sorted.count
        if not section.dtype.is_float:
            self._others(section, start, out_t)
            return
        if not self._sorted.is_compiled(section):
            for rows_t, part_t in self._sorted.values(section, start, out_t, range(count)):
                closest_mean(rows_t, self._kept, part_t)
            return
        from hansa_core.aggregation.compiled import ranks as loops  # noqa: PLC0415 -- imports numba

        kinds_k, (low_c, high_c) = rows.kinds(section), comparators(count, 0)
        keys_kb = self._sorted.keys
        work_b = np.empty(keys_kb.shape[1])
        dropped_b = np.empty(keys_kb.shape[1], np.int64)
        stop = start + len(out_t)
        for first, size, addresses_k in rows.addresses(section, start, stop):
            part_t = out_t[first - start : first - start + size]
            loops.closest_mean(
                kinds_k, addresses_k, low_c, high_c, self._kept, keys_kb, work_b, dropped_b, part_t
            )


def closest_mean(rows_t: list[NDArray[Any]], kept: int, out_t: NDArray[np.float64]) -> None:
    """Write the mean of each element's `kept` values closest to its median; rows ascend.

    The kept ones are neighbours. How many values lie below them is how often
    median - v[r] > v[r + kept] - median, which falls with r.
    """
    count = len(rows_t)
    median_t = rows_t[count // 2].astype(np.float64)
    if count % 2 == 0:
        median_t += rows_t[count // 2 - 1]
        median_t /= 2
    dropped_t = np.zeros(len(out_t), np.int64)
    for low_t, high_t in zip(rows_t[: count - kept], rows_t[kept:], strict=True):
        dropped_t += (median_t - low_t) > (high_t - median_t)
    out_t[:] = 0
    for rank, row_t in enumerate(rows_t):
        inside_t = (dropped_t <= rank) & (rank < dropped_t + kept)
        out_t += np.where(inside_t, row_t, np.float64(0))
    out_t /= kept
