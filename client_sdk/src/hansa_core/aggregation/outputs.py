"""What every rule writes: the base plus one step, tile by tile, as canonical files.

Invariants
- Each element is combined in float64, stepped, added to the base and rounded to its dtype once; so
  is each element of a slot. Integers and BOOL take the combined delta rounded half to even, within
  the dtype's range, whatever the server's step does to floats.
- What nobody trains, and what nobody of this round holds, is copied as it is.

Shape suffixes: _t elements of one tile.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.bases import add_base
from hansa_core.aggregation.inputs import DeltaFile, Section, slot_dtype
from hansa_core.aggregation.steps import ServerStep
from hansa_core.dtypes import DType, add_saturating, narrow, widen
from hansa_core.problems import RefusalReason, UpdateRefusedError
from hansa_core.tensors import Sink

# Bytes of one tile of float64. Compiled loops go through it in pieces that fit the L1 cache, so a
# tile is as large as what Python costs for each is to be forgotten: 1 MiB was 1.2 times as fast as
# 256 KiB, 4 MiB slower again.
TILE_BYTES = 2**20


class Combine(Protocol):
    """How a rule makes one delta of many."""

    def __call__(self, section: Section, start: int, out_t: NDArray[np.float64]) -> None:
        """Write the combined delta of the section's elements from `start` on to `out_t`."""


@runtime_checkable
class CombineOnto(Protocol):
    """A Combine that may add the base as well, which spares a round of all deltas in float64."""

    def onto(
        self, base: DeltaFile, section: Section, start: int, out: NDArray[np.uint8]
    ) -> bool | None:
        """Write base + combined delta to `out`, the bytes of whole elements from `start` on.

        Returns whether all is finite; None: nothing is written, combine and add. `base` is always
        the same file.
        """
        ...


@dataclass(frozen=True, slots=True)
class Stepping:
    """A server's step with what it reads."""

    step: ServerStep
    slots: Mapping[str, DeltaFile]  # as they were; none at all before the first step
    parts: Mapping[str, Combine]  # each part's plain mean
    participation: float


@dataclass(frozen=True, slots=True)
class Span:
    """Elements of one section that are written together."""

    section: Section
    start: int
    stop: int
    combine: Combine | None  # None: the base is copied


def tile_elements(tile_bytes: int) -> int:
    """Return how many float64 fit into a tile, at least one."""
    return max(1, tile_bytes // DType.F64.itemsize)


class TileWriter:
    """Writes spans of the checkpoint, and of every slot, without the headers."""

    def __init__(
        self,
        base_file: DeltaFile,
        stepping: Stepping | None,
        sink: Sink,
        slot_sinks: Mapping[str, Sink],
        *,
        tile_bytes: int,
    ) -> None:
        self._base_file = base_file
        self._stepping = stepping
        self._sink = sink
        self._slot_sinks = slot_sinks
        self._elements = tile_elements(tile_bytes)
        self._delta = np.empty(self._elements)
        self._scratch = np.empty(self._elements)
        self._raw = np.empty(self._elements * DType.F64.itemsize, np.uint8)
        self._out = np.empty(self._elements * DType.F64.itemsize, np.uint8)
        step = stepping.step if stepping else None
        self._slots = {name: np.empty(self._elements) for name in (step.slots if step else ())}
        self._parts = {name: np.empty(self._elements) for name in (step.parts if step else ())}

    def write(self, span: Span) -> None:
        """Write one span. The sinks use or copy the bytes before they return.

        Raises UpdateRefusedError for an element that is not finite, by its name; and what
        combining, the sinks and reading raise.
        """
        section = span.section
        fused = None
        if self._stepping is None and isinstance(span.combine, CombineOnto):
            fused = span.combine
        with np.errstate(all="ignore"):  # what overflows is found in the result, and named
            for start in range(span.start, span.stop, self._elements):
                count = min(self._elements, span.stop - start)
                size = count * section.dtype.itemsize
                base = self._raw[:size]
                if span.combine is None:
                    self._base_file.fill(section, start, base)
                    self._sink(base.data)
                    continue
                out = self._out[:size]
                finite = fused.onto(self._base_file, section, start, out) if fused else None
                if finite is False:
                    _refuse("the new checkpoint", section, start, out, section.dtype)
                if finite:
                    self._sink(out.data)
                    continue
                delta_t = self._delta[:count]
                span.combine(section, start, delta_t)
                if self._stepping is not None and section.dtype.is_float:
                    self._step(self._stepping, section, start, delta_t)
                self._base_file.fill(section, start, base)
                _finish(section, start, base, delta_t, self._scratch[:count], out)
                self._sink(out.data)

    def write_slots(self, span: Span) -> None:
        """Write a span of every slot that no step changes."""
        stepping = self._stepping
        if stepping is None or not span.section.dtype.is_float:
            return
        dtype = slot_dtype(span.section.dtype)
        for start in range(span.start, span.stop, self._elements):
            count = min(self._elements, span.stop - start)
            raw = self._raw[: count * dtype.itemsize]
            for name, first in stepping.step.slots.items():
                file = stepping.slots.get(name)
                if file is None:
                    raw.view(dtype.numpy)[:] = first
                else:
                    file.fill(span.section, start, raw)
                self._slot_sinks[name](raw.data)

    def _step(
        self, stepping: Stepping, section: Section, start: int, delta_t: NDArray[np.float64]
    ) -> None:
        """Turn the combined delta into the server's step, and write the slots that it leaves."""
        count, dtype = len(delta_t), slot_dtype(section.dtype)
        raw = self._raw[: count * dtype.itemsize]
        slots_t = {name: space[:count] for name, space in self._slots.items()}
        parts_t = {name: space[:count] for name, space in self._parts.items()}
        for name, slot_t in slots_t.items():
            file = stepping.slots.get(name)
            if file is None:
                slot_t[:] = stepping.step.slots[name]
            else:
                file.fill(section, start, raw)
                widen(raw, dtype, slot_t)
        for name, part_t in parts_t.items():
            stepping.parts[name](section, start, part_t)
        stepping.step(delta_t, slots_t, parts_t, stepping.participation)
        out = self._out[: count * dtype.itemsize]
        for name, slot_t in slots_t.items():
            if not narrow(slot_t, dtype, out):
                _refuse(f"the server's {name}", section, start, out, dtype)
            self._slot_sinks[name](out.data)


def _finish(
    section: Section,
    start: int,
    base: NDArray[np.uint8],
    delta_t: NDArray[np.float64],
    scratch_t: NDArray[np.float64],
    out: NDArray[np.uint8],
) -> None:
    """Encode base + delta into `out`. Raises UpdateRefusedError for an element not finite."""
    if not section.dtype.is_float:
        add_saturating(base, delta_t, section.dtype, out)
        return
    if not add_base(base, section.dtype, delta_t, scratch_t, out):
        _refuse("the new checkpoint", section, start, out, section.dtype)


def _refuse(
    what: str, section: Section, start: int, stored: NDArray[np.uint8], dtype: DType
) -> None:
    """Raise UpdateRefusedError that names the first element of a tile that is not finite."""
    values = np.empty(len(stored) // dtype.itemsize)
    widen(stored, dtype, values)
    index = int(np.argmin(np.isfinite(values)))
    raise UpdateRefusedError(
        RefusalReason.NON_FINITE,
        f"{_place(section, start + index)} of {what} is {values[index]}, wanted a finite {dtype}",
    )


def _place(section: Section, position: int) -> str:
    """Name the tensor, and the flat element of it, that is at `position` in the section."""
    ends = list(accumulate(tensor.count for tensor in section.tensors))
    which = bisect_right(ends, position)
    tensor = section.tensors[which]
    return f"tensor {tensor.name!r} element {position - (ends[which] - tensor.count)}"
