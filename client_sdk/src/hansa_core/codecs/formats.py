"""The encoded update file: where every value of a layout lies, known before a byte is read.

    64 bytes of header | the tensors back to back, in the layout's canonical order

Float tensors are cut into records (records.py), a whole number to each tensor; short vectors lie
there as float32 (`codec_of`), integers and BOOL as they are. Nothing in a file tells a decoder how
much to allocate: the layout and the plan do, and a header that says otherwise is refused.

Header, little-endian:

    offset  bytes
         0      8  magic "hansaenc"; no safetensors file begins so, its 4th to 8th bytes are zero
         8      1  version, 1
         9      1  codec: 1 bf16, 2 fp16, 3 int8, 4 int4, 5 topk, 6 sparse2
        10      2  values: 1 bf16, 2 fp16 for topk, else 0
        12      4  values of a whole record
        16      4  values kept of them; 0 where all are
        20      4  0
        24      8  bytes after the header
        32     32  SHA-256 of the layout's canonical JSON
"""

import hashlib
import struct
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from hansa_core.canonical import canonical_json
from hansa_core.codecs.plans import CodecPlan, ExactPlan, LossyPlan
from hansa_core.codecs.records import CODECS, Records, WholeFloats, records_of
from hansa_core.dtypes import DType
from hansa_core.layouts import Layout, TensorShape
from hansa_core.problems import RefusalReason, UpdateRefusedError
from hansa_core.tensors import encode_header

MAGIC = b"hansaenc"
VERSION = 1
HEADER_SIZE = 64  # bytes
MOST_WHOLE = 65_536  # values of a vector that no codec touches

_HEADER = struct.Struct("<8sBBHIIIQ32s")
_WHOLE = WholeFloats()
_CACHED = 4  # formats kept: about 100 bytes a tensor, shared by all files of a round


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring records of one tensor, all of one size."""

    tensor: TensorShape
    codec: Records | None  # None: integers and BOOL as they are, each its own record
    first: int  # element of the tensor
    elements: int  # of each record
    records: int
    size: int  # bytes of each record
    offset: int  # bytes into the file


@dataclass(frozen=True, slots=True)
class Table:
    """Where the elements of one dtype lie, in pieces: tensors, or several without a seam."""

    itemsize: int  # bytes of a decoded element
    begins: "array[int]"  # first element of each piece, counted from the first of the dtype
    counts: "array[int]"  # elements of each piece
    offsets: "array[int]"  # bytes into the file
    whole: bytearray  # 1 for a piece whose bytes are those of the decoded elements


@dataclass(frozen=True, slots=True)
class Format:
    """One layout in one codec."""

    layout: Layout
    records: Records
    header: bytes
    size: int  # bytes of the whole file
    tables: Mapping[DType, Table]
    starts: Mapping[str, int]  # first element of each tensor among those of its dtype

    def runs(self) -> Iterator[Run]:
        """Yield everything behind the header, in the order of the bytes."""
        offset = HEADER_SIZE
        for tensor in self.layout.tensors:
            for run in _runs(tensor, codec_of(self.records, tensor), offset):
                yield run
                offset = run.offset + run.records * run.size


def format_of(plan: LossyPlan, layout: Layout) -> Format:
    """Return where everything lies in an update of this layout and plan."""
    return _format(records_of(plan), layout)


def bytes_of(plan: CodecPlan, layout: Layout) -> int:
    """Return the exact size of an update's file; of `exact`, of one without metadata."""
    if isinstance(plan, ExactPlan):
        return len(encode_header(layout)) + layout.size
    records = records_of(plan)
    return HEADER_SIZE + sum(
        _size_of(codec_of(records, tensor), tensor) for tensor in layout.tensors
    )


def codec_of(records: Records, tensor: TensorShape) -> Records | None:
    """Return how a tensor is encoded in a plan of `records`; None: an integer or BOOL, as it is.

    Vectors of up to MOST_WHOLE values stay whole. They are biases, scales, and statistics such as
    the variances of batch norm, which an error of any size, or an update that comes late, can make
    negative; and they are too few to save much by them.
    """
    if not tensor.dtype.is_float:
        return None
    if len(tensor.shape) <= 1 and tensor.count <= MOST_WHOLE:
        return _WHOLE
    return records


def layout_digest(layout: Layout) -> bytes:
    """Return the SHA-256 of the layout's canonical JSON."""
    return hashlib.sha256(canonical_json(layout.to_json())).digest()


def check_header(seen: bytes, wanted: Format) -> None:
    """Check a file's first HEADER_SIZE bytes. Raises UpdateRefusedError, saying what differs."""
    if seen == wanted.header:
        return
    if not seen.startswith(MAGIC):
        _refuse(f"the file begins with {seen[:8]!r}, wanted {MAGIC!r}, an encoded update")
    found, expected = _HEADER.unpack(seen), _HEADER.unpack(wanted.header)
    if found[1] != VERSION:
        _refuse(f"the file has version {found[1]}, wanted {VERSION}")
    if found[2] != expected[2]:
        name = CODECS.get(found[2], f"number {found[2]}")
        _refuse(f"the codec is {name}, wanted {CODECS[expected[2]]}")
    names = ("type of values", "values of a record", "values kept of them", "reserved number")
    for name, number, right in zip(names, found[3:7], expected[3:7], strict=True):
        if number != right:
            _refuse(f"the {name} is {number}, wanted {right} for {CODECS[expected[2]]}")
    if found[8] != expected[8]:
        raise UpdateRefusedError(
            RefusalReason.LAYOUT_MISMATCH,
            f"the update is of layout {found[8].hex()}, wanted {expected[8].hex()}",
        )
    _refuse(f"the header announces {found[7]} bytes, wanted {expected[7]}")


def _refuse(message: str) -> None:
    raise UpdateRefusedError(RefusalReason.MALFORMED, message)


@lru_cache(maxsize=_CACHED)
def _format(records: Records, layout: Layout) -> Format:
    tables: dict[DType, Table] = {}
    starts: dict[str, int] = {}
    offset = HEADER_SIZE
    for dtype, group in groupby(layout.tensors, key=lambda tensor: tensor.dtype):
        itemsize = DType.F32.itemsize if dtype.is_float else dtype.itemsize
        table = Table(itemsize, array("q"), array("q"), array("q"), bytearray())
        begin, before = 0, records  # `before`: what the piece so far is encoded by
        for tensor in group:
            starts[tensor.name] = begin
            codec = codec_of(records, tensor)
            if tensor.count:
                if table.begins and codec is before and (codec is None or codec.elements == 1):
                    table.counts[-1] += tensor.count
                else:
                    table.begins.append(begin)
                    table.counts.append(tensor.count)
                    table.offsets.append(offset)
                    table.whole.append(codec is None or codec is _WHOLE)
                before = codec
            begin += tensor.count
            offset += _size_of(codec, tensor)
        tables[dtype] = table
    header = _header(records, offset - HEADER_SIZE, layout_digest(layout))
    return Format(layout, records, header, offset, tables, starts)


def _runs(tensor: TensorShape, codec: Records | None, offset: int) -> Iterator[Run]:
    if codec is None:
        if tensor.count:
            yield Run(tensor, None, 0, 1, tensor.count, tensor.dtype.itemsize, offset)
        return
    whole, rest = divmod(tensor.count, codec.elements)
    size = codec.size(codec.elements)
    if whole:
        yield Run(tensor, codec, 0, codec.elements, whole, size, offset)
    if rest:
        first, offset = whole * codec.elements, offset + whole * size
        yield Run(tensor, codec, first, rest, 1, codec.size(rest), offset)


def _size_of(codec: Records | None, tensor: TensorShape) -> int:
    return sum(run.records * run.size for run in _runs(tensor, codec, 0))


def _header(records: Records, payload: int, digest: bytes) -> bytes:
    codec, values, kept = records.described()
    return _HEADER.pack(MAGIC, VERSION, codec, values, records.elements, kept, 0, payload, digest)
