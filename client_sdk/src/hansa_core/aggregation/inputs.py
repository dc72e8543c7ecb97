"""What every rule reads: a base checkpoint and the updates against it, checked and in one order.

Invariants
- Contributions are in the order of (digest, weight, scale), so nothing that a rule computes can
  depend on arrival order or on who sent what.
- Elements are numbered by section: the tensors of one dtype, in canonical order. Where a file
  keeps them does not matter to any result.
- Memory is 16 bytes per run of neighbouring bytes and file; a canonical file has one run per dtype.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from hansa_core.dtypes import DType
from hansa_core.inspection import describe_mismatch
from hansa_core.layouts import Layout, TensorShape
from hansa_core.problems import AggregationError, RefusalReason, UpdateRefusedError
from hansa_core.tensors import Header, ReadAt, read_header

MAX_WEIGHT = 2**40  # examples of one site


@dataclass(frozen=True, slots=True)
class Source:
    """The checkpoint that the deltas were taken against."""

    digest: str  # SHA-256 of the file, lower-case hex
    read: ReadAt


@dataclass(frozen=True, slots=True)
class Contribution:
    """One site's update as the aggregator sees it: no site id, so none can matter."""

    digest: str  # SHA-256 of the file, lower-case hex
    weight: int  # examples it was trained on, 1 to MAX_WEIGHT
    read: ReadAt
    scale: float = 1.0  # shrinks the delta, above 0 and at most 1


@dataclass(frozen=True, slots=True)
class Section:
    """The tensors of one dtype: neighbours in canonical order, read as one run of elements."""

    index: int  # among the layout's sections
    dtype: DType
    tensors: tuple[TensorShape, ...]
    count: int  # elements


class SectionFile:
    """One file by section and element, in whatever order its tensors lie."""

    def __init__(self, header: Header, sections: Sequence[Section], read: ReadAt) -> None:
        self._read = read
        starts = {spec.name: header.size + spec.start for spec in header.specs}
        self._runs = [_runs(section, starts) for section in sections]
        self._only = [int(offsets[0]) if len(offsets) == 1 else None for _, offsets in self._runs]

    def fill(self, section: Section, start: int, buffer: NDArray[np.uint8]) -> None:
        """Fill `buffer`, whole elements as bytes, from element `start` of the section on."""
        position = start * section.dtype.itemsize
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


@dataclass(frozen=True, slots=True)
class Inputs:
    """Files whose layouts agree, ready to be read side by side."""

    base: Source
    contributions: tuple[Contribution, ...]  # in the order that every rule takes them
    layout: Layout
    sections: tuple[Section, ...]  # without empty ones
    base_file: SectionFile
    files: tuple[SectionFile, ...]  # of the contributions

    @property
    def total_weight(self) -> int:
        """Examples of all contributions."""
        return sum(contribution.weight for contribution in self.contributions)


def open_inputs(
    base: Source, contributions: Sequence[Contribution], *, least: int = 1, unscaled: bool = False
) -> Inputs:
    """Read and check all headers. `unscaled`: the rule counts each site once, none for less.

    Raises AggregationError for fewer than `least` contributions; UpdateRefusedError for a weight
    or scale out of range or a layout other than the base's; TensorFormatError for a file that is
    none; and what `read` raises.
    """
    ordered = tuple(sorted(contributions, key=lambda c: (c.digest, c.weight, c.scale)))
    if len(ordered) < least:
        raise AggregationError(f"there are {len(ordered)} contributions, wanted {least} or more")
    for contribution in ordered:
        _check_weight(contribution, unscaled=unscaled)
    header = read_header(base.read)
    layout = header.layout
    sections = _sections(layout)
    files: list[SectionFile] = []
    for contribution in ordered:
        other = read_header(contribution.read)
        if other.layout != layout:
            raise UpdateRefusedError(
                RefusalReason.LAYOUT_MISMATCH,
                f"update {contribution.digest} does not fit checkpoint {base.digest}: "
                + describe_mismatch(other.layout, layout),
            )
        files.append(SectionFile(other, sections, contribution.read))
    base_file = SectionFile(header, sections, base.read)
    return Inputs(base, ordered, layout, sections, base_file, tuple(files))


def _check_weight(contribution: Contribution, *, unscaled: bool) -> None:
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
    if unscaled and scale != 1:
        raise UpdateRefusedError(
            RefusalReason.WEIGHT_OUT_OF_RANGE,
            f"update {contribution.digest} has scale {scale!r}, "
            "wanted 1: this rule counts every update once",
        )


def _sections(layout: Layout) -> tuple[Section, ...]:
    sections: list[Section] = []
    for dtype, group in groupby(layout.tensors, key=lambda tensor: tensor.dtype):
        tensors = tuple(group)
        count = sum(tensor.count for tensor in tensors)
        if count:
            sections.append(Section(len(sections), dtype, tensors, count))
    return tuple(sections)


def _runs(section: Section, starts: dict[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where runs of neighbouring bytes begin: in the section, and in the file; in bytes."""
    filled = [tensor for tensor in section.tensors if tensor.size]
    sizes = np.array([tensor.size for tensor in filled], np.int64)
    offsets = np.array([starts[tensor.name] for tensor in filled], np.int64)
    begins = np.cumsum(sizes) - sizes
    first = np.ones(len(filled), bool)
    first[1:] = offsets[1:] != offsets[:-1] + sizes[:-1]
    return begins[first], offsets[first]
