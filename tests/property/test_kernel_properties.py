"""Bits depend on the numbers alone: not on who computes, in what order, by what loop."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hansa_core.aggregation import compiled
from hansa_core.aggregation.bulyan import bulyan
from hansa_core.aggregation.distances import pairwise_squared_distances, squared_distances
from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.ranks import MiddleMean
from hansa_core.aggregation.sums import WeightedSum
from hansa_core.aggregation.trust import trusted
from tests.combines import ViewedBytes, delta_of, opened, same_bits
from tests.tensors import Tensors, encode

BRIEF = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
Rule = Callable[[Inputs, int], Combine]  # the second argument is the root


def weighted(inputs: Inputs, _: int) -> Combine:
    factors = [1 / (1 + index) for index in range(len(inputs.files))]
    return WeightedSum(inputs, factors, 3.0, tile_bytes=512)


RULES: dict[str, Rule] = {
    "sum": weighted,
    "median": lambda inputs, _: MiddleMean(inputs, (len(inputs.files) - 1) // 2),
    "trimmed": lambda inputs, _: MiddleMean(inputs, len(inputs.files) // 5),
    "bulyan": lambda inputs, _: bulyan(inputs, byzantine=1, tile_bytes=512),
    "trust": lambda inputs, root: trusted(inputs, root=root, tile_bytes=512),
}


def rows(seed: int, sites: int, size: int) -> list[Tensors]:
    """Return deltas of all sorts of sizes that often share values, zeros of both signs too."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((sites, size)) * 10.0 ** rng.integers(-6, 6, (sites, 1))
    shared = rng.random((sites, size)) < 0.3
    values = np.where(shared, np.round(rng.standard_normal(size)), values)
    values = np.where(rng.random((sites, size)) < 0.1, rng.choice([0.0, -0.0]), values)
    return [
        {
            "d": row[: size // 2],
            "w": row.astype("f4"),
            "h": np.clip(row[: size // 3], -60000, 60000).astype("f2"),
            "n": np.rint(row[:3]).astype("i8"),
        }
        for row in values
    ]


DELTAS = st.builds(rows, st.integers(0, 2**32), st.integers(7, 20), st.integers(1, 3000))


@BRIEF
@given(st.sampled_from(sorted(RULES)), DELTAS, st.integers(1, 5000), st.randoms())
def test_bits_do_not_depend_on_order_tile_reader_or_loop(
    name: str, deltas: list[Tensors], tile: int, rng: random.Random
) -> None:
    made: list[list[NDArray[np.float64]]] = []
    shuffled = list(deltas)
    rng.shuffle(shuffled)
    with pytest.MonkeyPatch.context() as patch:
        for switch, order, reader, size in (
            ("0", deltas, None, 1024),
            ("1" if compiled.usable() else "0", shuffled, ViewedBytes, tile),
        ):
            patch.setenv(compiled.SWITCH, switch)
            inputs, which = opened(order, reader) if reader else opened(order)
            files = [encode(order[it]) for it in which]  # equal ones are one and the same
            root = files.index(encode(deltas[0]))
            made.append(delta_of(RULES[name](inputs, root), inputs, size))
    assert same_bits(*made)


@BRIEF
@given(DELTAS, st.integers(1, 8), st.integers(1, 40_000))
def test_distances_do_not_depend_on_windows_or_loop(
    deltas: list[Tensors], cell_blocks: int, window: int
) -> None:
    made: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hansa_core.aggregation.distances.CELL_BLOCKS", cell_blocks)
        for switch in ("0", "1" if compiled.usable() else "0"):
            patch.setenv(compiled.SWITCH, switch)
            inputs, _ = opened(deltas, ViewedBytes)
            factors = [1 / (1 + index) for index in range(len(deltas))]
            made += [(pairwise_squared_distances(inputs), squared_distances(inputs, factors))]
            patch.setattr("hansa_core.aggregation.readers.MOST_WINDOW", window)
            patch.setattr("hansa_core.aggregation.readers.LEAST_WINDOW", 1)
    assert np.array_equal(made[0][0], made[1][0])
    assert np.array_equal(made[0][1], made[1][1])
