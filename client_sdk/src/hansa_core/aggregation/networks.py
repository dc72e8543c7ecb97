"""Sorting networks: comparisons in a fixed pattern, so that whole tiles are sorted at once.

Batcher 1968, "Sorting Networks and Their Applications"; Knuth, The Art of Computer Programming,
volume 3, algorithm 5.2.2M, for any number of wires. A network sorts every input if it sorts all
inputs of zeros and ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Comparator:
    """Put the lesser of two wires on `low` and the greater on `high`."""

    low: int
    high: int
    low_used: bool  # whether the lesser is ever looked at again
    high_used: bool


@lru_cache(maxsize=256)
def network(wires: int, outputs: tuple[int, ...]) -> tuple[Comparator, ...]:
    """Return comparators after which the wires in `outputs` hold the values of those ranks.

    Rank 0 is the least. What no output depends on is left out.
    """
    used = set(outputs)
    kept: list[Comparator] = []
    for low, high in reversed(list(_merge_exchange(wires))):
        if low in used or high in used:
            kept.append(Comparator(low, high, low in used, high in used))
            used |= {low, high}
    return tuple(reversed(kept))


def _merge_exchange(wires: int) -> Iterable[tuple[int, int]]:
    """Yield the pairs of Knuth's merge exchange, which sorts completely."""
    if wires < 2:  # noqa: PLR2004 -- one wire is sorted
        return
    top = 1 << ((wires - 1).bit_length() - 1)
    part = top
    while part:
        step, remainder, distance = top, 0, part
        while True:
            for wire in range(wires - distance):
                if wire & part == remainder:
                    yield wire, wire + distance
            if step == part:
                break
            distance, step, remainder = step - part, step // 2, part
        part //= 2
