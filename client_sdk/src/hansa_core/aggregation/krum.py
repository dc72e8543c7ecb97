"""Krum and multi-Krum: the update, or updates, that lie closest to their neighbours.

Blanchard, El Mhamdi, Guerraoui and Stainer 2017, "Machine Learning with Adversaries: Byzantine
Tolerant Gradient Descent", section 4. Among n updates of which f may be anything, n >= 2f + 3, an
update's score is the sum of its squared distances to the n - f - 2 closest others. Krum takes the
update of the least score; multi-Krum the plain mean of the m least.

Invariants
- What is kept is what distances formed from differences in float64 say, added without rounding
  (neighbours.py, distances.py); of equal scores the lesser digest wins. Arrival order, tiles,
  threads and the machine do not matter.
- Memory is that of distances.py and some 50 bytes per pair of updates.

Integers and BOOL are not measured. They take the coordinate-wise median of the chosen updates; of
one, its own value.
"""

from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.neighbours import closest
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.vectors import VectorSum
from hansa_core.problems import AggregationError

MOST_UPDATES = 1000  # what is held of every pair then takes 50 MB


def krum(inputs: Inputs, *, byzantine: int, tile_bytes: int, keep: int = 1) -> Combine:
    """Take the mean of the `keep` deltas of least score, with f = `byzantine`.

    Reads every update once, the chosen ones twice, and all once more where scores nearly tie.
    Raises AggregationError for fewer than 2f + 3 updates, more than MOST_UPDATES, or a `keep` other
    than 1 to n - f - 2; UpdateRefusedError for a scale other than 1 or a distance that is not
    finite.
    """
    if byzantine < 0:
        raise AggregationError(f"byzantine is {byzantine}, wanted 0 or more")
    inputs.require(least=least_updates(byzantine), unscaled=True)
    count = len(inputs.files)
    if count > MOST_UPDATES:
        raise AggregationError(
            f"there are {count} contributions, wanted at most {MOST_UPDATES}: "
            "krum compares every two"
        )
    if not 1 <= keep <= count - byzantine - 2:
        raise AggregationError(
            f"keep is {keep}, wanted 1 to {count - byzantine - 2}: "
            f"{count} updates - byzantine {byzantine} - 2"
        )
    chosen = closest(inputs, count - byzantine - 2, keep)
    coefficients = [1.0 if index in chosen else 0.0 for index in range(count)]
    return VectorSum(inputs, coefficients, float(keep), which=chosen, tile_bytes=tile_bytes)


def least_updates(byzantine: int, factor: int = 2) -> int:
    """Return how many updates it takes to withstand `byzantine`: Krum 2f + 3, Bulyan 4f + 3."""
    return factor * byzantine + 3
