"""Compressed chunks come back as they were; anything else is refused without being unpacked."""

import numpy as np
import pytest
import zstandard

from hansa_core.codecs.shuffle import MAX_CHUNK, compress, decompress
from hansa_core.problems import TensorFormatError

DELTA = (np.random.default_rng(0).standard_normal(50_000) * 1e-3).astype("<f4").tobytes()


def packed(chunk: bytes, itemsize: int = 4) -> bytes:
    data = compress(chunk, itemsize)
    assert data is not None
    return data


@pytest.mark.parametrize("itemsize", [1, 2, 4, 8])
@pytest.mark.parametrize("cut", [0, 1, 2, 3, 5, 7])
def test_a_chunk_comes_back_wherever_it_was_cut(itemsize: int, cut: int) -> None:
    chunk = (DELTA[cut:] + bytes(200_000))[: 399_995 + cut]
    data = packed(chunk, itemsize)
    assert len(data) < 0.95 * len(chunk)
    assert decompress(data, size=len(chunk)) == chunk
    assert decompress(memoryview(bytearray(data)), size=len(chunk)) == chunk


def test_shuffling_is_what_saves() -> None:
    assert compress(DELTA, 1) is None or len(packed(DELTA, 1)) > len(packed(DELTA))
    assert len(packed(DELTA)) < 0.9 * len(DELTA)


@pytest.mark.parametrize("chunk", [b"", b"a", b"abcd", np.random.default_rng(1).bytes(100_000)])
def test_what_does_not_get_smaller_is_left_alone(chunk: bytes) -> None:
    assert compress(chunk, 4) is None


def test_the_format_is_frozen() -> None:
    chunk = bytes(range(16)) * 64
    frame = zstandard.ZstdCompressor(level=3).compress(
        b"".join(chunk[place::4] for place in range(4))
    )
    assert decompress(b"\x01\x04" + frame, size=len(chunk)) == chunk


def bombs() -> dict[str, tuple[bytes, int]]:
    """Return data with the size that is announced for it."""
    plain = zstandard.ZstdCompressor(level=1)
    data = packed(DELTA)
    unsized = zstandard.ZstdCompressor(level=1, write_content_size=False).compress(DELTA)
    stream = zstandard.ZstdCompressor(level=1).compressobj()
    endless = stream.compress(bytes(10**7)) + stream.flush()
    claims = bytearray(b"\x01\x04" + plain.compress(DELTA))
    claims[2 + 5 : 2 + 5 + 4] = (2**31 - 1).to_bytes(4, "little")  # the frame's content size
    window = bytearray(b"\x01\x04" + unsized)
    window[2 + 5] = 0xFF  # of terabytes
    return {
        "smaller than announced": (data, len(DELTA) + 1),
        "larger than announced": (data, len(DELTA) - 1),
        "much larger": (b"\x01\x01" + plain.compress(bytes(10**7)), 1000),
        "much larger, size not told": (b"\x01\x01" + endless, 1000),
        "size not told": (b"\x01\x04" + unsized, len(DELTA)),
        "claims two gigabytes": (bytes(claims), len(DELTA)),
        "wants a huge window": (bytes(window), len(DELTA)),
        "two frames": (data + plain.compress(b"more"), len(DELTA)),
        "trailing bytes": (data + b"\0", len(DELTA)),
        "cut": (data[:-1], len(DELTA)),
        "header only": (data[:2], 0),
        "nothing": (b"", 0),
        "no zstd": (b"\x01\x04" + DELTA[:100], 100),
        "next version": (b"\x02" + data[1:], len(DELTA)),
        "item size 3": (b"\x01\x03" + data[2:], len(DELTA)),
        "damaged": (data[:1000] + bytes(100) + data[1100:-1000], len(DELTA)),
    }


@pytest.mark.parametrize("name", bombs())
def test_what_is_not_the_announced_chunk_is_refused(name: str) -> None:
    data, size = bombs()[name]
    with pytest.raises(TensorFormatError):
        decompress(data, size=size)


def test_sizes_that_no_chunk_has_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="the chunk has"):
        compress(bytes(MAX_CHUNK + 1), 4)
    with pytest.raises(ValueError, match="wanted 0 to"):
        decompress(packed(DELTA), size=MAX_CHUNK + 1)
    with pytest.raises(ValueError, match="the item size is 3"):
        compress(DELTA, 3)
