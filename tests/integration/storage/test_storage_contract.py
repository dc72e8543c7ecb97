"""What every artifact store does, whatever it is made of."""

import hashlib
import os
import threading
from uuid import uuid4

import pytest

from app.domain.errors import ArtifactMissingError, DigestMismatchError
from app.storage.artifacts import Artifacts, chunks, probe
from tests.integration.storage.places import (
    FEDERATION,
    MIB,
    Place,
    get,
    put,
)


@pytest.mark.parametrize("size", [0, 1, MIB, 20 * MIB + 5])
def test_committed_blob_reads_back_whole(artifacts: Artifacts, size: int) -> None:
    content = os.urandom(size)
    digest = put(artifacts, content)
    assert artifacts.stat(FEDERATION, digest) == size
    assert get(artifacts, digest) == content


def test_any_buffer_may_be_written(artifacts: Artifacts) -> None:
    numbers = memoryview(bytearray(range(16))).cast("I")
    with artifacts.begin(FEDERATION) as writer:
        writer.write(bytearray(b"abc"))
        writer.write(numbers)
        assert writer.size == 19
        digest = hashlib.sha256(b"abc" + bytes(range(16))).hexdigest()
        writer.commit(digest)
    assert get(artifacts, digest) == b"abc" + bytes(range(16))


def test_repeated_put_changes_nothing(artifacts: Artifacts, place: Place) -> None:
    digest = put(artifacts, b"the same")
    before = place.stored()
    assert put(artifacts, b"the same") == digest
    assert place.stored() == before
    assert get(artifacts, digest) == b"the same"


def test_name_never_changes_its_bytes(artifacts: Artifacts, place: Place) -> None:
    digest = put(artifacts, b"first")
    before = place.stored()
    with artifacts.begin(FEDERATION) as writer:
        writer.write(b"something longer")
        with pytest.raises(DigestMismatchError, match="with 5 bytes, not these 16"):
            writer.commit(digest)
    assert get(artifacts, digest) == b"first"
    assert place.stored() == before


def test_writers_of_one_digest_may_race(artifacts: Artifacts, place: Place) -> None:
    content = os.urandom(3 * MIB)
    digest = hashlib.sha256(content).hexdigest()
    together = threading.Barrier(4)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with artifacts.begin(FEDERATION) as writer:
                writer.write(content)
                together.wait(10)
                writer.commit(digest)
        except BaseException as error:  # carried to the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert get(artifacts, digest) == content
    assert len(place.stored()) == 1


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 0), (0, 1), (7, 12), (MIB - 1, MIB + 1), (2 * MIB, None), (0, None)]
)
def test_ranges_are_exact(artifacts: Artifacts, start: int, stop: int | None) -> None:
    content = os.urandom(2 * MIB + 100)
    digest = put(artifacts, content)
    steps = list(chunks(artifacts, FEDERATION, digest, start=start, stop=stop))
    assert b"".join(steps) == content[start:stop]
    assert all(len(step) == MIB for step in steps[:-1])


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 5), (5, None)])
def test_range_outside_the_blob_is_refused(
    artifacts: Artifacts, start: int, stop: int | None
) -> None:
    digest = put(artifacts, b"four")
    with pytest.raises(ValueError, match="of a blob of 4"):
        next(chunks(artifacts, FEDERATION, digest, start=start, stop=stop))


@pytest.mark.parametrize("read_ahead_bytes", [0, 1000, 8 * MIB])
def test_positional_reads_fill_the_buffer_in_any_order(
    artifacts: Artifacts, read_ahead_bytes: int
) -> None:
    content = os.urandom(10_000)
    digest = put(artifacts, content)
    with artifacts.open(FEDERATION, digest, read_ahead_bytes=read_ahead_bytes) as blob:
        assert blob.size == 10_000
        for offset, size in [
            (0, 10),
            (10, 1500),
            (9_990, 10),
            (500, 3000),
            (10_000, 0),
            (0, 10_000),
        ]:
            buffer = bytearray(size)
            blob.read_at(memoryview(buffer), offset)
            assert buffer == content[offset : offset + size]
        words = memoryview(bytearray(64)).cast("Q")
        blob.read_at(words, 8)
        assert words.tobytes() == content[8:72]
        for offset in (-1, 9_937):
            with pytest.raises(ValueError, match="of a blob of 10000"):
                blob.read_at(words, offset)


def test_aborted_blob_leaves_nothing(artifacts: Artifacts, place: Place) -> None:
    writer = artifacts.begin(FEDERATION)
    writer.write(b"x" * 9 * MIB)
    writer.abort()
    writer.abort()
    with pytest.raises(ValueError, match="closed"):
        writer.commit("0" * 64)
    with pytest.raises(ValueError, match="64 lower-case"), artifacts.begin(FEDERATION) as second:
        second.commit("not a digest")
    with artifacts.begin(FEDERATION) as third:
        third.write(b"never committed")
    assert place.stored() == []


@pytest.mark.parametrize(
    "digest",
    ["", "../" * 21 + "a", "/etc/passwd", "A" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "٣" * 64],
)
def test_what_is_no_digest_never_becomes_a_path(
    artifacts: Artifacts, place: Place, digest: str
) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex"):
        artifacts.stat(FEDERATION, digest)
    with pytest.raises(ValueError, match="64 lower-case hex"):
        artifacts.delete(FEDERATION, digest)
    with pytest.raises(ValueError, match="64 lower-case hex"):
        get(artifacts, digest)
    with artifacts.begin(FEDERATION) as writer, pytest.raises(ValueError, match="64 lower-case"):
        writer.commit(digest)
    assert place.stored() == []


def test_missing_blob_is_said_to_be_missing(artifacts: Artifacts) -> None:
    put(artifacts, b"another")
    digest = "ab" * 32
    assert artifacts.stat(FEDERATION, digest) is None
    with pytest.raises(ArtifactMissingError, match=digest):
        get(artifacts, digest)


def test_federations_do_not_see_each_other(artifacts: Artifacts) -> None:
    digest = put(artifacts, b"mine")
    other = uuid4()
    assert artifacts.stat(other, digest) is None
    artifacts.delete(other, digest)
    assert get(artifacts, digest) == b"mine"


def test_deletion_is_repeatable(artifacts: Artifacts, place: Place) -> None:
    digest = put(artifacts, b"short-lived")
    artifacts.delete(FEDERATION, digest)
    artifacts.delete(FEDERATION, digest)
    assert artifacts.stat(FEDERATION, digest) is None
    assert place.stored() == []
    put(artifacts, b"short-lived")
    assert get(artifacts, digest) == b"short-lived"


def test_probe_leaves_nothing(artifacts: Artifacts, place: Place) -> None:
    probe(artifacts)
    assert place.stored() == []
