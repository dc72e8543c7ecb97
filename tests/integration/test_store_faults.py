"""A store that is away or full costs time: nothing partial stays, no run fails, all is told."""

import shutil
from collections.abc import Generator
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.db import retention as rows
from app.db.models import Round
from app.domain.rounds import MAX_AGGREGATION_ATTEMPTS
from app.main import create_app
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import RoundState, RunState
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    sites_online,
    step_run,
    work_off,
)
from tests.tensors import a_delta, digest_of, encode
from tests.workers import worker_of

ENDLESS = 2**62  # bytes; no disk has so many free


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    made = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def worker(
    settings: Settings, sites: list[ActiveSite], monkeypatch: pytest.MonkeyPatch
) -> Generator[None]:
    """The worker's own tasks, without a pause after the store failed."""
    del sites  # the store has to exist
    with worker_of(settings, monkeypatch):
        monkeypatch.setattr(import_module("worker.tasks.rounds"), "STORE_RETRY", timedelta(0))
        import_module("worker.runtime").runtime()  # it started while the store was there
        yield


def aggregating(federation: Federation, sites: list[ActiveSite]) -> wire.RoundDetail:
    """Return a round whose answers are all in, waiting for a worker."""
    run = a_run(federation)
    work_off(federation)
    for seed, site in enumerate(sites):
        site.answer(site.claim(), a_delta(seed))
    step_run(federation, run.id)
    found = federation.round(run.id, 1)
    assert found.state is RoundState.AGGREGATING
    return found


def aggregate_by_worker(round_id: object) -> None:
    import_module("worker.tasks.rounds").aggregate_round(str(round_id))


def test_a_store_that_is_away_is_told_and_back_it_takes_the_same_upload(
    federation: Federation, sites: list[ActiveSite], store: Path
) -> None:
    run = a_run(federation)
    work_off(federation)
    task = sites[0].claim()
    data = encode(a_delta(1))
    away = store.rename(store.with_name("elsewhere"))
    for answer in (
        sites[0].upload(task, data),
        federation.client.get(f"/v1/tasks/{task.id}/checkpoint", headers=sites[0].identity.headers),
        federation.client.get("/readyz"),
    ):
        assert answer.status_code == 503, answer.text
        assert answer.json()["slug"] == "storage-unavailable"
        assert int(answer.headers["Retry-After"]) > 0
    assert not store.exists()  # nothing was made in its place
    away.rename(store)
    assert list((store / "incoming").iterdir()) == []
    assert federation.client.get("/readyz").json()["status"] == "ok"
    assert sites[0].upload(task, data).status_code == 201
    assert sites[0].submit(task, data).status_code == 201
    sites[1].answer(sites[1].claim(), a_delta(2))
    work_off(federation)
    assert federation.run(run.id).state is RunState.COMPLETED


def test_a_store_without_room_refuses_uploads_and_serves_the_rest(
    federation: Federation, sites: list[ActiveSite], settings: Settings, store: Path
) -> None:
    a_run(federation)
    work_off(federation)
    task = sites[0].claim()
    full = settings.model_copy(update={"min_free_bytes": ENDLESS})
    with TestClient(create_app(full)) as client:
        site = ActiveSite(client, sites[0].identity)
        answer = site.upload(task, encode(a_delta(1)))
        assert (answer.status_code, answer.json()["slug"]) == (507, "storage-full")
        assert int(answer.headers["Retry-After"]) > 0
        assert str(ENDLESS) in answer.json()["detail"]
        site.download(task)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "storage-full")
    assert list((store / "incoming").iterdir()) == []


@pytest.mark.usefixtures("worker")
def test_however_long_the_store_is_away_no_attempt_is_counted(
    federation: Federation, sites: list[ActiveSite], store: Path, transactions: Transactions
) -> None:
    waiting = aggregating(federation, sites)
    away = store.rename(store.with_name("elsewhere"))
    for _ in range(MAX_AGGREGATION_ATTEMPTS + 3):
        aggregate_by_worker(waiting.id)
    with transactions.begin("look") as tx:
        row = tx.session.scalars(select(Round).where(Round.id == waiting.id)).one()
        assert (row.attempts, row.lease_token) == (0, None)
        assert row.lease_expires_at is not None
    delayed = federation.round(waiting.run_id, 1)
    assert delayed.state is RoundState.AGGREGATING
    assert "the artifact folder is away" in str(delayed.state_reason)
    kinds = [event["kind"] for event in federation.get("/events", limit=500)["items"]]
    assert kinds.count("round.delayed") == 1
    away.rename(store)
    aggregate_by_worker(waiting.id)
    ended = federation.run(waiting.run_id)
    assert (ended.state, ended.rounds_completed) == (RunState.COMPLETED, 1)
    assert federation.round(waiting.run_id, 1).state_reason is None


@pytest.mark.usefixtures("worker")
def test_a_released_round_waits_before_the_next_attempt_and_is_due_then(
    federation: Federation,
    sites: list[ActiveSite],
    store: Path,
    transactions: Transactions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks = import_module("worker.tasks.rounds")
    monkeypatch.setattr(tasks, "STORE_RETRY", timedelta(hours=1))
    waiting = aggregating(federation, sites)
    away = store.rename(store.with_name("elsewhere"))
    aggregate_by_worker(waiting.id)
    away.rename(store)
    aggregate_by_worker(waiting.id)  # a message that comes too early
    assert federation.round(waiting.run_id, 1).state is RoundState.AGGREGATING
    work_off(federation, now=transactions.now() + timedelta(hours=1))
    assert federation.run(waiting.run_id).state is RunState.COMPLETED


@pytest.mark.usefixtures("worker")
def test_a_checkpoint_that_was_once_deleted_is_made_again(
    federation: Federation, sites: list[ActiveSite], transactions: Transactions
) -> None:
    first = aggregating(federation, sites)
    aggregate_by_worker(first.id)
    digest = federation.checkpoint(federation.run(first.run_id).latest_checkpoint_id).digest
    blob = federation.artifacts.stat(federation.id, digest)
    assert blob is not None
    base = federation.run(first.run_id).base_checkpoint_id
    with transactions.begin("purge") as tx:
        (tombstone,) = rows.mark_purged(tx.session, federation.id, [digest], now=transactions.now())
    federation.artifacts.delete(tombstone.federation_id, tombstone.digest)
    again = federation.post(
        "/runs", {"plan": a_run_plan(federation, first.run_id), "checkpoint_id": str(base)}
    )
    work_off(federation)
    for seed, site in enumerate(sites):
        site.answer(site.claim(), a_delta(seed))
    step_run(federation, again["id"])
    second = federation.round(again["id"], 1)
    aggregate_by_worker(second.id)
    ended = federation.run(again["id"])
    assert ended.state is RunState.COMPLETED
    assert federation.checkpoint(ended.latest_checkpoint_id).digest == digest
    assert federation.artifacts.stat(federation.id, digest) == blob


def a_run_plan(federation: Federation, run_id: object) -> object:
    return federation.get(f"/runs/{run_id}")["plan"]


@pytest.mark.usefixtures("worker")
def test_a_worker_that_starts_without_the_stores_disk_fails_no_run(
    federation: Federation, sites: list[ActiveSite], store: Path
) -> None:
    waiting = aggregating(federation, sites)
    away = store.rename(store.with_name("elsewhere"))
    import_module("worker.runtime").close_runtime()  # the worker starts anew: it makes a folder
    aggregate_by_worker(waiting.id)
    assert federation.run(waiting.run_id).state is RunState.RUNNING
    assert "nothing at all" in str(federation.round(waiting.run_id, 1).state_reason)
    shutil.rmtree(store)
    away.rename(store)  # mounted again
    aggregate_by_worker(waiting.id)
    assert federation.run(waiting.run_id).state is RunState.COMPLETED


def test_what_a_broken_upload_left_is_no_blob(
    federation: Federation, sites: list[ActiveSite], store: Path
) -> None:
    a_run(federation)
    work_off(federation)
    task = sites[0].claim()
    data = encode(a_delta(1))
    broken = sites[0].upload(task, data[:-8], digest=digest_of(data))
    assert broken.status_code == 422
    assert list((store / "incoming").iterdir()) == []
