"""Artifacts in a folder: <root>/<federation>/<two hex digits>/<digest>.

Bytes arrive in <root>/incoming and are hard-linked to their name after an fsync, so a name
appears whole, once, or not at all. Folders are synced too: a row may point at the blob as soon
as commit returns. All processes that share the folder run as one user: folders are 0700 and
files 0600.
"""

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from io import FileIO
from pathlib import Path
from uuid import UUID

from app.domain.errors import ArtifactMissingError, DigestMismatchError, StorageUnavailableError
from app.storage.artifacts import READ_AHEAD_BYTES, BlobReader, blob_key, require_within
from app.storage.staging import BlobWriter, disk_errors

ABANDONED_AFTER = timedelta(days=1)  # without a write; no upload pauses that long


def open_filesystem(root: Path) -> "FilesystemArtifacts":
    """Return the store in the folder `root`, made if need be.

    Raises:
        StorageUnavailableError: the folder cannot be made.
    """
    with disk_errors("make the artifact folder"):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / "incoming").mkdir(mode=0o700, exist_ok=True)
        _sync_folder(root)
        _sync_folder(root.parent)
    return FilesystemArtifacts(root)


@dataclass(frozen=True, slots=True)
class FilesystemArtifacts:
    """See app/storage/artifacts.py, Artifacts."""

    root: Path  # absolute
    # Folders whose own names this process has synced: they stay, so once is enough.
    _settled: set[Path] = field(default_factory=set[Path], repr=False, compare=False)

    def begin(self, federation_id: UUID) -> BlobWriter:
        """Start a blob in `incoming`, which is in the file system of the final place."""
        incoming = self.root / "incoming"
        with disk_errors("begin a blob", incoming):
            handle, name = tempfile.mkstemp(dir=incoming, prefix=f"{federation_id.hex}-")
        return BlobWriter(
            FileIO(handle, "r+"),
            incoming,
            publish=partial(self._publish, federation_id, name),
            discard=partial(Path(name).unlink, missing_ok=True),
        )

    @contextmanager
    def open(
        self,
        federation_id: UUID,
        digest: str,
        *,
        read_ahead_bytes: int = READ_AHEAD_BYTES,  # unused: the kernel reads ahead
    ) -> Generator[BlobReader]:
        """Open a blob. Reads are preads: no mapping, so resident memory stays flat."""
        path = self.root / blob_key(federation_id, digest)
        with disk_errors("open a blob"):
            try:
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise ArtifactMissingError(
                    f"artifact {digest} is not stored in federation {federation_id}"
                ) from None
        try:
            yield _FileReader(handle, digest, size=os.fstat(handle).st_size)
        finally:
            os.close(handle)

    def stat(self, federation_id: UUID, digest: str) -> int | None:
        """Return the blob's size in bytes, or None."""
        path = self.root / blob_key(federation_id, digest)
        with disk_errors("look for a blob"):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                return None

    def delete(self, federation_id: UUID, digest: str) -> None:
        """Remove the blob. Its folders stay: a commit may be about to use them."""
        path = self.root / blob_key(federation_id, digest)
        with disk_errors("delete a blob"):
            path.unlink(missing_ok=True)

    def sweep_incoming(self, now: datetime) -> int:
        """Remove temporary files that nobody has written to for a day; return how many."""
        removed = 0
        oldest = (now - ABANDONED_AFTER).timestamp()
        with disk_errors("sweep temporary files"):
            for path in (self.root / "incoming").iterdir():
                try:
                    if path.stat().st_mtime < oldest:
                        path.unlink()
                        removed += 1
                except FileNotFoundError:
                    continue  # its writer finished, or another sweep took it
        return removed

    def _publish(self, federation_id: UUID, name: str, file: FileIO, digest: str) -> None:
        path = self.root / blob_key(federation_id, digest)
        os.fsync(file.fileno())
        path.parent.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            os.link(name, path)
        except FileExistsError:
            stored, given = path.stat().st_size, os.fstat(file.fileno()).st_size
            if stored != given:
                raise DigestMismatchError(
                    f"artifact {digest} is stored with {stored} bytes, not these {given}"
                ) from None
        # Also when another writer made the link or a folder: it may not have synced them yet.
        _sync_folder(path.parent)
        if path.parent not in self._settled:
            _sync_folder(path.parent.parent)
            _sync_folder(self.root)
            self._settled.add(path.parent)


@dataclass(frozen=True, slots=True)
class _FileReader:
    handle: int
    digest: str
    size: int  # bytes

    def read_at(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` from byte `offset`; see BlobReader."""
        require_within(self.size, buffer, offset)
        rest = buffer.cast("B")
        with disk_errors("read a blob"):
            while rest.nbytes:
                count = os.preadv(self.handle, [rest], offset)
                if count == 0:
                    raise StorageUnavailableError(
                        f"artifact {self.digest} ends at byte {offset} of {self.size}"
                    )
                rest = rest[count:]
                offset += count


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
