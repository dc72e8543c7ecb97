"""What every rule writes: the base plus one combined delta, tile by tile, as a canonical file.

Invariant: each element is combined in float64, added to the base and rounded to its dtype once.
Integers and BOOL take the combined delta rounded half to even, within the dtype's range.

Shape suffixes: _t elements of one tile.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.inputs import Inputs, Section
from hansa_core.dtypes import DType, add_saturating, narrow, widen
from hansa_core.layouts import Layout
from hansa_core.problems import RefusalReason, UpdateRefusedError
from hansa_core.tensors import Sink, encode_header

# Bytes of one tile of float64, and the most that is read of one file at a time. Sum, term and input
# then stay in the L2 cache: larger tiles leave it, smaller ones pay Python's overhead per read.
TILE_BYTES = 256 * 1024


class Combine(Protocol):
    """How a rule makes one delta of many."""

    def __call__(self, section: Section, start: int, out_t: NDArray[np.float64]) -> None:
        """Write the combined delta of the section's elements from `start` on to `out_t`."""


@dataclass(frozen=True, slots=True)
class AggregateSummary:
    base_digest: str
    contributions: tuple[tuple[str, int], ...]  # (digest, weight), in the order they were taken
    total_weight: int  # examples
    layout: Layout
    size: int  # bytes written to the sink


def tile_elements(tile_bytes: int) -> int:
    """Return how many float64 fit into a tile, at least one."""
    return max(1, tile_bytes // DType.F64.itemsize)


def write_checkpoint(
    inputs: Inputs, combine: Combine, sink: Sink, *, tile_bytes: int
) -> AggregateSummary:
    """Write the next checkpoint, a complete canonical file, to `sink`.

    The sink must use or copy the bytes before it returns. Raises UpdateRefusedError for an element
    that is not finite, by its name; and what `combine`, `sink` and reading raise.
    """
    head = encode_header(inputs.layout)
    sink(memoryview(head))
    elements = tile_elements(tile_bytes)
    delta = np.empty(elements)
    scratch = np.empty(elements)
    raw = np.empty(elements * DType.F64.itemsize, np.uint8)
    out = np.empty(elements * DType.F64.itemsize, np.uint8)
    with np.errstate(all="ignore"):  # what overflows is found in the result, and named
        for section in inputs.sections:
            for start in range(0, section.count, elements):
                count = min(elements, section.count - start)
                size = count * section.dtype.itemsize
                combine(section, start, delta[:count])
                inputs.base_file.fill(section, start, raw[:size])
                _finish(section, start, raw[:size], delta[:count], scratch[:count], out[:size])
                sink(out[:size].data)
    return AggregateSummary(
        base_digest=inputs.base.digest,
        contributions=tuple((c.digest, c.weight) for c in inputs.contributions),
        total_weight=inputs.total_weight,
        layout=inputs.layout,
        size=len(head) + inputs.layout.size,
    )


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
    widen(base, section.dtype, scratch_t)
    delta_t += scratch_t
    if narrow(delta_t, section.dtype, out):
        return
    widen(out, section.dtype, scratch_t)
    index = int(np.argmin(np.isfinite(scratch_t)))
    raise UpdateRefusedError(
        RefusalReason.NON_FINITE,
        f"{_place(section, start + index)} of the new checkpoint is {scratch_t[index]}, "
        f"wanted a finite {section.dtype}",
    )


def _place(section: Section, position: int) -> str:
    """Name the tensor, and the flat element of it, that is at `position` in the section."""
    ends = list(accumulate(tensor.count for tensor in section.tensors))
    which = bisect_right(ends, position)
    tensor = section.tensors[which]
    return f"tensor {tensor.name!r} element {position - (ends[which] - tensor.count)}"
