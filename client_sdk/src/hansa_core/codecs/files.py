"""Encoded updates: written at a site, read whole, or read by section and element to aggregate.

Floats come out as float32 whatever the model's dtype: a float64 delta loses what is beyond 24
significant bits; bfloat16 and half precision lose nothing by that.

Invariants: nothing is buffered but pieces of PIECE values (and one copy of a tensor whose array is
not contiguous); what `EncodedFile.fill` gives for a part is, bit for bit, that part of the whole.
"""

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.compiled.kinds import F32, Stretch
from hansa_core.codecs.blocks import Bytes, Floats
from hansa_core.codecs.formats import (
    HEADER_SIZE,
    Run,
    check_header,
    codec_of,
    format_of,
)
from hansa_core.codecs.parts import PartDecoder, decode_part, kind_of
from hansa_core.codecs.plans import CodecPlan, ExactPlan, LossyPlan
from hansa_core.codecs.records import Records
from hansa_core.dtypes import BFLOAT16, DType, bf16_to_f32
from hansa_core.inspection import describe_mismatch
from hansa_core.layouts import Layout, TensorShape
from hansa_core.problems import RefusalReason, TensorFormatError, UpdateRefusedError
from hansa_core.tensors import ReadAt, Sink, ViewAt, read_tensors, write_tensors

PIECE = 65_536  # values encoded or decoded at a time: 256 KiB of float32 stay in the L2 cache


class Section(Protocol):
    """Neighbours in the layout's order, all of one dtype, read as one run of elements."""

    @property
    def dtype(self) -> DType: ...

    @property
    def tensors(self) -> tuple[TensorShape, ...]: ...

    @property
    def count(self) -> int:
        """Elements of all of them."""
        ...


class EncodedFile:
    """One encoded update by section and element."""

    def __init__(
        self, read: ReadAt, layout: Layout, plan: LossyPlan, *, decoder: PartDecoder = decode_part
    ) -> None:
        """Read and check the header. Raises UpdateRefusedError, and what `read` raises."""
        self._decode_part = decoder
        header = bytearray(HEADER_SIZE)
        read(memoryview(header), 0)
        form = format_of(plan, layout)
        check_header(bytes(header), form)
        self._read = read
        self._views = read if isinstance(read, ViewAt) else None
        self._kind = kind_of(form.records)
        self._tables = form.tables
        self._starts = form.starts
        self._checked: dict[
            tuple[str, int], int
        ] = {}  # by first tensor and count, the first element
        self._records = form.records
        self._elements = form.records.elements
        self._size = form.records.size(self._elements)

    def dtype(self, section: Section) -> DType:
        """Return the type of the elements that `fill` gives."""
        return DType.F32 if section.dtype.is_float else section.dtype

    def fill(self, section: Section, start: int, buffer: Bytes) -> None:
        """Fill `buffer`, whole elements as bytes, from element `start` of the section on.

        Raises TensorFormatError for records that no inspected file has, and what `read` raises.
        """
        table = self._tables[section.dtype]
        itemsize = table.itemsize
        count = len(buffer) // itemsize
        if start < 0 or start + count > section.count:
            raise ValueError(
                f"elements {start} to {start + count} asked for, the section has {section.count}"
            )
        start += self._begin(section)
        which = bisect_right(table.begins, start) - 1
        done = 0
        while done < count:
            at = start + done - table.begins[which]
            room = table.counts[which] - at
            if table.whole[which]:
                piece = buffer[done * itemsize : (done + room) * itemsize]
                self._read(piece.data, table.offsets[which] + at * itemsize)
            else:
                piece = buffer[done * itemsize : (done + min(room, PIECE)) * itemsize]
                out_n: Floats = piece.view(np.float32)
                self._decode(table.offsets[which], table.counts[which], at, out_n)
            done += len(piece) // itemsize
            which += start + done == table.begins[which] + table.counts[which]

    def stretch(self, section: Section, start: int, most: int) -> Stretch | None:
        """Return elements from `start` of the section on, in about `most` bytes, where they lie.

        They end where the tensor does. None: use `fill`.
        """
        if self._views is None or self._kind is None or not section.dtype.is_float:
            return None
        table = self._tables[section.dtype]
        begin = self._begin(section)
        which = bisect_right(table.begins, begin + start) - 1
        at = begin + start - table.begins[which]
        stop = min(table.counts[which], at + section.count - start)
        offset, total = table.offsets[which], table.counts[which]
        if table.whole[which]:
            count = min(stop - at, max(1, most // table.itemsize))
            data = self._views.view(offset + at * table.itemsize, count * table.itemsize)
            return Stretch(F32, 1, 0, count, np.frombuffer(data, np.uint8))
        skipped = at % self._elements
        count = min(stop - at, max(1, most // self._size) * self._elements - skipped)
        data = self._views.view(*self._extent(offset, total, at, count))
        return Stretch(self._kind, self._elements, skipped, count, np.frombuffer(data, np.uint8))

    def _begin(self, section: Section) -> int:
        """Return the section's first element among those of its dtype, if it is one run of them."""
        key = (section.tensors[0].name, section.count)
        begin = self._checked.get(key)
        if begin is None:
            begin = end = self._starts[key[0]]
            for tensor in section.tensors:
                if self._starts[tensor.name] != end:
                    raise ValueError(f"tensor {tensor.name!r} is no neighbour in this update")
                end += tensor.count
            self._checked[key] = begin
        return begin

    def _decode(self, offset: int, count: int, start: int, out_n: Floats) -> None:
        """Decode elements from `start` on of the tensor of `count` whose bytes are at `offset`."""
        offset, size = self._extent(offset, count, start, len(out_n))
        raw = np.empty(size, np.uint8)
        self._read(raw.data, offset)
        skip = start % self._elements
        self._decode_part(self._records, raw, count - start + skip, skip, out_n)

    def _extent(self, offset: int, count: int, start: int, wanted: int) -> tuple[int, int]:
        """Return where the records of `wanted` elements from `start` on begin; and their bytes."""
        elements, size = self._elements, self._size
        first, last = start // elements, (start + wanted - 1) // elements
        last_size = self._records.size(min(elements, count - last * elements))
        return offset + first * size, (last - first) * size + last_size


def encode(
    plan: CodecPlan,
    tensors: Mapping[str, NDArray[Any]],
    sink: Sink,
    *,
    layout: Layout | None = None,
    generator: np.random.Generator | None = None,
) -> int:
    """Write an update of these tensors to `sink` and return its size in bytes.

    `layout` is the model's, and the tensors' own without it; a float tensor may be of another float
    dtype than there, so that a float32 delta of a bfloat16 model is rounded once. `exact` writes
    the tensors as they are. Stochastic rounding draws from `generator`.

    Raises TensorFormatError before the first byte if the tensors do not have the layout, and
    UpdateRefusedError for a value that is not finite, or that the codec would make infinite.
    """
    seen = Layout.of(tensors)
    wanted = seen if layout is None else layout
    _check_layout(seen, wanted, exactly=isinstance(plan, ExactPlan))
    if isinstance(plan, ExactPlan):
        return write_tensors(tensors, sink)
    form = format_of(plan, wanted)
    sink(memoryview(form.header))
    for tensor in wanted.tensors:
        if not tensor.count:
            continue
        codec = codec_of(form.records, tensor)
        if codec is None:
            whole = np.ascontiguousarray(tensors[tensor.name], dtype=tensor.dtype.numpy)
            sink(whole.reshape(-1).view(np.uint8).data)
            continue
        flat = np.ascontiguousarray(tensors[tensor.name]).reshape(-1)
        step = max(PIECE - PIECE % codec.elements, codec.elements)
        for start in range(0, tensor.count, step):
            values_n = _finite(flat[start : start + step], tensor, start)
            _encode_piece(codec, tensor, start, values_n, sink, generator)
    return form.size


def decode(read: ReadAt, size: int, layout: Layout, plan: CodecPlan) -> dict[str, NDArray[Any]]:
    """Read all tensors of an update of `size` bytes into memory, in canonical order.

    Floats come as float32, unless the plan is `exact`. Raises TensorFormatError, and before any
    tensor is allocated if the file cannot be of this layout and plan.
    """
    if isinstance(plan, ExactPlan):
        tensors = read_tensors(read, size)
        _check_layout(Layout.of(tensors), layout, exactly=True)
        return tensors
    form = format_of(plan, layout)
    if size != form.size:
        raise TensorFormatError(f"the file has {size} bytes, wanted {form.size} for {plan.name}")
    header = bytearray(HEADER_SIZE)
    read(memoryview(header), 0)
    try:
        check_header(bytes(header), form)
    except UpdateRefusedError as error:
        raise TensorFormatError(str(error)) from error
    decoded: dict[str, NDArray[Any]] = {
        tensor.name: np.empty(
            tensor.shape, np.float32 if tensor.dtype.is_float else tensor.dtype.numpy
        )
        for tensor in layout.tensors
    }
    for run in form.runs():
        flat = decoded[run.tensor.name].reshape(-1)
        _read_run(run, read, flat[run.first : run.first + run.records * run.elements])
    return decoded


def place_of(tensor: TensorShape, run_first: int, elements: int, record: int) -> str:
    """Name a record: by its one element, or as a block of several."""
    first = run_first + record * elements
    kind = "element" if elements == 1 else f"block of {elements} at element"
    return f"tensor {tensor.name!r} {kind} {first}"


def _read_run(run: Run, read: ReadAt, out: NDArray[Any]) -> None:
    codec = run.codec
    if codec is None:
        raw = out.view(np.uint8)
        read(raw.data, run.offset)
        if run.tensor.dtype is DType.BOOL and raw.max() > 1:
            raise TensorFormatError(f"tensor {run.tensor.name!r} holds a byte above 1, wanted BOOL")
        return
    batch = max(PIECE // run.elements, 1)
    for first in range(0, run.records, batch):
        records = min(batch, run.records - first)
        raw_rb = np.empty((records, run.size), np.uint8)
        read(raw_rb.reshape(-1).data, run.offset + first * run.size)
        fault = codec.fault(raw_rb, run.elements)
        if fault is not None:
            place = place_of(run.tensor, run.first, run.elements, first + fault.record)
            raise TensorFormatError(f"{place} {fault.what}")
        out_rn = out[first * run.elements : (first + records) * run.elements]
        codec.decode(raw_rb, out_rn.reshape(records, run.elements))


def _check_layout(seen: Layout, wanted: Layout, *, exactly: bool = False) -> None:
    """Raise TensorFormatError for other tensors; if not `exactly`, floats are all alike."""
    if seen == wanted:
        return
    dtypes = {tensor.name: tensor.dtype for tensor in wanted.tensors}
    alike = Layout(
        tuple(
            TensorShape(tensor.name, dtypes[tensor.name], tensor.shape)
            if not exactly
            and tensor.dtype.is_float
            and tensor.name in dtypes
            and dtypes[tensor.name].is_float
            else tensor
            for tensor in seen.tensors
        )
    )
    if alike != wanted:
        raise TensorFormatError(describe_mismatch(alike, wanted))


def _finite(values: NDArray[Any], tensor: TensorShape, start: int) -> Floats:
    """Return values as float32. Raises UpdateRefusedError, naming one that is not finite."""
    if values.dtype.newbyteorder("<") == BFLOAT16:
        values_n = bf16_to_f32(values.astype(BFLOAT16, copy=False))
    else:
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            values_n = values.astype(np.float32, copy=False)
    finite_n = np.isfinite(values_n)
    if finite_n.all():
        return values_n
    index = int(np.argmin(finite_n))
    raise UpdateRefusedError(
        RefusalReason.NON_FINITE,
        f"tensor {tensor.name!r} element {start + index} is {values[index]}, "
        "wanted a finite float32",
    )


def _encode_piece(
    codec: Records,
    tensor: TensorShape,
    start: int,
    values_n: Floats,
    sink: Sink,
    generator: np.random.Generator | None,
) -> None:
    elements = codec.elements
    whole = len(values_n) // elements
    for first, records in ((0, whole), (whole, 1)):
        part_n = values_n[first * elements : (first + records) * elements]
        if not len(part_n):
            continue
        values_rn = part_n.reshape(records, -1)
        raw_rb = codec.encode(values_rn, generator)
        fault = codec.fault(raw_rb, values_rn.shape[1])
        if fault is not None:
            place = place_of(tensor, start + first * elements, values_rn.shape[1], fault.record)
            raise UpdateRefusedError(fault.reason, f"{place}, encoded, {fault.what}")
        sink(np.ascontiguousarray(raw_rb).reshape(-1).data)
