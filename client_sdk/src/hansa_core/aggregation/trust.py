"""FLTrust: updates weighed by how far they point the way of a trusted one, and cut to its length.

Cao, Fang, Liu and Gong 2021, "FLTrust: Byzantine-robust Federated Learning via Trust
Bootstrapping", algorithm 2. With g_0 the delta of the root, whose data is trusted, and g_k those of
the others:

    trust_k = max(0, cos(g_k, g_0))
    delta   = sum_k trust_k * (|g_0| / |g_k|) * g_k / sum_k trust_k

Invariants
- The root's own delta is the measure and no term of the sum, as in the paper. So the result is no
  longer than it, and no site that points away from it has a say.
- A delta of length zero points nowhere: its trust is 0. Where nobody is trusted the model stays as
  it is, integers included.
- Lengths and products are those of distances.py: arrival order, tiles, threads and the machine do
  not matter. Each site counts by its trust alone, whatever number of examples it states.

Integers and BOOL are not measured. They take the coordinate-wise median of the trusted updates.
"""

import math

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.distances import products_with
from hansa_core.aggregation.inputs import Inputs, Section
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.vectors import VectorSum
from hansa_core.problems import AggregationError


def trusted(inputs: Inputs, *, root: int, tile_bytes: int) -> Combine:
    """Weigh all deltas but the root's, the contribution of that index, by their trust.

    Reads all files once, the trusted ones twice. Raises AggregationError without another update
    beside the root's; UpdateRefusedError for a scale other than 1 or a length that is not finite.
    """
    inputs.require(least=2, unscaled=True)
    if not 0 <= root < len(inputs.files):
        raise AggregationError(f"root is {root}, wanted 0 to {len(inputs.files) - 1}")
    squares, products = (it.tolist() for it in products_with(inputs, root))
    lengths = [math.sqrt(square) for square in squares]
    trust = [
        trust_score(product, length, lengths[root])
        for product, length in zip(products, lengths, strict=True)
    ]
    trust[root] = 0.0
    total = math.fsum(trust)
    if not total:
        return unchanged
    factors = [
        score * (lengths[root] / length) if score else 0.0
        for score, length in zip(trust, lengths, strict=True)
    ]
    which = [index for index, score in enumerate(trust) if score]
    return VectorSum(inputs, factors, total, which=which, tile_bytes=tile_bytes)


def trust_score(product: float, length: float, root_length: float) -> float:
    """Return the cosine of the angle to the root's delta, or 0 for one of 90 degrees and more."""
    if not (product > 0 and length > 0 and root_length > 0):
        return 0.0
    return min(1.0, product / length / root_length)


def unchanged(section: Section, start: int, out_t: NDArray[np.float64]) -> None:
    """Leave the model as it is: a Combine."""
    del section, start
    out_t[:] = 0
