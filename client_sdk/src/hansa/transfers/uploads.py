"""Files to the hub: small ones in one request, large ones in chunks that outlive a cut.

Invariants: the hub says which chunks it has, so nothing about an upload is remembered here and
whoever comes back, after a cut or a kill, sends what is missing and no more; a chunk that was
damaged on the way is found by its checksum and sent again; a blob is named by its digest, so the
hub takes the same bytes twice without harm.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from hansa.errors import HansaError, RefusedError, RetryableError, UnreachableError
from hansa.stores import at_store
from hansa.transfers.files import pieces_of
from hansa.transfers.lanes import Counted, Course, run_lanes
from hansa.transfers.options import TransferOptions
from hansa.transfers.streams import OnBytes
from hansa.transport import MAX_JSON, AnswerT, Transport
from hansa_core import wire
from hansa_core.chunks import (
    CONTENT_DIGEST,
    LEAST_CHUNK_BYTES,
    SHUFFLED,
    Checksum,
    ChunkPlan,
    missing_of,
    plan_chunks,
)
from hansa_core.codecs import shuffle

SLOWEST_STORE = 10e6  # bytes per second at which a hub may take in what it was sent
MOST_DAMAGES = 5  # of one chunk, one after the other: then it is not chance
FAST_LINK = 12.5e6  # bytes per second from which on compressing is not even tried
ITEMSIZE = 4  # bytes of most numbers in what is uploaded
BINARY = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class UploadRoute:
    """Where a file goes, in one request or in chunks."""

    whole: str  # path to PUT the file at
    chunks: str  # path of the upload in chunks
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    params: Mapping[str, str] = field(default_factory=dict[str, str])


def send_file(
    transport: Transport,
    route: UploadRoute,
    source: Path,
    *,
    size: int,
    options: TransferOptions | None = None,
    on_bytes: OnBytes | None = None,
) -> wire.BlobReceipt:
    """Store the `size` bytes of the file `source` on the hub. Raises HansaError, OSError.

    A file of no more than a chunk goes in one request, and so does one to a hub that knows no
    chunks.
    """
    chosen = options or TransferOptions()
    if size > chosen.chunk_bytes:
        sending = _Sending(transport, route, source, size, chosen, on_bytes)
        try:
            return sending.run()
        except RefusedError as error:
            if sending.is_open or not _knows_no_chunks(error):
                raise
    return upload_file(
        transport,
        route.whole,
        source,
        wire.BlobReceipt,
        size=size,
        headers=route.headers,
        params=route.params,
        options=chosen,
        on_bytes=on_bytes,
    )


def upload_file(
    transport: Transport,
    path: str,
    source: Path,
    answer: type[AnswerT],
    *,
    size: int,
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    options: TransferOptions | None = None,
    on_bytes: OnBytes | None = None,
) -> AnswerT:
    """PUT the `size` bytes of the file `source` in one request and return the answer.

    A cut repeats it from the first byte. Raises HansaError.
    """
    throttle = (options or TransferOptions()).upload
    sent = {**(headers or {}), "Content-Type": BINARY, "Content-Length": str(size)}

    def body() -> Iterator[bytes]:
        done = 0
        for piece in pieces_of(source, 0, size):
            time.sleep(throttle.take(len(piece)))
            yield piece
            done += len(piece)
            if on_bytes is not None:
                on_bytes(done)

    def once() -> bytes:
        with transport.exchange_bulk(
            "PUT",
            path,
            body=body,
            params=params,
            headers=sent,
            wait_seconds=size / SLOWEST_STORE,
        ) as response:
            return response.read(MAX_JSON)

    return transport.parsed(transport.repeat(once), answer, f"PUT {transport.url}{path}")


class _Sending:
    """One file on its way in chunks."""

    def __init__(
        self,
        transport: Transport,
        route: UploadRoute,
        source: Path,
        size: int,
        options: TransferOptions,
        on_bytes: OnBytes | None,
    ) -> None:
        self.is_open = False  # the hub took the upload once
        self._transport = transport
        self._route = route
        self._source = source
        self._size = size
        self._options = options
        self._on_bytes = on_bytes
        self._direct = options.direct
        self._compressing = Compressing(options.compress)
        self._course = Course(options.upload)
        self._addresses: dict[int, str] = {}
        self._plan = plan_chunks(size, options.chunk_bytes)

    def run(self) -> wire.BlobReceipt:
        """Send what is missing until nothing is, and return the receipt."""
        attempt = 0
        anew = 0  # times that the hub forgot the upload
        while True:
            before = self._course.done
            try:
                missing = self._open()
                if missing:
                    self._send(missing)
                    continue
                return self._complete()
            except RetryableError as error:
                attempt = 1 if self._course.done > before else attempt + 1
                self._transport.pause(attempt, error)
            except RefusedError as error:
                # Chunks were lost with a disk, or damaged there: the hub forgot all or some.
                anew += 1
                lost = error.slug in {"upload-incomplete", "digest-mismatch"}
                if not lost or anew > 1 + MOST_DAMAGES or not self._is_unchanged(error):
                    raise

    def _open(self) -> list[int]:
        """Learn how far the upload is; return the chunks that can be sent now."""
        told = self._transport.call(
            "PUT",
            self._route.chunks,
            wire.Upload,
            body=wire.UploadOpen(
                size=self._size,
                chunk_bytes=max(LEAST_CHUNK_BYTES, self._plan.chunk_bytes),
                direct=self._direct,
            ),
            params=self._route.params,
            headers=self._route.headers,
        )
        self.is_open = True
        self._plan = ChunkPlan(told.size, told.chunk_bytes)
        self._compressing.is_known = SHUFFLED in told.encodings
        missing = missing_of(told.have, self._plan.count)
        left = sum(self._plan.length(index) for index in missing)
        self._course = Course(self._options.upload, done=self._size - left)
        self._tell()
        self._addresses = {link.index: link.url for link in told.urls}
        # With addresses, those first: the next look brings more.
        return [index for index in missing if index in self._addresses] or missing

    def _send(self, missing: list[int]) -> None:
        run_lanes(
            self._course,
            missing,
            self._send_chunk,
            lanes=self._options.in_flight,
            watch=self._tell,
        )

    def _complete(self) -> wire.BlobReceipt:
        return self._transport.call(
            "POST",
            f"{self._route.chunks}/complete",
            wire.BlobReceipt,
            params=self._route.params,
            headers=self._route.headers,
            wait_seconds=self._size / SLOWEST_STORE,
        )

    def _send_chunk(self, index: int) -> None:
        """Send one chunk. For a lane."""
        damages = 0
        while True:
            sent = Counted(self._course)
            try:
                address = self._addresses.get(index)
                if address is not None:
                    self._put_to_store(index, address, sent)
                else:
                    self._put_to_hub(index, sent)
            except BaseException as error:
                sent.take_back()
                damages += 1
                slug = error.slug if isinstance(error, HansaError) else None
                if slug == "chunk-damaged" and damages < MOST_DAMAGES:
                    continue
                raise
            else:
                sent.settle(self._plan.length(index))
                return

    def _put_to_hub(self, index: int, sent: "Counted") -> None:
        pieces = list(pieces_of(self._source, *self._plan.span(index)))
        began = time.monotonic()
        encoded = self._compressing.encode(pieces)
        headers = {**self._route.headers, "Content-Type": BINARY}
        if encoded is not None:
            pieces = encoded
            headers["Content-Encoding"] = SHUFFLED
        checksum = Checksum()
        for piece in pieces:
            checksum.update(piece)
        length = sum(map(len, pieces))
        headers |= {CONTENT_DIGEST: checksum.field(), "Content-Length": str(length)}
        with self._transport.exchange_bulk(
            "PUT",
            f"{self._route.chunks}/chunks/{index}",
            body=lambda: self._passing(pieces, sent),
            params=self._route.params,
            headers=headers,
        ) as response:
            response.read(MAX_JSON)
        if length == self._plan.chunk_bytes or encoded is not None:
            self._compressing.learn(time.monotonic() - began, encoded=encoded is not None)

    def _put_to_store(self, index: int, address: str, sent: "Counted") -> None:
        span = self._plan.span(index)
        try:
            with at_store(
                self._transport.bulk,
                self._transport.url,
                "PUT",
                address,
                headers={"Content-Length": str(self._plan.length(index))},
                body=lambda: self._passing(pieces_of(self._source, *span), sent),
            ) as response:
                response.read(MAX_JSON)
        except UnreachableError:
            self._direct = False  # it may be out of reach from here; the hub is not
            raise
        except RefusedError as error:  # the address expired, as far as we can know
            raise RetryableError(str(error), problem=error.problem) from error

    def _passing(self, pieces: Iterable[bytes], sent: "Counted") -> Iterator[bytes]:
        sent.take_back()  # the transport asked for the body again
        for piece in pieces:
            self._course.pass_on(len(piece))
            yield piece
            sent.add(len(piece))

    def _tell(self) -> bool:
        if self._on_bytes is not None:
            self._on_bytes(min(self._course.done, self._size))
        return False

    def _is_unchanged(self, error: RefusedError) -> bool:
        """Return whether sending anew can help: not where the file itself is another one."""
        return error.slug != "digest-mismatch" or self._source.stat().st_size == self._size


class Compressing:
    """Whether chunks are compressed: tried on one, and gone on with where that was quicker.

    Quicker all in all: compressing here, the way, decompressing there. It is the slow links that
    gain, and only with numbers that do compress; on a fast one it would only be the processors'
    time that is short, and taken.
    """

    def __init__(self, wanted: bool) -> None:
        self.is_known = False  # the hub understands it
        self._lock = threading.Lock()
        self._is_open = wanted  # nothing speaks against it yet
        self._on_trial = False  # a chunk is on its way compressed, or was
        self._is_proven = False
        self._plain_seconds: float | None = None  # the least that a chunk took as it is

    def encode(self, pieces: list[bytes]) -> list[bytes] | None:
        """Return the chunk in fewer bytes; None: it goes as it is."""
        with self._lock:
            if not self._is_proven:
                slow = sum(map(len, pieces)) / FAST_LINK
                begins = (self._plain_seconds or 0.0) > slow and not self._on_trial
                if not (self.is_known and self._is_open and begins):
                    return None
                self._on_trial = True
        encoded = shuffle.compress(b"".join(pieces), ITEMSIZE)
        return None if encoded is None else [encoded]

    def learn(self, seconds: float, *, encoded: bool) -> None:
        """Take in how long a chunk took, from its compression to the hub's answer."""
        with self._lock:
            if encoded and not self._is_proven:
                plain = self._plain_seconds or 0.0
                self._is_proven = seconds < plain
            if not encoded:
                known = self._plain_seconds
                self._plain_seconds = seconds if known is None else min(known, seconds)


def _knows_no_chunks(error: RefusedError) -> bool:
    """Return whether an older hub may have said this: it knows no such address."""
    status = error.problem.status if error.problem else 0
    return status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
