"""Which of some shares are wrong: decoding of Reed-Solomon codes over a prime field.

The values of a polynomial of degree below k at r points are a word of the code. Gao's algorithm
(A new algorithm for decoding Reed-Solomon codes, 2003) finds the one word that differs from what
came in at most floor((r - k) / 2) places, if there is one: stop Euclid's algorithm on the product
of (X - x_i) and the polynomial through all that came as soon as the remainder is short.
Polynomials are lists of coefficients, lowest first, without zeros at the end.
"""

import secrets
from collections.abc import Sequence
from itertools import zip_longest
from operator import mul

Polynomial = list[int]


class Decoder:
    """The code of one set of points, for many words."""

    __slots__ = ("_points", "_prime", "_product", "_size", "_weights", "checks", "radius")

    def __init__(self, points: Sequence[int], size: int, prime: int) -> None:
        """Prepare for words at different `points`, of polynomials of `size` coefficients."""
        self._points = tuple(points)
        self._size = size
        self._prime = prime
        self.radius = (len(points) - size) // 2  # wrong places that are found
        self._product: Polynomial = [1]
        for point in points:
            self._product = _times_root(self._product, point, prime)
        slope = [power * value for power, value in enumerate(self._product)][1:]
        self._weights = [pow(_at(slope, point, prime), -1, prime) for point in points]
        # One random word of the dual code: its product with a word of the code is 0.
        self.checks = self._random_check()

    def consistent(self, word: Sequence[int]) -> bool:
        """Return whether one polynomial has all these values; wrong with probability 1 / prime.

        One random word of the dual code is multiplied with it, drawn when the decoder is made.
        """
        return sum(map(mul, self.checks, word)) % self._prime == 0

    def decode(self, word: Sequence[int]) -> tuple[int, frozenset[int]] | None:
        """Return the polynomial's constant term and the points whose values are wrong, or None.

        None means that no polynomial is within `radius` wrong values.
        """
        prime = self._prime
        short = (len(self._points) + self._size + 1) // 2
        before, rest = self._product, self._through(word)
        below: Polynomial = []
        factor: Polynomial = [1]
        while len(rest) > short:
            quotient, remainder = _divided(before, rest, prime)
            before, rest = rest, remainder
            below, factor = factor, _minus(below, _times(quotient, factor, prime), prime)
        found, _ = _divided(rest, factor, prime)  # with a remainder, it is too far from the word
        if len(found) > self._size:
            return None
        wrong = frozenset(
            point
            for point, value in zip(self._points, word, strict=True)
            if _at(found, point, prime) != value
        )
        if len(wrong) > self.radius:
            return None
        return (found[0] if found else 0), wrong

    def _random_check(self) -> list[int]:
        extra = len(self._points) - self._size
        chosen = [secrets.randbelow(self._prime) for _ in range(extra)]
        return [
            weight * _at(chosen, point, self._prime) % self._prime
            for weight, point in zip(self._weights, self._points, strict=True)
        ]

    def _through(self, word: Sequence[int]) -> Polynomial:
        """Return the polynomial through all points: sums of weight * value * product / (X - x_i).

        Point by point: what is there times the new root, and the new value times the other roots.
        """
        prime = self._prime
        total: Polynomial = []
        product: Polynomial = [1]
        for point, weight, value in zip(self._points, self._weights, word, strict=True):
            part = weight * value % prime
            new = [part * coefficient for coefficient in product]
            total = _plus(_times_root(total, point, prime), new, prime)
            product = _times_root(product, point, prime)
        return total


def _at(polynomial: Sequence[int], x: int, prime: int) -> int:
    """Return the value at a small x: reduced once, as it grows by a few bits a step."""
    total = 0
    for coefficient in reversed(polynomial):
        total = total * x + coefficient
    return total % prime


def _times_root(polynomial: Polynomial, root: int, prime: int) -> Polynomial:
    """Return the polynomial times (X - root)."""
    return [
        (lower - root * same) % prime
        for lower, same in zip([0, *polynomial], [*polynomial, 0], strict=True)
    ]


def _plus(one: Polynomial, other: Polynomial, prime: int) -> Polynomial:
    return _trimmed([(a + b) % prime for a, b in zip_longest(one, other, fillvalue=0)])


def _minus(one: Polynomial, other: Polynomial, prime: int) -> Polynomial:
    return _trimmed([(a - b) % prime for a, b in zip_longest(one, other, fillvalue=0)])


def _times(one: Polynomial, other: Polynomial, prime: int) -> Polynomial:
    if not one or not other:
        return []
    product = [0] * (len(one) + len(other) - 1)
    for place, factor in enumerate(one):
        for power, value in enumerate(other, place):
            product[power] += factor * value
    return [value % prime for value in product]


def _divided(upper: Polynomial, lower: Polynomial, prime: int) -> tuple[Polynomial, Polynomial]:
    """Return quotient and remainder."""
    rest = list(upper)
    inverse = pow(lower[-1], -1, prime)
    quotient = [0] * max(0, len(upper) - len(lower) + 1)
    for place in reversed(range(len(quotient))):
        factor = rest[place + len(lower) - 1] * inverse % prime
        quotient[place] = factor
        for power, value in enumerate(lower, place):
            rest[power] = (rest[power] - factor * value) % prime
    return quotient, _trimmed(rest)


def _trimmed(polynomial: Polynomial) -> Polynomial:
    while polynomial and not polynomial[-1]:
        polynomial.pop()
    return polynomial
