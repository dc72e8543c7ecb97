"""k of n: when a round is made, when it is not, and what a run says while it waits."""

import base64
import json
from datetime import timedelta
from typing import cast
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from redis import Redis

from app.domain.clock import utc_now
from app.domain.rounds import MAX_TASK_ATTEMPTS
from app.doorbell import STEP_RUN, Job, redis_py_url
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core.states import RoundKind, RoundState, RunState, TaskState
from tests.factories import (
    LEASE_FOR,
    ONLINE_FOR,
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    an_active_site,
    change_state,
    due,
    sites_online,
    step_run,
    work_off,
)
from tests.tensors import a_delta, digest_of, encode, plain_fedavg

TRACEBACK = "Traceback (most recent call last):\n  ...\nMemoryError"


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    made = sites_online(federation, "bergen", "oslo", "turku")
    a_model(federation)
    return made


def jobs_for(settings: Settings, run_id: UUID) -> int:
    """Return how many messages in the broker's queue send a worker to the run."""
    redis = Redis.from_url(redis_py_url(settings.redis_url.get_secret_value()))
    with redis:
        messages = cast("list[bytes]", redis.lrange("hansa", 0, -1))
    subjects = [json.loads(message) for message in messages]
    return sum(
        message["headers"]["task"] == STEP_RUN
        and json.loads(base64.b64decode(message["body"]))[0] == [str(run_id)]
        for message in subjects
    )


def test_a_round_is_made_of_enough_answers_and_names_who_failed(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    base = a_delta(0)  # only its layout matters
    run = a_run(federation)
    work_off(federation)
    tasks = [site.claim() for site in sites]
    base = sites[0].download(tasks[0])
    sites[0].answer(tasks[0], a_delta(1), num_examples=3)
    assert sites[1].fail(tasks[1], "out of memory", TRACEBACK).status_code == 204
    work_off(federation)
    assert federation.round(run.id, 1).state is RoundState.COLLECTING  # one may still come
    sites[2].answer(tasks[2], a_delta(2), num_examples=5)
    work_off(federation)
    ended = federation.run(run.id)
    assert ended.state is RunState.COMPLETED
    expected = plain_fedavg(base, [(a_delta(1), 3), (a_delta(2), 5)])
    made = federation.checkpoint(ended.latest_checkpoint_id)
    assert made.digest == digest_of(encode(expected))
    failed = federation.round(run.id, 1).tasks[1]
    assert (failed.site_name, failed.state) == ("oslo", TaskState.FAILED)
    assert (failed.state_reason, failed.traceback) == ("out of memory", TRACEBACK)


def test_a_run_fails_as_soon_as_too_few_are_left_and_says_who_and_why(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation)
    work_off(federation)
    for site, error in ((sites[0], "no data"), (sites[2], "no GPU")):
        assert site.fail(site.claim(), error).status_code == 204
    assert due(federation) == [run.id]  # a lost ring would not leave it to the deadline
    work_off(federation)  # the third site has not said anything
    ended = federation.run(run.id)
    assert ended.state is RunState.FAILED
    assert ended.state_reason == (
        "round 1: 2 of 3 sites failed, so 2 answers cannot be reached "
        "(bergen: no data; turku: no GPU)"
    )
    assert federation.round(run.id, 1).state is RoundState.FAILED
    assert ended.latest_checkpoint_id == ended.base_checkpoint_id
    assert sites[1].poll().status_code == 204


def test_at_the_deadline_enough_answers_make_the_round_and_a_late_one_is_told(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation)
    work_off(federation)
    tasks = [site.claim() for site in sites]
    for site, task in zip(sites[:2], tasks, strict=False):
        site.answer(task, a_delta(1))
    work_off(federation, now=tasks[0].deadline_at - timedelta(microseconds=1))
    assert federation.round(run.id, 1).state is RoundState.COLLECTING
    work_off(federation, now=tasks[0].deadline_at)
    assert federation.run(run.id).state is RunState.COMPLETED
    for answer in (sites[2].upload(tasks[2], b""), sites[2].submit(tasks[2], b"")):
        assert (answer.status_code, answer.json()["slug"]) == (409, "task-closed")
        assert "the round closed without this site" in answer.json()["detail"]
    assert federation.round(run.id, 1).tasks[2].state is TaskState.LATE
    reply = sites[2].beat(tasks[2]).json()
    assert (reply["stop"], reply["reason"]) == (True, "the round closed without this site")


def test_at_the_deadline_too_few_answers_fail_the_run(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation)
    work_off(federation)
    task = sites[0].claim()
    sites[0].answer(task, a_delta(1))
    work_off(federation, now=task.deadline_at)
    ended = federation.run(run.id)
    assert ended.state is RunState.FAILED
    assert ended.state_reason == "round 1: 1 of 3 sites answered by the deadline, 2 were needed"
    states = [t.state for t in federation.round(run.id, 1).tasks]
    assert states == [TaskState.DONE, TaskState.LATE, TaskState.LATE]


def test_an_evaluation_round_that_fails_leaves_the_trained_model(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, evaluation={"every": 0, "final": True})
    work_off(federation)
    for site in sites:
        site.answer(site.claim(), a_delta(1))
    work_off(federation)
    for site in sites:
        task = site.claim()
        assert task.kind is RoundKind.EVALUATE
        assert site.fail(task, "no held-out data").status_code == 204
    work_off(federation)
    ended = federation.run(run.id)
    assert (ended.state, ended.rounds_completed) == (RunState.COMPLETED, 1)
    assert ended.latest_checkpoint_id != ended.base_checkpoint_id
    assert federation.round(run.id, 2).state is RoundState.FAILED


def test_a_suspended_or_revoked_site_is_not_waited_for(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation)
    work_off(federation)
    for site in sites[:2]:
        site.answer(site.claim(), a_delta(1))
    change_state(federation, sites[2], "suspend", reason="audit")
    assert due(federation) == [run.id]
    work_off(federation)
    assert federation.run(run.id).state is RunState.COMPLETED
    given_up = federation.round(run.id, 1).tasks[2]
    assert given_up.state is TaskState.FAILED
    assert given_up.state_reason == "the site was suspended: audit"


def test_a_site_that_stays_silent_is_waited_for_and_given_up_in_the_end(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, deadlines={"round_seconds": 30 * 86400})
    work_off(federation)
    task = sites[0].claim()
    silent = task.lease.expires_at
    assert due(federation, now=silent - timedelta(microseconds=1)) == []
    assert due(federation, now=silent) == [run.id]
    step_run(federation, run.id, now=silent)
    shown = federation.round(run.id, 1).tasks[0]
    assert shown.state is TaskState.OPEN
    assert shown.state_reason == "the site went silent; waiting for it to come back"
    assert sites[0].beat(task).status_code == 200  # it was only slow: the old lease still holds
    for _ in range(MAX_TASK_ATTEMPTS - 1):
        task = sites[0].claim()
    step_run(federation, run.id, now=utc_now() + LEASE_FOR)
    shown = federation.round(run.id, 1).tasks[0]
    assert shown.state is TaskState.FAILED
    assert shown.state_reason == (f"given up: {MAX_TASK_ATTEMPTS} leases ran out without an answer")


def test_a_queued_run_says_whom_it_waits_for_and_starts_when_they_come(
    federation: Federation, settings: Settings
) -> None:
    bergen = sites_online(federation, "bergen")[0]
    a_model(federation)
    run = a_run(federation)
    work_off(federation)
    waiting = federation.run(run.id)
    assert waiting.state is RunState.QUEUED
    assert waiting.state_reason == "1 of 2 sites online: waiting for more sites to enroll"
    oslo = an_active_site(federation, "oslo")
    work_off(federation)
    reason = federation.run(run.id).state_reason
    assert reason == "1 of 2 sites online: waiting for oslo (never seen)"
    rung = jobs_for(settings, run.id)
    federation.transactions.ringer.heard(Job(STEP_RUN, run.id))  # a worker has looked since
    assert oslo.poll().status_code == 204  # the sign of life rings; the task comes with the step
    assert jobs_for(settings, run.id) == rung + 1
    assert oslo.poll().status_code == 204
    assert jobs_for(settings, run.id) == rung + 1  # only who was away wakes a run
    work_off(federation)
    assert federation.run(run.id).state is RunState.RUNNING
    assert "0 of 2 answers, waiting for bergen (last seen" in (
        federation.run(run.id).state_reason or ""
    )
    assert {bergen.claim().run_id, oslo.claim().run_id} == {run.id}


def test_sites_that_left_are_waited_for_again_before_the_next_round(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=2)
    work_off(federation)
    for site in sites:
        site.answer(site.claim(), a_delta(1))
    away = utc_now() + ONLINE_FOR + timedelta(minutes=3)
    work_off(federation, now=away)
    waiting = federation.run(run.id)
    assert (waiting.state, waiting.rounds_completed) == (RunState.RUNNING, 1)
    reason = waiting.state_reason or ""
    assert reason.startswith("0 of 2 sites online: waiting for bergen (last seen 5 min ago), oslo")
    assert due(federation, now=away) == [run.id]
    work_off(federation)
    assert len(federation.round(run.id, 2).tasks) == len(sites)


def test_a_burst_of_answers_rings_once_until_a_worker_looks(
    federation: Federation, settings: Settings
) -> None:
    run = a_run_without_sites(federation)
    ringer = federation.transactions.ringer
    ringer.heard(Job(STEP_RUN, run))
    rung = jobs_for(settings, run)
    for _ in range(3):
        ringer.ring(jobs=[Job(STEP_RUN, run)])
    assert jobs_for(settings, run) == rung + 1
    ringer.heard(Job(STEP_RUN, run))
    ringer.ring(jobs=[Job(STEP_RUN, run)])
    assert jobs_for(settings, run) == rung + 2


def a_run_without_sites(federation: Federation) -> UUID:
    a_model(federation)
    return a_run(federation).id
