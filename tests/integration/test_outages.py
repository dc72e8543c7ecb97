"""Time in which nobody swept eats no deadline, and is given back once."""

from datetime import timedelta
from importlib import import_module

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.db import marks
from app.db.models import Round, Task
from app.services import housekeeping
from app.services.housekeeping import MARK, Leases
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import RoundState
from tests.factories import (
    LEASE_FOR,
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    sites_online,
    work_off,
)
from tests.workers import worker_of

LEASES = Leases(of_tasks=LEASE_FOR, of_rounds=timedelta(seconds=30))
HOUR = timedelta(hours=1)


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    made = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    return made


def an_open_run(federation: Federation) -> wire.Run:
    run = a_run(federation, deadlines={"round_seconds": 600})
    work_off(federation)
    return run


def sweep_after(federation: Federation, seconds: float) -> timedelta:
    """Sweep, as if the sweep before had been so long ago; return what was forgiven."""
    transactions = federation.transactions
    now = transactions.now() + timedelta(days=1)
    with transactions.begin("before") as tx:
        marks.advance(tx.session, MARK, now=now)
    with transactions.begin("sweep") as tx:
        return housekeeping.note_sweep(tx, now=now + timedelta(seconds=seconds), leases=LEASES)


def extensions(federation: Federation) -> list[dict[str, object]]:
    events = federation.get("/events", limit=500)["items"]
    return [event for event in events if event["kind"] == "round.extended"]


@pytest.mark.usefixtures("sites")
def test_the_gap_between_two_sweeps_is_added_to_the_deadlines(federation: Federation) -> None:
    run = an_open_run(federation)
    before = federation.round(run.id, 1).deadline_at
    assert sweep_after(federation, 3600) == HOUR
    assert federation.round(run.id, 1).deadline_at == before + HOUR
    (event,) = extensions(federation)
    assert event["run_id"] == str(run.id)
    assert event["data"]["seconds"] == 3600.0  # pyright: ignore[reportIndexIssue, reportUnknownVariableType]


@pytest.mark.usefixtures("sites")
def test_sweeps_in_time_move_nothing(federation: Federation) -> None:
    run = an_open_run(federation)
    before = federation.round(run.id, 1)
    assert sweep_after(federation, 59) == timedelta()
    assert federation.round(run.id, 1) == before
    assert extensions(federation) == []


@pytest.mark.usefixtures("sites")
def test_an_outage_is_forgiven_once(federation: Federation) -> None:
    run = an_open_run(federation)
    before = federation.round(run.id, 1).deadline_at
    transactions = federation.transactions
    start = transactions.now()
    end = start + 2 * HOUR
    with transactions.begin("before") as tx:
        marks.advance(tx.session, MARK, now=start)
    for _ in range(3):  # a step, then sweeps of two workers, all late
        with transactions.begin("forgive") as tx:
            housekeeping.forgive_outage(tx, now=end, leases=LEASES)
        with transactions.begin("sweep") as tx:
            housekeeping.note_sweep(tx, now=end, leases=LEASES)
    assert federation.round(run.id, 1).deadline_at == before + 2 * HOUR


@pytest.mark.usefixtures("sites")
def test_a_round_that_opened_within_the_outage_gets_only_its_share(
    federation: Federation,
) -> None:
    transactions = federation.transactions
    start = transactions.now() - HOUR
    with transactions.begin("before") as tx:
        marks.advance(tx.session, MARK, now=start)
    run = an_open_run(federation)
    opened = federation.round(run.id, 1)
    end = opened.created_at + timedelta(minutes=10)
    with transactions.begin("sweep") as tx:
        housekeeping.note_sweep(tx, now=end, leases=LEASES)
    assert federation.round(run.id, 1).deadline_at == opened.deadline_at + timedelta(minutes=10)


def test_leases_keep_what_was_left_of_them_and_grow_no_longer_than_fresh_ones(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = an_open_run(federation)
    old, renewed = (site.claim() for site in sites)
    transactions = federation.transactions
    end = transactions.now() + HOUR
    start = old.lease.expires_at - timedelta(seconds=20)
    with transactions.begin("before") as tx:
        marks.advance(tx.session, MARK, now=start)
        row = tx.session.get_one(Task, renewed.id)
        row.lease_expires_at = end + timedelta(seconds=50)  # a heartbeat got through meanwhile
    with transactions.begin("sweep") as tx:
        housekeeping.note_sweep(tx, now=end, leases=LEASES)
    with transactions.begin("look") as tx:
        found = {
            row.id: row.lease_expires_at
            for row in tx.session.scalars(select(Task).join(Round).where(Round.run_id == run.id))
        }
    assert found[old.id] == end + timedelta(seconds=20)
    assert found[renewed.id] == end + LEASE_FOR


def test_a_step_that_comes_before_the_sweep_closes_no_round_for_the_outage(
    federation: Federation,
    sites: list[ActiveSite],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hub was down past the deadline; a message of before is the first thing that moves."""
    del sites
    run = an_open_run(federation)
    transactions = federation.transactions
    now = transactions.now()
    with transactions.begin("before") as tx:
        marks.advance(tx.session, MARK, now=now - HOUR)
        row = tx.session.scalars(select(Round).where(Round.run_id == run.id)).one()
        row.created_at = now - 2 * HOUR
        row.deadline_at = now - timedelta(minutes=30)  # within the outage
    with worker_of(settings, monkeypatch):
        tasks = import_module("worker.tasks.rounds")
        tasks.step_run(str(run.id))
        after = federation.round(run.id, 1)
        assert after.state is RoundState.COLLECTING
        assert after.deadline_at > now + timedelta(minutes=29)
        tasks.sweep()
    assert federation.round(run.id, 1).deadline_at == after.deadline_at
    assert len(extensions(federation)) == 1
