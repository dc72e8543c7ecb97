"""Bulyan: whom it chooses, which values it takes, what it withstands, what it refuses."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.aggregation.bulyan import MOST_UPDATES, bulyan, closest_mean, selection
from hansa_core.aggregation.krum import krum
from hansa_core.problems import AggregationError, UpdateRefusedError
from tests.combines import delta_of, opened
from tests.rules import of


def plain_bulyan(rows: NDArray[np.float64], byzantine: int) -> NDArray[np.float64]:
    """Return the combined delta as the paper tells it, one element after the other."""
    left = list(range(len(rows)))
    chosen: list[int] = []
    while len(chosen) < len(rows) - 2 * byzantine:
        near = max(1, len(left) - byzantine - 2)
        scores: list[float] = []
        for one in left:
            apart = sorted(float(((rows[one] - rows[it]) ** 2).sum()) for it in left if it != one)
            scores.append(math.fsum(apart[:near]))
        chosen.append(left.pop(scores.index(min(scores))))
    kept = len(chosen) - 2 * byzantine
    made: list[float] = []
    for values in rows[chosen].T:
        median = float(np.median(values))
        closest = sorted(values.tolist(), key=lambda it: (abs(it - median), it))[:kept]
        made.append(math.fsum(closest) / kept)
    return np.array(made)


def rows_of(sites: int, elements: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((sites, elements))


@pytest.mark.parametrize(
    ("sites", "byzantine"), [(3, 0), (7, 1), (8, 1), (11, 2), (23, 5), (40, 3)]
)
def test_it_agrees_with_the_paper_written_down(sites: int, byzantine: int) -> None:
    rows = rows_of(sites, 301)
    inputs, which = opened([{"w": row} for row in rows])
    found = delta_of(bulyan(inputs, byzantine=byzantine, tile_bytes=1), inputs, 100)[0]
    assert np.abs(found - plain_bulyan(rows[which], byzantine)).max() < 1e-14


def test_of_two_values_equally_far_from_the_median_the_lesser_is_kept() -> None:
    rows_t: list[NDArray[np.float64]] = list(
        np.array([[-2.0, -3], [-1, -1], [0, 0], [1, 1], [2, 3]])
    )
    for kept, wanted in ((1, 0.0), (2, -0.5), (3, 0.0), (4, -0.5), (5, 0.0)):
        out_t = np.empty(2)
        closest_mean(rows_t, kept, out_t)
        assert out_t[0] == pytest.approx(wanted)


def test_every_choice_counts_neighbours_among_those_that_are_left() -> None:
    # Two close pairs and lone ones: once one of a pair is gone, its twin has no near neighbour.
    places = np.array([0.0, 0.1, 10, 10.2, 20, 31, 43])
    squares = (places[:, None] - places) ** 2
    assert selection(squares, 1)[0] in {1, 2, 3}
    assert len(set(selection(squares, 1))) == 5
    assert selection(squares, 0) != sorted(selection(squares, 0))
    assert sorted(selection(squares, 0)) == list(range(7))


def test_one_large_element_that_krum_lets_through_is_taken_out() -> None:
    # The attacker sits in the middle of the others in all elements but one: the paper's point.
    rng = np.random.default_rng(5)
    honest = rng.standard_normal((6, 2000))
    attack = honest.mean(axis=0)
    attack[7] = 12.0
    inputs, _ = opened([{"w": row} for row in (*honest, attack)])
    by_krum = delta_of(krum(inputs, byzantine=1, tile_bytes=4096), inputs)[0]
    by_bulyan = delta_of(bulyan(inputs, byzantine=1, tile_bytes=4096), inputs)[0]
    assert by_krum[7] == 12.0
    assert honest[:, 7].min() <= by_bulyan[7] <= honest[:, 7].max()


def test_counters_take_the_median_of_the_chosen() -> None:
    counts = [5, 6, 7, 8, 9, 10, 10**9]
    values = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 900.0]
    deltas = [{"w": np.array([v]), "n": np.array(c)} for v, c in zip(values, counts, strict=True)]
    inputs, _ = opened(deltas)
    integers, floats = delta_of(bulyan(inputs, byzantine=1, tile_bytes=4096), inputs)
    assert integers[0] in {7, 8}  # of five of the six that agree
    assert 0 <= floats[0] <= 0.5


def test_what_it_cannot_do_is_refused() -> None:
    inputs, _ = opened([of([k]) for k in range(6)])
    with pytest.raises(AggregationError, match="6 contributions, wanted 7 or more"):
        bulyan(inputs, byzantine=1, tile_bytes=4096)
    with pytest.raises(AggregationError, match="byzantine is -1"):
        bulyan(inputs, byzantine=-1, tile_bytes=4096)
    many, _ = opened([of([k]) for k in range(MOST_UPDATES + 1)])
    with pytest.raises(AggregationError, match=f"wanted at most {MOST_UPDATES}"):
        bulyan(many, byzantine=1, tile_bytes=4096)
    broken, _ = opened([of([k]) for k in (*range(6), np.inf)])
    with pytest.raises(UpdateRefusedError, match="squared distance between updates"):
        bulyan(broken, byzantine=1, tile_bytes=4096)
