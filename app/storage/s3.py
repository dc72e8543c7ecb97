"""Artifacts in an S3 bucket, or in any store that speaks S3.

A blob is staged on local disk and sent when it is committed. A bucket cannot rename, its
server-side copy ends at 5 GiB, and a multipart upload broken off half-way keeps its parts, and
their cost, until a lifecycle rule finds them; staged, only whole blobs are ever sent. The price
is disk for the uploads in flight (in TMPDIR) and the time of the second leg at commit. A
process killed within that leg still leaves parts: give the bucket a rule that aborts incomplete
multipart uploads after a day.

Trap: the client's threads do not survive a fork, and a call in the child would wait forever.
So a process that has forked since the first call is refused: open the store in the worker's
child, and use it in no parent.
"""

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import obstore
from obstore.store import S3Store

from app.domain.errors import (
    ArtifactMissingError,
    DigestMismatchError,
    StorageUnavailableError,
)
from app.storage.artifacts import (
    PAGE_BLOBS,
    READ_AHEAD_BYTES,
    BlobReader,
    StoredBlob,
    blob_key,
    blob_of_key,
    require_within,
)
from app.storage.buckets import bucket_errors
from app.storage.s3_uploads import S3Uploads
from app.storage.staging import BlobWriter, disk_errors

if TYPE_CHECKING:
    from obstore.store import S3Config  # exists in its stubs only

PART_BYTES = 8 * 2**20  # of a multipart upload; S3 wants 5 MiB or more
PARTS = 9_000  # S3 allows 10,000
PARTS_IN_FLIGHT = 4
REQUEST_TIMEOUT = timedelta(seconds=120)  # one part or one range, at 70 kB/s or more
RETRIES = 4  # of one request, 0.1 s and then twice as long each time


def open_s3(
    bucket: str,
    *,
    prefix: str = "",
    endpoint: str = "",
    region: str = "us-east-1",
    access_key_id: str = "",
    secret_access_key: str = "",
    presign: bool = False,
    public_endpoint: str = "",
) -> "S3Artifacts":
    """Return the store in `bucket`; no request is made.

    With `presign` clients get signed addresses of single objects, at `public_endpoint` where that
    is another one than ours.

    Without an endpoint it is Amazon's, by virtual host; with one, by path, and plain HTTP only
    where the endpoint says http. Without keys, the provider's own sources are used: AWS_*
    variables, then the machine's or the pod's role.
    """

    def store_at(address: str) -> S3Store:
        config: S3Config = {
            "region": region,
            "virtual_hosted_style_request": not address,
            "disable_bulk_delete": True,  # not every store has the bulk call
        }
        if address:
            config["endpoint"] = address
        if access_key_id:
            config["access_key_id"] = access_key_id
            config["secret_access_key"] = secret_access_key
        return S3Store(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options={
                "allow_http": address.startswith("http://"),
                "timeout": REQUEST_TIMEOUT,
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=60)},
        )

    signer = store_at(public_endpoint or endpoint) if presign else None
    return S3Artifacts(store_at(endpoint), signer)


@dataclass(frozen=True, slots=True)
class S3Artifacts:
    """See app/storage/artifacts.py, Artifacts."""

    store: S3Store
    signer: S3Store | None = None  # the same bucket, as clients reach it; None: they may not

    def begin(self, federation_id: UUID, *, expected_bytes: int = 0) -> BlobWriter:
        """Start a blob in a file without a name, which the kernel frees if we are killed."""
        del expected_bytes  # the bucket does not tell what is free
        folder = Path(tempfile.gettempdir())
        with disk_errors("begin a blob", folder):
            file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 -- it has an owner
        return BlobWriter(file, folder, publish=partial(self._publish, federation_id))

    @contextmanager
    def open(
        self, federation_id: UUID, digest: str, *, read_ahead_bytes: int = READ_AHEAD_BYTES
    ) -> Generator[BlobReader]:
        """Open a blob for ranged reads."""
        size = self.stat(federation_id, digest)
        if size is None:
            self.require_usable()  # a HEAD answers 404 for a missing bucket, too
            raise ArtifactMissingError(
                f"artifact {digest} is not stored in federation {federation_id}"
            )
        yield _RangeReader(self.store, blob_key(federation_id, digest), size, read_ahead_bytes)

    def stat(self, federation_id: UUID, digest: str) -> int | None:
        """Return the blob's size in bytes, or None."""
        key = blob_key(federation_id, digest)
        with bucket_errors("look for a blob"):
            try:
                return obstore.head(self.store, key)["size"]
            except FileNotFoundError:
                return None

    def delete(self, federation_id: UUID, digest: str) -> None:
        """Remove the blob."""
        key = blob_key(federation_id, digest)
        with bucket_errors("delete a blob"):
            obstore.delete(self.store, key)

    def pages(self) -> Iterator[list[StoredBlob]]:
        """Yield the bucket's blobs, a page of its own listing at a time."""
        with bucket_errors("list blobs"):
            listing = obstore.list(self.store, chunk_size=PAGE_BLOBS)
        while True:
            with bucket_errors("list blobs"):
                objects = next(listing, None)
            if objects is None:
                return
            page: list[StoredBlob] = []
            for found in objects:
                named = blob_of_key(found["path"])
                if named is not None:
                    page.append(StoredBlob(*named, found["size"], found["last_modified"]))
            if page:
                yield page

    def require_usable(self) -> None:
        """Ask for the first page of the listing: unlike a HEAD, that tells of a missing bucket."""
        with bucket_errors("list blobs"):
            next(obstore.list(self.store, chunk_size=1), None)

    def sweep_incoming(self, now: datetime) -> int:
        """Remove uploads; the kernel frees local files, the bucket's lifecycle rule its parts."""
        return self.uploads.sweep(now)

    @property
    def uploads(self) -> S3Uploads:
        """The uploads in progress."""
        return S3Uploads(self.store, self.begin, self.signer)

    def address(self, federation_id: UUID, digest: str, *, life: timedelta) -> str | None:
        """Sign a GET of the blob's object."""
        if self.signer is None:
            return None
        with bucket_errors("sign an address"):
            return obstore.sign(self.signer, "GET", blob_key(federation_id, digest), life)

    def _publish(self, federation_id: UUID, file: FileIO, digest: str) -> None:
        key = blob_key(federation_id, digest)
        given = file.seek(0, os.SEEK_END)
        stored = self.stat(federation_id, digest)
        if stored is None:
            # Two writers may both get here. Each object appears whole, and both are the same
            # bytes, so it does not matter that the later one replaces the earlier.
            file.seek(0)
            with bucket_errors("store a blob"):
                obstore.put(
                    self.store,
                    key,
                    file,
                    chunk_size=max(PART_BYTES, -(-given // PARTS)),
                    max_concurrency=PARTS_IN_FLIGHT,
                )
        elif stored != given:
            raise DigestMismatchError(
                f"artifact {digest} is stored with {stored} bytes, not these {given}"
            )


class _RangeReader:
    """Reads ranges, each long enough to serve the small reads that follow it."""

    __slots__ = ("_buffered", "_buffered_at", "_key", "_read_ahead_bytes", "_store", "size")

    def __init__(self, store: S3Store, key: str, size: int, read_ahead_bytes: int) -> None:
        self._store = store
        self._key = key
        self._read_ahead_bytes = read_ahead_bytes
        self._buffered = memoryview(b"")
        self._buffered_at = 0  # offset of its first byte in the blob
        self.size = size  # bytes

    def read_at(self, buffer: memoryview, offset: int) -> None:
        """Fill `buffer` from byte `offset`; see BlobReader."""
        require_within(self.size, buffer, offset)
        rest = buffer.cast("B")
        while rest.nbytes:
            skipped = offset - self._buffered_at
            if not 0 <= skipped < self._buffered.nbytes:
                self._fetch(offset, at_least=rest.nbytes)
                skipped = 0
            found = self._buffered[skipped : skipped + rest.nbytes]
            rest[: found.nbytes] = found
            rest = rest[found.nbytes :]
            offset += found.nbytes

    def _fetch(self, offset: int, *, at_least: int) -> None:
        self._buffered = memoryview(b"")  # freed before the next one is made
        end = min(self.size, offset + max(at_least, self._read_ahead_bytes))
        with bucket_errors("read a blob"):
            try:
                got = obstore.get_range(self._store, self._key, start=offset, end=end)
            except FileNotFoundError:
                raise ArtifactMissingError(
                    f"artifact {self._key.rpartition('/')[2]} was deleted while it was read"
                ) from None
        if len(got) != end - offset:
            raise StorageUnavailableError(
                f"the bucket gave {len(got)} bytes at {offset}, {end - offset} were asked for"
            )
        self._buffered = memoryview(got)
        self._buffered_at = offset
