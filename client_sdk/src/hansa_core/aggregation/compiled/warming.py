"""Runs every compiled loop once over next to nothing: each is then loaded, or compiled and kept.

Of processes that start at once the first compiles and the others wait for what it has kept.
"""

import numpy as np

from hansa_core.aggregation.compiled import loops, ranks
from hansa_core.aggregation.compiled.caches import one_at_a_time
from hansa_core.aggregation.compiled.kinds import F64


def run_all() -> None:
    """Call each loop with arguments of the types that the rules have, over rows of no elements."""
    with one_at_a_time():
        _run_all()


def _run_all() -> None:
    kinds = np.full(2, F64, np.int64)
    rows = np.zeros((2, loops.BLOCK))
    addresses = np.array([row.ctypes.data for row in rows], np.uint64)
    firsts = np.zeros(2, np.int64)
    few, out, whole = np.zeros(2), np.zeros(0), np.zeros(0, np.int64)
    at = int(addresses[0])
    loops.weighted_sum(kinds, firsts, addresses, firsts, few, 2.0, out)
    loops.weighted_sum_onto(kinds, firsts, addresses, firsts, few, 2.0, at, 0)
    loops.add_base(F64, at, out, at)
    loops.squares_apart(kinds, addresses, few, False, 0, rows, rows[0], few)
    loops.products_with(0, kinds, addresses, 0, rows, few, few)
    loops.pairwise_squares(
        kinds, addresses, 0, rows, np.zeros((loops.LEAVES, 2, 2)), np.zeros((2, 2))
    )
    keys = np.zeros((2, 1), np.int32)
    ranks.middle_mean(kinds, addresses, whole, whole, 0, keys, few, out)
    ranks.closest_mean(kinds, addresses, whole, whole, 1, keys, few, whole, out)
