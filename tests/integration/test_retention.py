"""A retention policy deletes what it says, never what is needed, and loses no race."""

import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text, update

from app.db.models import Artifact, Event, Receipt, Round, Run
from app.domain.errors import ArtifactPurgedError, StorageUnavailableError
from app.services import checkpoints, receipts, retention
from app.services.checkpoints import NewBlob
from app.services.transactions import Transactions
from app.settings import Settings
from app.storage.artifacts import blob_key
from hansa_core import wire
from hansa_core.layouts import Layout
from hansa_core.states import Role, RunState
from tests.factories import (
    Federation,
    a_federation,
    a_model,
    a_plan,
    a_run,
    sites_online,
    work_off,
)
from tests.identities import make_person
from tests.tensors import a_delta, decode, digest_of, encode

GRACE = timedelta(hours=24)
MONTH = timedelta(days=31)
NOTHING: wire.Retention = wire.Retention()


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def run(federation: Federation) -> wire.Run:
    """A completed run of three rounds, whose updates are all different."""
    sites = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    started = a_run(federation, rounds=3)
    for number in range(3):
        work_off(federation)
        for seed, site in enumerate(sites):
            site.answer(site.claim(), a_delta(10 * number + seed))
    work_off(federation)
    ended = federation.run(started.id)
    assert (ended.state, ended.rounds_completed) == (RunState.COMPLETED, 3)
    return ended


def update_digests(number: int) -> list[str]:
    return [digest_of(encode(a_delta(10 * (number - 1) + seed))) for seed in range(2)]


def change(
    federation: Federation, body: dict[str, object], *, expect: int = 200
) -> wire.Federation:
    answer = federation.client.patch(
        f"/v1/federations/{federation.slug}", json=body, headers=federation.owner.headers
    )
    assert answer.status_code == expect, answer.text
    return wire.Federation.model_validate(answer.json())


def later(federation: Federation) -> datetime:
    return federation.transactions.now() + MONTH


def apply(federation: Federation) -> None:
    retention.apply(
        federation.transactions, federation.artifacts, now=later(federation), grace=GRACE
    )


def stored(federation: Federation, digest: str) -> bool:
    return federation.artifacts.stat(federation.id, digest) is not None


def checkpoint_digests(federation: Federation, run: wire.Run) -> list[str]:
    """Return the digests of the base and of each round's checkpoint."""
    made = federation.get(f"/models/{run.plan.model}/checkpoints", limit=100)["items"]
    return [item["digest"] for item in reversed(made)]


def read(federation: Federation, digest: str) -> tuple[int, str]:
    answer = federation.client.get(
        f"/v1/federations/{federation.slug}/artifacts/{digest}", headers=federation.owner.headers
    )
    return answer.status_code, answer.text if answer.status_code != 200 else ""


def upload(federation: Federation, data: bytes) -> int:
    return federation.client.put(
        f"/v1/federations/{federation.slug}/artifacts/{digest_of(data)}",
        content=data,
        headers=federation.owner.headers,
    ).status_code


def test_the_default_keeps_everything(federation: Federation, run: wire.Run) -> None:
    assert federation.get("")["retention"] == NOTHING.model_dump()
    apply(federation)
    every = [*checkpoint_digests(federation, run)]
    every += [digest for number in (1, 2, 3) for digest in update_digests(number)]
    assert len(set(every)) == 10
    assert all(stored(federation, digest) for digest in every)


def test_a_policy_is_the_owners_and_says_before_what_goes(
    federation: Federation, run: wire.Run, transactions: Transactions
) -> None:
    with transactions.begin("age") as tx:
        long_ago = transactions.now() - MONTH
        tx.session.execute(update(Artifact).values(created_at=long_ago))
        tx.session.execute(update(Round).values(closed_at=long_ago))
        tx.session.execute(update(Run).values(finished_at=long_ago))
    wanted = {"updates_days": 30, "updates_rounds": 1, "checkpoints_every": 2}
    told = federation.post("/retention/preview", wanted, expect=200)
    size = len(encode(a_delta(0)))
    assert (told["updates"], told["updates_bytes"]) == (4, 4 * size)
    assert told["checkpoints"] == 1
    assert (told["unreferenced"], told["events"]) == (0, 0)
    assert federation.get("")["retention"] == NOTHING.model_dump()  # only asked
    assert federation.post("/retention/preview", expect=200)["updates"] == 0
    assert change(federation, {"retention": wanted}).retention == wire.Retention(**wanted)
    assert federation.post("/retention/preview", expect=200) == told
    assert change(federation, {"retention": {}}).retention == NOTHING
    researcher = make_person(transactions, "researcher@nordic.example")
    federation.client.put(
        f"/v1/federations/{federation.slug}/members/{researcher.id}",
        json={"role": Role.RESEARCHER},
        headers=federation.owner.headers,
    )
    refused = federation.client.patch(
        f"/v1/federations/{federation.slug}",
        json={"retention": wanted},
        headers=researcher.headers,
    )
    assert refused.status_code == 403
    wrong = federation.client.patch(
        f"/v1/federations/{federation.slug}",
        json={"retention": {"checkpoints_every": 0}},
        headers=federation.owner.headers,
    )
    assert wrong.status_code == 422


def test_what_the_policy_lets_go_is_deleted_and_answers_410(
    federation: Federation, run: wire.Run
) -> None:
    base, one, two, three = checkpoint_digests(federation, run)
    change(federation, {"retention": {"updates_rounds": 1, "checkpoints_every": 2}})
    apply(federation)
    gone = [one, *update_digests(1), *update_digests(2)]
    for digest in gone:
        assert not stored(federation, digest)
        status, text = read(federation, digest)
        assert status == 410
        assert "artifact-purged" in text
        assert f"{later(federation):%Y-%m-%d}" in text
    for digest in (base, two, three, *update_digests(3)):
        assert read(federation, digest)[0] == 200
    (event,) = [
        item
        for item in federation.get("/events", limit=500)["items"]
        if item["kind"] == "artifacts.purged"
    ]
    assert event["data"]["count"] == len(gone)
    # What is said of the run stays, and so do the signatures.
    assert len(federation.get(f"/runs/{run.id}/updates")["items"]) == 6
    before = federation.get("/events", limit=500)
    apply(federation)  # again: nothing is left to do
    assert federation.get("/events", limit=500) == before


def receipt_of(federation: Federation, run: wire.Run, number: int) -> str:
    with federation.transactions.begin("look") as tx:
        query = select(Receipt.digest).join(Round, Round.id == Receipt.round_id)
        return tx.session.execute(
            query.where(Round.run_id == run.id, Round.number == number)
        ).scalar_one()


def wait_for_a_lock(transactions: Transactions) -> None:
    """Wait until some transaction of the test's database waits for another's lock."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    deadline = time.monotonic() + 30
    count = 0
    while not count:
        assert time.monotonic() < deadline, "nothing came to a lock"
        with transactions.begin("look") as tx:
            count = tx.session.execute(waiting).scalar_one()


def test_a_hold_that_comes_beside_a_purge_waits_and_one_before_it_is_seen(
    federation: Federation, run: wire.Run, transactions: Transactions
) -> None:
    digest = receipt_of(federation, run, 1)
    pages: list[retention.PurgedPage] = []

    def purge() -> None:
        with transactions.begin("purge") as tx:
            pages.append(
                retention.purge_page(
                    tx,
                    federation.id,
                    wire.Retention(updates_days=0),
                    after="",
                    now=later(federation),
                    grace=GRACE,
                )
            )

    thread = threading.Thread(target=purge)
    with transactions.begin("hold") as tx:
        request = wire.HoldRequest(reason="an inquiry")
        receipts.hold(
            tx,
            federation.id,
            run.id,
            digest,
            request,
            user_id=federation.owner.id,
            now=transactions.now(),
        )
        tx.session.flush()
        thread.start()
        wait_for_a_lock(transactions)  # the purge, which has not seen the hold
    thread.join(30)
    (page,) = pages
    going = {item.digest for item in page.tombstones}
    assert going == {*update_digests(2), *update_digests(3)}


def test_what_a_held_receipt_needs_is_kept(federation: Federation, run: wire.Run) -> None:
    base, one, two, _ = checkpoint_digests(federation, run)
    digest = receipt_of(federation, run, 2)
    held = federation.client.put(
        f"/v1/federations/{federation.slug}/runs/{run.id}/receipts/{digest}/hold",
        json={"reason": "an inquiry"},
        headers=federation.owner.headers,
    )
    assert held.status_code == 200, held.text
    change(federation, {"retention": {"updates_days": 0, "checkpoints_every": 100}})
    apply(federation)
    assert all(stored(federation, digest) for digest in (base, one, two, *update_digests(2)))
    assert not any(stored(federation, digest) for digest in update_digests(1))


def test_a_running_run_loses_nothing_that_it_needs(federation: Federation) -> None:
    sites = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    started = a_run(federation, rounds=3, deadlines={"round_seconds": 3600})
    work_off(federation)
    for seed, site in enumerate(sites):
        site.answer(site.claim(), a_delta(seed))
    work_off(federation)
    sites[0].answer(sites[0].claim(), a_delta(10))
    change(federation, {"retention": {"updates_days": 0, "checkpoints_every": 100}})
    apply(federation)
    task = sites[1].claim()
    sites[1].download(task)  # the base of the open round
    sites[1].answer(task, a_delta(11))
    work_off(federation)
    assert federation.run(started.id).rounds_completed == 2


def test_no_run_starts_from_a_deleted_checkpoint_until_it_is_uploaded_again(
    federation: Federation, run: wire.Run
) -> None:
    made = federation.get("/models/tumor/checkpoints", limit=100)["items"]
    first = next(item for item in made if item["round_number"] == 1)
    answer = federation.client.get(
        f"/v1/federations/{federation.slug}/checkpoints/{first['id']}/content",
        headers=federation.owner.headers,
    )
    change(federation, {"retention": {"checkpoints_every": 100}})
    apply(federation)
    body = {"plan": a_plan(), "checkpoint_id": first["id"]}
    assert federation.post("/runs", body, expect=410)["slug"] == "artifact-purged"
    adopted = {"digest": first["digest"]}
    problem = federation.post("/models/tumor/checkpoints", adopted, expect=410)
    assert problem["slug"] == "artifact-purged"
    assert upload(federation, answer.content) == 201
    assert read(federation, first["digest"])[0] == 200
    federation.post("/runs", body)
    apply(federation)
    assert stored(federation, first["digest"])  # it is a run's base now


def test_old_events_of_ended_runs_go(
    federation: Federation, run: wire.Run, transactions: Transactions
) -> None:
    change(federation, {"retention": {"events_days": 30}})
    apply(federation)
    assert federation.get("/events", limit=500)["items"] == []
    waiting = a_run(federation)
    with transactions.begin("age") as tx:
        tx.session.execute(update(Event).values(at=transactions.now() - timedelta(days=29)))
    retention.apply(
        transactions, federation.artifacts, now=transactions.now() + timedelta(days=2), grace=GRACE
    )
    left = federation.get("/events", limit=500)["items"]
    assert {item["run_id"] for item in left} == {str(waiting.id)}
    assert run.id != waiting.id


def test_a_purge_that_was_killed_leaves_an_orphan_that_is_swept(
    federation: Federation, run: wire.Run, transactions: Transactions
) -> None:
    policy = wire.Retention(updates_rounds=2)
    now = later(federation)
    with transactions.begin("purge") as tx:
        page = retention.purge_page(tx, federation.id, policy, after="", now=now, grace=GRACE)
    assert sorted(item.digest for item in page.tombstones) == sorted(update_digests(1))
    assert all(stored(federation, digest) for digest in update_digests(1))  # killed here
    assert read(federation, update_digests(1)[0])[0] == 410
    swept = retention.sweep_orphans(transactions, federation.artifacts, now=now, grace=GRACE)
    assert swept == 2
    assert not any(stored(federation, digest) for digest in update_digests(1))
    assert retention.sweep_orphans(transactions, federation.artifacts, now=now, grace=GRACE) == 0


def test_what_was_uploaded_and_never_used_goes_after_the_grace_period(
    federation: Federation, transactions: Transactions
) -> None:
    data = encode(a_delta(5))
    assert upload(federation, data) == 201
    now = transactions.now()
    retention.apply(transactions, federation.artifacts, now=now, grace=GRACE)
    assert stored(federation, digest_of(data))
    assert upload(federation, data) == 200
    apply(federation)
    assert not stored(federation, digest_of(data))


def test_what_was_sent_again_lately_is_not_deleted(
    federation: Federation, transactions: Transactions
) -> None:
    data = encode(a_delta(5))
    assert upload(federation, data) == 201
    with transactions.begin("age") as tx:
        tx.session.execute(update(Artifact).values(created_at=transactions.now() - MONTH))
    assert upload(federation, data) == 200  # its manifest is on the way
    retention.apply(transactions, federation.artifacts, now=transactions.now(), grace=GRACE)
    assert stored(federation, digest_of(data))


def test_an_upload_between_tombstone_and_deletion_saves_the_bytes(
    federation: Federation, run: wire.Run, transactions: Transactions
) -> None:
    policy = wire.Retention(updates_rounds=2)
    with transactions.begin("purge") as tx:
        page = retention.purge_page(
            tx, federation.id, policy, after="", now=later(federation), grace=GRACE
        )
    data = encode(a_delta(0))
    assert upload(federation, data) == 201
    deleted = {
        item.digest: retention.delete_blob(transactions, federation.artifacts, item)
        for item in page.tombstones
    }
    assert deleted == {digest: digest != digest_of(data) for digest in update_digests(1)}
    assert read(federation, digest_of(data))[0] == 200


def test_a_deletion_between_publishing_and_recording_is_noticed(
    federation: Federation, run: wire.Run, transactions: Transactions, tmp_path: Path
) -> None:
    policy = wire.Retention(updates_rounds=2)
    with transactions.begin("purge") as tx:
        page = retention.purge_page(
            tx, federation.id, policy, after="", now=later(federation), grace=GRACE
        )
    data = encode(a_delta(0))
    blob = NewBlob(digest_of(data), len(data), Layout.of(decode(data)))
    for item in page.tombstones:  # after the upload found the bytes there
        assert retention.delete_blob(transactions, federation.artifacts, item)
    assert not (tmp_path / "artifacts" / blob_key(federation.id, blob.digest)).exists()
    with pytest.raises(ArtifactPurgedError), transactions.begin("record") as tx:
        checkpoints.record_artifact(tx, federation.id, blob, now=transactions.now())
    with (
        pytest.raises(StorageUnavailableError, match="send it again"),
        transactions.begin("revive") as tx,
    ):
        retention.revive(tx, federation.artifacts, federation.id, blob, now=transactions.now())
    assert read(federation, blob.digest)[0] == 410
    assert upload(federation, data) == 201  # as the client does after the 503
    assert read(federation, blob.digest)[0] == 200


def test_uploads_and_deletions_that_race_never_leave_a_row_without_bytes(
    federation: Federation, transactions: Transactions
) -> None:
    data = encode(a_delta(1))
    digest = digest_of(data)
    stop = threading.Event()
    failures: list[BaseException] = []

    def delete() -> None:
        try:
            while not stop.is_set():
                now = transactions.now() + timedelta(days=3)
                retention.apply(transactions, federation.artifacts, now=now, grace=GRACE)
                retention.sweep_orphans(transactions, federation.artifacts, now=now, grace=GRACE)
        except BaseException as error:  # carried to the test's own thread
            failures.append(error)

    deleters = [threading.Thread(target=delete) for _ in range(2)]
    for thread in deleters:
        thread.start()
    seen: set[int] = set()
    try:
        for _ in range(60):
            status = upload(federation, data)
            seen.add(status)
            assert status in {200, 201, 503}
    finally:
        stop.set()
        for thread in deleters:
            thread.join(60)
    assert failures == []
    assert 201 in seen
    while upload(federation, data) == 503:
        pass
    with transactions.begin("look") as tx:
        row = tx.session.get_one(Artifact, (federation.id, digest))
        assert row.purged_at is None
    assert read(federation, digest)[0] == 200
