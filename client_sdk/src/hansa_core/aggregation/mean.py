"""The weighted mean of deltas: federated averaging, streamed tile by tile.

McMahan, Moore, Ramage, Hampson and Agüera y Arcas 2017, "Communication-Efficient Learning of Deep
Networks from Decentralized Data", Algorithm 1, written over deltas (local minus global):

    w_next = w + sum_k s_k * n_k * delta_k / sum_k n_k

where s_k is 1, or what staleness leaves of an asynchronous update (staleness.py).

Invariants
- The bytes written depend on the base and on the multiset of (weight, scale, update bytes), and on
  nothing else: not on arrival order, site ids, tile size, threads or the machine (sums.py).
- Memory is a few tiles, whatever the model and the number of sites (inputs.py).

Integers and BOOL: the mean delta is rounded half to even and added, within the dtype's range. The
mean of I64 deltas is exact to 2**53. A U8 or BOOL delta cannot be negative: such tensors only grow.
"""

from collections.abc import Sequence

from hansa_core.aggregation.inputs import Contribution, Source, open_inputs
from hansa_core.aggregation.outputs import TILE_BYTES, AggregateSummary, write_checkpoint
from hansa_core.aggregation.sums import WeightedSum
from hansa_core.tensors import Sink


def weighted_mean(
    base: Source,
    contributions: Sequence[Contribution],
    sink: Sink,
    *,
    tile_bytes: int = TILE_BYTES,
) -> AggregateSummary:
    """Write the next checkpoint, a complete canonical file, to `sink`.

    The sink must use or copy the bytes before it returns. `tile_bytes` trades memory for fewer
    reads; it does not change the result.

    Raises AggregationError without contributions; UpdateRefusedError for a weight or scale out of
    range, a layout other than the base's, or a result that is not finite; TensorFormatError for a
    file that is none; and what `read` and `sink` raise. What the sink then has is to be discarded.
    """
    inputs = open_inputs(base, contributions)
    coefficients = [c.weight * c.scale for c in inputs.contributions]
    combine = WeightedSum(inputs, coefficients, float(inputs.total_weight), tile_bytes=tile_bytes)
    return write_checkpoint(inputs, combine, sink, tile_bytes=tile_bytes)
