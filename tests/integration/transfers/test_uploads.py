"""Uploads in chunks over HTTP: what is refused, who sees what, and what races come to."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.domain.permissions import Role
from app.services.transactions import Transactions
from app.settings import Settings
from app.storage.uploads import MAX_OPEN
from hansa_core import wire
from hansa_core.chunks import CONTENT_DIGEST, LEAST_CHUNK_BYTES, SHUFFLED, Checksum, ChunkPlan
from hansa_core.codecs import shuffle
from tests.factories import ActiveSite, Federation, a_model, a_run, sites_online, work_off
from tests.identities import Person, add_member, make_person
from tests.integration.transfers.hubs import Hub
from tests.tensors import digest_of, encode

CHUNK = LEAST_CHUNK_BYTES
BASE = {"w": np.zeros(50_000, np.float32)}
DELTA = encode({"w": np.arange(50_000, dtype=np.float32)})
OTHER = encode({"w": np.arange(50_000, dtype=np.float32) + 1})
PLAN = ChunkPlan(len(DELTA), CHUNK)


class Sender:
    """Whoever sends `data` in chunks, by plain HTTP."""

    def __init__(
        self, client: TestClient | httpx2.Client, folder: str, headers: dict[str, str], data: bytes
    ) -> None:
        self.data = data
        self.digest = digest_of(data)
        self._client = client
        self._headers = headers
        self.path = f"{folder}/uploads/{self.digest}"

    def open(self, **changes: object) -> httpx2.Response:
        body = {"size": len(self.data), "chunk_bytes": CHUNK} | changes
        return self._client.put(self.path, json=body, headers=self._headers)

    def look(self) -> wire.Upload:
        answer = self.open()
        assert answer.status_code == 200, answer.text
        return wire.Upload.model_validate(answer.json())

    def put(
        self,
        index: int,
        data: bytes | None = None,
        *,
        digest: str | None = None,
        encoding: str = "",
    ) -> httpx2.Response:
        start, stop = PLAN.span(index)
        content = self.data[start:stop] if data is None else data
        headers = self._headers | {CONTENT_DIGEST: field_of(content) if digest is None else digest}
        if encoding:
            headers["Content-Encoding"] = encoding
        return self._client.put(f"{self.path}/chunks/{index}", content=content, headers=headers)

    def put_all(self) -> None:
        for index in range(PLAN.count):
            assert self.put(index).status_code == 204

    def complete(self) -> httpx2.Response:
        return self._client.post(f"{self.path}/complete", headers=self._headers)


def field_of(data: bytes) -> str:
    checksum = Checksum()
    checksum.update(data)
    return checksum.field()


def said(answer: httpx2.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("slug", "")


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    made = sites_online(federation, "bergen", "oslo")
    a_model(federation, BASE)
    a_run(federation)
    work_off(federation)
    return made


def of_task(site: ActiveSite, task: wire.Task, data: bytes = DELTA) -> Sender:
    headers = site.identity.headers | {"X-Hansa-Lease": str(task.lease.token)}
    return Sender(site.client, f"/v1/tasks/{task.id}", headers, data)


def of_person(federation: Federation, person: Person, data: bytes = DELTA) -> Sender:
    folder = f"/v1/federations/{federation.slug}"
    return Sender(federation.client, folder, person.headers, data)


@pytest.fixture
def sender(federation: Federation) -> Sender:
    return of_person(federation, federation.owner)


@pytest.fixture
def colleague(federation: Federation, transactions: Transactions) -> Person:
    person = make_person(transactions, "bo@example.org")
    add_member(federation.client, federation.owner, federation.slug, person, Role.RESEARCHER)
    return person


def test_chunks_in_any_order_become_the_artifact(federation: Federation, sender: Sender) -> None:
    told = sender.look()
    assert (told.size, told.chunk_bytes, told.chunks) == (len(DELTA), CHUNK, PLAN.count)
    assert (told.have, told.complete, told.urls) == ([], False, [])
    for index in reversed(range(PLAN.count)):
        assert sender.put(index).status_code == 204
    assert sender.look().have == [(0, PLAN.count)]
    answer = sender.complete()
    assert answer.status_code == 201
    assert answer.json() == {"digest": sender.digest, "size": len(DELTA)}
    path = f"/v1/federations/{federation.slug}/artifacts/{sender.digest}"
    assert federation.client.get(path, headers=federation.owner.headers).content == DELTA
    again = sender.complete()
    assert (again.status_code, again.json()) == (200, answer.json())
    assert sender.look().complete


def test_an_update_in_chunks_answers_a_task(sites: list[ActiveSite]) -> None:
    site = sites[0]
    task = site.claim()
    sender = of_task(site, task)
    sender.look()
    sender.put_all()
    assert sender.complete().status_code == 201
    assert site.submit(task, DELTA).status_code == 201
    assert sender.complete().status_code == 200  # also when the task is answered


def test_how_the_file_is_cut_stays_as_first_said(sender: Sender) -> None:
    sender.look()
    sender.put(2)
    told = sender.open(chunk_bytes=8 * CHUNK).json()
    assert (told["chunk_bytes"], told["have"]) == (CHUNK, [[2, 3]])
    told = sender.open(size=len(DELTA) + 1).json()  # another size: another upload
    assert told["have"] == []


def test_a_damaged_chunk_is_refused_and_says_so(sender: Sender) -> None:
    sender.look()
    whole = DELTA[:CHUNK]
    damaged = bytes([whole[0] ^ 1]) + whole[1:]
    answer = sender.put(0, damaged, digest=field_of(whole))
    assert said(answer) == (422, "chunk-damaged")
    assert "chunk 0 was damaged on the way: its XXH3 is" in answer.json()["detail"]
    assert said(sender.put(0, digest="")) == (422, "chunk-damaged")
    assert said(sender.put(0, digest="hansa-xxh3-64=:AAAA:")) == (422, "chunk-damaged")
    assert sender.look().have == []
    assert sender.put(0).status_code == 204


def test_a_chunk_of_another_length_is_refused(sender: Sender) -> None:
    sender.look()
    answer = sender.put(0, DELTA[: CHUNK - 1])
    assert said(answer) == (422, "invalid-request")
    assert f"Content-Length of chunk 0 is {CHUNK - 1}, wanted {CHUNK}" in answer.json()["detail"]
    assert said(sender.put(PLAN.count - 1, DELTA[:CHUNK])) == (422, "invalid-request")
    last = f"{sender.path}/chunks/{PLAN.count}"
    answer = sender._client.put(last, content=b"x", headers=sender._headers)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    assert said(answer) == (422, "invalid-request")
    assert f"wanted one of 0 to {PLAN.count - 1}" in answer.json()["detail"]


def test_an_upload_that_was_not_opened_takes_nothing(sender: Sender) -> None:
    assert said(sender.put(0)) == (409, "upload-incomplete")
    assert said(sender.complete()) == (409, "upload-incomplete")


def test_completing_names_the_chunks_that_are_missing(sender: Sender) -> None:
    sender.look()
    sender.put(1)
    answer = sender.complete()
    assert said(answer) == (409, "upload-incomplete")
    assert f"lacks the chunks 0, 2-{PLAN.count - 1} of its {PLAN.count}" in answer.json()["detail"]
    sender.put_all()
    assert sender.complete().status_code == 201


def test_a_wrong_chunk_is_found_at_the_end_and_the_upload_starts_anew(sender: Sender) -> None:
    sender.look()
    start, stop = PLAN.span(1)
    assert sender.put(1, OTHER[start:stop]).status_code == 204  # whole, and not his file's
    sender.put_all()  # the right one comes too late: a chunk that is there stays
    answer = sender.complete()
    assert said(answer) == (422, "digest-mismatch")
    assert sender.digest in answer.json()["detail"]
    assert sender.look().have == []
    sender.put_all()
    assert sender.complete().status_code == 201


def test_bad_numbers_are_refused_while_they_arrive(sites: list[ActiveSite]) -> None:
    spoilt = bytearray(DELTA)
    spoilt[-4:] = np.float32(np.nan).tobytes()
    spoilt[CHUNK : CHUNK + 4] = np.float32(np.inf).tobytes()
    task = sites[0].claim()
    sender = of_task(sites[0], task, bytes(spoilt))
    sender.look()
    for index in range(PLAN.count):
        answer = sender.put(index)
        assert answer.status_code == 204 or said(answer) == (422, "update-refused")
    answer = sender.complete()
    assert said(answer) in {(422, "update-refused"), (409, "upload-incomplete")}
    assert sender.look().have == []  # and may start anew


def test_the_wrong_tensors_are_refused(sites: list[ActiveSite]) -> None:
    other = encode({"v": np.zeros(50_000, np.float32)})
    task = sites[0].claim()
    sender = of_task(sites[0], task, other)
    sender.look()
    sender.put(0)
    for index in range(1, PLAN.count):
        sender.put(index)
    assert said(sender.complete()) in {(422, "update-refused"), (409, "upload-incomplete")}


def test_a_site_cannot_touch_the_upload_of_another_ones_task(sites: list[ActiveSite]) -> None:
    bergen, oslo = sites
    task, own = bergen.claim(), oslo.claim()
    victim = of_task(bergen, task)
    victim.look()
    victim.put_all()
    thief = of_task(oslo, task)
    assert said(thief.open()) == (404, "not-found")
    assert said(thief.put(0)) == (404, "not-found")
    assert said(thief.complete()) == (404, "not-found")
    mine = of_task(oslo, own)
    assert said(mine.complete()) == (409, "upload-incomplete")  # the same digest, his own task
    told = mine.look()
    assert (told.have, told.complete) == ([], False)
    assert victim.complete().status_code == 201
    told = mine.look()  # stored now, and that is none of his business
    assert (told.have, told.complete) == ([], False)


def test_what_a_colleague_has_stored_is_not_told(
    federation: Federation, sender: Sender, colleague: Person
) -> None:
    sender.look()
    sender.put_all()
    assert sender.complete().status_code == 201
    other = of_person(federation, colleague)
    told = other.look()
    assert (told.have, told.complete) == ([], False)
    other.put_all()
    assert other.complete().status_code == 200  # the bytes were known already


def test_a_lost_lease_ends_the_upload(sites: list[ActiveSite]) -> None:
    site = sites[0]
    task = site.claim()
    sender = of_task(site, task)
    sender.look()
    site.claim()  # another process of this site
    assert said(sender.open()) == (409, "lease-lost")
    assert said(sender.complete()) == (409, "lease-lost")


def test_an_auditor_uploads_nothing(federation: Federation, transactions: Transactions) -> None:
    auditor = make_person(transactions, "audrey@example.org")
    add_member(federation.client, federation.owner, federation.slug, auditor, Role.AUDITOR)
    sender = of_person(federation, auditor)
    assert said(sender.open()) == (403, "forbidden")
    assert said(sender.put(0)) == (403, "forbidden")
    assert said(sender.complete()) == (403, "forbidden")


def test_an_upload_larger_than_allowed_is_refused_before_it_begins(
    sender: Sender, settings: Settings
) -> None:
    answer = sender.open(size=settings.max_artifact_bytes + 1)
    assert said(answer) == (413, "too-large")
    assert f"{settings.max_artifact_bytes} are allowed" in answer.json()["detail"]


def test_so_many_uploads_are_in_progress_and_no_more(federation: Federation) -> None:
    for number in range(MAX_OPEN):
        data = encode({"w": np.full(50_000, number, np.float32)})
        of_person(federation, federation.owner, data).look()
    answer = of_person(federation, federation.owner, OTHER).open()
    assert said(answer) == (429, "too-many-uploads")
    assert answer.headers["Retry-After"] == "5"
    data = encode({"w": np.full(50_000, 1, np.float32)})
    assert of_person(federation, federation.owner, data).look().have == []  # known ones go on


def test_a_compressed_chunk_is_stored_as_it_was(sender: Sender) -> None:
    sender.look()
    start, stop = PLAN.span(0)
    encoded = shuffle.compress(DELTA[start:stop], 4)
    assert encoded is not None
    assert sender.put(0, encoded, encoding=SHUFFLED).status_code == 204
    answer = sender.put(1, DELTA[: CHUNK // 2], encoding=SHUFFLED)
    assert said(answer) == (422, "invalid-request")
    assert said(sender.put(1, encoding="gzip")) == (422, "invalid-request")
    sender.put_all()
    assert sender.complete().status_code == 201


def at_once(count: int, work: Callable[[], httpx2.Response]) -> list[httpx2.Response]:
    with ThreadPoolExecutor(count) as pool:
        return [running.result() for running in [pool.submit(work) for _ in range(count)]]


def test_the_same_chunk_and_completing_twice_at_once(federation: Federation, hub: Hub) -> None:
    with httpx2.Client(base_url=hub.url, timeout=60) as client:
        folder = f"/v1/federations/{federation.slug}"
        sender = Sender(client, folder, federation.owner.headers, DELTA)
        sender.look()
        for index in range(PLAN.count):
            answers = at_once(4, lambda index=index: sender.put(index))
            assert [answer.status_code for answer in answers] == [204] * 4
        answers = at_once(4, sender.complete)
        assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
        assert {answer.text for answer in answers} == {answers[0].text}


def test_a_restarted_hub_completes_what_another_process_took(
    federation: Federation, hub: Hub, sender: Sender
) -> None:
    with httpx2.Client(base_url=hub.url, timeout=60) as client:
        folder = f"/v1/federations/{federation.slug}"
        other = Sender(client, folder, federation.owner.headers, DELTA)
        sender.look()  # in this process
        for index in range(PLAN.count):
            (sender if index % 2 else other).put(index)
        assert other.complete().status_code == 201
        assert sender.complete().status_code == 200


def test_what_was_purged_is_not_complete(
    federation: Federation, sender: Sender, tmp_path: Path
) -> None:
    sender.look()
    sender.put_all()
    sender.complete()
    with federation.transactions.begin("forget") as tx:
        from sqlalchemy import update  # noqa: PLC0415

        from app.db.models import Artifact  # noqa: PLC0415

        tx.session.execute(
            update(Artifact)
            .where(Artifact.digest == sender.digest)
            .values(purged_at=federation.transactions.now())
        )
    stored = tmp_path / "artifacts" / federation.id.hex / sender.digest[:2] / sender.digest
    stored.unlink()
    told = sender.look()
    assert (told.have, told.complete) == ([], False)
    sender.put_all()
    assert sender.complete().status_code == 201
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == sender.digest


def test_a_range_comes_with_a_checksum_when_asked(federation: Federation, sender: Sender) -> None:
    sender.look()
    sender.put_all()
    sender.complete()
    path = f"/v1/federations/{federation.slug}/artifacts/{sender.digest}"
    headers = federation.owner.headers | {"Range": "bytes=10-99999"}
    plain = federation.client.get(path, headers=headers)
    assert CONTENT_DIGEST not in plain.headers
    for wanted in ("hansa-xxh3-64=1", "sha-256=1, hansa-xxh3-64=10"):
        asked = headers | {"Want-Content-Digest": wanted}
        answer = federation.client.get(path, headers=asked)
        assert answer.status_code == 206
        assert answer.headers[CONTENT_DIGEST] == field_of(DELTA[10:100_000])
    asked = headers | {"Want-Content-Digest": "hansa-xxh3-64=0, sha-256=1"}
    assert CONTENT_DIGEST not in federation.client.get(path, headers=asked).headers


def test_an_unknown_upload_of_a_stranger_needs_a_token(client: TestClient) -> None:
    path = f"/v1/tasks/{UUID(int=1)}/uploads/{'a' * 64}"
    answer = client.put(path, json={"size": 1, "chunk_bytes": CHUNK})
    assert answer.status_code in {401, 422}
