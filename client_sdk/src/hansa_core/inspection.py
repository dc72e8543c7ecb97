"""Checks the bytes of one update while they arrive, so that a bad one is refused early.

The hub feeds whatever chunks the network brings; nothing is buffered but the header and at most
7 bytes of a split element. Invariants: the verdict does not depend on where the chunks are cut;
after a refusal every further call raises the same refusal; `finish` succeeds only for a complete
file whose every byte was hashed and whose every float is finite.
"""

import hashlib
import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from hansa_core.dtypes import DType, widen
from hansa_core.layouts import Layout, TensorShape
from hansa_core.problems import RefusalReason, TensorFormatError, UpdateRefusedError
from hansa_core.tensors import Header, TensorSpec, encode_header, header_size, parse_header

# Elements widened at a time: 64 KiB of float64 stays in the L1/L2 cache, and the BLAS dot product
# of a longer vector may start threads, which a server that handles many uploads does not want.
_BLOCK = 8192
_LENGTH_SIZE = 8  # bytes that tell the header's length
_LISTED = 5  # differences from the expected layout that a refusal spells out
_HEADER_SLACK = 65_536  # bytes of metadata an update's header may carry


@dataclass(frozen=True, slots=True)
class Inspection:
    size: int  # bytes of the file
    digest_hex: str  # SHA-256 of the file, lower case
    layout: Layout
    l2_norm: float  # over float tensors; the last bits vary with the chunks and the machine


@dataclass(frozen=True, slots=True)
class _Segment:
    """Neighbouring tensors of one dtype, checked as one run of elements."""

    dtype: DType
    start: int  # bytes into the data
    stop: int


class UpdateInspector:
    """Incremental checker of one upload.

    With `expected` None any layout is accepted: that is how an initial checkpoint comes in.
    """

    def __init__(self, expected: Layout | None, max_bytes: int) -> None:
        self._expected = expected
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._head = bytearray()
        self._head_size: int | None = None  # known after the first 8 bytes
        self._header: Header | None = None
        self._specs: tuple[TensorSpec, ...] = ()
        self._segments: list[_Segment] = []
        self._segment = 0  # index of the one being read
        self._position = 0  # bytes of data checked or carried
        self._carry = bytearray()  # the first bytes of an element that a chunk's end has split
        self._squares = 0.0
        self._wide: NDArray[np.float64] = np.empty(_BLOCK)
        self._refusal: UpdateRefusedError | None = None

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Check and hash the next bytes. Raises UpdateRefusedError as soon as they tell."""
        if self._refusal is not None:
            raise self._refusal
        if not len(chunk):
            return
        view = memoryview(chunk).cast("B")
        rest = self._feed_header(view) if self._header is None else view
        if len(rest):
            # Signalling NaN and overflow are what we look for: no floating point warnings.
            with np.errstate(all="ignore"):
                self._feed_data(rest)
        self._hash.update(view)

    def finish(self) -> Inspection:
        """Return what was seen. Raises UpdateRefusedError if the file is not complete."""
        if self._refusal is not None:
            raise self._refusal
        if self._header is None:
            wanted = "a header" if self._head_size is None else f"a header of {self._head_size}"
            self._refuse(
                RefusalReason.TRUNCATED, f"the file ends after {len(self._head)} bytes in {wanted}"
            )
        size = self._header.size + self._position
        if size != self._header.file_size:
            self._refuse(
                RefusalReason.TRUNCATED,
                f"the file ends after {size} bytes, wanted {self._header.file_size}",
            )
        return Inspection(
            size=size,
            digest_hex=self._hash.hexdigest(),
            layout=self._header.layout,
            l2_norm=math.sqrt(self._squares),
        )

    def _feed_header(self, view: memoryview) -> memoryview:
        """Collect the header; return the data behind it, if the chunk reaches that far."""
        if self._head_size is None:
            view = self._collect(view, _LENGTH_SIZE)
            if len(self._head) < _LENGTH_SIZE:
                return view
            self._head_size = self._bounded_header_size()
        view = self._collect(view, self._head_size)
        if len(self._head) == self._head_size:
            try:
                self._header = parse_header(self._head)
            except TensorFormatError as error:
                self._refuse(RefusalReason.MALFORMED, str(error))
            self._check_header(self._header)
            self._head.clear()
            self._specs = self._header.specs
            self._segments = _segments(self._header)
        return view

    def _collect(self, view: memoryview, size: int) -> memoryview:
        missing = size - len(self._head)
        self._head += view[:missing]
        return view[missing:]

    def _bounded_header_size(self) -> int:
        try:
            size = header_size(self._head)
        except TensorFormatError as error:
            self._refuse(RefusalReason.MALFORMED, str(error))
        limit = self._max_bytes
        if self._expected is not None:
            # A header that names the expected tensors, even with every character escaped, is not
            # longer than this: a hostile site cannot make us parse 16 MiB of JSON.
            limit = min(limit, 6 * len(encode_header(self._expected)) + _HEADER_SLACK)
        if size > limit:
            self._refuse(
                RefusalReason.TOO_LARGE, f"the header takes {size} bytes, wanted at most {limit}"
            )
        return size

    def _check_header(self, header: Header) -> None:
        if header.file_size > self._max_bytes:
            self._refuse(
                RefusalReason.TOO_LARGE,
                f"the file has {header.file_size} bytes, wanted at most {self._max_bytes}",
            )
        if self._expected is not None and header.layout != self._expected:
            self._refuse(
                RefusalReason.LAYOUT_MISMATCH, describe_mismatch(header.layout, self._expected)
            )

    def _feed_data(self, view: memoryview) -> None:
        while len(view):
            if self._segment == len(self._segments):
                self._refuse(
                    RefusalReason.TRAILING_BYTES,
                    f"the file goes on after its last tensor at {self._position} data bytes",
                )
            segment = self._segments[self._segment]
            piece = view[: segment.stop - self._position]
            self._feed_segment(segment, piece)
            self._position += len(piece)
            if self._position == segment.stop:
                self._segment += 1
            view = view[len(piece) :]

    def _feed_segment(self, segment: _Segment, piece: memoryview) -> None:
        itemsize = segment.dtype.itemsize
        position = self._position
        if self._carry:
            missing = itemsize - len(self._carry)
            head, piece = piece[:missing], piece[missing:]
            start = position - len(self._carry)
            self._carry += head
            position += len(head)
            if len(self._carry) < itemsize:
                return
            self._check_elements(segment.dtype, np.frombuffer(bytes(self._carry), np.uint8), start)
            self._carry.clear()
        whole = len(piece) - len(piece) % itemsize
        if whole:
            raw = np.frombuffer(piece[:whole], np.uint8)
            self._check_elements(segment.dtype, raw, position)
        self._carry += piece[whole:]

    def _check_elements(self, dtype: DType, raw: NDArray[np.uint8], position: int) -> None:
        """Check whole elements that start `position` bytes into the data."""
        if dtype is DType.BOOL:
            if raw.max() > 1:
                index = int(np.argmax(raw > 1))
                self._refuse(
                    RefusalReason.NOT_BOOLEAN,
                    f"{self._place(position + index)} is {raw[index]}, wanted 0 or 1",
                )
        elif dtype.is_float:
            step = _BLOCK * dtype.itemsize
            for start in range(0, len(raw), step):
                self._check_floats(dtype, raw[start : start + step], position + start)

    def _check_floats(self, dtype: DType, raw: NDArray[np.uint8], position: int) -> None:
        wide = self._wide[: len(raw) // dtype.itemsize]
        widen(raw, dtype, wide)
        # One pass tells norm and finiteness: a NaN or an infinity spoils the sum of squares, and
        # nothing else does, since the square of any finite float32 fits a float64.
        self._squares += float(np.dot(wide, wide))
        if math.isfinite(self._squares):
            return
        finite = np.isfinite(wide)
        index = int(np.argmin(finite))
        place = self._place(position + index * dtype.itemsize)
        if finite[index]:  # only F64 gets here
            self._refuse(
                RefusalReason.OVERFLOW, f"the squared norm exceeds float64 shortly after {place}"
            )
        self._refuse(RefusalReason.NON_FINITE, f"{place} is {wide[index]}, wanted finite values")

    def _place(self, position: int) -> str:
        """Name the tensor and the flat element index at `position` bytes into the data."""
        found = bisect_right(self._specs, position, key=lambda spec: spec.start) - 1
        spec = self._specs[found]
        return f"tensor {spec.name!r} element {(position - spec.start) // spec.dtype.itemsize}"

    def _refuse(self, reason: RefusalReason, message: str) -> NoReturn:
        self._refusal = UpdateRefusedError(reason, message)
        raise self._refusal


def describe_mismatch(seen: Layout, wanted: Layout) -> str:
    """Say how two different layouts differ, spelling out the first few tensors."""
    seen_by_name = {tensor.name: tensor for tensor in seen.tensors}
    wanted_by_name = {tensor.name: tensor for tensor in wanted.tensors}
    differences: list[str] = []
    for name, tensor in wanted_by_name.items():
        other = seen_by_name.get(name)
        if other is None:
            differences.append(f"{name!r} is missing, wanted {_kind(tensor)}")
        elif other != tensor:
            differences.append(f"{name!r} is {_kind(other)}, wanted {_kind(tensor)}")
    differences += [
        f"{name!r} is unexpected" for name in seen_by_name if name not in wanted_by_name
    ]
    listed = "; ".join(differences[:_LISTED])
    more = len(differences) - _LISTED
    return f"the tensors differ: {listed}" + (f"; and {more} more" if more > 0 else "")


def _kind(tensor: TensorShape) -> str:
    return f"{tensor.dtype} {list(tensor.shape)}"


def _segments(header: Header) -> list[_Segment]:
    segments: list[_Segment] = []
    for spec in header.specs:
        if not spec.size:
            continue
        if segments and segments[-1].dtype is spec.dtype:
            segments[-1] = _Segment(spec.dtype, segments[-1].start, spec.stop)
        else:
            segments.append(_Segment(spec.dtype, spec.start, spec.stop))
    return segments
