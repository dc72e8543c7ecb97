"""Sharing secrets: round trips, wrong shares found, too many of them refused."""

import hashlib
import os
import random
from collections.abc import Callable, Iterable
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa_core.secagg.dealing import deal
from hansa_core.secagg.errors import ShareError
from hansa_core.secagg.shamir import (
    PRIME,
    SHARE_SIZE,
    Interpolation,
    agreed_secrets,
    combine,
    recover,
)

SECRET = hashlib.sha256(b"secret").digest()
SIZES = [(1, 1), (2, 3), (3, 3), (3, 4), (6, 10), (17, 32), (52, 103)]
EDGES = [
    bytes(32),
    b"\xff" * 32,
    b"\x80" + bytes(31),
    b"\x7f" + b"\xff" * 31,
    bytes(31) + b"\x01",
    b"\x00" * 16 + b"\xff" * 16,
]


def numbered(shares: Iterable[bytes]) -> dict[int, bytes]:
    return dict(enumerate(shares, 1))


def split(
    secret: bytes,
    *,
    threshold: int,
    shares: int,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> list[bytes]:
    """Return the shares of one secret."""
    dealt = deal([secret], threshold=threshold, shares=shares, random_bytes=random_bytes)
    return [share for (share,) in dealt]


def numbered_rows(dealt: Iterable[Iterable[bytes]]) -> dict[int, list[bytes]]:
    return {x: list(row) for x, row in enumerate(dealt, 1)}


def moved(share: bytes, by: int) -> bytes:
    """Return another value that a share could have."""
    return ((int.from_bytes(share, "big") + by) % PRIME).to_bytes(SHARE_SIZE, "big")


def plain_value(coefficients: list[int], x: int) -> int:
    return sum(value * pow(x, power, PRIME) for power, value in enumerate(coefficients)) % PRIME


def test_modulus_is_the_least_prime_above_the_secrets() -> None:
    def passes(number: int) -> bool:
        """Miller and Rabin's test with 40 bases."""
        odd, twos = number - 1, 0
        while odd % 2 == 0:
            odd, twos = odd // 2, twos + 1
        for base in range(2, 42):
            power = pow(base, odd, number)
            if power in {1, number - 1}:
                continue
            if not any((power := power * power % number) == number - 1 for _ in range(twos - 1)):
                return False
        return True

    assert passes(PRIME)
    assert not any(passes(number) for number in range(2**256, PRIME))


@pytest.mark.parametrize(("threshold", "shares"), SIZES)
@pytest.mark.parametrize("secret", [SECRET, *EDGES], ids=lambda secret: secret.hex()[:8])
def test_secret_comes_back(secret: bytes, threshold: int, shares: int) -> None:
    made = numbered(split(secret, threshold=threshold, shares=shares))
    assert len(made) == shares
    assert {len(share) for share in made.values()} == {SHARE_SIZE}
    assert combine(made, threshold) == secret
    last = dict(list(made.items())[-threshold:])
    assert combine(last, threshold) == secret
    assert recover(made, threshold, secret.__eq__) == (secret, frozenset())


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 12), st.data())
def test_any_threshold_of_shares_gives_the_secret(
    secret: bytes, threshold: int, data: st.DataObject
) -> None:
    shares = data.draw(st.integers(threshold, 16))
    made = numbered(split(secret, threshold=threshold, shares=shares))
    chosen = data.draw(st.sets(st.sampled_from(sorted(made)), min_size=threshold))
    assert combine({x: made[x] for x in chosen}, threshold) == secret


def test_shares_are_the_values_of_the_documented_polynomial() -> None:
    draws = [hashlib.sha512(b"%d" % number).digest()[:SHARE_SIZE] for number in range(64)]
    coming = iter(draws)
    shares = split(SECRET, threshold=5, shares=9, random_bytes=lambda size: next(coming)[:size])
    fitting = [value for value in (int.from_bytes(it, "big") >> 7 for it in draws) if value < PRIME]
    # Drawn highest power first.
    coefficients = [int.from_bytes(SECRET, "big"), *reversed(fitting[:4])]
    assert [int.from_bytes(share, "big") for share in shares] == [
        plain_value(coefficients, x) for x in range(1, 10)
    ]


@pytest.mark.parametrize(("threshold", "shares"), [*SIZES, (49, 96)])
def test_many_secrets_are_dealt_as_each_alone_would_be(threshold: int, shares: int) -> None:
    """The largest coefficients there are fill their lanes, and none reaches the next."""
    largest = ((PRIME - 1) << 7).to_bytes(SHARE_SIZE, "big")
    secrets = [EDGES[-1], SECRET, bytes(32), SECRET]
    dealt = deal(secrets, threshold=threshold, shares=shares, random_bytes=lambda _: largest)
    assert len(dealt) == shares
    for place, secret in enumerate(secrets):
        coefficients = [int.from_bytes(secret, "big"), *[PRIME - 1] * (threshold - 1)]
        assert [int.from_bytes(row[place], "big") for row in dealt] == [
            plain_value(coefficients, x) for x in range(1, shares + 1)
        ]


def test_values_around_the_modulus_are_reduced() -> None:
    largest, zero = b"\xff" * 32, bytes(32)
    coefficients = [0, 1, 296, 297, 298, PRIME - 2, PRIME - 1, 2**256, 2**256 - 1]
    cases = [(secret, it) for secret in (largest, zero, EDGES[2]) for it in coefficients]
    coming = iter([(it << 7).to_bytes(SHARE_SIZE, "big") for _, it in cases])
    secrets = [secret for secret, _ in cases]
    dealt = deal(secrets, threshold=2, shares=5, random_bytes=lambda _: next(coming))
    for x, row in enumerate(dealt, 1):
        assert [int.from_bytes(share, "big") for share in row] == [
            plain_value([int.from_bytes(secret, "big"), it], x) for secret, it in cases
        ]


def test_the_highest_of_points_is_evaluated_without_overflow() -> None:
    largest = ((PRIME - 1) << 7).to_bytes(SHARE_SIZE, "big")
    for shares in (127, 128, 1023, 1024, 10_000):  # where a point takes one bit more
        dealt = deal([EDGES[1]], threshold=9, shares=shares, random_bytes=lambda _: largest)
        coefficients = [2**256 - 1, *[PRIME - 1] * 8]
        assert int.from_bytes(dealt[-1][0], "big") == plain_value(coefficients, shares)


def test_system_randomness_gives_coefficients_that_are_all_different() -> None:
    """Of polynomials of degree 1, the share at 1 is the coefficient: none comes twice."""
    (row, *_) = deal([bytes(32)] * 2000, threshold=2, shares=2)
    values = [int.from_bytes(share, "big") for share in row]
    assert len(set(values)) == 2000
    assert all(value < PRIME for value in values)
    high = sum(value >> 255 for value in values)
    assert 850 < high < 1150  # 6.7 standard deviations


def test_secrets_that_are_dealt_together_have_polynomials_of_their_own() -> None:
    first, second = zip(*deal([SECRET, SECRET], threshold=3, shares=5), strict=True)
    assert not set(first) & set(second)
    assert combine(numbered(first), 3) == combine(numbered(second), 3) == SECRET


def test_no_secrets_have_no_shares() -> None:
    assert deal([], threshold=2, shares=3) == [[], [], []]


def test_coefficients_beyond_the_modulus_are_drawn_again() -> None:
    largest = ((PRIME - 1) << 7).to_bytes(SHARE_SIZE, "big")
    coming = iter([b"\xff" * SHARE_SIZE, (PRIME << 7).to_bytes(SHARE_SIZE, "big"), largest])
    (share,) = split(bytes(32), threshold=2, shares=2, random_bytes=lambda _: next(coming))[:1]
    assert int.from_bytes(share, "big") == PRIME - 1
    assert next(coming, None) is None


def test_shares_of_one_secret_differ_each_time() -> None:
    made = {tuple(split(SECRET, threshold=2, shares=3)) for _ in range(8)}
    assert len(made) == 8


def test_fewer_shares_than_the_threshold_fit_every_secret() -> None:
    made = split(SECRET, threshold=3, shares=5)
    for secret in EDGES:
        values = {0: secret, 1: made[0], 2: made[1]}
        # There is a polynomial through the two shares and any secret: with a third share, it is
        # that secret that comes out.
        third = sum(
            int.from_bytes(values[x], "big") * weight
            for x, weight in ((0, 1), (1, -3), (2, 3))  # Lagrange's at 3
        )
        shares = {1: made[0], 2: made[1], 3: moved(bytes(SHARE_SIZE), third)}
        assert combine(shares, 3) == secret


@pytest.mark.parametrize(("threshold", "shares"), [(0, 3), (-1, 3), (4, 3), (1, 0)])
def test_impossible_thresholds_are_refused(threshold: int, shares: int) -> None:
    with pytest.raises(ShareError, match=f"threshold of {threshold} for {shares} shares"):
        split(SECRET, threshold=threshold, shares=shares)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_secrets_of_another_length_are_refused(size: int) -> None:
    with pytest.raises(ShareError, match=f"{size} bytes, wanted 32"):
        split(bytes(size), threshold=2, shares=3)


def test_too_few_shares_are_refused() -> None:
    made = numbered(split(SECRET, threshold=4, shares=6)[:3])
    with pytest.raises(ShareError, match="3 shares came, wanted at least 4"):
        combine(made, 4)
    with pytest.raises(ShareError, match="3 shares came, wanted at least 4"):
        recover(made, 4, SECRET.__eq__)


@pytest.mark.parametrize(
    "share", [b"", bytes(32), bytes(34), PRIME.to_bytes(SHARE_SIZE, "big"), b"\xff" * SHARE_SIZE]
)
def test_what_is_no_share_is_refused_or_left_out(share: bytes) -> None:
    made = numbered(split(SECRET, threshold=3, shares=5))
    made[2] = share
    with pytest.raises(ShareError, match=f"share at 2 has {len(share)} bytes"):
        combine(made, 3)
    assert recover(made, 3, SECRET.__eq__) == (SECRET, frozenset({2}))
    made[1] = made[4] = share
    with pytest.raises(ShareError, match="2 shares came, wanted at least 3"):
        recover(made, 3, SECRET.__eq__)


def test_shares_of_no_secret_are_refused() -> None:
    constant = dict.fromkeys(range(1, 6), (2**256 + 5).to_bytes(SHARE_SIZE, "big"))
    with pytest.raises(ShareError, match="no secret of 32 bytes"):
        combine(constant, 3)
    with pytest.raises(ShareError, match="5 shares came"):
        recover(constant, 3, lambda _: True)


@pytest.mark.parametrize("points", [(), (1, 1), (0, 1), (-1, 2), (PRIME, 1)])
def test_impossible_points_are_refused(points: tuple[int, ...]) -> None:
    with pytest.raises(ShareError, match="wanted different x's"):
        Interpolation(points)


def test_interpolation_serves_many_secrets() -> None:
    weights = Interpolation([5, 2, 9])
    for secret in EDGES:
        made = numbered(split(secret, threshold=3, shares=9))
        assert weights.secret([made[5], made[2], made[9]]) == secret
    with pytest.raises(ShareError, match="2 shares came for 3 points"):
        weights.secret([bytes(SHARE_SIZE)] * 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(0, 9), st.randoms(use_true_random=False), st.data())
def test_as_many_wrong_shares_as_can_be_are_found(
    threshold: int, extra: int, chance: random.Random, data: st.DataObject
) -> None:
    secret = data.draw(st.binary(min_size=32, max_size=32))
    made = numbered(split(secret, threshold=threshold, shares=threshold + extra))
    points = chance.sample(sorted(made), len(made))  # in any order
    came = {x: made[x] for x in points}
    wrong = frozenset(chance.sample(points, extra // 2))
    for x in wrong:
        came[x] = moved(came[x], chance.randrange(1, PRIME))
    assert recover(came, threshold, secret.__eq__) == (secret, wrong)


@pytest.mark.parametrize("wrong", list(combinations(range(1, 8), 2)))
def test_two_wrong_shares_of_seven_are_found_wherever_they_are(wrong: tuple[int, ...]) -> None:
    made = numbered(split(SECRET, threshold=3, shares=7))
    for x in wrong:
        made[x] = moved(made[x], x)
    assert recover(made, 3, SECRET.__eq__) == (SECRET, frozenset(wrong))


def test_more_wrong_shares_than_can_be_found_are_refused() -> None:
    made = numbered(split(SECRET, threshold=3, shares=7))
    for x in (1, 4, 6):
        made[x] = moved(made[x], x)
    with pytest.raises(ShareError) as caught:
        recover(made, 3, SECRET.__eq__)
    assert "7 shares came" in str(caught.value)
    assert "up to 2 of them wrong; wanted 3 right ones" in str(caught.value)


def test_secret_is_kept_where_more_are_wrong_but_not_the_lowest() -> None:
    made = numbered(split(SECRET, threshold=3, shares=7))
    for x in (4, 5, 6):
        made[x] = moved(made[x], x)
    made[7] = b"no share"
    # Nobody can tell which three are right, but the commitment knows the secret.
    assert recover(made, 3, SECRET.__eq__) == (SECRET, frozenset({7}))


def test_wrong_shares_that_cancel_in_the_secret_blame_nobody_else() -> None:
    made = numbered(split(SECRET, threshold=3, shares=7))
    # Lagrange's coefficients at 0 of the points 1, 2 and 3 are 3, -3 and 1.
    made[1], made[2] = moved(made[1], 5), moved(made[2], 5)
    assert combine(made, 3) == SECRET
    assert recover(made, 3, SECRET.__eq__) == (SECRET, frozenset({1, 2}))


def test_shares_dealt_for_another_secret_than_was_committed_to_are_refused() -> None:
    made = numbered(split(EDGES[1], threshold=3, shares=7))
    with pytest.raises(ShareError, match="no secret that fits its commitment"):
        recover(made, 3, SECRET.__eq__)


def test_wrong_shares_of_a_large_committee_are_found() -> None:
    made = numbered(split(SECRET, threshold=52, shares=103))
    wrong = frozenset(range(2, 52, 2))
    for x in wrong:
        made[x] = moved(made[x], x)
    assert len(wrong) == 25
    assert recover(made, 52, SECRET.__eq__) == (SECRET, wrong)


@pytest.mark.parametrize(("threshold", "shares"), [*SIZES, (49, 96)])
def test_many_secrets_come_back_at_once(threshold: int, shares: int) -> None:
    rows = numbered_rows(deal(EDGES, threshold=threshold, shares=shares))
    assert agreed_secrets(rows, threshold) == EDGES
    last = dict(list(rows.items())[-threshold:])
    assert agreed_secrets(last, threshold) == EDGES


def test_a_place_with_a_wrong_share_is_told_and_the_others_come_back() -> None:
    """Also where the wrong share is not among those that the secret is computed from."""
    for liar in (1, 7):
        rows = numbered_rows(deal(EDGES, threshold=3, shares=7))
        rows[liar][2] = moved(rows[liar][2], 1)
        assert agreed_secrets(rows, 3) == [*EDGES[:2], None, *EDGES[3:]]
        here = {x: row[2] for x, row in rows.items()}
        assert recover(here, 3, EDGES[2].__eq__) == (EDGES[2], frozenset({liar}))


@pytest.mark.parametrize("bad", [b"", bytes(32), PRIME.to_bytes(SHARE_SIZE, "big")])
def test_rows_with_unreadable_shares_are_left_to_a_closer_look(bad: bytes) -> None:
    rows = numbered_rows(deal(EDGES, threshold=3, shares=5))
    rows[4][1] = bad
    assert agreed_secrets(rows, 3) == [None] * len(EDGES)


def test_a_constant_beyond_the_secrets_is_none() -> None:
    """Values of the constant polynomial p - 1 are on one polynomial, but no 32 bytes."""
    share = (PRIME - 1).to_bytes(SHARE_SIZE, "big")
    assert agreed_secrets(numbered_rows([[share]] * 4), 2) == [None]


def test_too_few_rows_and_ragged_ones_are_refused() -> None:
    rows = numbered_rows(deal(EDGES, threshold=3, shares=5))
    with pytest.raises(ShareError, match="2 shares came, wanted at least 3"):
        agreed_secrets({x: rows[x] for x in (1, 2)}, 3)
    with pytest.raises(ShareError, match=r"\[5, 6, 6\] shares, wanted one length"):
        agreed_secrets({1: rows[1], 2: rows[2][:-1], 3: rows[3]}, 3)


def test_no_rows_of_no_secrets_are_empty() -> None:
    assert agreed_secrets({1: [], 2: []}, 2) == []
