"""Uploads in chunks keep their promise in a folder and in two S3 servers alike."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

from app.domain.errors import (
    StorageFullError,
    TooManyUploadsError,
    UploadIncompleteError,
)
from app.storage import open_artifacts
from app.storage.artifacts import Artifacts
from app.storage.uploads import ABANDONED_AFTER, BUSY, MAX_OPEN, Upload, UploadKey
from hansa_core.chunks import ChunkPlan
from tests.integration.storage.places import BUCKET, FEDERATION, Place, get, settings_for

KIB = 2**10
CONTENT = os.urandom(200 * KIB + 17)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PLAN = ChunkPlan(len(CONTENT), 64 * KIB)
KEY = UploadKey(FEDERATION, "site-1", "task-1", DIGEST)


def now() -> datetime:
    return datetime.now(UTC)


def bytes_of(index: int) -> bytes:
    start, stop = PLAN.span(index)
    return CONTENT[start:stop]


def fill(upload: Upload) -> None:
    for index in range(PLAN.count):
        upload.store(index, [bytes_of(index)])


def publish(upload: Upload) -> bytes:
    """Read and publish it; return what was read."""
    with upload.reader() as reader:
        seen = b"".join(bytes(p) for index in range(PLAN.count) for p in reader.take(index))
        reader.publish(DIGEST)
    return seen


def test_chunks_become_the_blob(artifacts: Artifacts, place: Place) -> None:
    upload = artifacts.uploads.open(KEY, PLAN, now=now())
    assert upload.present() == bytes(PLAN.count)
    for index in (3, 0, 2, 1):
        upload.store(index, [bytes_of(index)[:5], memoryview(bytes_of(index))[5:]])
    assert upload.present() == b"\1" * PLAN.count
    assert artifacts.stat(FEDERATION, DIGEST) is None
    assert publish(upload) == CONTENT
    assert get(artifacts, DIGEST) == CONTENT
    upload.settle()
    assert artifacts.uploads.find(KEY) is None
    assert artifacts.uploads.is_settled(KEY)
    upload.settle()
    names = [name for name in place.stored() if not name.endswith(DIGEST)]
    assert names == [f"incoming/{FEDERATION.hex}/site-1/task-1-{DIGEST}.done"]
    artifacts.uploads.forget_settled(KEY)
    assert not artifacts.uploads.is_settled(KEY)


def test_another_process_sees_the_same_state(artifacts: Artifacts, place: Place) -> None:
    artifacts.uploads.open(KEY, PLAN, now=now()).store(2, [bytes_of(2)])
    other = open_artifacts(place.settings).uploads
    found = other.find(KEY)
    assert found is not None
    assert found.plan == PLAN
    assert found.present() == bytes([0, 0, 1, 0])
    reopened = other.open(KEY, ChunkPlan(PLAN.size, 128 * KIB), now=now())
    assert (reopened.plan, reopened.present()) == (PLAN, bytes([0, 0, 1, 0]))


def test_an_upload_of_another_size_begins_anew(artifacts: Artifacts) -> None:
    first = artifacts.uploads.open(KEY, PLAN, now=now())
    first.store(0, [bytes_of(0)])
    other = ChunkPlan(PLAN.size - 1, PLAN.chunk_bytes)
    assert artifacts.uploads.open(KEY, other, now=now()).present() == bytes(PLAN.count)


def test_uploads_of_others_are_not_found(artifacts: Artifacts) -> None:
    artifacts.uploads.open(KEY, PLAN, now=now())
    for other in (
        UploadKey(FEDERATION, "site-2", "task-1", DIGEST),
        UploadKey(FEDERATION, "site-1", "task-2", DIGEST),
        UploadKey(uuid4(), "site-1", "task-1", DIGEST),
    ):
        assert artifacts.uploads.find(other) is None


def test_what_was_forgotten_takes_no_chunk(artifacts: Artifacts) -> None:
    upload = artifacts.uploads.open(KEY, PLAN, now=now())
    upload.discard()
    upload.discard()
    assert artifacts.uploads.find(KEY) is None
    with pytest.raises(UploadIncompleteError):
        upload.present()


def test_published_bytes_do_not_change_any_more(artifacts: Artifacts) -> None:
    upload = artifacts.uploads.open(KEY, PLAN, now=now())
    fill(upload)
    publish(upload)
    upload.store(1, [bytes(PLAN.length(1))])  # a late one, of other bytes
    assert get(artifacts, DIGEST) == CONTENT
    upload.settle()
    assert get(artifacts, DIGEST) == CONTENT


def test_the_longest_resting_upload_makes_room(artifacts: Artifacts) -> None:
    def key(number: int) -> UploadKey:
        return UploadKey(FEDERATION, "site-1", f"task-{number}", DIGEST)

    for number in range(MAX_OPEN):
        artifacts.uploads.open(key(number), PLAN, now=now())
    with pytest.raises(TooManyUploadsError, match=f"{MAX_OPEN} uploads of yours are in progress"):
        artifacts.uploads.open(key(99), PLAN, now=now())
    artifacts.uploads.open(key(99), PLAN, now=now() + 2 * BUSY)
    there = [artifacts.uploads.find(key(number)) for number in range(MAX_OPEN)]
    assert sum(found is None for found in there) == 1


def test_abandoned_uploads_and_marks_are_swept(artifacts: Artifacts, place: Place) -> None:
    upload = artifacts.uploads.open(KEY, PLAN, now=now())
    fill(upload)
    ended = UploadKey(FEDERATION, "site-2", "", DIGEST)
    artifacts.uploads.open(ended, PLAN, now=now()).settle()
    assert artifacts.sweep_incoming(now()) == 0
    assert artifacts.uploads.find(KEY) is not None
    assert artifacts.sweep_incoming(now() + ABANDONED_AFTER + timedelta(minutes=1)) == 2
    assert place.stored() == []
    assert artifacts.uploads.find(KEY) is None


def test_names_cannot_leave_the_folder() -> None:
    for owner, label, digest in (
        ("../x", "", DIGEST),
        ("", "", DIGEST),
        ("site-1", "a/b", DIGEST),
        ("site-1", "", "..".ljust(64, "a")),
    ):
        with pytest.raises(ValueError, match=r"name an upload|malformed"):
            UploadKey(FEDERATION, owner, label, digest)


def test_the_first_of_two_writers_of_a_chunk_wins(local: Artifacts) -> None:
    upload = local.uploads.open(KEY, PLAN, now=now())
    variants = [bytes([number]) * PLAN.length(0) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for storing in [pool.submit(upload.store, 0, [content]) for content in variants]:
            storing.result()
    with upload.reader() as reader:
        seen = b"".join(map(bytes, reader.take(0)))
    assert seen in variants
    upload.store(0, [variants[0] if seen != variants[0] else variants[1]])
    with upload.reader() as reader:
        assert b"".join(map(bytes, reader.take(0))) == seen


def test_two_at_once_open_one_upload(local: Artifacts) -> None:

    def open_it(_: int) -> Upload:
        return local.uploads.open(KEY, PLAN, now=now())

    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(open_it, range(8)))
    opened[0].store(0, [bytes_of(0)])
    assert {upload.present() for upload in opened} == {bytes([1, 0, 0, 0])}


def test_a_full_disk_takes_no_upload(folder: Path) -> None:
    endless = settings_for(folder.as_uri()).model_copy(update={"min_free_bytes": 2**62})
    with pytest.raises(StorageFullError, match="bytes free"):
        open_artifacts(endless).uploads.open(KEY, PLAN, now=now())


def test_a_torn_upload_begins_anew(local: Artifacts, folder: Path) -> None:
    local.uploads.open(KEY, PLAN, now=now())
    (folder / KEY.folder / KEY.name / "chunks").write_bytes(b"")
    assert local.uploads.find(KEY) is None
    assert local.uploads.open(KEY, PLAN, now=now()).present() == bytes(PLAN.count)


@pytest.fixture(params=["moto", "seaweedfs"])
def signing(request: pytest.FixtureRequest) -> Artifacts:
    endpoint = request.getfixturevalue(request.param)
    settings = settings_for(f"s3://{BUCKET}/{uuid4()}", endpoint)
    return open_artifacts(settings.model_copy(update={"s3_presign": True}))


def test_chunks_go_to_signed_addresses(signing: Artifacts) -> None:
    upload = signing.uploads.open(KEY, PLAN, now=now())
    for index, address in enumerate(upload.addresses(range(PLAN.count))):
        put(address, bytes_of(index))
    assert upload.present() == b"\1" * PLAN.count
    assert publish(upload) == CONTENT
    address = signing.address(FEDERATION, DIGEST, life=timedelta(minutes=1))
    assert address is not None
    with urlopen(address, timeout=20) as answer:  # noqa: S310 -- the store's own address
        assert answer.read() == CONTENT


def test_an_object_of_another_length_is_no_chunk(signing: Artifacts) -> None:
    upload = signing.uploads.open(KEY, PLAN, now=now())
    (address,) = upload.addresses([1])
    put(address, CONTENT)
    assert upload.present() == bytes(PLAN.count)


def test_a_chunk_replaced_after_it_was_read_is_not_published(signing: Artifacts) -> None:
    upload = signing.uploads.open(KEY, PLAN, now=now())
    fill(upload)
    (address,) = upload.addresses([0])
    with upload.reader() as reader:
        seen = b""
        for index in range(PLAN.count):
            seen += b"".join(map(bytes, reader.take(index)))
            put(address, bytes(PLAN.length(0)))
        reader.publish(DIGEST)
    assert seen == CONTENT
    assert get(signing, DIGEST) == CONTENT


def test_a_signed_address_is_good_for_its_object_only(seaweedfs: str) -> None:
    settings = settings_for(f"s3://{BUCKET}/{uuid4()}", seaweedfs)
    store = open_artifacts(settings.model_copy(update={"s3_presign": True}))
    upload = store.uploads.open(KEY, PLAN, now=now())
    first, second = upload.addresses([0, 1])
    path, _, query = first.partition("?")
    for forged in (f"{second.partition('?')[0]}?{query}", path):
        refuse(partial(put, forged, bytes_of(1)))
    assert upload.present() == bytes(PLAN.count)


def put(address: str, content: bytes) -> None:
    kind = {"Content-Type": "application/octet-stream"}
    request = Request(address, data=content, headers=kind, method="PUT")  # noqa: S310 -- its own
    with urlopen(request, timeout=20):  # noqa: S310
        pass


def refuse(work: Callable[[], None]) -> None:
    with pytest.raises(HTTPError) as caught:
        work()
    assert caught.value.code == 403
    caught.value.close()
