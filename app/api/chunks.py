"""Chunks of uploads as requests: their bytes in bounded memory, checked before they are stored.

A chunk is stored whole or not at all, so it is held until its last byte is there: in memory as
long as all chunks on their way fit into MEMORY_BYTES, else in a temporary file without a name. A
slow site thus keeps nobody waiting, and many fast ones cost no more memory than that.
"""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from fastapi import Request

from app.api import blobs
from app.domain.errors import ChunkDamagedError, DomainError, InvalidRequestError
from app.services.upload_terms import Terms
from app.services.uploads import Desk
from app.storage.staging import disk_errors
from app.storage.uploads import Piece, UploadKey
from hansa_core.chunks import CONTENT_DIGEST, SHUFFLED, Checksum, ChunkPlan
from hansa_core.codecs import shuffle
from hansa_core.problems import ChunkError, CoreError

MEMORY_BYTES = 64 * 2**20  # of chunks on their way, in this process
SPILL_BYTES = 256 * 2**10  # of a chunk that goes to a file, before it does

ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class Budget:
    """Bytes of memory for chunks on their way. For one event loop."""

    left: int = MEMORY_BYTES

    def take(self, size: int) -> bool:
        """Take `size` bytes if there are so many."""
        if size > self.left:
            return False
        self.left -= size
        return True


CONTENT_ENCODING = "content-encoding"

_budget = Budget()  # the process's: its memory is one, whatever applications it runs


async def put_chunk(
    request: Request,
    desk: Desk,
    key: UploadKey,
    index: int,
    terms: Callable[[], Awaitable[Terms]],
    proof: UUID | None = None,
) -> None:
    """Store the request's body as chunk `index`, after asking for the terms.

    Raises:
        ChunkDamagedError: its checksum is missing, or another one.
        InvalidRequestError: there is no such chunk, or it has another length.
        DomainError: the terms are refused, the upload is not open, or the store fails.
    """
    plan = await _or_drain(request, _plan(desk, key, terms, proof))
    await _or_drain(request, _require_length(request, plan, index))
    async with _received(request, f"chunk {index}") as body:
        if CONTENT_ENCODING not in request.headers:
            await desk.store(key, index, body.pieces())
            return
        async with desk.decoding:  # so many chunks are in memory twice, and no more
            try:
                decoded = await asyncio.to_thread(body.decoded, plan.length(index))
            except CoreError as error:
                raise InvalidRequestError(f"chunk {index}: {error}") from error
            await desk.store(key, index, [decoded])


async def _plan(
    desk: Desk, key: UploadKey, terms: Callable[[], Awaitable[Terms]], proof: UUID | None
) -> ChunkPlan:
    return await desk.plan(key, await terms(), proof)


async def _require_length(request: Request, plan: ChunkPlan, index: int) -> None:
    try:
        wanted = plan.length(index)
    except ChunkError as error:
        raise InvalidRequestError(str(error)) from error
    announced = request.headers.get("content-length", "missing")
    encoding = request.headers.get(CONTENT_ENCODING)
    if encoding is None:
        fits = announced == str(wanted)
    elif encoding == SHUFFLED:
        fits = announced.isdecimal() and 0 < int(announced[:20]) < wanted
    else:
        raise InvalidRequestError(
            f"Content-Encoding of chunk {index} is {encoding[:40]!r}, wanted {SHUFFLED} or none"
        )
    if not fits:
        raise InvalidRequestError(
            f"Content-Length of chunk {index} is {announced[:40]}, wanted {wanted}"
            + (", or fewer as it is encoded" if encoding else "")
        )


async def _or_drain(request: Request, work: Awaitable[ResultT]) -> ResultT:
    """Return what `work` returns; when it refuses the chunk, read and drop the body first."""
    try:
        return await work
    except DomainError:
        await blobs.drain(request)
        raise


@dataclass(slots=True)
class _Body:
    """A chunk's bytes: those in `file` first, then `tail`."""

    tail: list[bytes] = field(default_factory=list[bytes])
    file: FileIO | None = None

    def pieces(self) -> Iterator[Piece]:
        """Yield the bytes in order. For a thread: it may read the file."""
        if self.file is not None:
            self.file.seek(0)
            while piece := self.file.read(SPILL_BYTES):
                yield piece
        yield from self.tail

    def decoded(self, size: int) -> bytes:
        """Return the chunk of `size` bytes that the body is an encoding of. Raises CoreError."""
        return shuffle.decompress(b"".join(self.pieces()), size=size)

    def spill(self) -> None:
        """Write what is in memory to the file. For a thread."""
        folder = Path(tempfile.gettempdir())
        with disk_errors("hold a chunk", folder):
            if self.file is None:
                made = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 -- closed
                self.file = made
            for piece in self.tail:
                self.file.write(piece)
        self.tail = []


@asynccontextmanager
async def _received(request: Request, what: str) -> AsyncGenerator[_Body]:
    """Give the whole body of a request, whose length was checked. Raises ChunkDamagedError."""
    size = int(request.headers["content-length"])
    fits = _budget.take(size)
    body = _Body()
    checksum = Checksum()
    try:
        held = 0  # bytes in memory
        async for piece in request.stream():
            checksum.update(piece)
            body.tail.append(piece)
            held += len(piece)
            if not fits and held >= SPILL_BYTES:
                await asyncio.to_thread(body.spill)
                held = 0
        try:
            checksum.require(request.headers.get(CONTENT_DIGEST, ""), what)
        except ChunkError as error:
            raise ChunkDamagedError(str(error)) from error
        yield body
    finally:
        if fits:
            _budget.left += size
        if body.file is not None:
            body.file.close()
