"""Small files that must survive a crash whole: written beside, flushed, renamed.

`write_durably` also survives a power cut (fsync of file and folder); `write_whole` only a killed
process, which is enough wherever the reader checks what it reads and can make it again.
"""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put `content` at `path`: a reader sees the old file or the new one, never a part.

    Raises OSError.
    """
    _write(path, content, mode=mode, durable=False)


def write_durably(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Like `write_whole`, and on disk when it returns. Raises OSError."""
    _write(path, content, mode=mode, durable=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` durable. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, content: bytes, *, mode: int, durable: bool) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
