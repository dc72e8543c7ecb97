"""What the artifact store promises; app/storage/filesystem.py and s3.py keep the promise.

An artifact is an immutable blob named by its SHA-256 inside one federation. Invariants:
- A name is visible only once its whole blob is durable; there are no partial blobs to see.
- A name never changes its bytes. Publishing it again is a no-op.
- The store does not hash. Callers hash what they write and check what they read.
- Memory is bounded by the chunk or the read-ahead, never by the blob, nor by their number.
- A store that is away is never taken for one without the blob: that is an error of its own.

Every call blocks. The hub makes them from a thread, one thread at a time for each writer or
reader; different ones are independent.
"""

import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from app.domain.errors import ArtifactMissingError, StorageUnavailableError
from app.storage.staging import BlobWriter
from app.storage.uploads import Uploads

CHUNK_BYTES = 2**20  # what one step of a download moves
READ_AHEAD_BYTES = 8 * 2**20  # what a remote store fetches at once
PAGE_BLOBS = 1000  # of a listing

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FEDERATION = re.compile(r"[0-9a-f]{32}")
PROBE_FEDERATION = UUID(int=0)  # no federation has it: ours are UUIDv7


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as a listing shows it."""

    federation_id: UUID
    digest: str
    size: int  # bytes
    modified_at: datetime  # by the store's clock


class BlobReader(Protocol):
    """One open blob."""

    @property
    def size(self) -> int:
        """Return the blob's length in bytes."""
        ...

    def read_at(self, buffer: memoryview, offset: int) -> None:
        """Fill the whole of `buffer` (contiguous, writable) from byte `offset` on.

        Raises:
            ValueError: the blob has fewer bytes than that.
            StorageUnavailableError: the store failed, or the stored blob has been cut short.
        """
        ...


class Artifacts(Protocol):
    """A store of immutable blobs.

    Every call that takes a digest raises ValueError if it is not 64 lower-case hex characters,
    and every call may raise StorageUnavailableError, its cause chained.
    """

    def begin(self, federation_id: UUID, *, expected_bytes: int = 0) -> BlobWriter:
        """Start a blob whose digest is told at its commit. Use it in a `with`.

        Raises:
            StorageFullError: there is no room for `expected_bytes`.
        """
        ...

    def open(
        self, federation_id: UUID, digest: str, *, read_ahead_bytes: int = READ_AHEAD_BYTES
    ) -> AbstractContextManager[BlobReader]:
        """Open a blob for positional reads, with no more than `read_ahead_bytes` buffered.

        Who keeps many blobs open at once divides its memory among them by that argument. A
        local store has the kernel's read-ahead and buffers nothing.

        Raises:
            ArtifactMissingError: there is no such blob.
        """
        ...

    def stat(self, federation_id: UUID, digest: str) -> int | None:
        """Return the blob's size in bytes, or None if there is no such blob."""
        ...

    def delete(self, federation_id: UUID, digest: str) -> None:
        """Remove the blob; a missing one is fine. Open readers of a local blob finish."""
        ...

    def pages(self) -> Iterator[list[StoredBlob]]:
        """Yield every blob of every federation, in pages, in no order.

        What is stored or deleted meanwhile may or may not be seen. What is not named like a blob
        of ours is left out.
        """
        ...

    def require_usable(self) -> None:
        """Look at the store without writing to it.

        Raises:
            StorageFullError: it can be read, and takes no more.
            StorageUnavailableError: it does not answer.
        """
        ...

    def sweep_incoming(self, now: datetime) -> int:
        """Remove what killed writers and abandoned uploads left a day or more before `now`.

        Return how many.
        """
        ...

    def address(self, federation_id: UUID, digest: str, *, life: timedelta) -> str | None:
        """Return where a client may GET the blob from the store itself; None: through the hub only.

        Whoever has the address has the blob, until it expires.
        """
        ...

    @property
    def uploads(self) -> Uploads:
        """The uploads in progress."""
        ...


def chunks(
    artifacts: Artifacts,
    federation_id: UUID,
    digest: str,
    *,
    start: int = 0,
    stop: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[bytes]:
    """Yield bytes [start, stop) of a blob; `stop` None is its end.

    Lazy: nothing is opened, so nothing raised, before the first step. Ask `stat` before
    promising a length to anyone.

    Raises:
        ArtifactMissingError: there is no such blob.
        ValueError: the range is not within the blob.
    """
    wanted = READ_AHEAD_BYTES if stop is None else min(READ_AHEAD_BYTES, max(0, stop - start))
    with artifacts.open(federation_id, digest, read_ahead_bytes=wanted) as blob:
        end = blob.size if stop is None else stop
        if not 0 <= start <= end <= blob.size:
            raise ValueError(f"bytes {start} to {end} of a blob of {blob.size} were asked for")
        # One buffer for all steps: a fresh one for each costs more than the read itself.
        buffer = memoryview(bytearray(min(chunk_bytes, end - start)))
        for offset in range(start, end, chunk_bytes):
            filled = buffer[: min(chunk_bytes, end - offset)]
            blob.read_at(filled, offset)
            yield bytes(filled)


def probe(artifacts: Artifacts) -> None:
    """Write, read back and delete a tiny blob.

    Raises:
        StorageUnavailableError: one of these failed; the message says which.
    """
    content = secrets.token_bytes(32)  # its own digest, so that probes do not meet
    digest = hashlib.sha256(content).hexdigest()
    with artifacts.begin(PROBE_FEDERATION) as writer:
        writer.write(content)
        writer.commit(digest)
    try:
        seen = b"".join(chunks(artifacts, PROBE_FEDERATION, digest))
    except ArtifactMissingError as error:
        raise StorageUnavailableError(
            "the artifact store does not show a blob just written to it"
        ) from error
    artifacts.delete(PROBE_FEDERATION, digest)
    if seen != content:
        raise StorageUnavailableError("the artifact store gave back other bytes than it was given")


def blob_key(federation_id: UUID, digest: str) -> str:
    """Return the relative path of a blob.

    Raises:
        ValueError: the digest is not one. Nothing else may become part of a path.
    """
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"digest {digest[:80]!r} is not 64 lower-case hex characters")
    return f"{federation_id.hex}/{digest[:2]}/{digest}"


def blob_of_key(key: str) -> tuple[UUID, str] | None:
    """Return the federation and the digest of a blob's relative path; None for any other path."""
    federation, _, digest = key.partition("/")
    digest = digest.rpartition("/")[2]
    if not _FEDERATION.fullmatch(federation) or not _DIGEST.fullmatch(digest):
        return None
    federation_id = UUID(federation)
    return (federation_id, digest) if key == blob_key(federation_id, digest) else None


def require_within(size: int, buffer: memoryview, offset: int) -> None:
    """Raise ValueError unless `buffer` can be filled from `offset` of a blob of `size` bytes."""
    if not 0 <= offset <= size - buffer.nbytes:
        raise ValueError(f"{buffer.nbytes} bytes at {offset} of a blob of {size} were asked for")
