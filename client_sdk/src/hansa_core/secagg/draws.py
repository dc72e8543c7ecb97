"""Uniform integers that everybody derives alike from one public seed.

Block i of the stream is

    SHA-256(label || seed || i as big-endian u64),   i = 0, 1, ...

and every 8 bytes of it are one draw, a big-endian u64. A draw at or above the greatest multiple of
the bound is thrown away (rejection), so no remainder is likelier than another. The label tells the
uses of one seed apart; it ends in a line feed and a seed has 32 bytes, so no two inputs are alike.
"""

import hashlib
import struct
from collections.abc import Iterator
from itertools import count as counting

from hansa_core.secagg.errors import SecaggError

SEED_SIZE = 32  # bytes

_DRAWS = struct.Struct(">4Q")  # of a block
_RANGE = 2**64


class Draws:
    """A stream of uniform integers."""

    __slots__ = ("_values",)

    def __init__(self, label: bytes, seed: bytes) -> None:
        """Start the stream of `label` and `seed`. Raises SecaggError: no 32 bytes of seed."""
        check_seed(seed)
        self._values = _values(label + seed)

    def below(self, bound: int) -> int:
        """Return a uniform integer of [0, bound), for a bound from 1 to 2^64."""
        limit = _RANGE - _RANGE % bound
        while (value := next(self._values)) >= limit:
            pass
        return value % bound

    def sample(self, count: int, size: int) -> list[int]:
        """Return `size` different integers of [0, count) in uniform order (Fisher and Yates).

        `size` = `count` is a uniform permutation.
        """
        order = list(range(count))
        for place in range(size):
            other = place + self.below(count - place)
            order[place], order[other] = order[other], order[place]
        return order[:size]


def check_seed(seed: bytes) -> None:
    """Raise SecaggError unless a public seed has 32 bytes."""
    if len(seed) != SEED_SIZE:
        raise SecaggError(f"the public seed has {len(seed)} bytes, wanted {SEED_SIZE}")


def _values(start: bytes) -> Iterator[int]:
    hasher = hashlib.sha256(start)
    for counter in counting():
        block = hasher.copy()
        block.update(counter.to_bytes(8, "big"))
        yield from _DRAWS.unpack(block.digest())
