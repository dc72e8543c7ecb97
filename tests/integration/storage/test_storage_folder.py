"""What only the store in a folder promises."""

import hashlib
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.domain.errors import StorageUnavailableError
from app.storage import open_artifacts
from app.storage.artifacts import Artifacts, probe
from tests.integration.storage.places import (
    FEDERATION,
    put,
    settings_for,
)


def test_folder_is_closed_to_other_users(local: Artifacts, folder: Path) -> None:
    old_umask = os.umask(0)
    try:
        put(local, b"private")
    finally:
        os.umask(old_umask)
    modes = {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()}
    assert modes == {"0o600"}
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    assert {oct(path.stat().st_mode & 0o777) for path in folders} == {"0o700"}


def test_blob_is_synced_before_its_name_and_folders_after(
    local: Artifacts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, link = os.fsync, os.link

    def noted_fsync(handle: int) -> None:
        calls.append(str(Path(f"/proc/self/fd/{handle}").readlink().relative_to(folder)))
        fsync(handle)

    def noted_link(source: str, target: Path) -> None:
        calls.append("link")
        link(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    digest = put(local, b"durable")
    temporary, *rest = calls
    federation = FEDERATION.hex
    assert temporary.startswith("incoming/")
    assert rest == ["link", f"{federation}/{digest[:2]}", federation, "."]


def test_sweep_spares_writers_at_work(local: Artifacts, folder: Path) -> None:
    writer = local.begin(FEDERATION)
    writer.write(b"slow")
    now = datetime.now(UTC)
    assert local.sweep_incoming(now + timedelta(hours=23)) == 0
    assert local.sweep_incoming(now + timedelta(hours=25)) == 1
    with pytest.raises(StorageUnavailableError, match="could not publish a blob"):
        writer.commit(hashlib.sha256(b"slow").hexdigest())
    writer.abort()
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_blob_cut_short_on_disk_is_reported(local: Artifacts, folder: Path) -> None:
    digest = put(local, bytes(100))
    with local.open(FEDERATION, digest) as blob:
        os.truncate(folder / FEDERATION.hex / digest[:2] / digest, 60)
        with pytest.raises(StorageUnavailableError, match="ends at byte 60 of 100"):
            blob.read_at(memoryview(bytearray(100)), 0)


def test_unusable_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnavailableError, match="Not a directory"):
        open_artifacts(settings_for(f"file://{tmp_path}/file/store"))


def test_probe_notices_a_broken_folder(local: Artifacts, folder: Path) -> None:
    shutil.rmtree(folder / "incoming")
    with pytest.raises(StorageUnavailableError, match="the artifact folder is away"):
        probe(local)


@pytest.mark.parametrize(
    "url",
    ["", "/var/blobs", "file://relative/path", "file:also-relative", "s3:///no-bucket", "gs://b"],
)
def test_unknown_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="file:///folder or s3://bucket/prefix wanted"):
        open_artifacts(settings_for(url))


def test_folder_name_may_be_percent_encoded(tmp_path: Path) -> None:
    store = open_artifacts(settings_for((tmp_path / "two words").as_uri()))
    put(store, b"x")
    assert (tmp_path / "two words" / FEDERATION.hex).is_dir()
