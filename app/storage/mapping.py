"""The bytes of one open file: read into a buffer, or looked at where the page cache has them.

Looking spares the copy, which takes longer than adding the numbers up. A mapped page that cannot be
had kills the process with SIGBUS, where a read gives an error. So a view is made only of pages that
are there: MADV_POPULATE_READ (Linux 5.14) fetches and maps all of them, and fails with an error
where touching one would have been a SIGBUS: a failing disk, a file that was cut short. Such a view
is read into memory instead, and the read says what is wrong. What is left are pages that memory
pressure takes away again within the milliseconds for which a view lives and that cannot be read
back, and someone who cuts the file short just then. Blobs are immutable: the store links and
unlinks whole files, and unlinking takes no page from who has the file open. A worker that dies
all the same loses its lease and no more.
"""

import mmap
import os
from dataclasses import dataclass

from app.domain.errors import StorageUnavailableError
from app.storage.artifacts import require_within
from app.storage.staging import disk_errors

_POPULATE_READ = 22  # MADV_POPULATE_READ: Python has no name for it before 3.14


@dataclass(frozen=True, slots=True)
class FileBytes:
    """A ReadAt and a ViewAt (hansa_core.tensors) over one immutable blob."""

    handle: int
    digest: str
    size: int  # bytes

    def __call__(self, buffer: memoryview, offset: int) -> None:
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

    def view(self, offset: int, size: int) -> memoryview:
        """Return bytes that stay mapped, and resident, for as long as the view lives.

        Errors are those of reading.
        """
        if not 0 <= offset <= self.size - size:
            raise ValueError(f"{size} bytes at {offset} of a blob of {self.size} were asked for")
        mapped = _mapped(self.handle, offset, size) if size else None
        if mapped is not None:
            return mapped
        space = memoryview(bytearray(size))
        self(space, offset)
        return space.toreadonly()


def _mapped(handle: int, offset: int, size: int) -> memoryview | None:
    """Map bytes of a file, all of them there; None where that cannot be had."""
    if not hasattr(mmap, "MADV_DONTNEED"):  # no madvise at all
        return None
    before = offset % mmap.ALLOCATIONGRANULARITY
    try:
        area = mmap.mmap(
            handle, before + size, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset - before
        )
        area.madvise(_POPULATE_READ)
    except (OSError, ValueError):  # ValueError: the file is shorter than that
        return None
    return memoryview(area)[before:]
