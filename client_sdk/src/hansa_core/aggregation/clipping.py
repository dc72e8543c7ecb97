"""Norm clipping: the weighted mean of deltas none of which is longer than a bound.

Sun, Kairouz, Suresh and McMahan 2019, "Can You Really Backdoor Federated Learning?", section 5:

    w_next = w + sum_k s_k * n_k * min(1, bound / |delta_k|) * delta_k / sum_k n_k

where s_k is 1, or what staleness leaves of an asynchronous update. Where no delta is longer than
the bound, float tensors are those of `weighted_mean` to the bit.

Determinism and memory are those of distances.py and sums.py. Integers and BOOL are not measured, so
a bound on the length would not hold for them; they take the coordinate-wise median (vectors.py).
"""

import math

from hansa_core.aggregation.centres import check_length, clip_factor
from hansa_core.aggregation.distances import squared_norms
from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.vectors import VectorSum


def clipped_mean(inputs: Inputs, *, bound: float, tile_bytes: int) -> Combine:
    """Take the weighted mean of deltas shortened to `bound`, a length above 0.

    The length is the L2 norm over all float tensors together, in the model's own units. Reads all
    files twice. Raises AggregationError for a bound out of range; UpdateRefusedError for a length
    that is not finite.
    """
    check_length("bound", bound)
    inputs.require()
    lengths = [math.sqrt(square) for square in squared_norms(inputs).tolist()]
    coefficients = [
        contribution.weight * contribution.scale * clip_factor(length, bound)
        for contribution, length in zip(inputs.contributions, lengths, strict=True)
    ]
    total = float(inputs.total_weight)
    return VectorSum(inputs, coefficients, total, tile_bytes=tile_bytes)
