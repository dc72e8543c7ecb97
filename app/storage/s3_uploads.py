"""Uploads in a bucket: one object a chunk, so that a client may PUT it by itself.

    incoming/<federation>/<owner>/<upload>/a-<size>-<chunk bytes>   empty: how the file is cut
    incoming/<federation>/<owner>/<upload>/c<index>                 a chunk
    incoming/<federation>/<owner>/<upload>.done                     empty: it ended well

The listing is the state. An object may be replaced while it is read, by whoever has a signed
address, so a chunk is staged on local disk in the same pass that hands it out to be checked, and
what was staged is what is published. A signed address does not bound what is put there: an
object of another length does not count as the chunk, and is removed with the upload.
"""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

import obstore
from obstore.store import S3Store

from app.domain.errors import TooManyUploadsError, UploadIncompleteError
from app.storage.buckets import bucket_errors
from app.storage.staging import BlobWriter
from app.storage.uploads import (
    ABANDONED_AFTER,
    BUSY,
    FOLDER,
    MAX_OPEN,
    Piece,
    Upload,
    UploadKey,
)
from hansa_core.chunks import ChunkPlan

ADDRESS_LIFE = timedelta(hours=1)  # of a signed address
READ_BYTES = 2**20  # at once, when an upload is checked

_DONE = ".done"


@dataclass(frozen=True, slots=True)
class S3Uploads:
    """See app/storage/uploads.py, Uploads."""

    store: S3Store
    begin: Callable[[UUID], BlobWriter]  # a blob, staged on local disk
    signer: S3Store | None  # the same bucket as clients reach it; None: they may not

    def open(self, key: UploadKey, plan: ChunkPlan, *, now: datetime) -> Upload:
        """Find the upload, or put the object that begins one."""
        found = self.find(key)
        if found is not None and found.plan.size != plan.size:
            found.discard()
            found = None
        if found is not None:
            return found
        self._make_room_for_another(key, now)
        begun = f"{key.folder}/{key.name}/a-{plan.size}-{plan.chunk_bytes}"
        with bucket_errors("begin an upload"):
            obstore.put(self.store, begun, b"")
        return self.find(key) or _S3Upload(self, key, plan)

    def find(self, key: UploadKey) -> Upload | None:
        """Look for the object that begins an upload: it is listed before all chunks."""
        for path, _, _ in self.listed(f"{key.folder}/{key.name}", at_once=1):
            plan = _plan_of(path)
            return None if plan is None else _S3Upload(self, key, plan)
        return None

    def is_settled(self, key: UploadKey) -> bool:
        """Look for the mark."""
        with bucket_errors("look for an upload's mark"):
            try:
                obstore.head(self.store, mark_of(key))
            except FileNotFoundError:
                return False
        return True

    def forget_settled(self, key: UploadKey) -> None:
        """Remove the mark."""
        with bucket_errors("remove an upload's mark"):
            obstore.delete(self.store, mark_of(key))

    def sweep(self, now: datetime) -> int:
        """Remove the objects of uploads that rest, and old marks."""
        newest: dict[str, datetime] = {}
        objects: dict[str, list[str]] = defaultdict(list)
        for path, _, modified_at in self.listed(FOLDER):
            name = "/".join(path.split("/")[:4])
            newest[name] = max(modified_at, newest.get(name, modified_at))
            objects[name].append(path)
        resting = [name for name, at in newest.items() if at < now - ABANDONED_AFTER]
        for name in resting:
            self.delete(objects[name])
        return len(resting)

    def listed(self, folder: str, *, at_once: int = 1000) -> Iterator[tuple[str, int, datetime]]:
        """Yield (path, size in bytes, time of the last change) of the objects below a folder."""
        with bucket_errors("list uploads"):
            listing = obstore.list(self.store, prefix=folder, chunk_size=at_once)
        while True:
            with bucket_errors("list uploads"):
                objects = next(listing, None)
            if objects is None:
                return
            for found in objects:
                yield found["path"], found["size"], found["last_modified"]

    def delete(self, paths: Sequence[str]) -> None:
        """Remove objects; missing ones are fine."""
        if paths:
            with bucket_errors("remove an upload"):
                obstore.delete(self.store, list(paths))

    def _make_room_for_another(self, key: UploadKey, now: datetime) -> None:
        touched: dict[str, datetime] = {}
        for path, _, modified_at in self.listed(key.folder):
            name, slash, _ = path.removeprefix(f"{key.folder}/").partition("/")
            if slash:
                touched[name] = max(modified_at, touched.get(name, modified_at))
        if len(touched) < MAX_OPEN:
            return
        oldest = min(touched, key=lambda name: touched[name])
        if touched[oldest] > now - BUSY:
            raise TooManyUploadsError(
                f"{len(touched)} uploads of yours are in progress, {MAX_OPEN} are allowed; "
                "complete one of them first"
            )
        self.delete([path for path, _, _ in self.listed(f"{key.folder}/{oldest}")])


@dataclass(frozen=True, slots=True)
class _S3Upload:
    uploads: S3Uploads
    key: UploadKey
    plan: ChunkPlan

    def present(self) -> bytes:
        """List the chunks of the right length."""
        found = bytearray(self.plan.count)
        begun = False
        for path, size, _ in self.uploads.listed(self._folder):
            name = path.rpartition("/")[2]
            begun = begun or name.startswith("a-")
            index = int(name[1:]) if name[1:].isdecimal() else -1
            if 0 <= index < self.plan.count and size == self.plan.length(index):
                found[index] = 1
        if not begun:
            raise self._gone()
        return bytes(found)

    def store(self, index: int, pieces: Iterable[Piece]) -> None:
        """Put the chunk's object."""
        content = b"".join(pieces)
        wanted = self.plan.length(index)
        if len(content) != wanted:
            raise ValueError(f"chunk {index} got {len(content)} bytes, wanted {wanted}")
        with bucket_errors("store a chunk"):
            obstore.put(self.uploads.store, self._path(index), content, use_multipart=False)

    def addresses(self, indices: Sequence[int]) -> list[str]:
        """Sign a PUT for each chunk."""
        signer = self.uploads.signer
        if signer is None or not indices:
            return []
        paths = [self._path(index) for index in indices]
        with bucket_errors("sign an address"):
            return list(obstore.sign(signer, "PUT", paths, ADDRESS_LIFE))

    def reader(self) -> "_S3Reader":
        """Begin to stage the upload on local disk."""
        return _S3Reader(self, self.uploads.begin(self.key.federation_id))

    def settle(self) -> None:
        """Leave the mark, then remove the objects."""
        with bucket_errors("end an upload"):
            obstore.put(self.uploads.store, mark_of(self.key), b"")
        self.discard()

    def discard(self) -> None:
        """Remove the objects, the one that begins the upload first."""
        paths = [path for path, _, _ in self.uploads.listed(self._folder)]
        self.uploads.delete(paths[:1])
        self.uploads.delete(paths[1:])

    @contextmanager
    def chunk(self, index: int) -> Generator[Iterator[memoryview]]:
        """Give the bytes of a chunk's object. Raises UploadIncompleteError."""
        with bucket_errors("read a chunk"):
            try:
                got = obstore.get(self.uploads.store, self._path(index))
            except FileNotFoundError:
                raise self._gone() from None
            wanted = self.plan.length(index)
            if got.meta["size"] != wanted:
                raise UploadIncompleteError(
                    f"chunk {index} has {got.meta['size']} bytes now, wanted {wanted}: send it anew"
                )
            yield (memoryview(piece) for piece in got.stream(min_chunk_size=READ_BYTES))

    @property
    def _folder(self) -> str:
        return f"{self.key.folder}/{self.key.name}"

    def _path(self, index: int) -> str:
        return f"{self._folder}/c{index:08}"

    def _gone(self) -> UploadIncompleteError:
        return UploadIncompleteError(
            f"no upload of {self.key.digest} is in progress here any more; open it again"
        )


class _S3Reader:
    """See app/storage/uploads.py, ChunkReader."""

    def __init__(self, upload: _S3Upload, writer: BlobWriter) -> None:
        self._upload = upload
        self._writer = writer

    def take(self, index: int) -> Iterator[memoryview]:
        """Stage a chunk and hand it out."""
        with self._upload.chunk(index) as pieces:
            for piece in pieces:
                self._writer.write(piece)
                yield piece

    def publish(self, digest: str) -> None:
        """Send what was staged to its place."""
        self._writer.commit(digest)

    def close(self) -> None:
        """Forget what was staged."""
        self._writer.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def mark_of(key: UploadKey) -> str:
    """Return the path of the mark of an upload that ended."""
    return f"{key.folder}/{key.name}{_DONE}"


def _plan_of(path: str) -> ChunkPlan | None:
    kind, *numbers = path.rpartition("/")[2].split("-")
    if kind != "a" or len(numbers) != 2 or not all(map(str.isdecimal, numbers)):  # noqa: PLR2004
        return None
    return ChunkPlan(int(numbers[0]), int(numbers[1]))
