"""Alerts are raised once, counted while open, resolved when their cause ends, and seen."""

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.alerts import AlertKind, missed_after
from app.domain.clock import utc_now
from app.domain.rounds import MAX_TASK_ATTEMPTS
from app.services import alerts, sites, watches
from app.services.transactions import Transactions, Tx
from app.settings import Settings
from app.storage import Capacity
from hansa_core.states import Role, RunState
from tests.factories import (
    AGGREGATION_LEASE,
    ONLINE_FOR,
    Federation,
    a_federation,
    a_model,
    a_run,
    change_state,
    lease_round,
    sites_online,
    step_run,
    work_off,
)
from tests.identities import add_member, events_of, make_person
from tests.tensors import a_delta

MISSED = missed_after(ONLINE_FOR) + timedelta(seconds=1)
WAITED = timedelta(minutes=15)


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


def raise_one(
    federation: Federation, tx: Tx, kind: AlertKind = AlertKind.SITE_EXCLUDED, text: str = "why"
) -> None:
    alerts.raise_alert(
        tx, kind, federation_id=federation.id, subject="oslo", message=text, now=utc_now()
    )


def look(federation: Federation, now: datetime) -> None:
    """Do what the worker's sweep does."""
    with federation.transactions.begin("watch") as tx:
        watches.watch_sites(tx, now=now, online_for=ONLINE_FOR)
        watches.watch_runs(tx, now=now, waiting_for=WAITED)


def listed(federation: Federation, **params: Any) -> list[dict[str, Any]]:
    return federation.get("/alerts", **params)["items"]


def kinds(federation: Federation, prefix: str) -> list[str]:
    found = events_of(federation.transactions, federation.id)
    return [kind for kind, _ in found if kind.startswith(prefix)]


def test_an_open_alert_counts_up_and_speaks_once(federation: Federation) -> None:
    for text in ("first", "second"):
        with federation.transactions.begin("raise") as tx:
            raise_one(federation, tx, text=text)
    (alert,) = listed(federation, open=True)
    assert (alert["count"], alert["message"], alert["severity"]) == (2, "second", "warning")
    assert kinds(federation, "alert.") == ["alert.raised"]
    with federation.transactions.begin("resolve") as tx:
        about = {"federation_id": federation.id, "subject": "oslo", "now": utc_now()}
        assert alerts.resolve(tx, AlertKind.SITE_EXCLUDED, **about)  # pyright: ignore[reportArgumentType]
        assert not alerts.resolve(tx, AlertKind.SITE_EXCLUDED, **about)  # pyright: ignore[reportArgumentType]
        raise_one(federation, tx)
    assert kinds(federation, "alert.") == ["alert.raised", "alert.resolved", "alert.raised"]
    assert [item["count"] for item in listed(federation)] == [1, 2]
    assert [item["count"] for item in listed(federation, open=False)] == [2]


def test_of_two_that_raise_the_same_alert_at_once_one_opens_it(federation: Federation) -> None:
    barrier = threading.Barrier(4)

    def raise_it() -> None:
        with federation.transactions.begin("raise") as tx:
            tx.session.connection()
            barrier.wait()
            raise_one(federation, tx)

    threads = [threading.Thread(target=raise_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (alert,) = listed(federation)
    assert alert["count"] == 4
    assert kinds(federation, "alert.") == ["alert.raised"]


def test_a_site_that_goes_silent_is_missed_and_found_again(federation: Federation) -> None:
    site, _ = sites_online(federation, "bergen", "oslo")
    now = utc_now()
    look(federation, now + ONLINE_FOR + timedelta(seconds=5))
    assert listed(federation) == []  # not online for a moment is no news
    with federation.transactions.begin("seen") as tx:
        sites.seen(tx, site.id, now + MISSED, "", None, online_for=ONLINE_FOR)
    for _ in range(2):
        look(federation, now + MISSED)
    (alert,) = listed(federation, open=True)
    assert (alert["kind"], alert["subject"], alert["count"]) == ("site-offline", "oslo", 1)
    assert kinds(federation, "site.o") == ["site.offline"]
    with federation.transactions.begin("seen") as tx:
        other = alert["site_id"]
        sites.seen(tx, other, now + MISSED, "", None, online_for=ONLINE_FOR)
    look(federation, now + MISSED)
    assert listed(federation, open=True) == []
    assert kinds(federation, "site.o") == ["site.offline", "site.online"]


def test_a_suspended_site_is_not_missed_nor_one_just_reinstated(federation: Federation) -> None:
    (site,) = sites_online(federation, "bergen")
    later = utc_now() + MISSED
    look(federation, later)
    change_state(federation, site, "suspend")
    look(federation, later)
    assert listed(federation, open=True) == []
    assert kinds(federation, "site.online") == []  # it did not come back
    with federation.transactions.begin("long ago") as tx:
        sites.seen(tx, site.id, utc_now() - 2 * MISSED, "", None, online_for=ONLINE_FOR)
    change_state(federation, site, "reinstate")
    look(federation, utc_now())
    assert listed(federation, open=True) == []


def test_a_run_that_waits_long_for_sites_raises_an_alert_until_it_moves(
    federation: Federation,
) -> None:
    sites_online(federation, "bergen")
    a_model(federation)
    run = a_run(federation)
    work_off(federation)
    now = utc_now()
    look(federation, now)
    assert listed(federation) == []
    later = now + WAITED + timedelta(seconds=1)
    for _ in range(2):
        look(federation, later)
    (alert,) = [item for item in listed(federation, open=True) if item["kind"] == "run-waiting"]
    assert (alert["run_id"], alert["count"]) == (str(run.id), 1)
    assert str(federation.run(run.id).state_reason) in alert["message"]
    sites_online(federation, "oslo")
    work_off(federation)
    look(federation, utc_now())
    assert [item for item in listed(federation, open=True) if item["kind"] == "run-waiting"] == []


def test_a_task_given_up_and_a_failed_run_are_told(federation: Federation) -> None:
    bergen, oslo = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    run = a_run(federation, deadlines={"round_seconds": 3600})
    work_off(federation)
    bergen.answer(bergen.claim(), a_delta(1))
    now = utc_now()
    for _ in range(MAX_TASK_ATTEMPTS):
        now = oslo.claim().lease.expires_at
        step_run(federation, run.id, now=now)
    work_off(federation, now=now)
    assert federation.run(run.id).state is RunState.FAILED
    found = {item["kind"]: item for item in listed(federation, open=True)}
    assert set(found) == {"task-abandoned", "run-failed"}
    assert found["task-abandoned"]["subject"] == "oslo"
    assert str(MAX_TASK_ATTEMPTS) in found["task-abandoned"]["message"]
    assert found["run-failed"]["severity"] == "critical"


def test_a_worker_that_died_while_aggregating_is_told(federation: Federation) -> None:
    made = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    run = a_run(federation)
    work_off(federation)
    for site in made:
        site.answer(site.claim(), a_delta(1))
    step_run(federation, run.id)
    round_id = federation.round(run.id, 1).id
    now = utc_now()
    assert lease_round(federation, round_id, now=now) is not None
    assert listed(federation) == []
    assert lease_round(federation, round_id, now=now + AGGREGATION_LEASE * 2) is not None
    (alert,) = listed(federation, open=True)
    assert (alert["kind"], alert["run_id"]) == ("aggregation-retried", str(run.id))


def test_trouble_with_the_store_is_told_to_every_federation_until_it_ends(
    federation: Federation, settings: Settings
) -> None:
    other = a_federation(federation.client, federation.transactions, settings, "baltic")

    def note(**found: Any) -> None:
        for _ in range(2):
            with federation.transactions.begin("note") as tx:
                watches.note_store(tx, now=utc_now(), **found)

    def open_kinds() -> list[list[str]]:
        return [[item["kind"] for item in listed(each, open=True)] for each in (federation, other)]

    note(capacity=Capacity(free=5, total=100))
    assert open_kinds() == [["store-nearly-full"]] * 2
    note(unavailable="it does not answer")
    assert open_kinds() == [["store-unavailable", "store-nearly-full"]] * 2
    note(capacity=Capacity(free=50, total=100))
    assert open_kinds() == [[], []]
    note(full="no room")
    assert open_kinds() == [["store-nearly-full"]] * 2
    note()  # a bucket: nothing is known of its space, and it takes what it is given
    assert open_kinds() == [[], []]


def test_acknowledging_takes_somebody_who_can_act_and_ends_what_only_happened(
    federation: Federation, transactions: Transactions
) -> None:
    with federation.transactions.begin("raise") as tx:
        raise_one(federation, tx, AlertKind.SITE_EXCLUDED)
        raise_one(federation, tx, AlertKind.RUN_FAILED)
    by_kind = {item["kind"]: item["id"] for item in listed(federation)}
    researcher = make_person(transactions, "rita@example.org")
    add_member(federation.client, federation.owner, federation.slug, researcher, Role.RESEARCHER)

    def acknowledge(kind: str, headers: dict[str, str]) -> Any:
        path = f"/v1/federations/{federation.slug}/alerts/{by_kind[kind]}/acknowledge"
        return federation.client.post(path, headers=headers)

    assert acknowledge("site-excluded", researcher.headers).status_code == 403
    failed = acknowledge("run-failed", researcher.headers).json()
    assert failed["acknowledged_by"] == "rita@example.org"
    assert failed["resolved_at"] is not None
    lasting = acknowledge("site-excluded", federation.owner.headers).json()
    assert lasting["resolved_at"] is None
    again = acknowledge("run-failed", federation.owner.headers).json()
    assert again == failed
    assert kinds(federation, "alert.")[2:] == [
        "alert.acknowledged",
        "alert.resolved",
        "alert.acknowledged",
    ]


def test_another_federations_alert_is_not_there(federation: Federation, settings: Settings) -> None:
    other = a_federation(federation.client, federation.transactions, settings, "baltic")
    with federation.transactions.begin("raise") as tx:
        raise_one(federation, tx)
    (alert,) = listed(federation)
    assert listed(other) == []
    assert other.post(f"/alerts/{alert['id']}/acknowledge", expect=404)["slug"] == "not-found"
