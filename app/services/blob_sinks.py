"""Files that an aggregation writes into the store: hashed and written while it goes on.

SHA-256 takes about as long as the arithmetic, and neither holds the interpreter's lock: so each
file has a thread of its own. Memory is bounded: of each file, one piece is being filled while at
most one other is worked on.
"""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self
from uuid import UUID

from app.services.checkpoints import NewBlob
from app.storage.artifacts import CHUNK_BYTES, Artifacts
from hansa_core.layouts import Layout


class FileSink:
    """A sink of one file of tensors. Forgotten unless committed."""

    def __init__(self, artifacts: Artifacts, federation_id: UUID) -> None:
        self._writer = artifacts.begin(federation_id)
        self._hasher = hashlib.sha256()
        self._filling = bytearray()
        self._working: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "hansa-sink")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown()  # waits: nobody else may touch the writer before
        self._writer.abort()

    def __call__(self, data: memoryview) -> None:
        """Take the next bytes, copied. Raises what writing earlier ones raised."""
        self._filling += data
        if len(self._filling) >= CHUNK_BYTES:
            self._hand_over()

    def commit(self, layout: Layout) -> NewBlob:
        """Publish the file, durable on return. Raises StorageUnavailableError."""
        self._hand_over()
        self._wait()
        digest, size = self._hasher.hexdigest(), self._writer.size
        self._writer.commit(digest)
        return NewBlob(digest=digest, size=size, layout=layout)

    def _hand_over(self) -> None:
        self._wait()
        piece, self._filling = self._filling, bytearray()
        self._working = self._thread.submit(self._work, piece)

    def _wait(self) -> None:
        if self._working is not None:
            self._working.result()

    def _work(self, piece: bytearray) -> None:
        self._hasher.update(piece)
        self._writer.write(piece)
