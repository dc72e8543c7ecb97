"""The mean of the middle values, element by element: what median and trimmed mean are made of.

Where there are compiled loops, floats but F64 of up to COMPILED_LIMIT updates go through a pruned
sorting network as integers that compare as they do (compiled/ranks.py). Else, up to NETWORK_LIMIT
updates the tile goes through the same network in numpy, one whole row a comparison; beyond, it is
transposed and each element's values are sorted. All are exact, so the choice shows in the time
alone. Measured with float32 in memory on one core (2.5 GHz, AVX-512), GB/s of input:

    updates                      10     50
    compiled network, median    2.8    2.1
    compiled, a fifth trimmed   2.5    1.8
    network in numpy            2.3    0.5
    sorted by numpy             0.3    0.9

Values are compared exactly: float32 for F32, BF16 and F16, integers as such. The kept ones are
added in float64 in ascending order. A NaN anywhere makes the element NaN; -0.0 becomes 0.0.

Shape suffixes: _kt contributions by elements; _tk the transpose; _kb contributions by a few.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation import compiled
from hansa_core.aggregation.inputs import DeltaFile, Inputs, Section
from hansa_core.aggregation.networks import network
from hansa_core.aggregation.readers import Rows, Span
from hansa_core.dtypes import DType, bf16_to_f32

COMPILED_LIMIT = 256  # updates
NETWORK_LIMIT = 32  # updates
VALUES_BYTES = 1 << 20  # of the values that numpy sorts at once: the L2 cache of one core
KEYS_BYTES = 256 << 10  # of those that a compiled loop sorts at once
LEAST_KEYS, MOST_KEYS = 64, 1024  # elements

_COMPARED = {
    DType.F64: np.dtype(np.float64),
    DType.F32: np.dtype("<f4"),
    DType.F16: np.dtype("<f4"),
    DType.BF16: np.dtype("<f4"),
    DType.I64: np.dtype("<i8"),
    DType.I32: np.dtype("<i4"),
    DType.I16: np.dtype("<i2"),
    DType.I8: np.dtype("<i2"),
    DType.U8: np.dtype("<i2"),
    DType.BOOL: np.dtype("<i2"),
}


class MiddleMean:
    """A Combine: the mean of all values but the `trimmed` least and the `trimmed` greatest.

    `which` are the contributions that take part, by index; None: all. Wanted: more than twice
    `trimmed` of them.
    """

    def __init__(self, inputs: Inputs, trimmed: int, which: Sequence[int] | None = None) -> None:
        indexes = range(len(inputs.files)) if which is None else which
        self._sorted = SortedRows([inputs.files[index] for index in indexes])
        self._trimmed = trimmed

    def __call__(self, section: Section, start: int, out_t: NDArray[np.float64]) -> None:
        rows, count, trimmed = self._sorted.rows, self._sorted.count, self._trimmed
        kept = range(trimmed, count - trimmed)
        stop = start + len(out_t)
        if not self._sorted.is_compiled(section):
            for values_kt, part_t in self._sorted.values(section, start, out_t, kept):
                _mean(values_kt, part_t)
            return
        from hansa_core.aggregation.compiled import ranks as loops  # noqa: PLC0415 -- imports numba

        kinds_k, (low_c, high_c) = rows.kinds(section), comparators(count, trimmed)
        keys_kb = self._sorted.keys
        spare_b = np.empty(keys_kb.shape[1])
        for first, size, addresses_k in rows.addresses(section, start, stop):
            part_t = out_t[first - start : first - start + size]
            loops.middle_mean(
                kinds_k, addresses_k, low_c, high_c, trimmed, keys_kb, spare_b, part_t
            )


class SortedRows:
    """The values of several files, each element's in ascending order."""

    def __init__(self, files: Sequence[DeltaFile]) -> None:
        self.rows = Rows(files)
        self.count = len(files)
        self._keys: NDArray[np.int32] | None = None

    def is_compiled(self, section: Section) -> bool:
        """Whether compiled loops are to be used: they compare what float32 can hold."""
        narrow = section.dtype.is_float and DType.F64 not in self.rows.dtypes(section)
        return narrow and self.count <= COMPILED_LIMIT and compiled.usable()

    @property
    def keys(self) -> NDArray[np.int32]:
        """The space for keys that a compiled loop works in, (files, elements)."""
        if self._keys is None:
            elements = KEYS_BYTES // (self.count * 4)
            elements = min(MOST_KEYS, max(LEAST_KEYS, elements - elements % LEAST_KEYS))
            self._keys = np.empty((self.count, elements), np.int32)
        return self._keys

    def values(
        self, section: Section, start: int, out_t: NDArray[np.float64], kept: range
    ) -> Iterator[tuple[list[NDArray[Any]], NDArray[np.float64]]]:
        """Yield the rows of the kept ranks, ascending, with the part of `out_t` that they are of.

        By numpy. An element with a NaN has one in its greatest kept rank.
        """
        dtype = max((_COMPARED[it] for it in self.rows.dtypes(section)), key=lambda it: it.itemsize)
        most = max(1, VALUES_BYTES // (self.count * dtype.itemsize))
        pieces = -(-len(out_t) // most)  # as few as fit, and even
        most = -(-len(out_t) // max(1, pieces))
        space = np.empty((self.count, most), dtype)
        spare = np.empty(most, dtype)
        for span in self.rows.spans(section, start, start + len(out_t), most=most):
            rows_kt = space[:, : span.count]
            self._load(section, span, rows_kt)
            part_t = out_t[span.start - start : span.start - start + span.count]
            if self.count <= NETWORK_LIMIT:
                yield _through_network(rows_kt, spare[: span.count], kept), part_t
            else:
                rows_tk = np.ascontiguousarray(rows_kt.T)
                rows_tk.sort(axis=1)
                if dtype.kind == "f":  # a NaN is sorted behind all others
                    rows_tk[np.isnan(rows_tk[:, -1]), kept[-1]] = np.nan
                yield [rows_tk[:, rank] for rank in kept], part_t

    def _load(self, section: Section, span: Span, rows_kt: NDArray[Any]) -> None:
        """Take over elements as values that compare exactly."""
        dtypes = self.rows.dtypes(section)
        for raw, stored, row_t in zip(span.rows, dtypes, rows_kt, strict=True):
            if stored is DType.BF16:
                row_t[:] = bf16_to_f32(raw.view("<u2"))
            else:
                row_t[:] = raw.view(stored.numpy)


@lru_cache(maxsize=64)
def comparators(count: int, trimmed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a network that sorts all but the ranks at either end: its low and its high rows."""
    pairs = network(count, tuple(range(trimmed, count - trimmed)))
    return (
        np.array([it.low for it in pairs], np.int64),
        np.array([it.high for it in pairs], np.int64),
    )


def _through_network(
    rows_kt: NDArray[Any], spare_t: NDArray[Any], kept: range
) -> list[NDArray[Any]]:
    """Return the rows of the kept ranks, ascending. Nothing is copied: rows trade places."""
    rows_t = list(rows_kt)
    for comparator in network(len(rows_t), tuple(kept)):
        low_t, high_t = rows_t[comparator.low], rows_t[comparator.high]
        if not comparator.high_used:
            np.minimum(low_t, high_t, out=low_t)
        elif not comparator.low_used:
            np.maximum(low_t, high_t, out=high_t)
        else:
            np.minimum(low_t, high_t, out=spare_t)
            np.maximum(low_t, high_t, out=high_t)
            rows_t[comparator.low], spare_t = spare_t, low_t
    return [rows_t[rank] for rank in kept]


def _mean(rows_t: Sequence[NDArray[Any]], out_t: NDArray[np.float64]) -> None:
    np.copyto(out_t, rows_t[0])
    for row_t in rows_t[1:]:
        out_t += row_t
    if len(rows_t) > 1:
        out_t /= len(rows_t)
    out_t += 0.0
