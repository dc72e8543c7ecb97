"""Who shares a mask with whom in one round, and whether the survivors still hide one another.

Few participants all share masks with one another. Many stand on a circle in a random order and
share with the nearest 50 on either side: a Harary graph on a random permutation (Bell et al.,
CCS 2020, section 3), which falls apart only where 50 and more in a row are lost, twice. As the seed
is drawn after all keys are fixed, nobody chooses his neighbours.
"""

from collections.abc import Collection, Mapping, Sequence

from hansa_core.secagg.draws import Draws, check_seed
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.parameters import ALL_NEIGHBOURS, LEAST_MEMBERS, SPARSE_DEGREE

_LABEL = b"hansa/secagg/1 graph\n"
_HALF = SPARSE_DEGREE // 2  # of the neighbours are on either side


def neighbours(
    participants: Sequence[int], seed: bytes, *, complete: bool | None = None
) -> dict[int, tuple[int, ...]]:
    """Return each participant's neighbours by position, ascending; the order given is irrelevant.

    The graph is complete up to 128 participants and of degree 100 above, unless `complete` says
    which one. Positions are the roster's, and neighbourhood is mutual.

    Raises:
        SecaggError: fewer than 3 participants, one twice, too few for the sparse graph, or a seed
            of other than 32 bytes.
    """
    ascending, complete = _checked(participants, complete)
    if complete:
        check_seed(seed)
        return {
            one: (*ascending[:place], *ascending[place + 1 :])
            for place, one in enumerate(ascending)
        }
    around = _around(ascending, seed)
    found = {one: _beside(around, place) for place, one in enumerate(around[_HALF:-_HALF])}
    return {one: found[one] for one in ascending}


def neighbours_of(one: int, participants: Sequence[int], seed: bytes) -> tuple[int, ...]:
    """Return one participant's neighbours: what `neighbours` says of it, but not all others'.

    Raises:
        SecaggError: as there, and for one that does not take part.
    """
    ascending, complete = _checked(participants, None)
    if one not in ascending:
        raise SecaggError(f"{one} is none of the {len(ascending)} participants")
    if complete:
        check_seed(seed)
        return tuple(other for other in ascending if other != one)
    around = _around(ascending, seed)
    return _beside(around, around.index(one, _HALF) - _HALF)


def survey(graph: Mapping[int, Collection[int]], survivors: Collection[int]) -> tuple[int, bool]:
    """Return the least number of surviving neighbours, and whether the survivors are connected.

    No survivors have none and are not connected.

    Raises:
        SecaggError: a survivor is not in the graph.
    """
    alive = set(survivors)
    unknown = alive.difference(graph)
    if unknown:
        raise SecaggError(f"survivor {min(unknown)} is none of the {len(graph)} participants")
    if not alive:
        return 0, False
    left = {one: alive.intersection(graph[one]) for one in alive}
    reached = {next(iter(alive))}
    frontier = reached
    while frontier:
        frontier = set[int]().union(*(left[one] for one in frontier)) - reached
        reached |= frontier
    return min(map(len, left.values())), reached == alive


def _checked(participants: Sequence[int], complete: bool | None) -> tuple[list[int], bool]:
    """Return the participants in order, and whether all are neighbours."""
    ascending = sorted(set(participants))
    count = len(ascending)
    if count != len(participants):
        raise SecaggError(f"{len(participants)} participants, but only {count} different ones")
    if complete is None:
        complete = count <= ALL_NEIGHBOURS
    least = LEAST_MEMBERS if complete else SPARSE_DEGREE + 1
    if count < least:
        kind = "complete" if complete else "sparse"
        raise SecaggError(f"a {kind} graph of {count} participants, wanted at least {least}")
    return ascending, complete


def _around(ascending: Sequence[int], seed: bytes) -> list[int]:
    """Return the circle, with its last 50 before it and its first 50 behind it."""
    order = Draws(_LABEL, seed).sample(len(ascending), len(ascending))
    circle = [ascending[place] for place in order]
    return circle[-_HALF:] + circle + circle[:_HALF]


def _beside(around: list[int], place: int) -> tuple[int, ...]:
    """Return the nearest on either side of a place of the circle, ascending."""
    return tuple(
        sorted(around[place : place + _HALF] + around[place + _HALF + 1 : place + 2 * _HALF + 1])
    )
