"""Checks the bytes of one encoded update while they arrive, as inspection.py does for exact ones.

Header, size and the place of every record are known from the plan and the layout: nothing that a
file says of itself is believed. Invariants: the verdict does not depend on where the chunks are
cut; after a refusal every further call raises the same refusal; `finish` succeeds only for a
complete file whose every byte was hashed and whose every decoded float is finite; nothing is
buffered but the header, one incomplete record (at most 14 KiB) and one batch of decoded values.
"""

import hashlib
import math
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from hansa_core.codecs.blocks import Bytes
from hansa_core.codecs.files import place_of
from hansa_core.codecs.formats import HEADER_SIZE, Run, check_header, format_of
from hansa_core.codecs.plans import CodecPlan, ExactPlan, LossyPlan
from hansa_core.codecs.records import Records
from hansa_core.dtypes import DType
from hansa_core.inspection import Inspection, UpdateInspector
from hansa_core.layouts import Layout
from hansa_core.problems import RefusalReason, UpdateRefusedError

_BATCH_BYTES = 65_536  # of records checked at a time
_BLOCK = 8192  # values whose squares are summed at a time; hansa_core.inspection says why


class Inspector(Protocol):
    """What checks one upload."""

    def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        """Check and hash the next bytes. Raises UpdateRefusedError as soon as they tell."""

    def finish(self) -> Inspection:
        """Return what was seen. Raises UpdateRefusedError if the file is not complete."""
        ...


class EncodedInspector:
    """Incremental checker of one encoded upload.

    The layout of its Inspection is that of the model, whose floats the file has in less; `l2_norm`
    is of the floats as they are decoded.
    """

    def __init__(self, plan: LossyPlan, expected: Layout, max_bytes: int) -> None:
        self._format = format_of(plan, expected)
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._head = bytearray()
        self._runs = self._format.runs()
        self._run: Run | None = None  # the one being read; None before the header and at the end
        self._position = 0  # bytes of the file checked or carried
        self._carry = bytearray()  # the first bytes of a record that a chunk's end has split
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
        try:
            rest = self._feed_header(view) if self._position < HEADER_SIZE else view
            self._feed_records(rest)
        except UpdateRefusedError as error:
            self._refusal = error
            raise
        self._hash.update(view)

    def finish(self) -> Inspection:
        """Return what was seen. Raises UpdateRefusedError if the file is not complete."""
        if self._refusal is not None:
            raise self._refusal
        if self._position != self._format.size:
            self._refusal = UpdateRefusedError(
                RefusalReason.TRUNCATED,
                f"the file ends after {self._position} bytes, wanted {self._format.size}",
            )
            raise self._refusal
        return Inspection(
            size=self._position,
            digest_hex=self._hash.hexdigest(),
            layout=self._format.layout,
            l2_norm=math.sqrt(self._squares),
        )

    def _feed_header(self, view: memoryview) -> memoryview:
        """Collect and check the header; return what the chunk has behind it."""
        missing = HEADER_SIZE - self._position
        self._head += view[:missing]
        self._position = len(self._head)
        if self._position == HEADER_SIZE:
            check_header(bytes(self._head), self._format)
            if self._format.size > self._max_bytes:
                _refuse(
                    RefusalReason.TOO_LARGE,
                    f"the file has {self._format.size} bytes, wanted at most {self._max_bytes}",
                )
            self._run = next(self._runs, None)
        return view[missing:]

    def _feed_records(self, view: memoryview) -> None:
        while len(view):
            run = self._run
            if run is None:
                _refuse(
                    RefusalReason.TRAILING_BYTES,
                    f"the file goes on after its last tensor at {self._format.size} bytes",
                )
            stop = run.offset + run.records * run.size
            piece = view[: stop - self._position]
            self._feed_run(run, piece)
            self._position += len(piece)
            if self._position == stop:
                self._run = next(self._runs, None)
            view = view[len(piece) :]

    def _feed_run(self, run: Run, piece: memoryview) -> None:
        position = self._position
        if self._carry:
            missing = run.size - len(self._carry)
            head, piece = piece[:missing], piece[missing:]
            start = position - len(self._carry)
            self._carry += head
            position += len(head)
            if len(self._carry) < run.size:
                return
            self._check(run, np.frombuffer(bytes(self._carry), np.uint8), start)
            self._carry.clear()
        whole = len(piece) - len(piece) % run.size
        if whole:
            self._check(run, np.frombuffer(piece[:whole], np.uint8), position)
        self._carry += piece[whole:]

    def _check(self, run: Run, raw: Bytes, position: int) -> None:
        """Check whole records that start `position` bytes into the file."""
        first = (position - run.offset) // run.size
        if run.codec is not None:
            batch = max(_BATCH_BYTES // run.size, 1)
            raw_rb = raw.reshape(-1, run.size)
            for start in range(0, len(raw_rb), batch):
                self._check_floats(run, run.codec, raw_rb[start : start + batch], first + start)
        elif run.tensor.dtype is DType.BOOL and raw.max() > 1:
            index = int(np.argmax(raw > 1))
            _refuse(
                RefusalReason.NOT_BOOLEAN,
                f"{place_of(run.tensor, 0, 1, first + index)} is {raw[index]}, wanted 0 or 1",
            )

    def _check_floats(self, run: Run, codec: Records, raw_rb: Bytes, first: int) -> None:
        fault = codec.fault(raw_rb, run.elements)
        if fault is not None:
            place = place_of(run.tensor, run.first, run.elements, first + fault.record)
            _refuse(fault.reason, f"{place} {fault.what}")
        sent_n = codec.sent(raw_rb, run.elements).reshape(-1)
        for start in range(0, len(sent_n), _BLOCK):
            piece_n = sent_n[start : start + _BLOCK]
            wide_n = self._wide[: len(piece_n)]
            np.copyto(wide_n, piece_n)
            self._squares += float(np.dot(wide_n, wide_n))  # finite: float64 holds any such square


def inspector_of(plan: CodecPlan, expected: Layout, max_bytes: int) -> Inspector:
    """Return the checker of an update of this plan, for a model of this layout."""
    if isinstance(plan, ExactPlan):
        return UpdateInspector(expected, max_bytes)
    return EncodedInspector(plan, expected, max_bytes)


def _refuse(reason: RefusalReason, message: str) -> NoReturn:
    raise UpdateRefusedError(reason, message)
