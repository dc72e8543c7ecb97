"""Means of deltas, streamed tile by tile: federated averaging and what weighs otherwise.

Over deltas (local minus global), with n_k examples, s_k what staleness leaves of an asynchronous
update (staleness.py) and 1 otherwise:

    weighted    sum_k s_k * n_k * delta_k / sum_k n_k                   McMahan et al. 2017, alg. 1
    plain       sum_k delta_k / K
    normalised  tau * sum_k p_k * delta_k / a_k, p_k = n_k / sum_j n_j,
                tau = sum_k p_k * a_k, a_k the site's |a_k|_1           Wang et al. 2020, FedNova
    q-fair      sum_k L * F_k^q * delta_k / sum_k h_k,
                h_k = q * F_k^(q - 1) * |L * delta_k|^2 + L * F_k^q     Li et al. 2020, q-FedAvg

Invariants
- The bytes written depend on the base and on the multiset of updates, and on nothing else: not on
  arrival order, site ids, tile size, threads or the machine (sums.py).
- Memory is a few tiles, whatever the model and the number of sites (inputs.py).

Integers and BOOL: the mean delta is rounded half to even and added, within the dtype's range. The
mean of I64 deltas is exact to 2**53. A U8 or BOOL delta cannot be negative: such tensors only grow.
Where weights follow from a loss or a length (q-fair), or from steps (normalised), integers take the
coordinate-wise median (vectors.py).
"""

import math

from hansa_core.aggregation.distances import squared_norms
from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.sums import WeightedSum
from hansa_core.aggregation.vectors import VectorSum
from hansa_core.local_work import Scalar
from hansa_core.problems import AggregationError, RefusalReason, UpdateRefusedError

LEAST_LOSS = 1e-10  # what q-FedAvg takes a loss of zero for: it is raised to a negative power
MOST_NORMALISER = 1e12


def weighted_mean(inputs: Inputs, *, tile_bytes: int) -> Combine:
    """Weigh every delta by its examples, and by what staleness leaves of it."""
    inputs.require()
    coefficients = [it.weight * it.scale for it in inputs.contributions]
    return WeightedSum(inputs, coefficients, float(inputs.total_weight), tile_bytes=tile_bytes)


def plain_mean(inputs: Inputs, *, tile_bytes: int) -> Combine:
    """Count every update once."""
    inputs.require(unscaled=True)
    count = len(inputs.contributions)
    return WeightedSum(inputs, [1.0] * count, float(count), tile_bytes=tile_bytes)


def nova_mean(inputs: Inputs, *, tile_bytes: int) -> Combine:
    """Weigh by examples what each update has moved per local step.

    Raises UpdateRefusedError for an update whose normaliser is missing or out of range.
    """
    inputs.require(unscaled=True)
    steps = _scalars(inputs, Scalar.NORMALISER, 0.0, MOST_NORMALISER)
    total = inputs.total_weight
    weights = [it.weight for it in inputs.contributions]
    effective = math.fsum(n * a for n, a in zip(weights, steps, strict=True)) / total
    coefficients = [n * (effective / a) for n, a in zip(weights, steps, strict=True)]
    return VectorSum(inputs, coefficients, float(total), tile_bytes=tile_bytes)


def q_fair_mean(inputs: Inputs, *, q: float, lipschitz: float, tile_bytes: int) -> Combine:
    """Weigh by the loss that each site began from. Reads all files twice.

    Raises UpdateRefusedError for an update whose loss is missing or negative; AggregationError
    where the weights are not finite.
    """
    inputs.require(unscaled=True)
    losses = [
        max(LEAST_LOSS, loss) for loss in _scalars(inputs, Scalar.BASE_LOSS, -LEAST_LOSS, math.inf)
    ]
    squares = squared_norms(inputs).tolist()
    try:
        coefficients = [lipschitz * loss**q for loss in losses]
        divisor = math.fsum(
            q * loss ** (q - 1) * lipschitz * lipschitz * square + lipschitz * loss**q
            for loss, square in zip(losses, squares, strict=True)
        )
    except OverflowError:
        divisor = math.inf
        coefficients = [math.inf]
    if not (0 < divisor < math.inf and all(map(math.isfinite, coefficients))):
        raise AggregationError(
            f"q-fair weights leave the range of floats: q {q}, losses "
            f"{min(losses):g} to {max(losses):g}"
        )
    return VectorSum(inputs, coefficients, divisor, tile_bytes=tile_bytes)


def _scalars(inputs: Inputs, name: Scalar, above: float, most: float) -> list[float]:
    """Return a scalar of every update. Raises UpdateRefusedError for one not above `above`."""
    values: list[float] = []
    for it in inputs.contributions:
        value = it.scalars.get(name)
        if value is None or not (above < value <= most and math.isfinite(value)):
            raise UpdateRefusedError(
                RefusalReason.WEIGHT_OUT_OF_RANGE,
                f"update {it.digest} has {name} {value}, wanted above {max(above, 0.0):g}",
            )
        values.append(value)
    return values
