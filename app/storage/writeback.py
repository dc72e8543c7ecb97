"""Written pages sent on to the disk at once, so that the flush at the end finds little to do.

Without it the kernel keeps them for seconds, and who flushes waits for all of the file. It is a
hint and no more: what is durable is told by the fsync that follows, and so is an error.
"""

import ctypes
from collections.abc import Callable

_WRITE = 2  # SYNC_FILE_RANGE_WRITE: begin with pages that are dirty, wait for none


def _found() -> Callable[[int, int, int, int], int] | None:
    try:
        call = ctypes.CDLL(None).sync_file_range  # Linux has it, other systems do without
    except (AttributeError, OSError, TypeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


_sync_file_range = _found()


def begin_writeback(handle: int, offset: int, size: int) -> None:
    """Let the kernel begin to write `size` bytes from `offset` on; waits for nothing."""
    if _sync_file_range is not None and size > 0:
        _sync_file_range(handle, offset, size, _WRITE)
