"""Local files as transfers need them: read in pieces, hashed, and checked for their length."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from hansa.errors import LocalError

READ_BYTES = 1 << 20  # per read of a file that is hashed
PIECE_BYTES = 128 << 10  # of what is handed to a socket: one write takes it whole


def digest_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 (lower-case hex) and the size in bytes of a file. Raises OSError."""
    hasher = hashlib.sha256()
    size = 0
    buffer = memoryview(bytearray(READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(buffer[:count])
            size += count
    return hasher.hexdigest(), size


def pieces_of(source: Path, start: int, stop: int) -> Iterator[bytes]:
    """Yield bytes [start, stop) of a file, bounded in memory.

    Raises:
        LocalError: the file ends earlier.
    """
    with source.open("rb", buffering=0) as file:
        offset = start
        while offset < stop:
            piece = os.pread(file.fileno(), min(PIECE_BYTES, stop - offset), offset)
            if not piece:
                raise LocalError(
                    f"{source} has {offset} bytes, wanted {stop}: did something change it?"
                )
            yield piece
            offset += len(piece)
