"""A blob under construction: a private local file that becomes visible at its commit.

Both stores stage on local disk, because a blob has no name until its last byte is hashed, and
because an upload that a site breaks off must leave nothing behind in a bucket.
"""

import errno
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

from app.domain.errors import StorageFullError, StorageUnavailableError
from app.storage.writeback import begin_writeback

CHECK_ROOM_BYTES = 64 * 2**20  # written between two looks at what is free
WRITEBACK_BYTES = 4 * 2**20  # written before they are sent on to the disk

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class BlobWriter:
    """Takes a blob's bytes in order, then publishes or forgets them. Aborts unless committed."""

    __slots__ = (
        *("_checked", "_discard", "_file", "_folder", "_min_free", "_publish", "_sent_on"),
        "size",
    )

    def __init__(
        self,
        file: FileIO,
        folder: Path,
        publish: Callable[[FileIO, str], None],
        discard: Callable[[], None] = lambda: None,
        *,
        min_free_bytes: int = 0,
    ) -> None:
        """Write into the empty `file`, which lies in `folder`.

        `publish` makes the whole file durable and visible under a digest; `discard` removes the
        file, and runs once, after it is closed. Writing stops when less than `min_free_bytes` are
        left on the disk.
        """
        self._file = file
        self._folder = folder
        self._publish = publish
        self._discard = discard
        self._min_free = min_free_bytes
        self._checked = 0  # bytes written when we last looked at what is free
        self._sent_on = 0  # bytes on their way to the disk
        self.size = 0  # bytes written so far

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append `chunk`. It goes straight to the file: give it by the MiB, not by the packet.

        Raises:
            StorageFullError: the disk is full, or nearly so.
            StorageUnavailableError: the disk failed. Only abort is left then, and after the other.
        """
        if self.size - self._checked >= CHECK_ROOM_BYTES:
            self._checked = self.size
            require_room(self._folder, 0, min_free_bytes=self._min_free)
        rest = memoryview(chunk).cast("B")
        with disk_errors("write a blob", self._folder):
            while rest.nbytes:
                written = self._file.write(rest)
                self.size += written
                rest = rest[written:]
        if self.size - self._sent_on >= WRITEBACK_BYTES:
            begin_writeback(self._file.fileno(), self._sent_on, self.size - self._sent_on)
            self._sent_on = self.size

    def commit(self, digest: str) -> None:
        """Publish the blob under `digest`, durable on return; a no-op if it is there already.

        The digest is trusted: the caller has hashed what it wrote.

        Raises:
            ValueError: `digest` is not one, or the writer is closed.
            DigestMismatchError: a blob of another size is stored under this digest.
            StorageUnavailableError: the blob could not be stored, and is not visible.
        """
        with disk_errors("publish a blob", self._folder):
            self._publish(self._file, digest)
        self.abort()

    def abort(self) -> None:
        """Forget what is not committed. Repeatable."""
        if not self._file.closed:
            with disk_errors("remove a temporary file"):
                try:
                    self._file.close()
                finally:
                    self._discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()


def require_room(folder: Path, size: int, *, min_free_bytes: int) -> None:
    """Raise StorageFullError unless `size` bytes may be written and `min_free_bytes` stay free.

    What shares the disk, a database above all, lives on what stays free.
    """
    if min_free_bytes == 0:
        return
    with disk_errors("tell what is free", folder):
        free = shutil.disk_usage(folder).free
    if free - size < min_free_bytes:
        raise StorageFullError(
            f"the hub's disk has {free} bytes free; for {size} more, {min_free_bytes} have to stay"
        )


@contextmanager
def disk_errors(action: str, written_folder: Path | None = None) -> Generator[None]:
    """Turn an OSError of the local disk into StorageUnavailableError; a full disk has its own."""
    try:
        yield
    except OSError as error:
        # No path in the message: sites read it. The cause names the file, for the log.
        reason = os.strerror(error.errno) if error.errno else str(error)
        kind = StorageFullError if error.errno in _FULL else StorageUnavailableError
        if error.errno in _FULL and written_folder is not None:
            reason += f", {shutil.disk_usage(written_folder).free} bytes are free"
        raise kind(f"the hub's disk could not {action}: {reason}") from error
