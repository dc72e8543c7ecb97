"""Which updates Krum keeps: by bounds on the distances, and by the distances where those overlap.

Compiled distances (distances.py) are so fast that up to DIRECT_LIMIT updates nothing else is
needed: GB/s of input at 10, 50, 100 and 200 updates, one core, 2.6, 0.83, 0.39 and 0.17; by the
bounds below 0.87, 0.32, 0.29 and 0.26. Beyond, and in numpy, where distances of fifty run at 0.06:

|a|^2 + |b|^2 - 2ab is one matrix product instead of a pass over every pair, and it loses digits. So
it only gives bounds. For n elements and any order of adding, with or without fused multiply-add, a
scalar product is off by at most n * u * |a| * |b| to first order, u = 2**-53 (Higham 2002,
"Accuracy and Stability of Numerical Algorithms", section 3.1). The error of the squared distance is
then within 2 * n * u * (|a|^2 + |b|^2); twice that is taken, for all the rest.

Invariant: where the bounds tell the kept from the others, the distances of distances.py would tell
the same; where they do not, those decide. So the choice depends on neither BLAS, threads nor the
machine.

Shape suffixes: _kk pairs of contributions; _kb a few blocks of them.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation import compiled
from hansa_core.aggregation.distances import float_rows, pairwise_squared_distances
from hansa_core.aggregation.inputs import Inputs

DIRECT_LIMIT = 128  # updates: up to here compiled distances take less time than bounds

_U = 2.0**-53
_TINY = 2.0**-1060  # more than what underflow can take from one product


def closest(inputs: Inputs, neighbours: int, keep: int) -> list[int]:
    """Return the indexes, ascending, of the `keep` updates closest to their `neighbours` nearest.

    Of equal scores the earlier update is kept. Raises UpdateRefusedError for a distance that is
    not finite.
    """
    # Bounds are made in one pass over everything: where others measure, distances are asked for.
    if inputs.measured is None and (len(inputs.files) > DIRECT_LIMIT or not compiled.usable()):
        certain = _by_bounds(inputs, neighbours, keep)
        if certain is not None:
            return certain
    return least_scores(krum_scores(pairwise_squared_distances(inputs), neighbours), keep)


def least_scores(scores: Sequence[float], keep: int) -> list[int]:
    """Return the indexes, ascending, of the `keep` least; of equal ones the earlier."""
    return sorted(sorted(range(len(scores)), key=scores.__getitem__)[:keep])


def krum_scores(distances_kk: NDArray[np.float64], neighbours: int) -> list[float]:
    """Return each update's sum of its squared distances to the `neighbours` nearest others."""
    scores: list[float] = []
    for index, row_k in enumerate(distances_kk):
        others = np.sort(np.delete(row_k, index))
        scores.append(math.fsum(others[:neighbours].tolist()))
    return scores


def _by_bounds(inputs: Inputs, neighbours: int, keep: int) -> list[int] | None:
    """Return the kept indexes, or None where the bounds do not tell."""
    distances_kk, errors_kk = _rough_distances(inputs)
    if not (np.isfinite(distances_kk).all() and np.isfinite(errors_kk).all()):
        return None
    low = krum_scores(np.maximum(distances_kk - errors_kk, 0), neighbours)
    high = krum_scores(distances_kk + errors_kk, neighbours)
    ranked = sorted(range(len(high)), key=high.__getitem__)
    worst_kept = max(high[index] for index in ranked[:keep])
    best_left = min(low[index] for index in ranked[keep:])
    return sorted(ranked[:keep]) if worst_kept < best_left else None


def _rough_distances(inputs: Inputs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return squared distances and by how much they may be wrong, both of shape (n, n)."""
    count = len(inputs.files)
    products_kk = np.zeros((count, count))
    elements = 0
    with np.errstate(all="ignore"):
        for rows_kb in float_rows(inputs):
            products_kk += rows_kb @ rows_kb.T
            elements += rows_kb.shape[1]
        squares_k = np.diag(products_kk)
        sums_kk = squares_k[:, np.newaxis] + squares_k
        errors_kk = 4 * (elements + 16) * (_U * sums_kk + _TINY)
        return sums_kk - 2 * products_kk, errors_kk
