"""How large everything of a secure run is, as a function of the number of its members alone.

A committee is large enough when too many of its seats go to corrupt members with a probability
below 2^-40, a tenth of the members being corrupt and the committee drawn at random: the tail of
the hypergeometric distribution, computed exactly (Ma et al., Flamingo, S&P 2023, section 5).
Too many is a third of the seats or more. The quorum is more than two thirds, so that two quora
share more than a third of the seats: below it no two sets of survivors are both signed.
"""

from dataclasses import dataclass
from functools import cache, lru_cache
from math import comb

from hansa_core.secagg.draws import Draws
from hansa_core.secagg.errors import SecaggError

LEAST_MEMBERS = 3  # of two, each learns the other's update from the sum
MOST_MEMBERS = 10_000
ALL_IN_COMMITTEE = 32  # members up to which everybody is on the committee
ALL_NEIGHBOURS = 128  # participants up to which everybody is everybody's neighbour
SPARSE_DEGREE = 100  # neighbours of each above that

_CORRUPT_ONE_IN = 10
_SECURITY_BITS = 40
_LEAST_DEGREE_COMPLETE = 2
_LEAST_DEGREE_SPARSE = 49
_LABEL = b"hansa/secagg/1 committee\n"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The sizes that a roster of `members` settles."""

    members: int  # n
    committee: int  # L, members that can open sums
    quorum: int  # q, of the committee: so many have to sign one set of survivors
    threshold: int  # t, of the committee: so many shares open a seed
    degree: int  # neighbours of each member where all take part
    least_degree: int  # surviving neighbours of each survivor where all took part


@lru_cache(maxsize=256)
def parameters_of(members: int) -> Parameters:
    """Return the sizes for a roster of `members`, from 3 to 10000.

    The committee of 100 members has 31 seats, that of 1000 has 103. (With "too many" read as
    2q - L, the corrupt seats that it really takes to sign two sets, they would be 27 and 96.)

    Raises:
        SecaggError: fewer or more members than that.
    """
    if not LEAST_MEMBERS <= members <= MOST_MEMBERS:
        raise SecaggError(
            f"a secure run of {members} members, wanted {LEAST_MEMBERS} to {MOST_MEMBERS}"
        )
    committee = members if members <= ALL_IN_COMMITTEE else _least_committee(members)
    return Parameters(
        members=members,
        committee=committee,
        quorum=2 * committee // 3 + 1,
        threshold=committee // 2 + 1,
        degree=members - 1 if members <= ALL_NEIGHBOURS else SPARSE_DEGREE,
        least_degree=least_degree_of(members),
    )


def least_degree_of(participants: int) -> int:
    """Return how many surviving neighbours each survivor of a round has to have."""
    return _LEAST_DEGREE_COMPLETE if participants <= ALL_NEIGHBOURS else _LEAST_DEGREE_SPARSE


def least_survivors(participants: int, wanted: int | None = None) -> int:
    """Return how many of a round's `participants` have to survive, or no sum is opened.

    Two thirds of them, rounded up, and never fewer than 3. A plan's `wanted` only raises that; it
    may be more than there are participants, and then the round cannot be.

    Raises:
        SecaggError: fewer participants than 3.
    """
    if participants < LEAST_MEMBERS:
        raise SecaggError(
            f"a secure round of {participants} participants, wanted at least {LEAST_MEMBERS}"
        )
    return max(LEAST_MEMBERS, -(-2 * participants // 3), wanted or 0)


def committee_of(members: int, seed: bytes) -> tuple[int, ...]:
    """Return the committee's positions, ascending: a uniform sample that `seed` settles.

    Raises:
        SecaggError: a number of members that no run has, or a seed of other than 32 bytes.
    """
    size = parameters_of(members).committee
    return tuple(sorted(Draws(_LABEL, seed).sample(members, size)))


@cache
def _least_committee(members: int) -> int:
    corrupt = members // _CORRUPT_ONE_IN
    for size in range(1, members):
        tail, total = _tail(members, corrupt, size, -(-size // 3))
        if tail << _SECURITY_BITS < total:
            return size
    return members


def _tail(members: int, corrupt: int, size: int, least: int) -> tuple[int, int]:
    """Return P[at least `least` corrupt seats of `size`] as numerator and denominator."""
    ways = sum(
        comb(corrupt, seats) * comb(members - corrupt, size - seats)
        for seats in range(least, min(corrupt, size) + 1)
    )
    return ways, comb(members, size)
