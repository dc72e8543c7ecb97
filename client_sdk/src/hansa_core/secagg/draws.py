"""Uniform integers that everybody derives alike from one public seed.

Block i of the stream is

    SHA-256(label || seed || i as big-endian u64),   i = 0, 1, ...

and every 8 bytes of it are one draw, a big-endian u64. A draw at or above the greatest multiple of
the bound is thrown away (rejection), so no remainder is likelier than another. The label tells the
uses of one seed apart; it ends in a line feed and a seed has 32 bytes, so no two inputs are alike.
"""

import hashlib

from hansa_core.secagg.errors import SecaggError

SEED_SIZE = 32  # bytes

_DRAW_SIZE = 8  # bytes: four draws a block
_RANGE = 2**64


class Draws:
    """A stream of uniform integers."""

    __slots__ = ("_block", "_counter", "_start")

    def __init__(self, label: bytes, seed: bytes) -> None:
        """Start the stream of `label` and `seed`. Raises SecaggError: no 32 bytes of seed."""
        if len(seed) != SEED_SIZE:
            raise SecaggError(f"the public seed has {len(seed)} bytes, wanted {SEED_SIZE}")
        self._start = hashlib.sha256(label + seed)
        self._counter = 0
        self._block = b""

    def below(self, bound: int) -> int:
        """Return a uniform integer of [0, bound), for a bound from 1 to 2^64."""
        limit = _RANGE - _RANGE % bound
        while (value := self._next()) >= limit:
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

    def _next(self) -> int:
        if not self._block:
            block = self._start.copy()
            block.update(self._counter.to_bytes(8, "big"))
            self._counter += 1
            self._block = block.digest()
        value = int.from_bytes(self._block[:_DRAW_SIZE], "big")
        self._block = self._block[_DRAW_SIZE:]
        return value
