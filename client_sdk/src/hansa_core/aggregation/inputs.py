"""What every rule reads: a base checkpoint and the updates against it, checked and in one order.

Invariants
- Contributions are in an order of their content alone (digest, weight, scale, ...), so nothing that
  a rule computes can depend on arrival order or on who sent what.
- Elements are numbered by section: the neighbours in canonical order that have one dtype and one
  tensor group. Where a file keeps them does not matter to any result.
- A rule sees one tensor group, and of the updates those that hold it.
- Memory is 16 bytes per run of neighbouring bytes and file; a canonical file has one run a section.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hansa_core.dtypes import DType
from hansa_core.inspection import describe_mismatch
from hansa_core.layouts import Layout, TensorShape
from hansa_core.problems import AggregationError, RefusalReason, UpdateRefusedError
from hansa_core.tensor_groups import SHARED, Partition
from hansa_core.tensors import Header, ReadAt, ViewAt, read_header

MAX_WEIGHT = 2**40  # examples of one site
LARGE_PAGE = 2 << 20  # bytes that one entry maps, where a processor and a file system can


@dataclass(frozen=True, slots=True)
class Source:
    """A stored file of tensors: the checkpoint that deltas were taken against, a slot, a part."""

    digest: str  # SHA-256 of the file, lower-case hex
    read: ReadAt


@dataclass(frozen=True, slots=True)
class Contribution:
    """One site's update as the aggregator sees it: no site id, so none can matter."""

    digest: str  # SHA-256 of the file, lower-case hex
    weight: int  # examples it was trained on, 1 to MAX_WEIGHT
    read: ReadAt
    scale: float = 1.0  # shrinks the delta, above 0 and at most 1
    scalars: Mapping[str, float] = field(default_factory=dict[str, float])  # as signed
    parts: Mapping[str, Source] = field(default_factory=dict[str, Source])
    groups: tuple[str, ...] = ()  # the declared tensor groups that it holds
    root: bool = False  # it is the trusted site's

    @property
    def order(self) -> tuple[object, ...]:
        """What contributions are sorted by: all that can make a difference."""
        parts = sorted((name, part.digest) for name, part in self.parts.items())
        scalars = sorted(self.scalars.items())
        return (self.digest, self.weight, self.scale, scalars, parts, self.groups, self.root)


@dataclass(frozen=True, slots=True)
class Section:
    """Neighbours in canonical order of one dtype and group, read as one run of elements."""

    index: int  # among all sections of the model
    dtype: DType  # in the checkpoint
    tensors: tuple[TensorShape, ...]
    count: int  # elements


class DeltaFile(Protocol):
    """One file's values by section and element."""

    def dtype(self, section: Section) -> DType:
        """Return the dtype of what `fill` gives."""
        ...

    def fill(self, section: Section, start: int, buffer: NDArray[np.uint8]) -> None:
        """Fill `buffer`, whole elements as bytes, from element `start` of the section on."""
        ...


class SectionFile:
    """A file of tensors as they are, in whatever order they lie."""

    def __init__(self, header: Header, sections: Sequence[Section], read: ReadAt) -> None:
        self._read = read
        self._views = read if isinstance(read, ViewAt) else None
        specs = {spec.name: spec for spec in header.specs}
        self._dtypes = {it.index: specs[it.tensors[0].name].dtype for it in sections}
        starts = {spec.name: header.size + spec.start for spec in header.specs}
        self._runs = {
            it.index: _runs(it, self._dtypes[it.index].itemsize, starts) for it in sections
        }
        self._only = {
            index: int(offsets[0]) if len(offsets) == 1 else None
            for index, (_, offsets) in self._runs.items()
        }

    def dtype(self, section: Section) -> DType:
        """Return the dtype of the section's tensors in this file."""
        return self._dtypes[section.index]

    def fill(self, section: Section, start: int, buffer: NDArray[np.uint8]) -> None:
        """Fill `buffer`, whole elements as bytes, from element `start` of the section on."""
        position = start * self._dtypes[section.index].itemsize
        offset = self._only[section.index]
        if offset is not None:
            self._read(buffer.data, offset + position)
            return
        begins, offsets = self._runs[section.index]
        which = int(np.searchsorted(begins, position, side="right")) - 1
        done = 0
        while done < len(buffer):
            at = position + done
            last = which + 1 == len(begins)
            room = len(buffer) - done if last else int(begins[which + 1]) - at
            piece = buffer[done : done + room]
            self._read(piece.data, int(offsets[which] - begins[which]) + at)
            done += len(piece)
            which += 1

    def view(self, section: Section, start: int, most: int) -> NDArray[np.uint8] | None:
        """Return up to `most` bytes from element `start` of the section on, where they lie.

        They end where neighbouring bytes do, or a large page of the file. None: use `fill`.
        """
        if self._views is None:
            return None
        begins, offsets = self._runs[section.index]
        itemsize = self._dtypes[section.index].itemsize
        position = start * itemsize
        which = int(np.searchsorted(begins, position, side="right")) - 1
        last = which + 1 == len(begins)
        stop = section.count * itemsize if last else int(begins[which + 1])
        first = int(offsets[which] - begins[which]) + position
        end = first + min(most, stop - position)
        whole = end - end % LARGE_PAGE
        if position + most < stop and whole > first:
            end = whole - (whole - first) % itemsize
        return np.frombuffer(self._views.view(first, end - first), np.uint8)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files whose layouts agree, ready to be read side by side: one tensor group of one round."""

    base: Source
    contributions: tuple[Contribution, ...]  # in the order that every rule takes them
    sections: tuple[Section, ...]  # without empty ones
    files: tuple[DeltaFile, ...]  # of the contributions
    measured: "Measured | None" = None  # who measures, if not whoever asks (splits.py)

    @property
    def total_weight(self) -> int:
        """Examples of all contributions."""
        return sum(contribution.weight for contribution in self.contributions)

    def measure(self, kind: str, cells: "Cells") -> Iterable[NDArray[np.float64]]:
        """Return a measurement of whole updates, cell by cell."""
        if self.measured is None:
            return cells(self, None)
        return self.measured(self, Measurement(kind, cells))

    def require(self, *, least: int = 1, unscaled: bool = False) -> None:
        """Check what a rule can take. `unscaled`: it counts each site once, none for less.

        Raises AggregationError for fewer than `least`; UpdateRefusedError for a scale.
        """
        if len(self.contributions) < least:
            raise AggregationError(
                f"there are {len(self.contributions)} contributions, wanted {least} or more"
            )
        for it in self.contributions if unscaled else ():
            if it.scale != 1:
                raise UpdateRefusedError(
                    RefusalReason.WEIGHT_OUT_OF_RANGE,
                    f"update {it.digest} has scale {it.scale!r}, "
                    "wanted 1: this rule counts every update once",
                )

    def part(self, name: str, sections: Sequence[Section]) -> "Inputs":
        """Return the files of one part of all updates, over some of the sections.

        Raises UpdateRefusedError for an update without it; TensorFormatError.
        """
        files: list[DeltaFile] = []
        for it in self.contributions:
            source = it.parts.get(name)
            if source is None:
                raise UpdateRefusedError(
                    RefusalReason.LAYOUT_MISMATCH, f"update {it.digest} comes without its {name}"
                )
            files.append(open_tensors(source, sections))
        return Inputs(self.base, self.contributions, tuple(sections), tuple(files))


Cells = Callable[[Inputs, range | None], Iterator[NDArray[np.float64]]]
"""Measures some cells of the inputs (distances.py); without a range, all of them."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a rule has to know of whole updates before it can combine them."""

    kind: str
    cells: Cells


class Measured(Protocol):
    """Knows measurements that others have made."""

    def __call__(self, inputs: Inputs, measurement: Measurement) -> Iterable[NDArray[np.float64]]:
        """Return all cells, in order; or raise what says that they are not known yet."""
        ...


def ordered(contributions: Sequence[Contribution]) -> tuple[Contribution, ...]:
    """Return contributions in the order that every rule takes them.

    Raises AggregationError without any; UpdateRefusedError for a weight or scale out of range.
    """
    if not contributions:
        raise AggregationError("there are 0 contributions, wanted 1 or more")
    for contribution in contributions:
        _check_weight(contribution)
    return tuple(sorted(contributions, key=lambda it: it.order))


def sections_of(part: Partition) -> tuple[tuple[str | None, Section], ...]:
    """Return a model's sections in canonical order, each with its group; None: nobody trains it."""
    group_of = {tensor.name: group.name for group in part.groups for tensor in group.tensors}
    sections: list[tuple[str | None, Section]] = []
    runs = groupby(part.layout.tensors, key=lambda it: (it.dtype, group_of.get(it.name)))
    for (dtype, group), run in runs:
        tensors = tuple(run)
        count = sum(tensor.count for tensor in tensors)
        if count:
            sections.append((group, Section(len(sections), dtype, tensors, count)))
    return tuple(sections)


def holders(contributions: Sequence[Contribution], group: str) -> tuple[Contribution, ...]:
    """Return the contributions that hold a tensor group."""
    return tuple(it for it in contributions if group == SHARED or group in it.groups)


def open_update(
    base: Source, contribution: Contribution, layout: Layout, sections: Sequence[Section]
) -> SectionFile:
    """Open an update that carries its tensors as they are.

    Raises UpdateRefusedError for a layout other than `layout`; TensorFormatError; and what `read`
    raises.
    """
    header = read_header(contribution.read)
    if header.layout != layout:
        raise UpdateRefusedError(
            RefusalReason.LAYOUT_MISMATCH,
            f"update {contribution.digest} does not fit checkpoint {base.digest}: "
            + describe_mismatch(header.layout, layout),
        )
    return SectionFile(header, sections, contribution.read)


def open_tensors(source: Source, sections: Sequence[Section]) -> SectionFile:
    """Open a file that has the sections' tensors, in the dtype that slots and parts have.

    Raises UpdateRefusedError if it has others; TensorFormatError; and what `read` raises.
    """
    header = read_header(source.read)
    wanted = slot_layout(sections)
    if header.layout != wanted:
        raise UpdateRefusedError(
            RefusalReason.LAYOUT_MISMATCH,
            f"file {source.digest} is not laid out like the model's floats: "
            + describe_mismatch(header.layout, wanted),
        )
    return SectionFile(header, sections, source.read)


def slot_tensors(sections: Sequence[Section]) -> tuple[TensorShape, ...]:
    """Return the sections' float tensors as slots and parts have them, in the order of sections."""
    return tuple(
        TensorShape(tensor.name, slot_dtype(tensor.dtype), tensor.shape)
        for section in sections
        if section.dtype.is_float
        for tensor in section.tensors
    )


def slot_layout(sections: Sequence[Section]) -> Layout:
    """Return the layout of a slot or a part over these sections."""
    return Layout(slot_tensors(sections))


def part_layout(uploaded: Layout) -> Layout:
    """Return the layout of a part that goes with an update of this layout: its floats."""
    return Layout(
        tuple(
            TensorShape(tensor.name, slot_dtype(tensor.dtype), tensor.shape)
            for tensor in uploaded.tensors
            if tensor.dtype.is_float
        )
    )


def slot_dtype(dtype: DType) -> DType:
    """Return what a slot keeps of a float tensor: float32, or float64 where the model has that."""
    return DType.F64 if dtype is DType.F64 else DType.F32


def _check_weight(contribution: Contribution) -> None:
    weight, scale = contribution.weight, contribution.scale
    if type(weight) is not int or not 1 <= weight <= MAX_WEIGHT:
        raise UpdateRefusedError(
            RefusalReason.WEIGHT_OUT_OF_RANGE,
            f"update {contribution.digest} has weight {weight!r}, "
            f"wanted an integer from 1 to {MAX_WEIGHT}",
        )
    if not 0 < scale <= 1:  # refuses NaN as well
        raise UpdateRefusedError(
            RefusalReason.WEIGHT_OUT_OF_RANGE,
            f"update {contribution.digest} has scale {scale!r}, wanted above 0 and at most 1",
        )


def _runs(
    section: Section, itemsize: int, starts: Mapping[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where runs of neighbouring bytes begin: in the section, and in the file; in bytes."""
    filled = [tensor for tensor in section.tensors if tensor.count]
    sizes = np.array([tensor.count * itemsize for tensor in filled], np.int64)
    offsets = np.array([starts[tensor.name] for tensor in filled], np.int64)
    begins = np.cumsum(sizes) - sizes
    first = np.ones(len(filled), bool)
    first[1:] = offsets[1:] != offsets[:-1] + sizes[:-1]
    return begins[first], offsets[first]
