"""Finding sites among many, and what became of everything that they were asked for."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from app.domain.clock import utc_now
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import RoundKind, SiteState, TaskState
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    an_active_site,
    change_state,
    sites_online,
    work_off,
)
from tests.identities import SiteIdentity, events_of, make_invitation
from tests.tensors import a_delta, encode

UPDATE_BYTES = len(encode(a_delta(1)))
CONTROL = {name: it for name, it in a_delta(2).items() if it.dtype.kind == "f"}  # a part
TRACEBACK = "Traceback (most recent call last):\n  ...\nMemoryError"


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


def site_of(federation: Federation, site: ActiveSite) -> wire.Site:
    return wire.Site.model_validate(federation.get(f"/sites/{site.id}"))


def record_of(federation: Federation, site: ActiveSite) -> wire.SiteRecord:
    record = site_of(federation, site).record
    assert record is not None
    return record


def names(federation: Federation, **params: Any) -> list[str]:
    return [site["name"] for site in federation.get("/sites", **params)["items"]]


def tasks_of(federation: Federation, site: ActiveSite, **params: Any) -> list[wire.SiteTask]:
    found = federation.get(f"/sites/{site.id}/tasks", **params)["items"]
    return [wire.SiteTask.model_validate(item) for item in found]


def hold_round(federation: Federation, *answering: ActiveSite, failing: ActiveSite) -> None:
    """Answer the open round at some sites and fail it at another; the rest comes too late."""
    work_off(federation)
    for number, site in enumerate(answering):
        site.answer(site.claim(), a_delta(number))
    assert failing.fail(failing.claim(), "out of memory", TRACEBACK).status_code == 204
    work_off(federation, now=utc_now() + timedelta(seconds=31))


def test_a_record_adds_up_what_became_of_a_sites_tasks(federation: Federation) -> None:
    bergen, malmo, oslo, turku = sites_online(federation, "bergen", "malmo", "oslo", "turku")
    a_model(federation)
    a_run(federation, name="first")
    hold_round(federation, bergen, oslo, failing=turku)
    a_run(federation, name="second")
    hold_round(federation, bergen, turku, failing=oslo)
    steady = record_of(federation, bergen)
    assert steady == wire.SiteRecord(
        asked=2,
        done=2,
        rounds=2,
        bytes_up=2 * UPDATE_BYTES,
        last_done_at=tasks_of(federation, bergen)[0].task.finished_at,
        reliability=1.0,
    )
    for site in (oslo, turku):
        mixed = record_of(federation, site)
        assert (mixed.asked, mixed.done, mixed.failed, mixed.late) == (2, 1, 1, 0)
        assert (mixed.rounds, mixed.bytes_up, mixed.reliability) == (1, UPDATE_BYTES, 0.5)
    silent = record_of(federation, malmo)
    assert silent == wire.SiteRecord(asked=2, late=2, reliability=0.0)


def test_the_answer_to_a_round_that_was_burnt_is_not_a_contribution(
    federation: Federation,
) -> None:
    oslo, turku = sites_online(federation, "oslo", "turku")
    a_model(federation)
    run = a_run(federation)
    work_off(federation)
    oslo.answer(oslo.claim(), a_delta(1))
    turku.claim()
    federation.post(f"/runs/{run.id}/cancel", expect=200)
    answered = record_of(federation, oslo)
    assert (answered.done, answered.rounds, answered.bytes_up) == (1, 0, UPDATE_BYTES)
    assert record_of(federation, turku) == wire.SiteRecord(asked=1, cancelled=1)


def test_parts_of_an_update_are_bytes_as_well(federation: Federation) -> None:
    [oslo] = sites_online(federation, "oslo")
    a_model(federation)
    a_run(federation, cohort={"min_sites": 1}, strategy={"name": "scaffold"})
    work_off(federation)
    oslo.answer(oslo.claim(), a_delta(1), {"control": CONTROL})
    work_off(federation)
    record = record_of(federation, oslo)
    assert (record.rounds, record.bytes_up) == (1, UPDATE_BYTES + len(encode(CONTROL)))


def test_a_site_that_was_never_asked_has_no_reliability(federation: Federation) -> None:
    oslo = an_active_site(federation, "oslo")
    assert record_of(federation, oslo) == wire.SiteRecord()


def test_a_list_has_records_where_they_are_asked_for(federation: Federation) -> None:
    oslo, turku = sites_online(federation, "oslo", "turku")
    a_model(federation)
    a_run(federation)
    hold_round(federation, oslo, failing=turku)
    listed = federation.get("/sites", record=True)["items"]
    told = {item["name"]: wire.SiteRecord.model_validate(item["record"]) for item in listed}
    assert told == {"oslo": record_of(federation, oslo), "turku": record_of(federation, turku)}
    assert (told["oslo"].done, told["turku"].failed) == (1, 1)
    assert [item["record"] for item in federation.get("/sites")["items"]] == [None, None]


def test_a_sites_tasks_are_told_newest_first_with_where_they_belong(
    federation: Federation,
) -> None:
    oslo, turku = sites_online(federation, "oslo", "turku")
    a_model(federation)
    first = a_run(federation, name="first", rounds=2)
    hold_round(federation, oslo, failing=turku)
    second = a_run(
        federation, name="second", cohort={"min_sites": 1}, evaluation={"every": 0, "final": True}
    )
    work_off(federation)
    for site in (oslo, turku):
        site.answer(site.claim(), a_delta(3))
    work_off(federation)
    seen = [
        (it.run_id, it.run_name, it.round_number, it.kind, it.task.state, it.task.traceback)
        for it in tasks_of(federation, turku)
    ]
    assert seen == [
        (second.id, "second", 2, RoundKind.EVALUATE, TaskState.OPEN, None),
        (second.id, "second", 1, RoundKind.TRAIN, TaskState.DONE, None),
        (first.id, "first", 1, RoundKind.TRAIN, TaskState.FAILED, TRACEBACK),
    ]
    done = tasks_of(federation, turku)[1].task
    assert (done.site_name, done.update_size) == ("turku", UPDATE_BYTES)


def test_an_evaluators_task_is_an_evaluation(federation: Federation) -> None:
    sites_online(federation, "oslo")
    judge = sites_online(federation, "judge")[0]
    a_model(federation)
    a_run(
        federation,
        cohort={"min_sites": 1},
        evaluation={"every": 1, "final": False, "evaluators": ["judge"]},
    )
    work_off(federation)
    [asked] = tasks_of(federation, judge)
    assert (asked.kind, asked.task.evaluator) == (RoundKind.EVALUATE, True)


def test_tasks_are_narrowed_by_state_page_by_page(federation: Federation) -> None:
    oslo, turku = sites_online(federation, "oslo", "turku")
    a_model(federation)
    for name in ("one", "two", "three"):
        a_run(federation, name=name, cohort={"min_sites": 1})
        hold_round(federation, oslo, failing=turku)
    failed = [it.run_name for it in tasks_of(federation, turku, state="failed")]
    assert failed == ["three", "two", "one"]
    assert tasks_of(federation, turku, state=["done", "late"]) == []
    first = federation.get(f"/sites/{turku.id}/tasks", state="failed", limit=2)
    a_run(federation, name="four", cohort={"min_sites": 1})
    hold_round(federation, oslo, failing=turku)  # a newer one, between two pages
    rest = federation.get(
        f"/sites/{turku.id}/tasks", state="failed", limit=2, cursor=first["next_cursor"]
    )
    shown = [item["run_name"] for page in (first, rest) for item in page["items"]]
    assert shown == ["three", "two", "one"]
    assert rest["next_cursor"] is None


def test_sites_are_narrowed_by_state_presence_and_name(federation: Federation) -> None:
    _, bergen, _ = sites_online(federation, "oslo-1", "bergen", "oslo-2")
    an_active_site(federation, "oslo_3")
    change_state(federation, bergen, "suspend")
    assert names(federation, state="suspended") == ["bergen"]
    assert names(federation, state=["suspended", "active"], online=True) == [
        "oslo-2",
        "bergen",
        "oslo-1",
    ]
    assert names(federation, state="revoked") == []
    assert names(federation, online=False) == ["oslo_3"]
    assert names(federation, q="OSLO") == ["oslo_3", "oslo-2", "oslo-1"]
    assert names(federation, q="oslo", online=True, state="active") == ["oslo-2", "oslo-1"]
    assert names(federation, q="o_3") == ["oslo_3"]  # no wildcard
    assert names(federation, q="%") == []


def test_a_site_that_was_seen_long_ago_is_not_online(
    federation: Federation, settings: Settings
) -> None:
    [oslo] = sites_online(federation, "oslo")
    assert settings.site_online_seconds < 3600
    with federation.transactions.begin("long_ago") as tx:
        tx.session.connection().exec_driver_sql(
            "UPDATE sites SET last_seen_at = last_seen_at - interval '1 hour'"
        )
    assert names(federation, online=True) == []
    assert names(federation, online=False) == ["oslo"]
    assert not site_of(federation, oslo).online
    assert federation.get("/overview")["sites"]["online"] == 0


def test_pages_of_narrowed_sites_neither_repeat_nor_leave_out(federation: Federation) -> None:
    made = [an_active_site(federation, f"oslo-{number}") for number in range(5)]
    an_active_site(federation, "bergen")
    shown: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = federation.get("/sites", q="oslo", state="active", limit=2, **cursor)
        shown += [item["name"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
        an_active_site(federation, f"oslo-late-{len(shown)}")
        change_state(federation, made[int(shown[-1][-1])], "suspend")  # it was shown already
    assert shown == ["oslo-4", "oslo-3", "oslo-2", "oslo-1", "oslo-0"]


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/sites", {"state": "asleep"}),
        ("/sites", {"online": "perhaps"}),
        ("/sites", {"q": ""}),
        ("/sites", {"q": "os\x00lo"}),
        ("/sites", {"q": "o" * 201}),
        (f"/sites/{UUID(int=7)}/tasks", {"state": "suspended"}),
        ("/runs", {"state": "active"}),
        ("/runs", {"model_id": "tumor"}),
        ("/runs", {"q": "\x00"}),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(
    federation: Federation, path: str, params: dict[str, str]
) -> None:
    told = federation.get(path, expect=422, **params)
    [name] = params
    assert {name in wrong["path"] for wrong in told["errors"]} == {True}


def test_another_federations_site_is_not_found(
    client: TestClient, transactions: Transactions, settings: Settings, federation: Federation
) -> None:
    other = a_federation(client, transactions, settings, "baltic")
    [riga] = sites_online(other, "riga")
    a_model(other)
    a_run(other, cohort={"min_sites": 1})
    work_off(other)
    assert len(tasks_of(other, riga)) == 1
    for path in (f"/sites/{riga.id}", f"/sites/{riga.id}/tasks"):
        federation.get(path, expect=404)
    answer = client.get(
        f"/v1/federations/baltic/sites/{riga.id}/tasks", headers=federation.owner.headers
    )
    assert answer.status_code == 404


def test_a_site_names_the_invitation_that_let_it_in(
    client: TestClient, transactions: Transactions, federation: Federation
) -> None:
    wanted, unused = (make_invitation(client, federation.owner, "nordic") for _ in range(2))
    site = SiteIdentity("oslo")
    site.enroll(client, wanted["token"])
    [shown] = federation.get("/sites")["items"]
    assert shown["state"] == SiteState.ACTIVE
    assert UUID(shown["invitation_id"]) == UUID(wanted["id"]) != UUID(unused["id"])
    told = dict(events_of(transactions, federation.id))["site.enrolled"]
    assert told["invitation_id"] == wanted["id"]
