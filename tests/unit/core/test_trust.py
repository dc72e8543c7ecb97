"""FLTrust: what the root's update makes of the others."""

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.aggregation.trust import trusted
from hansa_core.problems import AggregationError, UpdateRefusedError
from tests.combines import delta_of, opened
from tests.tensors import Tensors


def combined(deltas: list[Tensors], root: int) -> list[NDArray[np.float64]]:
    """Return the combined delta, the root being the delta of that index."""
    inputs, which = opened(deltas)
    return delta_of(trusted(inputs, root=which.index(root), tile_bytes=4096), inputs)


def vectors(*rows: list[float]) -> list[Tensors]:
    return [{"w": np.array(row, np.float64)} for row in rows]


def plain_trust(rows: NDArray[np.float64], root: int) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1)
    trust = np.maximum(0, rows @ rows[root] / (lengths * lengths[root]))
    trust[root] = 0
    return (trust * lengths[root] / lengths) @ rows / trust.sum()


@pytest.mark.parametrize("sites", [2, 3, 10, 40])
def test_it_agrees_with_the_paper_written_down(sites: int) -> None:
    rng = np.random.default_rng(sites)
    rows = rng.standard_normal(3000) + 1.5 * rng.standard_normal((sites, 3000))
    rows *= 10.0 ** rng.integers(-3, 3, (sites, 1))
    found = combined([{"w": row} for row in rows], sites // 2)[0]
    wanted = plain_trust(rows, sites // 2)
    assert np.abs(found - wanted).max() < 1e-12 * np.abs(wanted).max()


def test_who_points_away_has_no_say_and_nobody_more_than_the_roots_length() -> None:
    found = combined(vectors([3.0, 4], [-3, -4], [300, 400], [4, -3], [0, 0]), 0)[0]
    assert found == pytest.approx([3, 4])
    away = combined(vectors([1.0, 0], [-1e9, 5], [0, 7], [1e-9, 1e-9]), 0)[0]
    assert np.linalg.norm(away) <= 1 + 1e-12
    assert away[0] > 0.7


def test_the_roots_own_update_is_the_measure_and_no_term() -> None:
    found = combined(vectors([2.0, 0], [1, 1]), 0)[0]
    assert found == pytest.approx([np.sqrt(2), np.sqrt(2)])


def test_where_nobody_is_trusted_the_model_stays() -> None:
    for root in ([1.0, 0.0], [0.0, 0.0]):
        deltas = vectors(root, [-1, 0], [0, 3])
        for count, delta in enumerate(deltas):
            delta["n"] = np.array(5 + count)
        assert [it.tolist() for it in combined(deltas, 0)] == [[0], [0, 0]]


def test_counters_take_the_median_of_the_trusted() -> None:
    deltas = vectors([1.0], [2], [3], [4], [-1])
    for delta, count in zip(deltas, (0, 10, 20, 30, 10**9), strict=True):
        delta["n"] = np.array(count)
    assert combined(deltas, 0)[0].tolist() == [20]


def test_lengths_beyond_the_range_of_floats_do_no_harm() -> None:
    tiny = combined(vectors([1e-200, 0], [1e100, 0], [1, 0]), 0)[0]
    assert tiny.tolist() == [0, 0]
    with pytest.raises(UpdateRefusedError, match="squared length of update"):
        combined(vectors([1.0, 0], [1e300, 0], [1, 0]), 0)


def test_what_it_cannot_do_is_refused() -> None:
    inputs, _ = opened(vectors([1.0, 0]))
    with pytest.raises(AggregationError, match="1 contributions, wanted 2 or more"):
        trusted(inputs, root=0, tile_bytes=4096)
    inputs, _ = opened(vectors([1.0, 0], [1, 1]))
    with pytest.raises(AggregationError, match="root is 2, wanted 0 to 1"):
        trusted(inputs, root=2, tile_bytes=4096)
