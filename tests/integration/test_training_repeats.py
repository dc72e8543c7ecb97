"""Whatever is said twice counts once: lost answers, restarted sites, repeated requests."""

import pytest
from fastapi.testclient import TestClient

from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import RunState, TaskState
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_plan,
    a_run,
    sites_online,
    work_off,
)
from tests.identities import events_of
from tests.tensors import a_delta, encode

DATA = encode(a_delta(1))


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def site(federation: Federation) -> ActiveSite:
    site, _ = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    return site


@pytest.fixture
def task(federation: Federation, site: ActiveSite) -> wire.Task:
    a_run(federation)
    work_off(federation)
    return site.claim()


def test_the_same_update_again_is_answered_alike_and_counted_once(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    uploads = [site.upload(task, DATA) for _ in range(2)]
    assert [answer.status_code for answer in uploads] == [201, 200]
    assert uploads[0].json() == uploads[1].json()
    first, again = site.submit(task, DATA), site.submit(task, DATA)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert site.upload(task, DATA).status_code == 200  # a site that lost its journal starts over
    assert len(federation.get(f"/runs/{task.run_id}/updates")["items"]) == 1
    done = [kind for kind, _ in events_of(federation.transactions, federation.id)]
    assert done.count("task.done") == 1


def test_the_same_update_is_confirmed_even_after_the_round_closed(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    site.answer(task, a_delta(1))
    federation.post(f"/runs/{task.run_id}/cancel", expect=200)
    assert site.submit(task, DATA).status_code == 200


def test_a_different_second_update_is_a_conflict(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    site.answer(task, a_delta(1))
    other = encode(a_delta(2))
    assert site.upload(task, other).status_code == 201  # bytes alone do no harm
    for answer in (site.submit(task, other), site.submit(task, DATA, num_examples=11)):
        assert (answer.status_code, answer.json()["slug"]) == (409, "update-conflict")
    stored = federation.get(f"/runs/{task.run_id}/updates")["items"]
    assert [update["num_examples"] for update in stored] == [10]


def test_an_evaluation_is_repeatable_and_another_one_a_conflict(
    federation: Federation, site: ActiveSite
) -> None:
    a_run(federation, cohort={"min_sites": 1}, evaluation={"every": 0, "final": True})
    work_off(federation)
    task = site.claim()
    site.answer(task, a_delta(1))
    work_off(federation, now=task.deadline_at)  # the other site never answers
    evaluation = site.claim()
    answers = [site.evaluate(evaluation, {"loss": 0.5}, 4) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()
    other = site.evaluate(evaluation, {"loss": 0.25}, 4)
    assert (other.status_code, other.json()["slug"]) == (409, "update-conflict")


def test_a_repeated_claim_renews_and_the_old_lease_is_lost(
    site: ActiveSite, task: wire.Task
) -> None:
    again = site.claim()
    assert (again.id, again.attempt) == (task.id, task.attempt + 1)
    assert again.lease.token != task.lease.token
    for answer in (
        site.upload(task, DATA),
        site.submit(task, DATA),
        site.beat(task),
        site.fail(task, "broken"),
    ):
        assert (answer.status_code, answer.json()["slug"]) == (409, "lease-lost")
    assert site.beat(again).status_code == 200
    site.answer(again, a_delta(1))


def test_a_heartbeat_renews_the_lease_and_shows_the_progress(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    reply = wire.HeartbeatReply.model_validate(site.beat(task).json())
    assert not reply.stop
    assert reply.expires_at > task.lease.expires_at
    shown = {t.id: t for t in federation.round(task.run_id, 1).tasks}[task.id]
    assert shown.progress == wire.Progress.model_validate({"phase": "training", "fraction": 0.5})
    federation.post(f"/runs/{task.run_id}/cancel", expect=200)
    reply = wire.HeartbeatReply.model_validate(site.beat(task).json())
    assert (reply.stop, reply.reason) == (True, "cancelled by owner@nordic.example")


def test_a_failure_reported_twice_is_recorded_once(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    assert [site.fail(task, "no memory", "line 1").status_code for _ in range(2)] == [204, 204]
    told = [
        data
        for kind, data in events_of(federation.transactions, federation.id)
        if kind == "task.failed"
    ]
    assert [data["reason"] for data in told] == ["no memory"]
    answer = site.submit(task, DATA)
    assert (answer.status_code, answer.json()["slug"]) == (409, "task-closed")
    assert "no memory" in answer.json()["detail"]


def test_a_run_created_twice_with_one_key_is_one_run(
    federation: Federation, site: ActiveSite
) -> None:
    del site  # a model has to be there
    body = {"plan": a_plan()}
    first = federation.post("/runs", body, key="k1")
    assert federation.post("/runs", body, key="k1") == first
    assert len(federation.get("/runs")["items"]) == 1
    changed = {"plan": a_plan(rounds=2)}
    reused = federation.post("/runs", changed, key="k1", expect=422)
    assert reused["slug"] == "idempotency-key-reused"
    assert federation.post("/runs", changed, key="k2")["id"] != first["id"]


def test_starting_and_cancelling_twice_changes_nothing(
    federation: Federation, site: ActiveSite
) -> None:
    del site
    draft = federation.post("/runs", {"plan": a_plan(), "start": False})
    assert draft["state"] == RunState.DRAFT
    work_off(federation)
    assert federation.get(f"/runs/{draft['id']}")["state"] == RunState.DRAFT
    started = [federation.post(f"/runs/{draft['id']}/start", expect=200) for _ in range(2)]
    assert [run["state"] for run in started] == [RunState.QUEUED] * 2
    ended = [federation.post(f"/runs/{draft['id']}/cancel", expect=200) for _ in range(2)]
    assert ended[0] == ended[1]
    assert ended[0]["state_reason"] == f"cancelled by {federation.owner.email}"
    again = federation.post(f"/runs/{draft['id']}/start", expect=409)
    assert again["slug"] == "illegal-transition"


def test_a_cancelled_run_takes_no_more_answers(
    federation: Federation, site: ActiveSite, task: wire.Task
) -> None:
    assert site.upload(task, DATA).status_code == 201
    federation.post(f"/runs/{task.run_id}/cancel", expect=200)
    answer = site.submit(task, DATA)
    assert (answer.status_code, answer.json()["slug"]) == (409, "task-closed")
    assert "cancelled by owner@nordic.example" in answer.json()["detail"]
    assert site.poll().status_code == 204
    states = {t.state for t in federation.round(task.run_id, 1).tasks}
    assert states == {TaskState.CANCELLED}
