"""The weighted mean of deltas: federated averaging, streamed tile by tile.

McMahan, Moore, Ramage, Hampson and Agüera y Arcas 2017, "Communication-Efficient Learning of Deep
Networks from Decentralized Data", Algorithm 1, written over deltas (local minus global):

    w_next = w + sum_k s_k * n_k * delta_k / sum_k n_k

where s_k is 1, or what staleness leaves of an asynchronous update (staleness.py).

Invariants
- The bytes written depend on the base and on the multiset of (weight, scale, update bytes), and on
  nothing else: not on arrival order, site ids, tile size, threads or the machine. Every element is
  summed in float64 by separately rounded IEEE operations (no BLAS, no fused multiply-add), in the
  order of (digest, weight, scale), and rounded to its dtype once, at the end.
- Memory is a few tiles, whatever the model and the number of sites, plus 8 bytes per site and
  tensor for offsets. Files are read into buffers allocated once, never mapped.

Integers and BOOL: the mean delta is rounded half to even and added, within the dtype's range. The
mean of I64 deltas is exact to 2**53. A U8 or BOOL delta cannot be negative: such tensors only grow.

Shape suffixes: _t elements of one tile; _k contributions; _n tensors in canonical order.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from hansa_core.dtypes import DType, add_saturating, narrow, widen
from hansa_core.inspection import describe_mismatch
from hansa_core.layouts import Layout, TensorShape
from hansa_core.problems import AggregationError, RefusalReason, UpdateRefusedError
from hansa_core.tensors import Header, ReadAt, Sink, encode_header, read_header

MAX_WEIGHT = 2**40  # examples of one site

# Bytes of one tile of float64, and the most that is read of one file at a time. Sum, term and input
# then stay in the L2 cache: larger tiles leave it, smaller ones pay Python's overhead per read.
TILE_BYTES = 256 * 1024


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
class AggregateSummary:
    base_digest: str
    contributions: tuple[tuple[str, int], ...]  # (digest, weight), in the order they were summed
    total_weight: int  # examples
    layout: Layout
    size: int  # bytes written to the sink


@dataclass(frozen=True, slots=True)
class _Span:
    """Neighbouring tensors of one dtype that lie back to back in every file."""

    dtype: DType
    tensors: tuple[TensorShape, ...]
    base_offset: int  # bytes into the base file
    offsets_k: tuple[int, ...]  # bytes into each update's file
    size: int  # bytes


class _Tiles:
    """Buffers for one aggregation, allocated once."""

    def __init__(self, elements: int) -> None:
        self.elements = elements
        self.input = np.empty(elements * DType.F64.itemsize, np.uint8)
        self.output = np.empty(elements * DType.F64.itemsize, np.uint8)
        self.sum_t = np.empty(elements)
        self.term_t = np.empty(elements)


def weighted_mean(
    base: Source,
    contributions: Sequence[Contribution],
    sink: Sink,
    *,
    tile_bytes: int = TILE_BYTES,
) -> AggregateSummary:
    """Write the next checkpoint, a complete canonical file, to `sink`.

    The sink must use or copy the bytes before it returns. `tile_bytes` trades memory for fewer
    reads; it does not change the result.

    Raises AggregationError without contributions; UpdateRefusedError for a weight or scale out of
    range, a layout other than the base's, or a result that is not finite; TensorFormatError for a
    file that is none; and what `read` and `sink` raise. What the sink then has is to be discarded.
    """
    ordered = sorted(contributions, key=lambda c: (c.digest, c.weight, c.scale))
    _check_weights(ordered)
    base_header = read_header(base.read)
    layout = base_header.layout
    offsets_kn = [_matching_offsets(layout, c, base) for c in ordered]
    total = sum(c.weight for c in ordered)

    head = encode_header(layout)
    sink(memoryview(head))
    tiles = _Tiles(max(1, tile_bytes // DType.F64.itemsize))
    with np.errstate(all="ignore"):  # what overflows is found in the result, and named
        for span in _spans(layout, _offsets(base_header), offsets_kn):
            _sum_span(span, base, ordered, float(total), tiles, sink)
    return AggregateSummary(
        base_digest=base.digest,
        contributions=tuple((c.digest, c.weight) for c in ordered),
        total_weight=total,
        layout=layout,
        size=len(head) + layout.size,
    )


def _check_weights(contributions: Sequence[Contribution]) -> None:
    if not contributions:
        raise AggregationError("there are 0 contributions, wanted 1 or more")
    for contribution in contributions:
        weight = contribution.weight
        if type(weight) is not int or not 1 <= weight <= MAX_WEIGHT:
            raise UpdateRefusedError(
                RefusalReason.WEIGHT_OUT_OF_RANGE,
                f"update {contribution.digest} has weight {weight!r}, "
                f"wanted an integer from 1 to {MAX_WEIGHT}",
            )
        if not 0 < contribution.scale <= 1:  # refuses NaN as well
            raise UpdateRefusedError(
                RefusalReason.WEIGHT_OUT_OF_RANGE,
                f"update {contribution.digest} has scale {contribution.scale!r}, "
                "wanted above 0 and at most 1",
            )


def _matching_offsets(
    layout: Layout, contribution: Contribution, base: Source
) -> NDArray[np.int64]:
    header = read_header(contribution.read)
    if header.layout != layout:
        raise UpdateRefusedError(
            RefusalReason.LAYOUT_MISMATCH,
            f"update {contribution.digest} does not fit checkpoint {base.digest}: "
            + describe_mismatch(header.layout, layout),
        )
    return _offsets(header)


def _offsets(header: Header) -> NDArray[np.int64]:
    """Return where each tensor starts in the file, _n, in canonical order."""
    starts = {spec.name: spec.start for spec in header.specs}
    ordered = [header.size + starts[tensor.name] for tensor in header.layout.tensors]
    return np.array(ordered, np.int64)


def _spans(
    layout: Layout, base_n: NDArray[np.int64], offsets_kn: Sequence[NDArray[np.int64]]
) -> Iterator[_Span]:
    """Merge tensors into spans, so that a model of many small ones costs few reads.

    Files in canonical order merge completely, into one span per dtype.
    """
    tensors = layout.tensors
    if not tensors:
        return
    sizes_n = np.array([tensor.size for tensor in tensors], np.int64)
    joined = np.array([a.dtype is b.dtype for a, b in pairwise(tensors)], bool)
    for offsets_n in (base_n, *offsets_kn):
        joined &= offsets_n[1:] == offsets_n[:-1] + sizes_n[:-1]
    starts = [0, *(int(index) + 1 for index in np.flatnonzero(~joined))]
    for first, last in zip(starts, [*starts[1:], len(tensors)], strict=True):
        yield _Span(
            dtype=tensors[first].dtype,
            tensors=tensors[first:last],
            base_offset=int(base_n[first]),
            offsets_k=tuple(int(offsets_n[first]) for offsets_n in offsets_kn),
            size=int(sizes_n[first:last].sum()),
        )


def _sum_span(
    span: _Span,
    base: Source,
    contributions: Sequence[Contribution],
    total: float,
    tiles: _Tiles,
    sink: Sink,
) -> None:
    step = tiles.elements * span.dtype.itemsize
    for start in range(0, span.size, step):
        size = min(step, span.size - start)
        raw, out = tiles.input[:size], tiles.output[:size]
        sum_t = tiles.sum_t[: size // span.dtype.itemsize]
        term_t = tiles.term_t[: size // span.dtype.itemsize]
        for index, (contribution, offset) in enumerate(
            zip(contributions, span.offsets_k, strict=True)
        ):
            contribution.read(raw.data, offset + start)
            target_t = term_t if index else sum_t
            widen(raw, span.dtype, target_t)
            target_t *= contribution.weight * contribution.scale
            if index:
                sum_t += term_t
        sum_t /= total
        base.read(raw.data, span.base_offset + start)
        _finish_tile(span, start, raw, sum_t, term_t, out)
        sink(out.data)


def _finish_tile(
    span: _Span,
    start: int,
    base: NDArray[np.uint8],
    mean_t: NDArray[np.float64],
    term_t: NDArray[np.float64],
    out: NDArray[np.uint8],
) -> None:
    """Encode base + mean into `out`. Raises UpdateRefusedError for an element not finite."""
    if not span.dtype.is_float:
        add_saturating(base, mean_t, span.dtype, out)
        return
    widen(base, span.dtype, term_t)
    mean_t += term_t
    if narrow(mean_t, span.dtype, out):
        return
    widen(out, span.dtype, term_t)
    index = int(np.argmin(np.isfinite(term_t)))
    position = start + index * span.dtype.itemsize
    ends = list(accumulate(tensor.size for tensor in span.tensors))
    which = bisect_right(ends, position)
    tensor = span.tensors[which]
    element = (position - (ends[which] - tensor.size)) // tensor.dtype.itemsize
    raise UpdateRefusedError(
        RefusalReason.NON_FINITE,
        f"tensor {tensor.name!r} element {element} of the new checkpoint is {term_t[index]}, "
        f"wanted a finite {tensor.dtype}",
    )
