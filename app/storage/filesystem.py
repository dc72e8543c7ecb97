"""Artifacts in a folder: <root>/<federation>/<two hex digits>/<digest>.

Bytes arrive in <root>/incoming and are hard-linked to their name after an fsync, so a name
appears whole, once, or not at all. Folders are synced too: a row may point at the blob as soon
as commit returns. All processes that share the folder run as one user: folders are 0700 and
files 0600.

`incoming` is there as long as the store is: where it is missing, the folder was renamed away or
its disk is not mounted, and no blob is said to be missing. Nor is one that is opened, where the
federation has no folder: a process that starts without the disk makes an empty store in its place.
"""

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from io import FileIO
from pathlib import Path
from uuid import UUID

from app.domain.errors import ArtifactMissingError, DigestMismatchError, StorageUnavailableError
from app.storage.artifacts import (
    PAGE_BLOBS,
    READ_AHEAD_BYTES,
    BlobReader,
    StoredBlob,
    blob_key,
    blob_of_key,
)
from app.storage.folder_uploads import FolderUploads
from app.storage.mapping import FileBytes
from app.storage.staging import BlobWriter, disk_errors, require_room
from app.storage.uploads import ABANDONED_AFTER, UploadKey


def open_filesystem(root: Path, *, min_free_bytes: int = 0) -> "FilesystemArtifacts":
    """Return the store in the folder `root`, made if need be.

    It takes nothing that would leave less than `min_free_bytes` on its disk.

    Raises:
        StorageUnavailableError: the folder cannot be made.
    """
    with disk_errors("make the artifact folder"):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        (root / "incoming").mkdir(mode=0o700, exist_ok=True)
        _sync_folder(root)
        _sync_folder(root.parent)
    return FilesystemArtifacts(root, min_free_bytes)


@dataclass(frozen=True, slots=True)
class FilesystemArtifacts:
    """See app/storage/artifacts.py, Artifacts."""

    root: Path  # absolute
    min_free_bytes: int = 0  # on the disk of `root`
    # Folders whose own names this process has synced: they stay, so once is enough.
    _settled: set[Path] = field(default_factory=set[Path], repr=False, compare=False)

    def begin(self, federation_id: UUID, *, expected_bytes: int = 0) -> BlobWriter:
        """Start a blob in `incoming`, which is in the file system of the final place."""
        incoming = self.root / "incoming"
        self._require_there()
        require_room(incoming, expected_bytes, min_free_bytes=self.min_free_bytes)
        with disk_errors("begin a blob", incoming):
            handle, name = tempfile.mkstemp(dir=incoming, prefix=f"{federation_id.hex}-")
        return BlobWriter(
            FileIO(handle, "r+"),
            incoming,
            publish=partial(self._publish, federation_id, name),
            discard=partial(Path(name).unlink, missing_ok=True),
            min_free_bytes=self.min_free_bytes,
        )

    @contextmanager
    def open(
        self,
        federation_id: UUID,
        digest: str,
        *,
        read_ahead_bytes: int = READ_AHEAD_BYTES,  # unused: the kernel reads ahead
    ) -> Generator[BlobReader]:
        """Open a blob. Reads are preads; what is mapped goes with its view (mapping.py)."""
        handle = self._open(federation_id, digest)
        try:
            size = os.fstat(handle).st_size
            yield _FileReader(size, FileBytes(handle, digest, size))
        finally:
            os.close(handle)

    def _open(self, federation_id: UUID, digest: str) -> int:
        path = self.root / blob_key(federation_id, digest)
        with disk_errors("open a blob"):
            with suppress(FileNotFoundError):
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._require_there()
            if not (self.root / federation_id.hex).is_dir():
                raise StorageUnavailableError(
                    "the artifact folder has nothing at all of this federation: is it the "
                    "right one, and its disk mounted?"
                )
            try:  # the store may have been away at the first look and be back now
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                raise ArtifactMissingError(
                    f"artifact {digest} is not stored in federation {federation_id}"
                ) from None

    def stat(self, federation_id: UUID, digest: str) -> int | None:
        """Return the blob's size in bytes, or None."""
        path = self.root / blob_key(federation_id, digest)
        with disk_errors("look for a blob"):
            try:
                return path.stat().st_size
            except FileNotFoundError:
                self._require_there()
                return None

    def delete(self, federation_id: UUID, digest: str) -> None:
        """Remove the blob. Its folders stay: a commit may be about to use them."""
        path = self.root / blob_key(federation_id, digest)
        with disk_errors("delete a blob"):
            try:
                path.unlink()
            except FileNotFoundError:
                self._require_there()

    def pages(self) -> Iterator[list[StoredBlob]]:
        """Yield the blobs, folder by folder; of a folder, no more than a page is in memory."""
        self._require_there()
        page: list[StoredBlob] = []
        for federation in _entries(self.root):
            for folder in _entries(Path(federation.path)):
                for entry in _entries(Path(folder.path)):
                    named = blob_of_key(f"{federation.name}/{folder.name}/{entry.name}")
                    found = _described(entry) if named is not None else None
                    if named is None or found is None:
                        continue
                    modified_at = datetime.fromtimestamp(found.st_mtime, UTC)
                    page.append(StoredBlob(*named, found.st_size, modified_at))
                    if len(page) >= PAGE_BLOBS:
                        yield page
                        page = []
        if page:
            yield page

    def require_usable(self) -> None:
        """Look whether the folder is there, may be written to and has room."""
        self._require_there()
        if not os.access(self.root / "incoming", os.W_OK | os.X_OK):
            raise StorageUnavailableError("the artifact folder may not be written to")
        require_room(self.root, 0, min_free_bytes=self.min_free_bytes)

    def sweep_incoming(self, now: datetime) -> int:
        """Remove temporary files and uploads that nobody has written to for a day."""
        removed = self.uploads.sweep(now)
        oldest = (now - ABANDONED_AFTER).timestamp()
        with disk_errors("sweep temporary files"):
            for path in (self.root / "incoming").iterdir():
                try:
                    if path.is_file() and path.stat().st_mtime < oldest:
                        path.unlink()
                        removed += 1
                except FileNotFoundError:
                    continue  # its writer finished, or another sweep took it
        return removed

    @property
    def uploads(self) -> FolderUploads:
        """The uploads in progress, below `incoming` too."""
        return FolderUploads(self.root, self._publish_upload, self.min_free_bytes)

    def address(self, federation_id: UUID, digest: str, *, life: timedelta) -> str | None:
        """Return None: a folder has no address."""
        del federation_id, digest, life
        return None

    def _publish_upload(self, key: UploadKey, path: str, file: FileIO, digest: str) -> None:
        self._publish(key.federation_id, path, file, digest)

    def _require_there(self) -> None:
        if not (self.root / "incoming").is_dir():
            raise StorageUnavailableError("the artifact folder is away: renamed, or not mounted")

    def _publish(self, federation_id: UUID, name: str, file: FileIO, digest: str) -> None:
        path = self.root / blob_key(federation_id, digest)
        os.fsync(file.fileno())
        self._require_there()  # or a folder made below would hide the one that comes back
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
    """See app/storage/artifacts.py, BlobReader."""

    size: int  # bytes
    read_at: FileBytes


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield a folder's entries as they are read; nothing where it is none, or gone."""
    with disk_errors("list blobs"):
        try:
            with os.scandir(folder) as entries:
                yield from entries
        except (FileNotFoundError, NotADirectoryError):
            return


def _described(entry: os.DirEntry[str]) -> os.stat_result | None:
    with disk_errors("list blobs"):
        try:
            return entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None  # deleted meanwhile


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
