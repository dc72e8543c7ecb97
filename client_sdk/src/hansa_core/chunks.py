"""A file cut into chunks: which bytes each one has, which are there, and its cheap checksum.

Both ends cut alike, so a chunk is named by its index alone. The checksum (XXH3, 64 bits) finds
what a bad link or a bad disk did to one chunk while it can still be sent again by itself; it is no
proof against malice. The SHA-256 of the whole file is, and it is computed once at each end.

The checksum travels in `Content-Digest` (RFC 9530), as a byte sequence under our own key.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass

import xxhash

from hansa_core.problems import ChunkError

CHUNK_BYTES = 4 * 2**20  # of a file of usual size; a file of one chunk travels in one request
LEAST_CHUNK_BYTES = 64 * 2**10
MOST_CHUNK_BYTES = 16 * 2**20
MOST_CHUNKS = 4096  # where the chunks need not be longer than allowed for that

SHUFFLED = "hansa-shuffle-zstd"  # the Content-Encoding of codecs/shuffle.py
CONTENT_DIGEST = "Content-Digest"  # the header with a checksum
WANT_CONTENT_DIGEST = "Want-Content-Digest"  # the header that asks for one
DIGEST_KEY = "hansa-xxh3-64"
FOLLOW = "X-Hansa-Follow"  # the header of a client that follows a redirection to the store
STORE = "store"  # its value
MAX_FIELD = 512  # characters of either header that are looked at

_MEMBER = re.compile(rf"(?:^|,)\s*{re.escape(DIGEST_KEY)}=:([A-Za-z0-9+/=]{{0,64}}):\s*(?:,|$)")
_WANTED = re.compile(rf"(?:^|,)\s*{re.escape(DIGEST_KEY)}\s*(?:=\s*([0-9]+))?\s*(?:,|$)")


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """How a file is cut."""

    size: int  # bytes of the file
    chunk_bytes: int  # of every chunk but the last one, which has what is left

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return -(-self.size // self.chunk_bytes)

    def span(self, index: int) -> tuple[int, int]:
        """Return (start, stop) of chunk `index` in the file, in bytes.

        Raises:
            ChunkError: there is no such chunk.
        """
        if not 0 <= index < self.count:
            raise ChunkError(
                f"chunk {index} of a file of {self.size} bytes in chunks of {self.chunk_bytes}; "
                f"wanted one of 0 to {self.count - 1}"
            )
        start = index * self.chunk_bytes
        return start, min(self.size, start + self.chunk_bytes)

    def length(self, index: int) -> int:
        """Return the bytes of chunk `index`. Raises ChunkError."""
        start, stop = self.span(index)
        return stop - start


def plan_chunks(size: int, wanted_bytes: int = CHUNK_BYTES) -> ChunkPlan:
    """Return how a file of `size` bytes is cut, as near to `wanted_bytes` as the bounds allow.

    Large files get longer chunks, so that their number stays bounded.
    """
    fitting = max(wanted_bytes, -(-size // MOST_CHUNKS))
    return ChunkPlan(size, min(MOST_CHUNK_BYTES, max(LEAST_CHUNK_BYTES, fitting)))


def ranges_of(present: Iterable[int]) -> list[tuple[int, int]]:
    """Return the (start, stop) runs of what is there, of one byte a chunk, 0 for absent."""
    found: list[tuple[int, int]] = []
    for index, there in enumerate(present):
        if not there:
            continue
        if found and found[-1][1] == index:
            found[-1] = (found[-1][0], index + 1)
        else:
            found.append((index, index + 1))
    return found


def missing_of(have: Iterable[tuple[int, int]], count: int) -> list[int]:
    """Return the indices below `count` that none of the (start, stop) runs holds, in order."""
    absent = bytearray(b"\1") * count
    for run in have:
        start, stop = max(0, run[0]), min(count, run[1])
        if start < stop:
            absent[start:stop] = bytes(stop - start)
    return [index for index, value in enumerate(absent) if value]


def describe_runs(runs: Iterable[tuple[int, int]], *, most: int = 5) -> str:
    """Return (start, stop) runs for people: "0-3, 7, 9-11 and 2 more runs"."""
    told = [str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in runs]
    more = len(told) - most
    return ", ".join(told[:most]) + (f" and {more} more runs" if more > 0 else "")


class Checksum:
    """The checksum of one chunk, taken while its bytes come."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        self._hash = xxhash.xxh3_64()

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._hash.update(piece)

    def field(self) -> str:
        """Return the value of a Content-Digest header for the bytes so far."""
        return f"{DIGEST_KEY}=:{b64encode(self._hash.digest()).decode()}:"

    def require(self, field: str, what: str) -> None:
        """Compare with the header that came with the bytes, which are called `what`.

        Raises:
            ChunkError: it has no checksum of our kind, or another one.
        """
        match = _MEMBER.search(field[:MAX_FIELD])
        if match is None:
            raise ChunkError(
                f"{what}: {CONTENT_DIGEST} is {field[:80]!r}, wanted {DIGEST_KEY}=:base64:"
            )
        try:
            announced = b64decode(match[1], validate=True)
        except ValueError:
            announced = b""
        found = self._hash.digest()
        if announced != found:
            raise ChunkError(
                f"{what} was damaged on the way: its XXH3 is {found.hex()}, "
                f"announced was {announced.hex() or match[1]!r}"
            )


def wants_checksum(field: str) -> bool:
    """Return whether a Want-Content-Digest header asks for our checksum."""
    match = _WANTED.search(field[:MAX_FIELD])
    return match is not None and match[1] != "0"
