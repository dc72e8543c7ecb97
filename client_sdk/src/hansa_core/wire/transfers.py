"""Messages about files that travel in chunks (hansa_core.chunks; docs/transfers.md)."""

from pydantic import Field

from hansa_core.chunks import LEAST_CHUNK_BYTES, MOST_CHUNK_BYTES
from hansa_core.wire.base import Digest, Request, Response

MAX_CHUNK_URLS = 256  # in one answer; who needs more asks again


class UploadOpen(Request):
    """What is to be uploaded. Repeating it tells how far the upload is."""

    size: int = Field(ge=1, description="bytes of the whole file")
    chunk_bytes: int = Field(
        ge=LEAST_CHUNK_BYTES,
        le=MOST_CHUNK_BYTES,
        description="wanted; the answer has the one in force",
    )
    direct: bool = False  # the client can PUT to addresses of the store


class ChunkUrl(Response):
    """Where one missing chunk can be PUT without the hub, and without a token."""

    index: int
    url: str


class Upload(Response):
    """How far an upload is."""

    digest: Digest
    size: int  # bytes
    chunk_bytes: int  # in force: fixed by whoever opened the upload first
    chunks: int  # how many there are
    have: list[tuple[int, int]]  # the chunks that are there, as runs [start, stop)
    complete: bool = False  # stored already, by the same owner: nothing is to be sent
    encodings: list[str] = Field(default_factory=list[str])  # that a chunk may come in
    urls: list[ChunkUrl] = Field(default_factory=list[ChunkUrl])  # of missing chunks
