"""The tensor file format: safetensors, read and written by us so that both can stream.

    8 bytes little-endian header length | JSON header | tensor bytes, back to back

Invariants: a header is bounded before it is parsed and checked completely before any of it is
used; the tensors cover the data exactly, without holes or overlaps. What we write is canonical:
the same tensors and metadata always give the same bytes, so a file's SHA-256 names its content.

Nothing here opens a file: bytes come through a `ReadAt` and leave through a sink.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hansa_core.dtypes import BFLOAT16, DType, bf16_to_f32, dtype_of, f32_to_bf16
from hansa_core.layouts import (
    MAX_NAME_LENGTH,
    MAX_TENSORS,
    METADATA,
    Layout,
    TensorShape,
    brief,
    check_text,
    object_with,
    parse_integers,
    parse_tensor_shape,
)
from hansa_core.problems import TensorFormatError

__all__ = [
    "BFLOAT16",
    "DType",
    "Header",
    "Layout",
    "ReadAt",
    "TensorShape",
    "TensorSpec",
    "ViewAt",
    "bf16_to_f32",
    "bytes_reader",
    "dtype_of",
    "encode_header",
    "f32_to_bf16",
    "header_size",
    "parse_header",
    "read_header",
    "read_tensors",
    "view_tensors",
    "write_header",
    "write_tensors",
]

MAX_HEADER_SIZE = 16 * 2**20  # bytes of JSON
MAX_METADATA_ENTRIES = 1024
MAX_METADATA_LENGTH = 65_536  # characters of one value

_LENGTH_SIZE = 8  # bytes of the length before the header
_ALIGNMENT = 8  # bytes; the header is padded with spaces so that the data starts at a multiple
_FIELDS = {"dtype", "shape", "data_offsets"}


class ReadAt(Protocol):
    """Random access to one immutable file, as pread gives it."""

    def __call__(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` (writable bytes) from `offset` on, completely, or raise."""


@runtime_checkable
class ViewAt(Protocol):
    """What a ReadAt may offer besides: a look at the file's bytes where they lie."""

    def view(self, offset: int, size: int) -> memoryview:
        """Return `size` bytes from `offset` on, good for as long as the view lives, or raise."""
        ...


Sink = Callable[[memoryview], object]  # takes the bytes before it returns; the buffer is reused


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of one file: where its bytes lie, counted from the end of the header."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    start: int  # bytes
    stop: int  # bytes, exclusive

    @property
    def size(self) -> int:
        """Bytes of the elements."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Header:
    specs: tuple[TensorSpec, ...]  # in the order of their bytes
    metadata: Mapping[str, str]
    size: int  # bytes before the data: the length, the JSON and its padding
    layout: Layout

    @property
    def file_size(self) -> int:
        """Bytes of the whole file."""
        return self.size + self.layout.size


def header_size(prefix: bytes | bytearray) -> int:
    """Return the bytes before the data, from the first 8 bytes of a file.

    Raises TensorFormatError if there are fewer, or the header is longer than MAX_HEADER_SIZE.
    """
    if len(prefix) < _LENGTH_SIZE:
        raise TensorFormatError(f"the file has {len(prefix)} bytes, wanted {_LENGTH_SIZE} or more")
    length = int.from_bytes(prefix[:_LENGTH_SIZE], "little")
    if not len("{}") <= length <= MAX_HEADER_SIZE:
        raise TensorFormatError(f"the header claims {length} bytes, wanted 2 to {MAX_HEADER_SIZE}")
    return _LENGTH_SIZE + length


def parse_header(prefix: bytes | bytearray) -> Header:
    """Parse the header at the start of `prefix`; what follows it is not looked at.

    Raises TensorFormatError on the first violation, naming the tensor.
    """
    size = header_size(prefix)
    if len(prefix) < size:
        raise TensorFormatError(f"{len(prefix)} bytes of the header seen, wanted {size}")
    fields = _load_object(bytes(prefix[_LENGTH_SIZE:size]))
    metadata = _check_metadata(fields.pop(METADATA, {}))
    if len(fields) > MAX_TENSORS:
        raise TensorFormatError(f"{len(fields)} tensors seen, wanted at most {MAX_TENSORS}")
    tensors: list[TensorShape] = []
    specs: list[TensorSpec] = []
    for name, value in fields.items():
        spec = object_with(_FIELDS, value, f"tensor {name!r}")
        tensor = parse_tensor_shape(name, spec["dtype"], spec["shape"])
        start, stop = _offsets(tensor, spec["data_offsets"])
        tensors.append(tensor)
        specs.append(TensorSpec(name, tensor.dtype, tensor.shape, start, stop))
    specs.sort(key=lambda spec: (spec.start, spec.stop))
    end = 0
    for spec in specs:
        if spec.start != end:
            raise TensorFormatError(f"tensor {spec.name!r} starts at {spec.start}, wanted {end}")
        end = spec.stop
    return Header(tuple(specs), metadata, size, Layout(tuple(tensors)))


def encode_header(
    layout: Layout,
    metadata: Mapping[str, str] | None = None,
    *,
    order: Sequence[TensorShape] | None = None,
) -> bytes:
    """Return the canonical header of a file with these tensors: length, JSON, padding.

    `order` is that of the bytes, if not the layout's own.
    Raises TensorFormatError if it would be longer than MAX_HEADER_SIZE.
    """
    fields: dict[str, object] = {}
    if metadata:
        fields[METADATA] = _check_metadata(dict(sorted(metadata.items())))
    start = 0
    for tensor in layout.tensors if order is None else order:
        stop = start + tensor.size
        fields[tensor.name] = {
            "dtype": tensor.dtype.value,
            "shape": tensor.shape,
            "data_offsets": (start, stop),
        }
        start = stop
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > MAX_HEADER_SIZE:
        raise TensorFormatError(
            f"the header takes {len(text)} bytes, wanted at most {MAX_HEADER_SIZE}"
        )
    return len(text).to_bytes(_LENGTH_SIZE, "little") + text


def write_tensors(
    tensors: Mapping[str, NDArray[Any]],
    sink: Sink,
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Write the canonical file of `tensors` to `sink` and return its size in bytes.

    Contiguous little-endian arrays are passed on without a copy; others, one copy at a time.
    Raises TensorFormatError before the first byte if an array cannot be carried.
    """
    layout = Layout.of(tensors)
    size = write_header(layout, sink, metadata)
    for tensor in layout.tensors:
        if tensor.size:
            array = np.ascontiguousarray(tensors[tensor.name], dtype=tensor.dtype.numpy)
            sink(array.reshape(-1).view(np.uint8).data)
    return size


def write_header(layout: Layout, sink: Sink, metadata: Mapping[str, str] | None = None) -> int:
    """Write the canonical header alone; return the size in bytes of the file that it begins.

    The elements follow, tensor by tensor in the layout's order. Raises TensorFormatError.
    """
    header = encode_header(layout, metadata)
    sink(memoryview(header))
    return len(header) + layout.size


def read_header(read: ReadAt) -> Header:
    """Read and parse the header of a file. Raises TensorFormatError, and what `read` raises."""
    prefix = bytearray(_LENGTH_SIZE)
    read(memoryview(prefix), 0)
    prefix = bytearray(header_size(prefix))
    read(memoryview(prefix), 0)
    return parse_header(prefix)


def read_tensors(read: ReadAt, size: int) -> dict[str, NDArray[Any]]:
    """Read all tensors of a file of `size` bytes into memory, in the order they lie there.

    bfloat16 tensors come as BFLOAT16 arrays. Raises TensorFormatError; in particular, before
    any tensor is allocated, if the header describes a file of another size.
    """
    header = read_header(read)
    _require_size(header, size)
    tensors: dict[str, NDArray[Any]] = {}
    for spec in header.specs:
        raw = np.empty(spec.size, np.uint8)
        if spec.size:
            read(raw.data, header.size + spec.start)
        tensors[spec.name] = _shaped(spec, raw)
    return tensors


def view_tensors(file: memoryview) -> dict[str, NDArray[Any]]:
    """Return the tensors of a file as read-only arrays over its bytes, without a copy.

    One that does not lie at a multiple of its item size, as in every file that we write, is copied.
    Raises TensorFormatError as `read_tensors` does.
    """
    header = parse_header(bytes(file[: header_size(bytes(file[:_LENGTH_SIZE]))]))
    _require_size(header, file.nbytes)
    tensors: dict[str, NDArray[Any]] = {}
    for spec in header.specs:
        start = header.size + spec.start
        raw = np.asarray(file[start : start + spec.size])
        array = _shaped(spec, raw if start % spec.dtype.itemsize == 0 else raw.copy())
        array.flags.writeable = False
        tensors[spec.name] = array
    return tensors


def bytes_reader(data: bytes | bytearray | memoryview) -> ReadAt:
    """Return a ReadAt over bytes in memory; it raises TensorFormatError past their end."""
    view = memoryview(data).toreadonly()

    def read(buffer: memoryview, offset: int) -> None:
        piece = view[offset : offset + len(buffer)]
        if len(piece) != len(buffer):
            raise TensorFormatError(
                f"{len(piece)} bytes lie at offset {offset}, wanted {len(buffer)}"
            )
        buffer[:] = piece

    return read


def _require_size(header: Header, size: int) -> None:
    if header.file_size != size:
        raise TensorFormatError(
            f"the file has {size} bytes, its header describes {header.file_size}"
        )


def _shaped(spec: TensorSpec, raw: NDArray[np.uint8]) -> NDArray[Any]:
    """Return a tensor's bytes as its array. Raises TensorFormatError."""
    if spec.dtype is DType.BOOL and raw.max(initial=0) > 1:
        raise TensorFormatError(f"tensor {spec.name!r} holds a byte above 1, wanted BOOL")
    return raw.view(spec.dtype.numpy).reshape(spec.shape)


def _check_metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TensorFormatError(f"{METADATA} is a {type(value).__name__}, wanted an object")
    entries = cast("dict[object, object]", value)
    if len(entries) > MAX_METADATA_ENTRIES:
        raise TensorFormatError(
            f"{METADATA} has {len(entries)} entries, wanted at most {MAX_METADATA_ENTRIES}"
        )
    checked: dict[str, str] = {}
    for key, text in entries.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TensorFormatError(f"{METADATA} entry {key!r} is not a string")
        if len(key) > MAX_NAME_LENGTH or len(text) > MAX_METADATA_LENGTH:
            raise TensorFormatError(
                f"{METADATA} entry {key[:80]!r} has {len(text)} characters, "
                f"wanted at most {MAX_METADATA_LENGTH}"
            )
        check_text(key + text, f"{METADATA} entry {key[:80]!r}")
        checked[key] = text
    return checked


def _load_object(text: bytes) -> dict[str, object]:
    if not text.startswith(b"{"):
        raise TensorFormatError(f"the header starts with {text[:1]!r}, wanted b'{{'")
    try:
        loaded: object = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise TensorFormatError(f"the header is not JSON in UTF-8: {error}") from error
    return cast("dict[str, object]", loaded)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise TensorFormatError(f"the header has the key {repeated[:80]!r} twice, wanted it once")
    return fields


def _offsets(tensor: TensorShape, value: object) -> tuple[int, int]:
    offsets = parse_integers(value, f"{tensor.name!r} data_offsets")
    if len(offsets) != len(("start", "stop")) or not 0 <= offsets[0] <= offsets[1]:
        raise TensorFormatError(
            f"tensor {tensor.name!r} has data_offsets {brief(value)}, wanted [start, stop]"
        )
    start, stop = offsets
    if stop - start != tensor.size:
        raise TensorFormatError(
            f"tensor {tensor.name!r} holds {brief(stop - start)} bytes, wanted {tensor.size} "
            f"for {tensor.dtype} {list(tensor.shape)}"
        )
    return start, stop
