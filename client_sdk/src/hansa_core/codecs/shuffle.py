"""Lossless compression of one transfer chunk: its bytes sorted by significance, then zstd.

Neighbouring floats share signs and exponents, and these bytes are what compresses; mantissas are
noise. So byte 0 of every element comes first, then byte 1, and so on: the shuffle filter of HDF5
and Blosc (Alted 2010, "Why Modern CPUs Are Starving and What Can Be Done about It").

    1 byte version, 1 | 1 byte item size: 1, 2, 4 or 8 | one zstd frame with its content size

Invariants: `decompress(compress(chunk, n), size=len(chunk))` is the chunk, whatever is in it and
however elements lie in it; decompressing allocates no more than what was announced.
"""

import numpy as np
import zstandard
from numpy.typing import NDArray

from hansa_core.problems import TensorFormatError

MAX_CHUNK = 16 * 2**20  # bytes of one chunk before compression

_VERSION = 1
_PREFIX = 2  # bytes
_ITEMSIZES = (1, 2, 4, 8)
# The entropy of the exponents is what there is to gain; matches are chance, and looking for them at
# higher levels takes longer and even gives more bytes.
_LEVEL = 1
_WORTH = 0.95  # of the chunk; above it the receiver's time is worth more


def compress(chunk: bytes | bytearray | memoryview, itemsize: int) -> bytes | None:
    """Return the chunk in fewer bytes, or None where that saves less than 5 %.

    `itemsize` (1, 2, 4 or 8) is that of most elements; another one only compresses less. Raises
    ValueError for another number or a chunk longer than MAX_CHUNK.
    """
    if itemsize not in _ITEMSIZES:
        raise ValueError(f"the item size is {itemsize}, wanted one of {_ITEMSIZES}")
    raw = np.frombuffer(chunk, np.uint8)
    if len(raw) > MAX_CHUNK:
        raise ValueError(f"the chunk has {len(raw)} bytes, wanted at most {MAX_CHUNK}")
    compressor = zstandard.ZstdCompressor(
        level=_LEVEL, write_content_size=True, write_checksum=False, write_dict_id=False
    )
    frame = compressor.compress(_shuffle(raw, itemsize).data)
    if len(frame) + _PREFIX > _WORTH * len(raw):
        return None
    return bytes((_VERSION, itemsize)) + frame


def decompress(data: bytes | bytearray | memoryview, *, size: int) -> bytes:
    """Return the chunk of `size` bytes that `data` was made of.

    Raises TensorFormatError for anything else, before more than `size` bytes are allocated, and
    ValueError for a `size` that no chunk has.
    """
    if not 0 <= size <= MAX_CHUNK:
        raise ValueError(f"the chunk is to have {size} bytes, wanted 0 to {MAX_CHUNK}")
    view = memoryview(data).cast("B")
    if len(view) < _PREFIX or view[0] != _VERSION or view[1] not in _ITEMSIZES:
        raise TensorFormatError(
            f"the compressed chunk begins with {bytes(view[:_PREFIX])!r}, "
            f"wanted version {_VERSION} and an item size of {_ITEMSIZES}"
        )
    frame = view[_PREFIX:]
    try:
        parameters = zstandard.get_frame_parameters(frame)
        # zstd allocates by what the frame claims, not by what the caller says: so that comes first.
        if parameters.content_size != size:
            raise TensorFormatError(
                f"the compressed chunk is of {parameters.content_size} bytes, wanted {size}"
            )
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_CHUNK)
        shuffled = decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise TensorFormatError(f"the compressed chunk is no zstd frame: {error}") from error
    if len(shuffled) != size:
        raise TensorFormatError(f"the compressed chunk gave {len(shuffled)} bytes, wanted {size}")
    return _unshuffle(np.frombuffer(shuffled, np.uint8), view[1]).tobytes()


def _shuffle(raw: NDArray[np.uint8], itemsize: int) -> NDArray[np.uint8]:
    """Return the bytes by significance; those after the last whole element stay at the end."""
    count = len(raw) // itemsize
    shuffled = np.empty(len(raw), np.uint8)
    for place in range(itemsize):
        shuffled[place * count : (place + 1) * count] = raw[place : count * itemsize : itemsize]
    shuffled[count * itemsize :] = raw[count * itemsize :]
    return shuffled


def _unshuffle(shuffled: NDArray[np.uint8], itemsize: int) -> NDArray[np.uint8]:
    count = len(shuffled) // itemsize
    raw = np.empty(len(shuffled), np.uint8)
    for place in range(itemsize):
        raw[place : count * itemsize : itemsize] = shuffled[place * count : (place + 1) * count]
    raw[count * itemsize :] = shuffled[count * itemsize :]
    return raw
