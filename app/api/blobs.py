"""Streaming blobs in and out: bounded memory, checked while they flow, threads for the work.

An upload is inspected as it arrives and refused at the first wrong byte; the refusal is answered
only after the rest was read, up to a bound, because a client that is still sending would see a
reset instead of the reason. A download is read in 1 MiB steps, whole or by one byte range.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import TypeVar
from uuid import UUID

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from app.domain.errors import (
    ArtifactMissingError,
    ArtifactPurgedError,
    DigestMismatchError,
    InvalidRequestError,
    RangeNotSatisfiableError,
    StorageUnavailableError,
    TooLargeError,
    UpdateRefusedError,
)
from app.services import checkpoints, retention
from app.services.audit import Takings
from app.services.checkpoints import Blob, NewBlob
from app.services.principals import Principal
from app.services.transactions import Transactions
from app.services.upload_terms import Terms
from app.storage.artifacts import CHUNK_BYTES, READ_AHEAD_BYTES, Artifacts, BlobReader
from app.storage.staging import BlobWriter
from hansa_core import wire
from hansa_core.audit import Actor
from hansa_core.chunks import (
    CONTENT_DIGEST,
    FOLLOW,
    MOST_CHUNK_BYTES,
    STORE,
    WANT_CONTENT_DIGEST,
    Checksum,
    wants_checksum,
)
from hansa_core.codecs.inspection import Inspector
from hansa_core.problems import CoreError

MEDIA_TYPE = "application/octet-stream"
ADDRESS_LIFE = timedelta(minutes=15)  # of a redirection to the store
CHECKSUM_STEP_BYTES = 128 * 2**10  # read at once: fits the processor's cache
MAX_DRAINED_BYTES = 256 * 2**20  # of a refused upload; a longer one is cut off

ResultT = TypeVar("ResultT")

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")  # no longer than a 64-bit integer
_DIGEST = re.compile(r"[0-9a-f]{64}")


async def receive(
    request: Request,
    artifacts: Artifacts,
    federation_id: UUID,
    digest: str,
    terms: Terms,
) -> NewBlob:
    """Store the request's body as the artifact `digest`, durable when this returns.

    Raises:
        TooLargeError: announced longer than the terms allow.
        UpdateRefusedError: not tensors, not those of the terms, or not finite.
        DigestMismatchError: the bytes are others than announced.
        StorageFullError: the store has no room for it.
        StorageUnavailableError: the store failed.
    """
    if not _DIGEST.fullmatch(digest):
        raise InvalidRequestError(f"digest {digest[:80]!r} is not 64 lower-case hex characters")
    announced = _announced_size(request)
    if announced > terms.max_bytes:
        raise TooLargeError(f"the body has {announced} bytes, {terms.max_bytes} are allowed")
    inspector = terms.inspector()
    stream = request.stream()
    begin = partial(artifacts.begin, federation_id, expected_bytes=announced)
    with await _or_drop(stream, announced, asyncio.to_thread(begin)) as writer:
        try:
            await _or_drop(stream, announced, _take(_body(stream), inspector, writer))
            inspection = inspector.finish()
            if inspection.digest_hex != digest:
                raise DigestMismatchError(
                    f"the body's SHA-256 is {inspection.digest_hex}, announced was {digest}"
                )
        except CoreError as error:
            raise UpdateRefusedError(str(error)) from error
        await asyncio.to_thread(writer.commit, digest)
    return terms.blob(inspection)


async def record(
    transactions: Transactions,
    artifacts: Artifacts,
    federation_id: UUID,
    blob: NewBlob,
    *,
    by: Actor | None = None,
) -> tuple[wire.BlobReceipt, bool]:
    """Write the row of a blob that `receive` stored; tell whether it is new, or alive again.

    Raises:
        StorageUnavailableError: its bytes were deleted meanwhile, and have to be sent again.
    """
    now = transactions.now()  # not the request's: the upload may have taken hours
    try:
        return await transactions.run(
            "record_artifact",
            lambda tx: checkpoints.record_artifact(tx, federation_id, blob, now=now),
            by=by,
        )
    except ArtifactPurgedError:
        receipt = await transactions.run(
            "revive_artifact",
            lambda tx: retention.revive(tx, artifacts, federation_id, blob, now=now),
            by=by,
        )
        return receipt, True


def send(request: Request, artifacts: Artifacts, blob: Blob, *, filename: str) -> Response:
    """Return the blob as a response: whole, one range of it, or 304 when the client has it.

    A client that says it follows is sent to the store (307) where that can be addressed. One that
    asks for a checksum gets it with as much as a chunk.

    Raises:
        RangeNotSatisfiableError: the range asked for is not within the blob.
        ArtifactMissingError, StorageUnavailableError: the store does not have it, or is away.
    """
    etag = f'"{blob.digest}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, immutable",
        "Content-Disposition": f'attachment; filename="{filename}"',
    }
    if request.headers.get("if-none-match") == etag:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    start, stop = 0, blob.size
    status = HTTPStatus.OK
    wanted = request.headers.get("range")
    if (
        request.method == "GET"
        and request.headers.get(FOLLOW) == STORE
        and (redirected := _redirection(artifacts, blob, etag)) is not None
    ):
        return redirected
    if wanted is not None and request.headers.get("if-range", etag) == etag:
        start, stop = _parse_range(wanted, blob.size)
        status = HTTPStatus.PARTIAL_CONTENT
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=MEDIA_TYPE)
    # Now, while there still is a status to tell it with.
    opened = artifacts.open(
        blob.federation_id, blob.digest, read_ahead_bytes=min(READ_AHEAD_BYTES, stop - start)
    )
    reader = opened.__enter__()
    wanted = wants_checksum(request.headers.get(WANT_CONTENT_DIGEST, ""))
    if wanted and stop - start <= MOST_CHUNK_BYTES:
        try:
            headers[CONTENT_DIGEST] = _checksum(reader, start, stop)
        except BaseException:
            opened.__exit__(None, None, None)
            raise
    return StreamingResponse(
        _chunks(opened, reader, start, stop), status, headers, media_type=MEDIA_TYPE
    )


def is_news(
    request: Request, response: Response, takings: Takings, by: Principal, now: datetime
) -> bool:
    """Tell whether an answer of `send` begins to give the blob away, or says where it is."""
    if request.method == "HEAD" or response.status_code == HTTPStatus.NOT_MODIFIED:
        return False
    part = request.headers.get("range")
    return not takings.is_entered(by.token_id, request.url.path, part=part, now=now)


async def drain(request: Request) -> None:
    """Read and drop a body that is refused unread, when it is not too long."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal():
        await _drop(request.stream(), int(announced))


async def _or_drop(
    stream: AsyncIterator[bytes], announced: int, work: Awaitable[ResultT]
) -> ResultT:
    """Return what `work` returns; when it refuses the body, read and drop the rest first."""
    try:
        return await work
    except (CoreError, StorageUnavailableError):
        await _drop(stream, announced)
        raise


async def _drop(stream: AsyncIterator[bytes], announced: int) -> None:
    if announced <= MAX_DRAINED_BYTES:
        async for _ in stream:
            pass


async def _take(body: AsyncIterator[bytearray], inspector: Inspector, writer: BlobWriter) -> None:
    """Check and write the body; one chunk is worked on while the next one arrives."""

    def work(chunk: bytearray) -> None:
        inspector.feed(chunk)
        writer.write(chunk)

    working: asyncio.Task[None] | None = None
    try:
        async for chunk in body:
            if working is not None:
                await working
            working = asyncio.create_task(asyncio.to_thread(work, chunk))
    finally:
        if working is not None:
            await working


async def _body(stream: AsyncIterator[bytes]) -> AsyncIterator[bytearray]:
    """Yield what `stream` has left in pieces of at least CHUNK_BYTES, but for the last one."""
    pending = bytearray()
    async for piece in stream:
        pending += piece
        if len(pending) >= CHUNK_BYTES:
            yield pending
            pending = bytearray()
    if pending:
        yield pending


def _redirection(artifacts: Artifacts, blob: Blob, etag: str) -> Response | None:
    """Return a redirection to the store, unless it has no addresses."""
    address = artifacts.address(blob.federation_id, blob.digest, life=ADDRESS_LIFE)
    if address is None:
        return None
    if artifacts.stat(blob.federation_id, blob.digest) is None:
        raise ArtifactMissingError(f"artifact {blob.digest} is not in the store")
    headers = {"Location": address, "ETag": etag, "Cache-Control": "no-store"}
    return Response(status_code=HTTPStatus.TEMPORARY_REDIRECT, headers=headers)


def _checksum(reader: BlobReader, start: int, stop: int) -> str:
    """Return the Content-Digest of bytes [start, stop)."""
    checksum = Checksum()
    buffer = memoryview(bytearray(min(CHECKSUM_STEP_BYTES, stop - start)))
    for offset in range(start, stop, CHECKSUM_STEP_BYTES):
        piece = buffer[: min(len(buffer), stop - offset)]
        reader.read_at(piece, offset)
        checksum.update(piece)
    return checksum.field()


async def _chunks(
    opened: AbstractContextManager[BlobReader], reader: BlobReader, start: int, stop: int
) -> AsyncIterator[memoryview]:
    """Yield bytes [start, stop), then close the reader; the store is only touched from threads."""

    def read(offset: int) -> memoryview:
        # A buffer of its own for each step: the server may still be sending the one before.
        buffer = memoryview(bytearray(min(CHUNK_BYTES, stop - offset)))
        reader.read_at(buffer, offset)
        return buffer

    try:
        for offset in range(start, stop, CHUNK_BYTES):
            yield await asyncio.to_thread(read, offset)
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)


def _announced_size(request: Request) -> int:
    text = request.headers.get("content-length", "")
    if not text.isdecimal():
        raise InvalidRequestError(
            f"Content-Length is {text or 'missing'}; an upload has to announce its size in bytes"
        )
    return int(text)


def _parse_range(text: str, size: int) -> tuple[int, int]:
    """Return (start, stop) of a single range (RFC 9110, section 14.1.2)."""
    match = _RANGE.fullmatch(text.strip())
    first, last = match.groups() if match else ("", "")
    if first:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
    elif last:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = 0, 0
    if start >= stop:
        raise RangeNotSatisfiableError(
            f"Range is {text!r}; one range within the {size} bytes is wanted"
        )
    return start, stop
