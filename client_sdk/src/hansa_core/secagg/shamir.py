"""Shamir's secret sharing (CACM 1979) over p = 2^256 + 297, the least prime above 2^256.

A secret of 32 bytes, as a big-endian integer, is the constant term of a polynomial of degree
threshold - 1 whose other coefficients are uniform; share x is its value at x = 1, 2, ..., as 33
bytes big-endian. Any `threshold` shares give the secret back, fewer say nothing about it.
Dealing them is dealing.py's. Here Python's integers do all the arithmetic: none of it runs once per
parameter.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import zip_longest
from math import prod
from operator import mul

from hansa_core.secagg.errors import ShareError
from hansa_core.secagg.reed_solomon import Decoder

PRIME = 2**256 + 297
SECRET_SIZE = 32  # bytes
SHARE_SIZE = 33  # bytes

_SECRETS = 2**256
_PRODUCTS = 2 * SHARE_SIZE + 2  # bytes: the sum of 2^30 products of two values below p
_PRIME_BYTES = PRIME.to_bytes(SHARE_SIZE, "big")  # in the order of numbers, as all shares are


class Interpolation:
    """The constant term of the polynomial through given x's, for many secrets."""

    __slots__ = ("points", "weights")

    def __init__(self, points: Sequence[int]) -> None:
        """Prepare for shares at `points`, which are different and positive.

        Raises:
            ShareError: they are not.
        """
        _check_points(points)
        self.points = tuple(points)
        self.weights = _weights_at_zero(self.points)

    def secret(self, shares: Sequence[bytes]) -> bytes:
        """Return the secret of one share for each point, in their order.

        Raises:
            ShareError: another number of shares, one that no polynomial can have, or shares that
                do not belong together, where it shows.
        """
        if len(shares) != len(self.points):
            raise ShareError(f"{len(shares)} shares came for {len(self.points)} points")
        pairs = zip(self.points, shares, strict=True)
        return _secret_of(self.constant([_value_of(share, x) for x, share in pairs]))

    def constant(self, values: Sequence[int]) -> int:
        """Return the constant term of one value for each point, in their order."""
        return sum(map(mul, self.weights, values)) % PRIME


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret of the shares at the `threshold` lowest x's; others are not looked at.

    Wrong shares give another secret, as a rule without a failure: check it against a commitment.

    Raises:
        ShareError: fewer shares than the threshold, or one that no polynomial can have.
    """
    _check_threshold(shares, threshold)
    points = tuple(sorted(shares)[:threshold])
    return _interpolation_of(points).secret([shares[x] for x in points])


def agreed_secrets(rows: Mapping[int, Sequence[bytes]], threshold: int) -> list[bytes | None]:
    """Return the secret of each place whose shares all lie on one polynomial; else None.

    For many secrets with shares at the same x's: all are found in one pass, side by side in one
    integer. Of None, `recover` says more. As there, a secret is right only if it fits its
    commitment.

    Args:
        rows: by x, one share of every secret, in their order.

    Raises:
        ShareError: fewer x's than the threshold, or rows of different lengths.
    """
    _check_threshold(rows, threshold)
    points = tuple(sorted(rows))
    count = len(rows[points[0]])
    if any(len(row) != count for row in rows.values()):
        raise ShareError(f"rows of {sorted(map(len, rows.values()))} shares, wanted one length")
    if not all(map(_are_readable, rows.values())):
        return [None] * count
    weights = _interpolation_of(points[:threshold]).weights
    constants = checks = 0
    for x, weight, check in zip_longest(
        points, weights, _decoder_of(points, threshold).checks, fillvalue=0
    ):
        row = _side_by_side(rows[x], _PRODUCTS)
        constants += weight * row
        checks += check * row
    return [
        value.to_bytes(SECRET_SIZE, "big") if check == 0 and value < _SECRETS else None
        for value, check in zip(
            _apart(constants, _PRODUCTS, count), _apart(checks, _PRODUCTS, count), strict=True
        )
    ]


def recover(
    shares: Mapping[int, bytes], threshold: int, accept: Callable[[bytes], bool]
) -> tuple[bytes, frozenset[int]]:
    """Return the secret that `accept` knows, and the x's whose shares are not of its polynomial.

    Of r readable shares up to floor((r - threshold) / 2) wrong ones are found; what is no share
    at all counts as missing and as wrong. Where more are wrong, the secret may still come from
    the lowest x's, and then only unreadable shares are named. A wrong share is no proof against
    who returned it: who dealt it may have dealt it wrong. Finding wrong ones takes a hundred times
    as long as finding none: of many secrets, leave out who was wrong before.

    Raises:
        ShareError: too few shares, or no polynomial within that many wrong ones has a secret that
            is accepted. It says how many came and how many are needed.
    """
    values = _readable_values(shares)
    unreadable = frozenset(shares).difference(values)
    _check_threshold(values, threshold)
    points, word = tuple(values), tuple(values.values())
    first = _interpolation_of(points[:threshold])
    secret = _accepted(first.constant(word[:threshold]), accept)
    decoder = _decoder_of(points, threshold)
    if secret is not None and decoder.consistent(word):
        return secret, unreadable
    decoded = decoder.decode(word)
    if decoded is not None:
        constant, wrong = decoded
        found = _accepted(constant, accept)
        if found is not None:
            return found, unreadable | wrong
    if secret is not None:
        return secret, unreadable
    raise ShareError(
        f"{len(shares)} shares came, {len(values)} of them readable: no secret that fits its "
        f"commitment with up to {decoder.radius} of them wrong; wanted {threshold} right ones, "
        "and two more for each wrong one"
    )


def _accepted(value: int, accept: Callable[[bytes], bool]) -> bytes | None:
    """Return the secret of a constant term, where it is one and is accepted."""
    if value >= _SECRETS:
        return None
    secret = value.to_bytes(SECRET_SIZE, "big")
    return secret if accept(secret) else None


def _readable_values(shares: Mapping[int, bytes]) -> dict[int, int]:
    """Return the values of all shares that can be some polynomial's, by ascending x."""
    return {
        x: int.from_bytes(share, "big")
        for x in sorted(shares)
        if len(share := shares[x]) == SHARE_SIZE and share < _PRIME_BYTES
    }


def _are_readable(row: Sequence[bytes]) -> bool:
    return set(map(len, row)) <= {SHARE_SIZE} and max(row, default=b"") < _PRIME_BYTES


def _value_of(share: bytes, x: int) -> int:
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_SIZE or value >= PRIME:
        raise ShareError(
            f"the share at {x} has {len(share)} bytes and starts with {share[:2].hex()}; "
            f"wanted {SHARE_SIZE} bytes below 2^256 + 297"
        )
    return value


def _secret_of(value: int) -> bytes:
    if value >= _SECRETS:
        raise ShareError("the shares give no secret of 32 bytes: they do not belong together")
    return value.to_bytes(SECRET_SIZE, "big")


def _side_by_side(values: Sequence[bytes], lane: int) -> int:
    """Return big-endian values of one size in lanes of so many bytes, the first one highest."""
    size = len(values[0]) if values else lane
    return int.from_bytes(bytes(lane - size).join(values), "big")


def _apart(packed: int, lane: int, count: int) -> list[int]:
    """Return the values of `count` lanes, modulo p."""
    data = packed.to_bytes(lane * count, "big")
    return [
        int.from_bytes(data[start : start + lane], "big") % PRIME
        for start in range(0, len(data), lane)
    ]


def _check_threshold(shares: Mapping[int, object], threshold: int) -> None:
    if len(shares) < threshold:
        raise ShareError(f"{len(shares)} shares came, wanted at least {threshold}")


def _check_points(points: Sequence[int]) -> None:
    if not points or len(set(points)) != len(points) or not 0 < min(points) <= max(points) < PRIME:
        raise ShareError(f"shares at {list(points)[:8]}, wanted different x's from 1 on")


@lru_cache(maxsize=64)
def _interpolation_of(points: tuple[int, ...]) -> Interpolation:
    return Interpolation(points)


@lru_cache(maxsize=64)
def _decoder_of(points: tuple[int, ...], threshold: int) -> Decoder:
    _check_points(points)
    return Decoder(points, threshold, PRIME)


def _weights_at_zero(points: tuple[int, ...]) -> list[int]:
    """Return Lagrange's coefficients at 0: of each x_i, the product of x_j / (x_j - x_i)."""
    above = prod(points)
    return [
        above * pow(x * prod(other - x for other in points if other != x), -1, PRIME) % PRIME
        for x in points
    ]
