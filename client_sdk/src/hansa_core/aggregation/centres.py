"""Rules that look for a centre of the deltas: the geometric median and centred clipping.

- Pillutla, Kakade and Harchaoui 2022, "Robust Aggregation for Federated Learning" (RFA),
  algorithm 2, the smoothed Weiszfeld iteration: v <- sum_k b_k * delta_k / sum_k b_k with
  b_k = 1 / max(smoothing, |delta_k - v|).
- Karimireddy, He and Jaggi 2021, "Learning from History for Byzantine Robust Optimization",
  equation (CC): v <- v + mean_k (delta_k - v) * min(1, radius / |delta_k - v|).

Both begin at v = 0, the model as it is: a place that no site can move, as a mean could be. Each
site counts once, where RFA weighs by examples: a number that a site states of itself.

Invariants
- v is always sum_k c_k * delta_k, so it is kept as its coefficients: memory is that of
  distances.py. Every iteration reads all files once, and the result once more.
- A fixed number of iterations, and no test of convergence: nothing to disagree about. Arrival
  order, tiles and threads do not matter.

Integers and BOOL are not measured; they take the coordinate-wise median (vectors.py).
"""

import math

from hansa_core.aggregation.distances import squared_distances
from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.vectors import VectorSum
from hansa_core.problems import AggregationError

LEAST_LENGTH, MOST_LENGTH = 1e-100, 1e100  # of a setting: its square and its inverse are finite


def geometric_median(
    inputs: Inputs, *, iterations: int, smoothing: float, tile_bytes: int
) -> Combine:
    """Take the approximate geometric median after `iterations` (1 or more) steps.

    `smoothing` is a length above 0 in the model's own units: a delta nearer to v than that has the
    weight of one that far. Raises AggregationError for a setting out of range; UpdateRefusedError
    for a scale other than 1 or a distance that is not finite.
    """
    check_length("smoothing", smoothing)
    _check_iterations(iterations)
    inputs.require(unscaled=True)
    coefficients = [0.0] * len(inputs.files)
    for _ in range(iterations):
        lengths = [math.sqrt(square) for square in squared_distances(inputs, coefficients).tolist()]
        pulls = [1 / max(smoothing, length) for length in lengths]
        total = math.fsum(pulls)
        coefficients = [pull / total for pull in pulls]
    return VectorSum(inputs, coefficients, 1.0, tile_bytes=tile_bytes)


def centred_clipping(inputs: Inputs, *, radius: float, iterations: int, tile_bytes: int) -> Combine:
    """Take the centre after `iterations` (1 or more) steps, each of at most `radius`.

    `radius` is a length above 0 in the model's own units; so the result moves the float tensors by
    at most iterations * radius. Errors are those of `geometric_median`.
    """
    check_length("radius", radius)
    _check_iterations(iterations)
    inputs.require(unscaled=True)
    count = len(inputs.files)
    coefficients = [0.0] * count
    for _ in range(iterations):
        lengths = [math.sqrt(square) for square in squared_distances(inputs, coefficients).tolist()]
        steps = [clip_factor(length, radius) / count for length in lengths]
        rest = 1 - math.fsum(steps)
        coefficients = [
            rest * before + step for before, step in zip(coefficients, steps, strict=True)
        ]
    return VectorSum(inputs, coefficients, 1.0, tile_bytes=tile_bytes)


def clip_factor(length: float, bound: float) -> float:
    """Return what a vector of `length` is multiplied by to be no longer than `bound`."""
    return 1.0 if length <= bound else bound / length


def check_length(name: str, length: float) -> None:
    """Raise AggregationError for a setting that is no usable length."""
    if not LEAST_LENGTH <= length <= MOST_LENGTH:
        raise AggregationError(f"{name} is {length!r}, wanted {LEAST_LENGTH:g} to {MOST_LENGTH:g}")


def _check_iterations(iterations: int) -> None:
    if iterations < 1:
        raise AggregationError(f"iterations is {iterations}, wanted 1 or more")
