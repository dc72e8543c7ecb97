"""Storing a new checkpoint while it is computed: every byte in order, every failure told."""

import hashlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from io import FileIO
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from app.domain.errors import StorageUnavailableError
from app.services.aggregation import AggregationLease, WeightedUpdate, aggregate
from app.services.checkpoints import Blob
from app.storage.artifacts import BlobReader, StoredBlob, chunks
from app.storage.filesystem import FilesystemArtifacts, open_filesystem
from app.storage.staging import BlobWriter
from app.storage.uploads import Uploads
from hansa_core.plans import parse_plan
from hansa_core.tensors import bytes_reader, read_tensors, write_tensors

FEDERATION = uuid4()
ELEMENTS = 1_200_000  # 4.8 MB: several pieces, the last one not full


@dataclass(frozen=True)
class FullDisk:
    """A store that can be read, on a disk that takes nothing more."""

    inner: FilesystemArtifacts

    def begin(self, federation_id: UUID, *, expected_bytes: int = 0) -> BlobWriter:
        del federation_id, expected_bytes
        return BlobWriter(
            FileIO("/dev/full", "r+"),
            self.inner.root,
            publish=lambda _file, _digest: pytest.fail("a blob on a full disk was published"),
            discard=lambda: None,
        )

    @contextmanager
    def open(
        self, federation_id: UUID, digest: str, *, read_ahead_bytes: int = 0
    ) -> Generator[BlobReader]:
        with self.inner.open(federation_id, digest, read_ahead_bytes=read_ahead_bytes) as reader:
            yield reader

    def stat(self, federation_id: UUID, digest: str) -> int | None:
        return self.inner.stat(federation_id, digest)

    def delete(self, federation_id: UUID, digest: str) -> None:
        self.inner.delete(federation_id, digest)

    @property
    def uploads(self) -> Uploads:
        return self.inner.uploads

    def address(self, federation_id: UUID, digest: str, *, life: timedelta) -> str | None:
        return self.inner.address(federation_id, digest, life=life)

    def pages(self) -> Iterator[list[StoredBlob]]:
        return self.inner.pages()

    def require_usable(self) -> None:
        self.inner.require_usable()

    def sweep_incoming(self, now: object) -> int:
        del now
        return 0


@pytest.fixture
def artifacts(tmp_path: Path) -> FilesystemArtifacts:
    return open_filesystem(tmp_path / "artifacts")


def stored(artifacts: FilesystemArtifacts, values: float) -> Blob:
    content = bytearray()
    write_tensors({"w": np.full(ELEMENTS, values, "<f4")}, content.extend)
    digest = hashlib.sha256(content).hexdigest()
    with artifacts.begin(FEDERATION) as writer:
        writer.write(content)
        writer.commit(digest)
    return Blob(FEDERATION, digest, len(content))


def a_lease(artifacts: FilesystemArtifacts) -> AggregationLease:
    return AggregationLease(
        round_id=uuid4(),
        run_id=uuid4(),
        token=uuid4(),
        plan=parse_plan({"name": "x", "model": "x", "rounds": 1}),
        base=stored(artifacts, 10.0),
        slots={},
        population=None,
        updates=(
            WeightedUpdate(stored(artifacts, 1.0), 1, 1.0),
            WeightedUpdate(stored(artifacts, 3.0), 3, 1.0),
        ),
    )


def test_the_stored_bytes_are_the_sum_and_have_the_digest_told(
    artifacts: FilesystemArtifacts,
) -> None:
    made = aggregate(a_lease(artifacts), artifacts).checkpoint
    content = b"".join(chunks(artifacts, FEDERATION, made.digest))
    assert hashlib.sha256(content).hexdigest() == made.digest
    assert len(content) == made.size
    tensors = read_tensors(bytes_reader(content), len(content))
    assert np.array_equal(tensors["w"], np.full(ELEMENTS, 12.5, "<f4"))


def test_a_full_disk_fails_the_aggregation_as_a_store_that_may_recover(
    artifacts: FilesystemArtifacts,
) -> None:
    with pytest.raises(StorageUnavailableError, match="No space left"):
        aggregate(a_lease(artifacts), FullDisk(artifacts))
