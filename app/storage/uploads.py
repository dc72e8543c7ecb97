"""What a store promises of uploads in chunks; folder_uploads.py and s3_uploads.py keep it.

An upload belongs to one owner, who announced its digest and size. Its state lies in the store
alone, so a killed hub forgets nothing and every replica sees the same. Invariants:
- What was read of an upload to check it is what is published, whatever its owner sends meanwhile.
- An upload is found by its owner only: nobody learns from it what others have stored.
- `publish` leaves the upload as it is, so that a hub killed before the artifact's row is written
  can do it again; `settle` ends it and leaves a mark that says so, for a day.

Every call blocks, and every one may raise StorageUnavailableError. Calls may come from any thread
and any process at once; only a ChunkReader is for one thread at a time.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, Self
from uuid import UUID

from hansa_core.chunks import ChunkPlan

ABANDONED_AFTER = timedelta(days=1)  # without a write; no upload pauses that long
MAX_OPEN = 8  # uploads in progress of one owner
BUSY = timedelta(minutes=10)  # an upload that came further within them is in use
FOLDER = "incoming"  # of a store: what is no artifact yet

Piece = bytes | bytearray | memoryview

_LABEL = re.compile(r"[0-9a-z-]{0,80}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class UploadKey:
    """Whose upload of what. Raises ValueError for what may not be part of a path."""

    federation_id: UUID
    owner: str  # "site-..." or "user-..."
    label: str  # what the owner uploads it for; one owner may upload the same for several things
    digest: str

    def __post_init__(self) -> None:
        for text in (self.owner, self.label):
            if not _LABEL.fullmatch(text):
                raise ValueError(f"{text[:80]!r} cannot name an upload")
        if not self.owner or not _DIGEST.fullmatch(self.digest):
            raise ValueError(f"owner {self.owner!r} or digest {self.digest[:80]!r} is malformed")

    @property
    def folder(self) -> str:
        """The relative path of everything that the owner uploads."""
        return f"{FOLDER}/{self.federation_id.hex}/{self.owner}"

    @property
    def name(self) -> str:
        """The upload's name in that folder."""
        return f"{self.label}-{self.digest}" if self.label else self.digest


class ChunkReader(Protocol):
    """Reads an upload's chunks in order, each once, and publishes what it has read."""

    def take(self, index: int) -> Iterator[memoryview]:
        """Yield the bytes of the next chunk, which is there, in pieces good until the next one.

        Raises:
            UploadIncompleteError: it is not there any more.
        """
        ...

    def publish(self, digest: str) -> None:
        """Make the bytes, all taken and checked, the artifact `digest`, durable on return.

        Raises:
            DigestMismatchError: an artifact of another size is stored under this digest.
            UploadIncompleteError: the upload is gone: another process ended it.
        """
        ...

    def close(self) -> None:
        """Free what the reader holds. Repeatable."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Upload(Protocol):
    """One upload in progress."""

    @property
    def plan(self) -> ChunkPlan:
        """How the file is cut."""
        ...

    def present(self) -> bytes:
        """Return one byte for every chunk, 1 where it is there, by the newest state.

        Raises:
            UploadIncompleteError: the upload is gone.
        """
        ...

    def store(self, index: int, pieces: Iterable[Piece]) -> None:
        """Store a chunk; a no-op where it is there already. `pieces` have its exact length.

        Raises:
            UploadIncompleteError: the upload is gone.
            StorageFullError: there is no room for it.
        """
        ...

    def addresses(self, indices: Sequence[int]) -> list[str]:
        """Return where clients can PUT these chunks themselves; nothing where they cannot."""
        ...

    def reader(self) -> ChunkReader:
        """Return a reader at the first chunk."""
        ...

    def settle(self) -> None:
        """End an upload whose artifact is recorded, and leave a mark. Repeatable."""
        ...

    def discard(self) -> None:
        """Forget the upload. Repeatable."""
        ...


class Uploads(Protocol):
    """A store's uploads in progress."""

    def open(self, key: UploadKey, plan: ChunkPlan, *, now: datetime) -> Upload:
        """Return the upload in progress, else a new one, cut as `plan` says.

        One in progress keeps its chunks' length; one of another size is forgotten. Of an owner
        with MAX_OPEN of them the one that rests longest is forgotten.

        Raises:
            TooManyUploadsError: none of those rests.
            StorageFullError: there is no room.
        """
        ...

    def find(self, key: UploadKey) -> Upload | None:
        """Return the upload if it is in progress."""
        ...

    def is_settled(self, key: UploadKey) -> bool:
        """Return whether this owner's upload was ended by `settle` a short while ago."""
        ...

    def forget_settled(self, key: UploadKey) -> None:
        """Remove the mark that `settle` left: its artifact is no more. Repeatable."""
        ...

    def sweep(self, now: datetime) -> int:
        """Remove uploads and marks untouched for ABANDONED_AFTER; return how many."""
        ...
