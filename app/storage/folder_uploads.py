"""Uploads in a folder: <root>/incoming/<federation>/<owner>/<upload>/{data,chunks}.

`data` has the file's size from the start, a hole where nothing came yet; `chunks` says how it is
cut, then has one byte for every chunk, 1 once the chunk's bytes are in `data`. Both appear
together, by the rename of a whole folder. Beside the folder `<upload>.done` is the mark of an
upload that ended well.

Who writes a chunk holds the lock of `chunks` while he looks at its byte, writes the data and sets
the byte; who removes an upload holds it too. A process that dies lets go. So no two writers meet
in a chunk, and once all bytes are 1 nobody opens `data` for writing any more: it may become an
artifact as it is, without a copy. Bytes set and data lost, by a power cut, are found by the hash.
"""

import fcntl
import os
import shutil
import struct
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Protocol, Self

from app.domain.errors import (
    StorageUnavailableError,
    TooManyUploadsError,
    UploadIncompleteError,
)
from app.storage.staging import disk_errors, require_room
from app.storage.uploads import (
    ABANDONED_AFTER,
    BUSY,
    FOLDER,
    MAX_OPEN,
    Piece,
    Upload,
    UploadKey,
)
from app.storage.writeback import begin_writeback
from hansa_core.chunks import ChunkPlan

READ_BYTES = 2**18  # at once, when an upload is checked: stays in the processor's cache
BATCH_PIECES = 512  # written by one call: half of what the kernel takes

_HEAD = struct.Struct("<8sQQ")  # magic, size, chunk_bytes
_MAGIC = b"hansaup1"
_NEW = ".new-"  # how the names of folders in the making start
_GONE = ".gone-"  # and of those being removed
_DONE = ".done"


class Publish(Protocol):
    """Makes the file at a path, open for reading, the artifact of a digest."""

    def __call__(self, key: UploadKey, path: str, file: FileIO, digest: str) -> None: ...


@dataclass(frozen=True, slots=True)
class FolderUploads:
    """See app/storage/uploads.py, Uploads."""

    root: Path  # the store's
    publish: Publish
    min_free_bytes: int = 0

    def open(self, key: UploadKey, plan: ChunkPlan, *, now: datetime) -> Upload:
        """Open the folder of the upload, or make it."""
        require_room(self.root / FOLDER, plan.size, min_free_bytes=self.min_free_bytes)
        while True:
            found = self.find(key)
            if found is None:
                self._make_room_for_another(key, now)
                self._create(key, plan)
            elif found.plan.size != plan.size:
                found.discard()
            else:
                return found

    def find(self, key: UploadKey) -> Upload | None:
        """Open the folder of the upload, if it is there."""
        path = self._path(key)
        with disk_errors("look for an upload"):
            try:
                with (path / "chunks").open("rb", buffering=0) as file:
                    head = file.read(_HEAD.size)
            except FileNotFoundError:
                self._require_there()
                return None
        if len(head) != _HEAD.size or head[:8] != _MAGIC:
            self._remove(path)  # torn by a power cut
            return None
        _, size, chunk_bytes = _HEAD.unpack(head)
        return _FolderUpload(self, key, path, ChunkPlan(size, chunk_bytes))

    def is_settled(self, key: UploadKey) -> bool:
        """Look for the mark."""
        return self.mark(key).exists()

    def forget_settled(self, key: UploadKey) -> None:
        """Remove the mark."""
        with disk_errors("remove an upload's mark"):
            self.mark(key).unlink(missing_ok=True)

    def sweep(self, now: datetime) -> int:
        """Remove what rests, and owners' folders with nothing in them."""
        oldest = now - ABANDONED_AFTER
        removed = 0
        for federation in _folders(self.root / FOLDER):
            for owner in _folders(federation):
                for path in _listed(owner):
                    touched = _touched_at(path)
                    if touched is None or touched >= oldest:
                        continue
                    if path.is_dir():
                        removed += self._remove(path, not_since=oldest)
                    else:
                        with disk_errors("sweep uploads"):
                            path.unlink(missing_ok=True)
                            removed += 1
                _drop_empty(owner)
            _drop_empty(federation)
        return removed

    def mark(self, key: UploadKey) -> Path:
        """Return where the mark of an upload that ended lies."""
        path = self._path(key)
        return path.with_name(path.name + _DONE)

    def _path(self, key: UploadKey) -> Path:
        return self.root / key.folder / key.name

    def _require_there(self) -> None:
        if not (self.root / FOLDER).is_dir():
            raise StorageUnavailableError("the artifact folder is away: renamed, or not mounted")

    def _make_room_for_another(self, key: UploadKey, now: datetime) -> None:
        """Remove the owner's longest resting upload when there are too many."""
        found = [path for path in _folders(self.root / key.folder) if path.name[0] != "."]
        if len(found) < MAX_OPEN:
            return
        oldest = min(found, key=lambda path: _touched_at(path) or now)
        touched = _touched_at(oldest) or now
        if touched > now - BUSY or not self._remove(oldest, not_since=now - BUSY):
            raise TooManyUploadsError(
                f"{len(found)} uploads of yours are in progress, {MAX_OPEN} are allowed; "
                "complete one of them first"
            )

    def _create(self, key: UploadKey, plan: ChunkPlan) -> None:
        """Make the folder; a no-op where somebody else just did."""
        owner = self.root / key.folder
        with disk_errors("begin an upload", self.root / FOLDER):
            owner.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(dir=owner, prefix=_NEW))
            try:
                _write_new(made / "data", b"", plan.size)
                head = _HEAD.pack(_MAGIC, plan.size, plan.chunk_bytes)
                _write_new(made / "chunks", head, _HEAD.size + plan.count)
                with suppress(OSError):  # not empty: it is there, and will be found
                    made.rename(self._path(key))
                    return
            finally:
                shutil.rmtree(made, ignore_errors=True)
        if not self._path(key).is_dir():
            raise StorageUnavailableError("the hub's disk could not begin an upload")

    def _remove(self, path: Path, *, not_since: datetime | None = None) -> bool:
        """Remove an upload that nobody writes to; False if it came further `not_since`."""
        with (
            disk_errors("remove an upload"),
            suppress(FileNotFoundError),
            (path / "chunks").open("rb", buffering=0) as file,
        ):
            fcntl.flock(file, fcntl.LOCK_EX)
            touched = _touched_at(path)
            if not_since is not None and touched is not None and touched >= not_since:
                return False
            if not _is_at(file.fileno(), path / "chunks"):
                return True  # by somebody else
            gone = Path(tempfile.mkdtemp(dir=path.parent, prefix=_GONE))
            path.rename(gone)  # onto the empty one
            shutil.rmtree(gone)
            return True
        shutil.rmtree(path, ignore_errors=True)  # no chunks: what a power cut or a kill left
        return True

    def remove(self, path: Path) -> None:
        """Remove an upload's folder. Repeatable."""
        self._remove(path)


@dataclass(frozen=True, slots=True)
class _FolderUpload:
    store_of: FolderUploads
    key: UploadKey
    path: Path
    plan: ChunkPlan

    def present(self) -> bytes:
        """Read the bytes behind the head of `chunks`."""
        with self._journal() as journal:
            return os.pread(journal, self.plan.count, _HEAD.size)

    def store(self, index: int, pieces: Iterable[Piece]) -> None:
        """Write a chunk that is not there yet."""
        start, stop = self.plan.span(index)
        require_room(self.path, stop - start, min_free_bytes=self.store_of.min_free_bytes)
        with self._journal() as journal:
            fcntl.flock(journal, fcntl.LOCK_EX)
            if not _is_at(journal, self.path / "chunks"):
                raise self._gone()
            if os.pread(journal, 1, _HEAD.size + index) == b"\1":
                return
            data = os.open(self.path / "data", os.O_WRONLY | os.O_CLOEXEC)
            try:
                offset = start + _write_all(data, pieces, start)
                begin_writeback(data, start, offset - start)
            finally:
                os.close(data)
            if offset != stop:
                raise ValueError(f"chunk {index} got {offset - start} bytes, wanted {stop - start}")
            os.pwrite(journal, b"\1", _HEAD.size + index)

    def addresses(self, indices: Sequence[int]) -> list[str]:
        """Return nothing: a folder has no addresses."""
        del indices
        return []

    def reader(self) -> "_FolderReader":
        """Open `data`."""
        with disk_errors("read an upload"):
            try:
                file = FileIO(self.path / "data", "r")
            except FileNotFoundError:
                raise self._gone() from None
        path = str(self.path / "data")
        return _FolderReader(file, self.plan, partial(self.store_of.publish, self.key, path))

    def settle(self) -> None:
        """Leave the mark, then remove the folder."""
        with disk_errors("end an upload", self.path.parent):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.store_of.mark(self.key).touch(mode=0o600)
        self.discard()

    def discard(self) -> None:
        """Remove the folder."""
        self.store_of.remove(self.path)

    @contextmanager
    def _journal(self) -> Generator[int]:
        with disk_errors("use an upload", self.path.parent):
            try:
                journal = os.open(self.path / "chunks", os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                raise self._gone() from None
            try:
                yield journal
            finally:
                os.close(journal)

    def _gone(self) -> UploadIncompleteError:
        return UploadIncompleteError(
            f"no upload of {self.key.digest} is in progress here any more; open it again"
        )


class _FolderReader:
    """See app/storage/uploads.py, ChunkReader."""

    def __init__(self, file: FileIO, plan: ChunkPlan, publish: "partial[None]") -> None:
        self._file = file
        self._plan = plan
        self._publish = publish
        self._buffer = memoryview(bytearray(min(READ_BYTES, plan.chunk_bytes)))

    def take(self, index: int) -> Iterator[memoryview]:
        """Read a chunk."""
        start, stop = self._plan.span(index)
        for offset in range(start, stop, len(self._buffer)):
            piece = self._buffer[: min(len(self._buffer), stop - offset)]
            with disk_errors("read an upload"):
                got = os.preadv(self._file.fileno(), [piece], offset)
            if got != len(piece):
                raise StorageUnavailableError(
                    f"an upload of {self._plan.size} bytes gave {got} of {len(piece)} at {offset}"
                )
            yield piece

    def publish(self, digest: str) -> None:
        """Give `data` its name as an artifact."""
        with disk_errors("publish an upload"):
            os.utime(self._file.fileno())  # new, to whoever looks for orphans
            try:
                self._publish(self._file, digest)
            except FileNotFoundError:
                raise UploadIncompleteError(
                    f"the upload of {digest} is no longer in progress: another process ended it"
                ) from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _write_new(path: Path, head: bytes, size: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, head)
        os.ftruncate(handle, size)
    finally:
        os.close(handle)


def _write_all(handle: int, pieces: Iterable[Piece], offset: int) -> int:
    """Write pieces from `offset` on, many in one call; return how many bytes that were."""
    source = iter(pieces)
    total = 0
    while batch := [memoryview(piece).cast("B") for piece in islice(source, BATCH_PIECES)]:
        while batch:
            written = os.pwritev(handle, batch, offset + total)
            total += written
            while batch and written >= batch[0].nbytes:
                written -= batch.pop(0).nbytes
            if batch:
                batch[0] = batch[0][written:]
    return total


def _is_at(handle: int, path: Path) -> bool:
    """Return whether the open file still is the one at `path`."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


def _folders(folder: Path) -> list[Path]:
    return [path for path in _listed(folder) if path.is_dir()]


def _listed(folder: Path) -> list[Path]:
    with disk_errors("list uploads"):
        try:
            return list(folder.iterdir())
        except FileNotFoundError:
            return []


def _touched_at(path: Path) -> datetime | None:
    """Return when an upload came further, a mark was made, or a folder changed; None if gone."""
    with disk_errors("look at an upload"):
        for looked_at in (path / "chunks", path):
            with suppress(FileNotFoundError, NotADirectoryError):
                return datetime.fromtimestamp(looked_at.stat().st_mtime, UTC)
    return None


def _drop_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty; or somebody begins an upload: his mkdir comes again
        folder.rmdir()
