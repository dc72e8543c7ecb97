"""A stored blob looked at where it lies: the same bytes, let go with the view; no signals."""

import hashlib
import os
import re
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from app.domain.errors import StorageUnavailableError
from app.storage.filesystem import FilesystemArtifacts, open_filesystem
from hansa_core.tensors import ReadAt, ViewAt

FEDERATION = UUID(int=7)
CONTENT = np.random.default_rng(0).integers(0, 256, 300_001).astype(np.uint8).tobytes()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> FilesystemArtifacts:
    store = open_filesystem(tmp_path / "artifacts")
    with store.begin(FEDERATION) as writer:
        writer.write(CONTENT)
        writer.commit(DIGEST)
    return store


def mapped_bytes() -> int:
    """Return how many bytes of the blob this process has mapped."""
    maps = Path("/proc/self/maps").read_text()
    ranges = re.findall(rf"^(\w+)-(\w+) .*/{DIGEST}$", maps, re.MULTILINE)
    return sum(int(stop, 16) - int(start, 16) for start, stop in ranges)


def viewer(read: ReadAt) -> ViewAt:
    assert isinstance(read, ViewAt)
    return read


def test_a_view_has_the_bytes_and_cannot_be_written(store: FilesystemArtifacts) -> None:
    with store.open(FEDERATION, DIGEST) as blob:
        look = viewer(blob.read_at)
        for offset, size in (
            (0, 10),
            (4095, 2),
            (4096, 4096),
            (299_000, 1001),
            (17, 0),
            (5, 200_000),
        ):
            view = look.view(offset, size)
            assert view == CONTENT[offset : offset + size]
            assert view.readonly or not size


def test_a_view_outlives_the_reader_and_is_let_go(store: FilesystemArtifacts) -> None:
    if not hasattr(os, "preadv") or not Path("/proc/self/maps").exists():
        pytest.skip("no /proc to look at")
    with store.open(FEDERATION, DIGEST) as blob:
        view = viewer(blob.read_at).view(100, 200_000)
    assert 200_000 <= mapped_bytes() <= 210_000
    array = np.frombuffer(view, np.uint8)
    del view
    assert bytes(array) == CONTENT[100:200_100]
    del array
    assert mapped_bytes() == 0


def test_what_lies_beyond_the_end_is_refused(store: FilesystemArtifacts) -> None:
    with store.open(FEDERATION, DIGEST) as blob:
        for offset, size in ((300_000, 2), (-1, 1), (300_002, 0)):
            with pytest.raises(ValueError, match="of a blob of 300001"):
                viewer(blob.read_at).view(offset, size)


def test_a_blob_cut_short_is_an_error_and_no_signal(store: FilesystemArtifacts) -> None:
    path = next(store.root.rglob(DIGEST))
    with store.open(FEDERATION, DIGEST) as blob:
        os.truncate(path, 8192)
        look = viewer(blob.read_at)
        assert look.view(0, 8192) == CONTENT[:8192]
        for offset, size in ((8192, 4096), (4096, 100_000), (290_000, 10_000)):
            with pytest.raises(StorageUnavailableError, match="ends at byte"):
                look.view(offset, size)


def test_where_pages_cannot_be_fetched_ahead_a_view_is_read(
    store: FilesystemArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.mapping._POPULATE_READ", 9999)  # what no kernel knows
    with store.open(FEDERATION, DIGEST) as blob:
        view = viewer(blob.read_at).view(100, 5000)
    assert view == CONTENT[100:5100]
    assert mapped_bytes() == 0
    assert view.readonly
