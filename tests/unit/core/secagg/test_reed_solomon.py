"""Decoding: words of a small code, by trying everything, and of the code of the shares."""

import random
from itertools import product

import pytest

from hansa_core.secagg.reed_solomon import Decoder
from hansa_core.secagg.shamir import PRIME


def value(coefficients: tuple[int, ...], x: int, prime: int) -> int:
    return sum(it * pow(x, power, prime) for power, it in enumerate(coefficients)) % prime


@pytest.mark.parametrize(("size", "radius"), [(1, 2), (2, 1), (3, 1)])
def test_words_of_a_small_field_are_decoded_to_the_nearest(size: int, radius: int) -> None:
    prime, points = 7, (1, 2, 3, 5, 6)
    decoder = Decoder(points, size, prime)
    assert decoder.radius == radius
    code = {
        tuple(value(it, x, prime) for x in points): it[0]
        for it in product(range(prime), repeat=size)
    }
    decoded = 0
    for came in random.Random(size).sample(list(product(range(prime), repeat=5)), 400):  # noqa: S311
        wanted = None
        for word, constant in code.items():
            pairs = zip(points, word, came, strict=True)
            wrong = frozenset(x for x, meant, seen in pairs if meant != seen)
            if len(wrong) <= radius:
                wanted = constant, wrong
        assert decoder.decode(came) == wanted
        decoded += wanted is not None
    assert 0 < decoded < 400


def test_words_of_the_code_are_told_from_others() -> None:
    chance = random.Random(3)  # noqa: S311
    points = tuple(range(1, 14))
    decoder = Decoder(points, 5, PRIME)
    for _ in range(20):
        coefficients = tuple(chance.randrange(PRIME) for _ in range(5))
        word = [value(coefficients, x, PRIME) for x in points]
        assert decoder.consistent(word)
        assert decoder.decode(word) == (coefficients[0], frozenset())
        word[chance.randrange(13)] += 1
        assert not decoder.consistent(word)


def test_noise_is_no_word() -> None:
    chance = random.Random(4)  # noqa: S311
    decoder = Decoder(range(1, 10), 3, PRIME)
    for _ in range(20):
        word = [chance.randrange(PRIME) for _ in range(9)]
        assert not decoder.consistent(word)
        assert decoder.decode(word) is None


def test_code_without_redundancy_takes_every_word() -> None:
    decoder = Decoder((4, 2, 9), 3, PRIME)
    assert decoder.radius == 0
    assert decoder.consistent([1, 2, 3])
    found = decoder.decode([1, 2, 3])
    assert found is not None
    assert found[1] == frozenset()
