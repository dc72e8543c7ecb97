"""Sizes: the table, the tail behind it, and a committee that only its seed chooses."""

import hashlib
from fractions import Fraction
from itertools import combinations

import pytest

from hansa_core.secagg.draws import Draws
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.parameters import (
    Parameters,
    committee_of,
    least_degree_of,
    least_survivors,
    parameters_of,
)

SEED = hashlib.sha256(b"seed").digest()


def plain_stream(label: bytes, seed: bytes) -> list[int]:
    """Return the first draws, spelled out from the documentation."""
    blocks = [hashlib.sha256(label + seed + i.to_bytes(8, "big")).digest() for i in range(64)]
    joined = b"".join(blocks)
    return [int.from_bytes(joined[at : at + 8], "big") for at in range(0, len(joined), 8)]


@pytest.mark.parametrize(
    ("members", "committee", "quorum", "threshold", "degree", "least_degree"),
    [
        (3, 3, 3, 2, 2, 2),
        (4, 4, 3, 3, 3, 2),
        (10, 10, 7, 6, 9, 2),
        (32, 32, 22, 17, 31, 2),
        (33, 10, 7, 6, 32, 2),  # of 3 corrupt members, 4 seats are out of reach
        (100, 31, 21, 16, 99, 2),
        (128, 37, 25, 19, 127, 2),
        (129, 37, 25, 19, 100, 49),
        (1000, 103, 69, 52, 100, 49),
        (10_000, 121, 81, 61, 100, 49),
    ],
)
def test_table_of_sizes(
    members: int, committee: int, quorum: int, threshold: int, degree: int, least_degree: int
) -> None:
    assert parameters_of(members) == Parameters(
        members, committee, quorum, threshold, degree, least_degree
    )
    assert least_degree_of(members) == least_degree


@pytest.mark.parametrize("members", [33, 47, 100, 150, 400])
def test_committee_is_the_smallest_that_is_safe(members: int) -> None:
    def tail(size: int) -> Fraction:
        """Add up the chances seat by seat, as if the members came up one after the other."""
        chances = [Fraction(1)] + [Fraction(0)] * size
        corrupt = members // 10
        for drawn in range(size):
            left = members - drawn
            for found in reversed(range(drawn + 1)):
                moved = chances[found] * max(0, corrupt - found) / left
                chances[found + 1] += moved
                chances[found] -= moved
        return sum(chances[-(-size // 3) :], Fraction(0))

    size = parameters_of(members).committee
    assert tail(size) < Fraction(1, 2**40)
    assert all(tail(smaller) >= Fraction(1, 2**40) for smaller in range(max(1, size - 6), size))


def test_two_quora_share_more_than_a_third_of_the_seats() -> None:
    for members in range(3, 200):
        sizes = parameters_of(members)
        shared = 2 * sizes.quorum - sizes.committee
        assert shared > sizes.committee / 3
        assert sizes.quorum >= sizes.threshold
        assert sizes.committee / 2 < sizes.threshold <= sizes.committee <= members


@pytest.mark.parametrize("members", [-1, 0, 2, 10_001])
def test_numbers_of_members_without_a_protocol_are_refused(members: int) -> None:
    with pytest.raises(SecaggError, match=f"of {members} members, wanted 3 to 10000"):
        parameters_of(members)
    with pytest.raises(SecaggError):
        committee_of(members, SEED)


@pytest.mark.parametrize(
    ("participants", "wanted", "least"),
    [
        (3, None, 3),
        (4, None, 3),
        (5, None, 4),
        (10, None, 7),
        (1000, None, 667),
        (10, 5, 7),  # no plan lowers it
        (10, 0, 7),
        (10, 9, 9),
        (10, 12, 12),
    ],
)
def test_least_survivors_are_two_thirds_or_what_the_plan_raises_it_to(
    participants: int, wanted: int | None, least: int
) -> None:
    assert least_survivors(participants, wanted) == least


def test_two_participants_are_too_few() -> None:
    with pytest.raises(SecaggError, match="of 2 participants, wanted at least 3"):
        least_survivors(2)


@pytest.mark.parametrize("members", [3, 20, 32])
def test_small_run_has_everybody_on_the_committee(members: int) -> None:
    assert committee_of(members, SEED) == tuple(range(members))


@pytest.mark.parametrize("members", [33, 100, 1000])
def test_committee_is_ascending_and_follows_from_the_seed(members: int) -> None:
    committee = committee_of(members, SEED)
    assert committee == committee_of(members, SEED)
    assert list(committee) == sorted(set(committee))
    assert len(committee) == parameters_of(members).committee
    assert 0 <= committee[0] < committee[-1] < members
    assert committee != committee_of(members, hashlib.sha256(SEED).digest())


def test_committee_is_the_documented_shuffle() -> None:
    draws = iter(plain_stream(b"hansa/secagg/1 committee\n", SEED))
    order = list(range(100))
    for place in range(31):  # no draw comes near 2^64, so none is thrown away here
        other = place + next(draws) % (100 - place)
        order[place], order[other] = order[other], order[place]
    assert committee_of(100, SEED) == tuple(sorted(order[:31]))


def test_every_member_and_every_pair_is_as_likely_on_the_committee() -> None:
    rounds, members = 3000, 33  # 10 seats
    singles = dict.fromkeys(range(members), 0)
    pairs = dict.fromkeys(combinations(range(members), 2), 0)
    for number in range(rounds):
        committee = committee_of(members, hashlib.sha256(b"%d" % number).digest())
        for member in committee:
            singles[member] += 1
        for pair in combinations(committee, 2):
            pairs[pair] += 1
    for counts, chance in ((singles, 10 / 33), (pairs, 90 / (33 * 32))):
        deviation = (rounds * chance * (1 - chance)) ** 0.5
        assert all(abs(seen - rounds * chance) < 4.5 * deviation for seen in counts.values())


def test_draws_throw_away_what_would_favour_low_numbers() -> None:
    bound = 2**63 + 1  # nearly half of all draws are too high
    stream = plain_stream(b"label\n", SEED)
    wanted = [value for value in stream if value < bound][:40]
    draws = Draws(b"label\n", SEED)
    assert [draws.below(bound) for _ in range(40)] == wanted
    assert stream[:40] != wanted


def test_draws_cover_the_bound_and_nothing_else() -> None:
    draws = Draws(b"label\n", SEED)
    seen = {draws.below(5) for _ in range(200)}
    assert seen == set(range(5))
    assert [draws.below(1) for _ in range(3)] == [0, 0, 0]


def test_labels_and_seeds_make_streams_of_their_own() -> None:
    starts = {
        tuple(draws.below(2**64) for _ in range(3))
        for label in (b"a\n", b"b\n")
        for seed in (SEED, bytes(32))
        for draws in [Draws(label, seed)]
    }
    assert len(starts) == 4


@pytest.mark.parametrize("size", [0, 31, 33])
def test_seed_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(SecaggError, match=f"{size} bytes, wanted 32"):
        committee_of(100, bytes(size))


def test_sample_of_all_is_a_permutation() -> None:
    order = Draws(b"label\n", SEED).sample(50, 50)
    assert sorted(order) == list(range(50))
    assert order != list(range(50))
