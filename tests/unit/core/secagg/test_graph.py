"""Who masks with whom: shapes of the graph, and what is left of it when sites drop out."""

import hashlib
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.graph import neighbours, neighbours_of, survey

SEED = hashlib.sha256(b"graph").digest()
RING = {place: ((place - 1) % 6, (place + 1) % 6) for place in range(6)}


@pytest.mark.parametrize("count", [3, 4, 50, 128])
def test_few_participants_are_all_neighbours(count: int) -> None:
    positions = list(range(0, 3 * count, 3))
    graph = neighbours(positions, SEED)
    assert list(graph) == positions
    for one, near in graph.items():
        assert list(near) == [other for other in positions if other != one]


@pytest.mark.parametrize("count", [129, 130, 333, 1000])
def test_many_have_a_hundred_neighbours_each_and_hang_together(count: int) -> None:
    positions = random.Random(count).sample(range(10_000), count)  # noqa: S311
    graph = neighbours(positions, SEED)
    assert list(graph) == sorted(positions)
    for one, near in graph.items():
        assert len(near) == 100
        assert list(near) == sorted(set(near))
        assert one not in near
        assert all(one in graph[other] for other in near)
    assert survey(graph, positions) == (100, True)


def test_sparse_graph_is_a_circle_in_an_order_that_the_seed_draws() -> None:
    graph = neighbours(range(300), SEED)
    # Next to each other on the circle are those that share 98 neighbours: walk along them.
    beside = {
        one: {other for other in near if len(set(near).intersection(graph[other])) == 98}
        for one, near in graph.items()
    }
    assert {len(pair) for pair in beside.values()} == {2}
    path = [0, min(beside[0])]
    while len(path) < 300:
        (following,) = beside[path[-1]] - {path[-2]}
        path.append(following)
    assert sorted(path) == list(range(300))
    steps = [(after - before) % 300 for before, after in pairwise(path)]
    assert len(set(steps)) > 100  # not the order of positions
    for place, one in enumerate(path):
        near = {path[(place + step) % 300] for step in range(-50, 51) if step}
        assert near == set(graph[one])


def test_graph_follows_from_seed_and_participants_not_from_their_order() -> None:
    graph = neighbours(range(200), SEED)
    assert graph == neighbours(range(199, -1, -1), SEED)
    assert graph != neighbours(range(200), hashlib.sha256(SEED).digest())


@pytest.mark.parametrize("count", [3, 128, 129, 333])
def test_neighbours_of_one_are_those_of_the_graph(count: int) -> None:
    positions = random.Random(count).sample(range(10_000), count)  # noqa: S311
    graph = neighbours(positions, SEED)
    assert {one: neighbours_of(one, positions, SEED) for one in positions} == graph


def test_neighbours_of_a_stranger_or_with_a_wrong_seed_are_refused() -> None:
    with pytest.raises(SecaggError, match="7 is none of the 5 participants"):
        neighbours_of(7, range(5), SEED)
    for count in (5, 200):
        with pytest.raises(SecaggError, match="31 bytes, wanted 32"):
            neighbours_of(0, range(count), SEED[:31])
    with pytest.raises(SecaggError, match="4 participants, but only 3 different"):
        neighbours_of(0, [0, 1, 2, 1], SEED)


def test_kind_of_graph_can_be_asked_for() -> None:
    assert survey(neighbours(range(200), SEED, complete=True), range(200)) == (199, True)
    assert survey(neighbours(range(120), SEED, complete=False), range(120)) == (100, True)
    # Of 101, the sparse graph is complete too.
    assert neighbours(range(101), SEED, complete=False) == neighbours(range(101), SEED)


@pytest.mark.parametrize(
    ("participants", "complete", "named"),
    [
        ([0, 1], None, "complete graph of 2 participants, wanted at least 3"),
        ([], None, "of 0 participants"),
        (list(range(100)), False, "sparse graph of 100 participants, wanted at least 101"),
        ([0, 1, 2, 1], None, "4 participants, but only 3 different"),
    ],
)
def test_impossible_graphs_are_refused(
    participants: list[int], complete: bool | None, named: str
) -> None:
    with pytest.raises(SecaggError, match=named):
        neighbours(participants, SEED, complete=complete)


def test_seed_of_another_length_is_refused() -> None:
    with pytest.raises(SecaggError, match="31 bytes, wanted 32"):
        neighbours(range(5), SEED[:31])


@pytest.mark.parametrize(
    ("survivors", "found"),
    [
        ([0, 1, 2, 3, 4, 5], (2, True)),
        ([5, 0, 1], (1, True)),
        ([0, 1, 3, 4], (1, False)),
        ([0, 2, 4], (0, False)),
        ([0, 1, 3], (0, False)),
        ([4], (0, True)),
        ([], (0, False)),
    ],
)
def test_survey_of_a_ring(survivors: list[int], found: tuple[int, bool]) -> None:
    assert survey(RING, survivors) == found


def test_stranger_among_the_survivors_is_refused() -> None:
    with pytest.raises(SecaggError, match="survivor 7 is none of the 6 participants"):
        survey(RING, [0, 9, 7])


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(0, 134)), st.integers(0, 3))
def test_survey_agrees_with_a_plain_search(lost: set[int], seed: int) -> None:
    graph = neighbours(range(135), bytes([seed]) * 32)
    survivors = [one for one in range(135) if one not in lost]
    degree, connected = survey(graph, survivors)
    left = {one: [other for other in graph[one] if other not in lost] for one in survivors}
    assert degree == min((len(near) for near in left.values()), default=0)
    group = {one: one for one in survivors}
    for _ in survivors:
        for one, near in left.items():
            for other in near:
                group[one] = group[other] = min(group[one], group[other])
        if len(set(group.values())) <= 1:
            break
    assert connected == (len(set(group.values())) == 1)


def test_a_third_may_drop_out_of_a_thousand() -> None:
    graph = neighbours(range(1000), SEED)
    chance = random.Random(5)  # noqa: S311
    for _ in range(20):
        survivors = chance.sample(range(1000), 667)
        degree, connected = survey(graph, survivors)
        assert degree >= 49
        assert connected
