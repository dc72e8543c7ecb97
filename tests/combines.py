"""Rules as functions of deltas alone, and files that can be looked at where they lie."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.inputs import Inputs, Source
from hansa_core.aggregation.outputs import Combine
from hansa_core.tensors import ReadAt, bytes_reader
from tests.rules import contribution, inputs_of
from tests.tensors import Tensors, encode

Rule = Callable[[Inputs], Combine]


class ViewedBytes:
    """A file in memory that offers both reading and looking, and counts how much was looked at."""

    def __init__(self, file: bytes) -> None:
        self._file = file
        self._read = bytes_reader(file)
        self.viewed = 0  # bytes

    def __call__(self, buffer: memoryview, offset: int) -> None:
        self._read(buffer, offset)

    def view(self, offset: int, size: int) -> memoryview:
        """Return bytes where they lie."""
        assert 0 <= offset <= len(self._file) - size
        self.viewed += size
        return memoryview(self._file)[offset : offset + size]


def opened(
    deltas: Sequence[Tensors], reader: Callable[[bytes], ReadAt] = bytes_reader
) -> tuple[Inputs, list[int]]:
    """Return what a rule reads, and which delta each of its contributions is."""
    updates = [replace(contribution(delta), read=reader(encode(delta))) for delta in deltas]
    base = encode({name: np.zeros_like(array) for name, array in deltas[0].items()})
    inputs = inputs_of(Source("base", bytes_reader(base)), updates)
    digests = [it.digest for it in updates]
    return inputs, [digests.index(it.digest) for it in inputs.contributions]


def delta_of(combine: Combine, inputs: Inputs, tile: int = 5000) -> list[NDArray[np.float64]]:
    """Return the combined delta, section by section, made `tile` elements at a time."""
    made: list[NDArray[np.float64]] = []
    with np.errstate(all="ignore"):
        for section in inputs.sections:
            out: NDArray[np.float64] = np.full(section.count, 7.5)
            for start in range(0, section.count, tile):
                combine(section, start, out[start : start + tile])
            made.append(out)
    return made


def same_bits(one: Sequence[NDArray[np.float64]], other: Sequence[NDArray[np.float64]]) -> bool:
    """Whether all numbers are the same to the bit, whatever a NaN's payload."""
    return all(
        np.array_equal(np.isnan(a), np.isnan(b))
        and np.array_equal(a[~np.isnan(a)].view(np.int64), b[~np.isnan(b)].view(np.int64))
        for a, b in zip(one, other, strict=True)
    )
