"""Asynchronous rounds: a buffer of K updates, stale ones shrunk, fast sites asked again."""

import math

import pytest
from fastapi.testclient import TestClient

from app.db import runs as run_rows
from app.db import tasks as task_rows
from app.domain.clock import utc_now
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core.states import RoundState, RunState, TaskState
from tests.factories import (
    ActiveSite,
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
from tests.tensors import Tensors, a_delta, decode, digest_of, encode, plain_fedavg


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    made = sites_online(federation, "fast", "slow")
    a_model(federation)
    return made


def scaled(tensors: Tensors, factor: float) -> Tensors:
    """Return float tensors times `factor` in float64, others as they are."""
    return {
        name: array.astype("float64") * factor if array.dtype.kind == "f" else array
        for name, array in tensors.items()
    }


def floats_only(tensors: Tensors) -> Tensors:
    """Return a delta whose integers change nothing."""
    return {
        name: array if array.dtype.kind == "f" else array * 0 for name, array in tensors.items()
    }


def test_a_fast_site_fills_buffers_and_a_slow_one_counts_later_by_its_staleness(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    fast, slow = sites
    run = a_run(
        federation, rounds=2, cohort={"min_sites": 1}, buffer={"size": 2, "max_staleness": 5}
    )
    work_off(federation)
    late = slow.claim()
    base = fast.download(first := fast.claim())
    deltas = [floats_only(a_delta(seed)) for seed in range(4)]
    fast.answer(first, deltas[0], num_examples=3)
    work_off(federation)
    again = fast.claim()
    assert again.round_number == 1  # the buffer is not full: trained once more, otherwise
    assert again.seed != first.seed
    assert again.checkpoint.digest == first.checkpoint.digest
    fast.answer(again, deltas[1], num_examples=3)
    work_off(federation)
    assert federation.run(run.id).rounds_completed == 1
    after_one = plain_fedavg(base, [(deltas[0], 3), (deltas[1], 3)])
    third = fast.claim()
    assert third.round_number == 2
    assert third.checkpoint.digest == digest_of(encode(after_one))
    assert not slow.beat(late).json()["stop"]
    slow.answer(late, deltas[2], num_examples=5)
    fast.answer(third, deltas[3], num_examples=3)
    work_off(federation)
    ended = federation.run(run.id)
    assert ended.state is RunState.COMPLETED
    shrunk = (scaled(deltas[2], 1 / math.sqrt(2)), 5)
    expected = plain_fedavg(after_one, [shrunk, (deltas[3], 3)])
    made = federation.checkpoint(ended.latest_checkpoint_id)
    got = federation.client.get(
        f"/v1/federations/{federation.slug}/checkpoints/{made.id}/content",
        headers=federation.owner.headers,
    )
    for name, array in decode(got.content).items():
        assert array == pytest.approx(expected[name], rel=1e-6)
    assert [task.state for task in federation.round(run.id, 1).tasks] == [TaskState.DONE] * 3


def test_an_update_that_comes_between_two_buffers_counts_in_the_next(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=2, cohort={"min_sites": 1}, buffer={"size": 1})
    work_off(federation)
    tasks = [site.claim() for site in sites]
    sites[0].answer(tasks[0], a_delta(0))
    step_run(federation, run.id)
    first = federation.round(run.id, 1)
    assert first.state is RoundState.AGGREGATING
    held = lease_round(federation, first.id)
    assert held is not None
    assert len(held.updates) == 1
    sites[1].answer(tasks[1], a_delta(1))  # no round is open
    later = utc_now() + (federation.round(run.id, 1).deadline_at - first.created_at)
    work_off(federation, now=later)
    assert federation.run(run.id).state is RunState.COMPLETED
    assert federation.run(run.id).rounds_completed == 2
    shown = federation.get(f"/runs/{run.id}/updates")["items"]
    assert {item["site_name"] for item in shown} == {"fast", "slow"}


def test_no_more_sites_train_at_once_than_the_plan_allows(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    sites += sites_online(federation, "turku")
    a_run(federation, rounds=1, cohort={"min_sites": 1}, buffer={"size": 3, "concurrency": 2})
    work_off(federation)
    assert [site.poll().status_code for site in sites] == [200, 200, 204]


def test_work_that_is_too_old_is_stopped_with_a_reason(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    fast, slow = sites
    a_run(
        federation,
        rounds=9,
        cohort={"min_sites": 1},
        buffer={"size": 1, "max_staleness": 1},
    )
    work_off(federation)
    late = slow.claim()
    for seed in range(3):
        fast.answer(fast.claim(), a_delta(seed))
        work_off(federation)
    told = slow.beat(late).json()
    assert told["stop"]
    assert "more than 1 rounds old" in told["reason"]
    assert slow.claim().round_number > 2  # it begins again from the newest


def test_a_buffer_that_nobody_can_fill_fails_with_the_names(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=1, cohort={"min_sites": 2}, buffer={"size": 3})
    work_off(federation)
    sites[0].answer(sites[0].claim(), a_delta(0))
    work_off(federation)
    sites[1].fail(sites[1].claim(), "out of memory")
    sites[0].fail(sites[0].claim(), "out of disk")
    work_off(federation)
    ended = federation.run(run.id)
    assert ended.state is RunState.FAILED
    assert "slow: out of memory" in (ended.state_reason or "")


def test_a_revoked_site_takes_its_unfinished_work_with_it(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=2, cohort={"min_sites": 1}, buffer={"size": 2})
    work_off(federation)
    sites[1].claim()
    change_state(federation, sites[1], "revoke", reason="left the consortium")
    for seed in range(4):
        sites[0].answer(sites[0].claim(), a_delta(seed))
        work_off(federation)
    assert federation.run(run.id).state is RunState.COMPLETED


def test_a_paused_buffered_run_keeps_what_comes_meanwhile(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=2, cohort={"min_sites": 1}, buffer={"size": 1})
    work_off(federation)
    tasks = [site.claim() for site in sites]
    federation.post(f"/runs/{run.id}/pause", {}, expect=200)
    sites[0].answer(tasks[0], a_delta(0))
    work_off(federation)
    assert federation.run(run.id).state is RunState.PAUSED
    sites[1].answer(tasks[1], a_delta(1))
    federation.post(f"/runs/{run.id}/resume", expect=200)
    work_off(federation)
    assert federation.run(run.id).state is RunState.COMPLETED


def test_an_update_joins_no_round_that_is_just_being_decided_about(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=1, cohort={"min_sites": 1}, buffer={"size": 1})
    work_off(federation)
    with federation.transactions.begin("step") as deciding:
        assert run_rows.lock_open_round(deciding.session, run.id) is not None
        with federation.transactions.begin("answer") as answering:
            assert task_rows.collecting_round(answering.session, run.id) is None
    with federation.transactions.begin("answer") as first:
        assert task_rows.collecting_round(first.session, run.id) is not None
        with federation.transactions.begin("answer") as second:  # answers do not mind each other
            assert task_rows.collecting_round(second.session, run.id) is not None
