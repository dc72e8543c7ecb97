"""Taking the masks off a round's sum, and writing the mean delta as an ordinary update.

    sum_i x_i = sum_i y_i - sum_i PRG(b_i) - sum over survivors i, dropped j of sign(i, j) PRG(h_ij)

The mean delta goes into a file laid out like one site's update without masks, and the strategy's
part into another, so that whatever steps by updates steps by this one.

Invariants: the bytes depend on the words, the seeds and the terms, and on nothing else; they may be
written segment by segment, by several workers. Memory is a tile and 200 bytes per seed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa_core.dtypes import DType, narrow
from hansa_core.layouts import Layout, TensorShape
from hansa_core.problems import TensorFormatError
from hansa_core.secagg.decoding import DeltaPiece, MeanDelta, Totals, read_totals
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.hub import Seeds
from hansa_core.secagg.masks import MaskStream
from hansa_core.secagg.packing import BLOCK, Words
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.rosters import masked_layout
from hansa_core.secagg.terms import Weighing
from hansa_core.secagg.vectors import VectorLayout
from hansa_core.tensors import ReadAt, Sink, encode_header, read_header

TILE_WORDS = 16 * BLOCK  # summed together: half a MiB
SEGMENT_WORDS = 1 << 20  # written together, at most

_WORD_SIZE = 8  # bytes


@dataclass(frozen=True, slots=True)
class MaskedFile:
    """An update as it was uploaded."""

    read: ReadAt
    start: int  # bytes before the words


@dataclass(frozen=True, slots=True)
class SumJob:
    """All that one sum takes."""

    vector: VectorLayout
    terms: Terms
    ranges: tuple[float, ...]
    files: tuple[MaskedFile, ...]  # of the survivors
    seeds: Seeds

    @property
    def weighing(self) -> Weighing:
        """How updates were weighed: an evaluation, which has no tensors, by its examples."""
        return self.terms.weighing if self.vector.uploaded.tensors else Weighing.EXAMPLES

    @property
    def added(self) -> list[bytes]:
        """Seeds whose masks were subtracted: of pairs whose survivor is the higher."""
        return [seed for one, other, seed in self.seeds.pairs if one > other]

    @property
    def subtracted(self) -> list[bytes]:
        """Seeds whose masks were added: the survivors' own, and the other pairs'."""
        pairs = [seed for one, other, seed in self.seeds.pairs if one < other]
        return [*self.seeds.own, *pairs]


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring elements of one file: [begin, end) of the vector's floats, or integers."""

    part: str | None  # None: the delta
    integers: bool
    begin: int
    end: int

    @property
    def count(self) -> int:
        """How many elements."""
        return self.end - self.begin


def open_masked(read: ReadAt, vector: VectorLayout) -> MaskedFile:
    """Return an update of these words. Raises TensorFormatError for a file of anything else."""
    header = read_header(read)
    wanted = masked_layout(vector)
    if header.layout != wanted:
        raise TensorFormatError(
            f"a masked update has {header.layout.to_json()}, wanted {wanted.to_json()}"
        )
    return MaskedFile(read, header.size)


def totals_of(job: SumJob) -> Totals:
    """Return what the sum says beside the tensors.

    Raises SecaggError for a sum that no such updates add up to, and what reading raises.
    """
    vector = job.vector
    tail = [words.copy() for _, words in sum_words(job, vector.statistics_at, vector.words)]
    return read_totals(
        np.concatenate(tail),
        vector,
        job.terms.quantiser,
        job.ranges,
        job.weighing,
        len(job.files),
    )


def sum_words(job: SumJob, first: int, stop: int) -> Iterator[tuple[int, Words]]:
    """Yield the unmasked sum's words [first, stop), tile by tile with where each begins.

    A tile is valid until the next one is asked for.
    """
    stream = MaskStream(job.added, job.subtracted, first_word=first, suite=job.terms.suite)
    total_t = np.empty(min(TILE_WORDS, stop - first), np.uint64)
    raw_t = np.empty_like(total_t)
    for at in range(first, stop, TILE_WORDS):
        count = min(TILE_WORDS, stop - at)
        total_w, raw_w = total_t[:count], raw_t[:count]
        total_w[:] = 0
        for file in job.files:
            file.read(raw_w.view(np.uint8).data, file.start + at * _WORD_SIZE)
            np.add(total_w, raw_w, out=total_w)
        stream.apply(total_w)
        yield at, total_w


def segments(vector: VectorLayout) -> list[Segment]:
    """Return what the files are written from: the delta, then the parts, each in its own order."""
    floats = {slot.name: slot for slot in vector.floats}
    integers = {slot.name: slot for slot in vector.integers}
    found: list[Segment] = []
    files: list[tuple[str | None, Layout]] = [(None, vector.uploaded), *vector.parts.items()]
    for part, layout in files:
        for is_float, tensors in _runs(layout):
            names = [it.name if part is None else f"{part}/{it.name}" for it in tensors]
            slots = floats if is_float else integers
            begin = slots[names[0]].start
            end = slots[names[-1]].start + tensors[-1].count
            step = SEGMENT_WORDS * (vector.packing.lanes if is_float else 1)
            cuts = [begin, *range(begin - begin % step + step, end, step), end]
            found += [
                Segment(part, not is_float, start, stop)
                for start, stop in pairwise(cuts)
                if start < stop
            ]
    return found


def write_heads(vector: VectorLayout, sinks: Mapping[str | None, Sink]) -> None:
    """Write the files' headers."""
    for part, sink in sinks.items():
        layout = vector.uploaded if part is None else vector.parts[part]
        sink(memoryview(encode_header(layout)))


def write_means(
    job: SumJob, totals: Totals, wanted: Sequence[Segment], sinks: Mapping[str | None, Sink]
) -> None:
    """Write these segments of the files, in order.

    Sinks use or copy the bytes before they return. Raises SecaggError for a sum that no such
    updates add up to, and what reading and the sinks raise.
    """
    mean = MeanDelta.of(job.vector, job.terms.quantiser, job.ranges, job.weighing, totals)
    for segment in wanted:
        written = 0
        for first, stop in _words_of(job.vector, segment):
            for at, words in sum_words(job, first, stop):
                for piece in mean.pieces(words, at):
                    written += _write(piece, segment, sinks[segment.part])
        if written != segment.count:
            raise SecaggError(f"{written} elements of a segment of {segment.count} were found")


def _words_of(vector: VectorLayout, segment: Segment) -> list[tuple[int, int]]:
    if segment.integers:
        return [(vector.integers_at + segment.begin, vector.integers_at + segment.end)]
    words = vector.packing.words_of(segment.begin, segment.end, vector.elements)
    return [(words.start, words.stop)]


def _write(piece: DeltaPiece, segment: Segment, sink: Sink) -> int:
    """Write what of a piece is in the segment; return how many elements that are."""
    at = piece.slot.start + piece.start  # a block at a cut holds others' elements as well
    begin, end = max(at, segment.begin), min(at + len(piece.values), segment.end)
    if begin >= end:
        return 0
    values = piece.values[begin - at : end - at]
    tensor = piece.slot.tensor
    out = np.empty(len(values) * tensor.dtype.itemsize, np.uint8)
    if tensor.dtype.is_float:
        if not narrow(values, tensor.dtype, out):
            raise SecaggError(f"the mean of tensor {piece.slot.name!r} exceeds {tensor.dtype}")
    else:
        _round_into(values, tensor, out)
    sink(out.data)
    return end - begin


def _round_into(values: NDArray[np.float64], tensor: TensorShape, out: NDArray[np.uint8]) -> None:
    """Round to whole numbers within the dtype; weighted integers stay far within an int64."""
    target: NDArray[Any] = out if tensor.dtype is DType.BOOL else out.view(tensor.dtype.numpy)
    limits = np.iinfo(target.dtype)
    high = 1 if tensor.dtype is DType.BOOL else min(limits.max, 2**62)
    target[:] = np.clip(np.rint(values), max(limits.min, -(2**62)), high).astype(target.dtype)


def _runs(layout: Layout) -> Iterator[tuple[bool, list[TensorShape]]]:
    """Yield neighbouring tensors that are floats, or are none, without empty ones."""
    run: list[TensorShape] = []
    for tensor in layout.tensors:
        if not tensor.count:
            continue
        if run and run[0].dtype.is_float != tensor.dtype.is_float:
            yield run[0].dtype.is_float, run
            run = []
        run.append(tensor)
    if run:
        yield run[0].dtype.is_float, run
