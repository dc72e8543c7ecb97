"""Which points of a curve to draw, when there are more than a screen has. Pure.

Largest-Triangle-Three-Buckets (Steinarsson 2013, "Downsampling Time Series for Visual
Representation", section 4.2), among what is left when the least and the greatest value have been
taken: the algorithm alone does not promise them.
"""

import math
from collections.abc import Sequence

LEAST_WITH_EXTREMES = 4  # first, last, least, greatest


def chosen_points(places: Sequence[float], values: Sequence[float | None], most: int) -> list[int]:
    """Return the indices of at most `most` (2 or more) points of a curve, ascending.

    `places` ascend. The first and the last point are always there, and from `most` of 4 on the
    least and the greatest value as well. A value that is None, or not finite, cannot be drawn: its
    place is left out, unless it is the first or the last, or there are few enough.
    """
    count = len(values)
    if count <= most:
        return list(range(count))
    inner = [index for index in range(1, count - 1) if _finite(values[index]) is not None]
    drawn = [_finite(value) for value in values]
    known = [(index, value) for index, value in enumerate(drawn) if value is not None]
    kept = {0, count - 1}
    if most >= LEAST_WITH_EXTREMES and known:
        kept.add(min(known, key=lambda point: (point[1], point[0]))[0])
        kept.add(max(known, key=lambda point: (point[1], -point[0]))[0])
    inner = [index for index, _ in known if index not in kept]
    kept.update(_largest_triangles(places, [it or 0.0 for it in drawn], inner, most - len(kept)))
    return sorted(kept)


def _largest_triangles(
    places: Sequence[float], values: Sequence[float], inner: Sequence[int], buckets: int
) -> list[int]:
    """Return one of the `inner` indices for each bucket: of the largest triangle.

    A triangle has its corners at the point chosen before, at the candidate, and at the mean of the
    bucket after; areas are compared twice as large.
    """
    buckets = min(buckets, len(inner))
    edges = [len(inner) * bucket // buckets for bucket in range(buckets + 1)] if buckets else [0]
    last = len(values) - 1
    chosen: list[int] = []
    before = 0
    for bucket in range(buckets):
        after = inner[edges[bucket + 1] : edges[bucket + 2]] if bucket + 2 <= buckets else [last]
        ahead_x = math.fsum(places[index] for index in after) / len(after)
        ahead_y = _mean([values[index] for index in after])

        def area(index: int, x: float = ahead_x, y: float = ahead_y, start: int = before) -> float:
            return abs(
                (places[start] - x) * (values[index] - values[start])
                - (places[start] - places[index]) * (y - values[start])
            )

        before = max(inner[edges[bucket] : edges[bucket + 1]], key=area)
        chosen.append(before)
    return chosen


def _mean(values: Sequence[float]) -> float:
    return sum(value / len(values) for value in values)  # never beyond the greatest float


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
