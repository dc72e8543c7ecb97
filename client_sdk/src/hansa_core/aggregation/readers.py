"""The same elements of several files side by side, as arrays or as addresses for compiled loops.

A file that lies in memory (`ViewAt`: a mapped blob) is looked at through a window that moves on;
any other one fills a buffer. An encoded one is looked at by `stretches`, for a loop that decodes
what it adds, and decoded into a buffer for all others. Which of them it is shows in the time alone.
Measured on one core (2.5 GHz), files in the page cache, GB/s: mapping and letting go 10 to 28 where
the file was written in pieces of 16 KB to 4 MB, and above 100 where the page cache holds it in
large pages; reading into a buffer 6, whatever its size, of which a sum then takes as long again.

Invariants
- Spans are in order, without holes, and all files of a span have its elements.
- Windows take WINDOW_BYTES of all files together (mapped pages of the page cache, resident while
  mapped), and end where large pages do. They are let go at the end of a section.
- Buffers take READ_BYTES of all files together, or LEAST_READ of each, whichever is more.
- Addresses are multiples of the item size; arrays are bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.compiled.kinds import ITEM_SIZES, KINDS, Stretch
from hansa_core.aggregation.inputs import DeltaFile, Section
from hansa_core.dtypes import DType

WINDOW_BYTES = 100 << 20  # of all files together: 2 MB of each of fifty
MOST_WINDOW = 4 << 20  # of one file
LEAST_WINDOW = 64 << 10
# Of all files together. What is read leaves the L2 cache for L3, and what Python costs for a read
# and a decoding is spread over more elements: 1.6 times as fast with int8 blocks as 1 MiB.
READ_BYTES = 4 << 20
LEAST_READ = 4096  # of one file, so that many files are not read in crumbs
_ALL = 2**62
_NOTHING: NDArray[np.uint8] = np.empty(0, np.uint8)


@runtime_checkable
class ViewedFile(Protocol):
    """A DeltaFile whose elements may lie in memory."""

    def view(self, section: Section, start: int, most: int) -> NDArray[np.uint8] | None:
        """Return up to `most` bytes from element `start` of the section on; None: fill a buffer."""
        ...


@runtime_checkable
class EncodedFile(Protocol):
    """A DeltaFile whose elements may lie in memory, encoded."""

    def stretch(self, section: Section, start: int, most: int) -> Stretch | None:
        """Return elements from `start` on, in about `most` bytes; None: fill a buffer."""
        ...


@dataclass(frozen=True, slots=True)
class Stretches:
    """Some elements of all files as compiled loops take them, decoded or not."""

    start: int
    count: int
    kinds_k: NDArray[np.int64]  # of compiled/kinds.py
    blocks_k: NDArray[np.int64]  # elements of a record
    addresses_k: NDArray[np.uint64]  # of a record
    firsts_k: NDArray[np.int64]  # elements from there to the first one


@dataclass(frozen=True, slots=True)
class Span:
    """Some elements of all files."""

    start: int
    count: int
    rows: list[NDArray[np.uint8]]  # the bytes of each file's elements


@dataclass(slots=True)
class _Window:
    """What is at hand of one file."""

    start: int  # elements
    stop: int
    data: NDArray[np.uint8]
    itemsize: int

    def bytes_of(self, start: int, count: int) -> NDArray[np.uint8]:
        first = (start - self.start) * self.itemsize
        return self.data[first : first + count * self.itemsize]


class Rows:
    """Several files, read from front to back."""

    def __init__(self, files: Sequence[DeltaFile]) -> None:
        self._files = tuple(files)
        self._viewed = [file if isinstance(file, ViewedFile) else None for file in files]
        self._encoded = [file if isinstance(file, EncodedFile) else None for file in files]
        count = max(1, len(self._files))
        self._window = min(MOST_WINDOW, max(LEAST_WINDOW, WINDOW_BYTES // count))
        read = max(LEAST_READ, READ_BYTES // count)
        self._read = read - read % DType.F64.itemsize
        self._kinds: dict[int, NDArray[np.int64]] = {}
        self._entered = (-1, False)  # a section, and whether it is looked at encoded
        self._windows: list[_Window] = []
        self._kinds_k = np.zeros(len(self._files), np.int64)  # of the windows, as of a Stretch
        self._blocks_k = np.ones(len(self._files), np.int64)
        self._addresses_k = np.zeros(len(self._files), np.int64)
        self._origins_k = np.zeros(len(self._files), np.int64)  # the elements that are there
        self._itemsizes_k = np.zeros(len(self._files), np.int64)
        self._buffers: dict[int, NDArray[np.uint8]] = {}
        self._common = range(0)  # elements that all windows have

    def dtypes(self, section: Section) -> tuple[DType, ...]:
        """Return what each file has of a section."""
        return tuple(file.dtype(section) for file in self._files)

    def kinds(self, section: Section) -> NDArray[np.int64]:
        """Return the same of a section of floats, as compiled loops take it."""
        kinds = self._kinds.get(section.index)
        if kinds is None:
            kinds = np.array([KINDS[dtype] for dtype in self.dtypes(section)], np.int64)
            self._kinds[section.index] = kinds
        return kinds

    def spans(
        self, section: Section, start: int, stop: int, *, most: int = _ALL, step: int = 1
    ) -> Iterator[Span]:
        """Yield elements [start, stop) in spans of at most `most` elements.

        Their counts are multiples of `step`, but for the last. A span's rows are gone when the next
        one comes.
        """
        self._enter(section, encoded=False)
        for first, count in self._pieces(section, start, stop, most, step):
            rows = [window.bytes_of(first, count) for window in self._windows]
            yield Span(first, count, rows)
            rows.clear()  # or the span would keep windows mapped while others are
        self._leave(section, stop)

    def addresses(
        self, section: Section, start: int, stop: int, *, most: int = _ALL, step: int = 1
    ) -> Iterator[tuple[int, int, NDArray[np.uint64]]]:
        """Yield what `spans` does as (start, count, the address of each file's elements)."""
        self._enter(section, encoded=False)
        for first, count in self._pieces(section, start, stop, most, step):
            at_k = self._addresses_k + (first - self._origins_k) * self._itemsizes_k
            yield first, count, at_k.view(np.uint64)
        self._leave(section, stop)

    def stretches(self, section: Section, start: int, stop: int) -> Iterator[Stretches]:
        """Yield elements [start, stop) of a section of floats, of encoded files where they lie."""
        self._enter(section, encoded=True)
        for first, count in self._pieces(section, start, stop, _ALL, 1):
            yield Stretches(
                first,
                count,
                self._kinds_k,
                self._blocks_k,
                self._addresses_k.view(np.uint64),
                first - self._origins_k,
            )
        self._leave(section, stop)

    def _pieces(
        self, section: Section, start: int, stop: int, most: int, step: int
    ) -> Iterator[tuple[int, int]]:
        while start < stop:
            wanted = min(stop - start, max(step, most - most % step))
            if start not in self._common:
                self._move(section, start, min(stop - start, step))
            count = min(wanted, self._common.stop - start)
            if count < wanted:
                count -= count % step
            if not count:  # a window ends within a step
                self._move(section, start, min(stop - start, step))
                count = min(stop - start, step)
            yield start, count
            start += count

    def _enter(self, section: Section, *, encoded: bool) -> None:
        if self._entered == (section.index, encoded):
            return
        itemsizes = [dtype.itemsize for dtype in self.dtypes(section)]
        self._windows = [_Window(0, 0, _NOTHING, itemsize) for itemsize in itemsizes]
        self._itemsizes_k[:] = itemsizes
        self._common = range(0)
        self._entered = (section.index, encoded)

    def _leave(self, section: Section, stop: int) -> None:
        """Let go of what is mapped at a section's end: another file set may be read meanwhile."""
        if stop >= section.count:
            self._entered, self._windows, self._common = (-1, False), [], range(0)

    def _move(self, section: Section, start: int, least: int) -> None:
        """Have `least` elements from `start` on of every file, and more where that is cheap."""
        for index, window in enumerate(self._windows):
            if not window.start <= start <= start + least <= window.stop:
                window.data = _NOTHING  # what was mapped goes before more is
                found = self._encoded_stretch(index, section, start)
                if found is None:
                    found = self._plain_stretch(index, section, start, least)
                window.start, window.stop, window.data = start, start + found.count, found.data
                self._kinds_k[index], self._blocks_k[index] = found.kind, found.block
                self._addresses_k[index] = _address(found.data)
                self._origins_k[index] = start - found.skipped
        begin = max((window.start for window in self._windows), default=start)
        end = min((window.stop for window in self._windows), default=section.count)
        self._common = range(begin, end)

    def _encoded_stretch(self, index: int, section: Section, start: int) -> Stretch | None:
        file = self._encoded[index]
        if file is None or not self._entered[1]:
            return None
        found = file.stretch(section, start, self._window)
        if found is None or _address(found.data) % ITEM_SIZES.get(found.kind, 1):
            return None
        return found

    def _plain_stretch(self, index: int, section: Section, start: int, least: int) -> Stretch:
        viewed, itemsize = self._viewed[index], int(self._itemsizes_k[index])
        data = None
        if viewed is not None:
            data = viewed.view(section, start, max(self._window, least * itemsize))
        if data is None or len(data) < least * itemsize or _address(data) % itemsize:
            data = self._filled(index, section, start, least)
        kind = KINDS.get(self._files[index].dtype(section), -1)  # -1: integers
        return Stretch(kind, 1, 0, len(data) // itemsize, data)

    def _filled(self, index: int, section: Section, start: int, least: int) -> NDArray[np.uint8]:
        itemsize = int(self._itemsizes_k[index])
        count = max(least, min(self._read // itemsize, section.count - start))
        buffer = self._buffers.get(index)
        if buffer is None or len(buffer) < count * itemsize:
            words = -(-max(self._read, count * itemsize) // 8)
            buffer = self._buffers[index] = np.empty(words, np.uint64).view(np.uint8)
        data = buffer[: count * itemsize]
        self._files[index].fill(section, start, data)
        return data


def _address(data: NDArray[np.uint8]) -> int:
    return data.ctypes.data
