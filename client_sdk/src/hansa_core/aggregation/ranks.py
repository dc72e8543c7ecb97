"""The mean of the middle values, element by element: what median and trimmed mean are made of.

Up to NETWORK_LIMIT updates the tile goes through a pruned sorting network, one whole row a
comparison; beyond, it is transposed and each element's values are sorted. Both are exact, so the
choice shows in the time alone. Measured with float32 on one AVX-512 core, GB/s of input:
10 updates 2.3 and 0.3, 30 updates 0.9 and 0.8, 50 updates 0.5 and 0.9.

Values are compared exactly: float32 for F32, BF16 and F16, integers as such. The kept ones are
added in float64 in ascending order. A NaN anywhere makes the element NaN; -0.0 becomes 0.0.

Shape suffixes: _kt contributions by elements; _tk the transpose.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.inputs import Inputs, Section, SectionFile
from hansa_core.aggregation.networks import network
from hansa_core.dtypes import DType, bf16_to_f32

NETWORK_LIMIT = 32  # updates
ROWS_BYTES = 1 << 20  # of the values that are sorted at once: the L2 cache of one core
LEAST_READ = 4096  # bytes of one file, so that many files are not read in crumbs

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
        self._files = [inputs.files[index] for index in indexes]
        self._kept = range(trimmed, len(self._files) - trimmed)
        row_bytes = max(LEAST_READ, ROWS_BYTES // len(self._files))
        self._row_bytes = row_bytes - row_bytes % DType.F64.itemsize
        self._space = np.empty(self._row_bytes * len(self._files), np.uint8)
        self._spare = np.empty(self._row_bytes, np.uint8)

    def __call__(self, section: Section, start: int, out_t: NDArray[np.float64]) -> None:
        dtype = _COMPARED[section.dtype]
        pieces = -(-len(out_t) * dtype.itemsize // self._row_bytes)  # as few as fit, and even
        step = -(-len(out_t) // pieces)
        for first in range(0, len(out_t), step):
            piece_t = out_t[first : first + step]
            self._combine(section, start + first, dtype, piece_t)

    def _combine(
        self, section: Section, start: int, dtype: np.dtype[Any], out_t: NDArray[np.float64]
    ) -> None:
        shape = (len(self._files), len(out_t))
        size = shape[0] * shape[1] * dtype.itemsize
        rows_kt: NDArray[Any] = self._space[:size].view(dtype).reshape(shape)
        for file, row_t in zip(self._files, rows_kt, strict=True):
            _read_row(file, section, start, self._spare, row_t)
        if shape[0] <= NETWORK_LIMIT:
            spare_t = self._spare[: shape[1] * dtype.itemsize].view(dtype)
            _sum(_through_network(rows_kt, spare_t, self._kept), out_t)
        else:
            rows_tk = np.ascontiguousarray(rows_kt.T)
            rows_tk.sort(axis=1)
            _sum([rows_tk[:, rank] for rank in self._kept], out_t)
            if dtype.kind == "f":
                out_t[np.isnan(rows_tk[:, -1])] = np.nan  # a NaN is sorted behind all others
        if len(self._kept) > 1:
            out_t /= len(self._kept)
        out_t += 0.0


def _read_row(
    file: SectionFile, section: Section, start: int, spare: NDArray[np.uint8], row_t: NDArray[Any]
) -> None:
    """Read elements as values that compare exactly."""
    stored = section.dtype
    if stored.numpy == row_t.dtype:
        file.fill(section, start, row_t.view(np.uint8))
        return
    raw = spare[: len(row_t) * stored.itemsize]
    file.fill(section, start, raw)
    if stored is DType.BF16:
        row_t[:] = bf16_to_f32(raw.view("<u2"))
    else:
        row_t[:] = raw.view(stored.numpy)


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


def _sum(rows_t: Sequence[NDArray[Any]], out_t: NDArray[np.float64]) -> None:
    np.copyto(out_t, rows_t[0])
    for row_t in rows_t[1:]:
        out_t += row_t
