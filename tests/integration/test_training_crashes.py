"""Workers die and messages are lost: a round is made once, or its run says why not."""

from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from app.domain.clock import utc_now
from app.domain.errors import UnusableUpdatesError
from app.domain.rounds import MAX_AGGREGATION_ATTEMPTS
from app.services import aggregation
from app.services.transactions import Transactions
from app.settings import Settings
from app.storage.artifacts import blob_key
from hansa_core import wire
from hansa_core.states import RoundState, RunState
from tests.factories import (
    AGGREGATION_LEASE,
    ONLINE_FOR,
    Federation,
    a_federation,
    a_model,
    a_run,
    aggregate_round,
    checkpoints_of,
    due,
    lease_round,
    sites_online,
    step_run,
    work_off,
)
from tests.tensors import a_delta, digest_of, encode

DIED = AGGREGATION_LEASE + timedelta(seconds=1)


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def run(federation: Federation) -> wire.Run:
    """A run with all answers of its only round in, which nobody has looked at yet."""
    sites = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    started = a_run(federation)
    work_off(federation)
    for seed, site in enumerate(sites):
        site.answer(site.claim(), a_delta(seed))
    return started


@pytest.fixture
def round_id(federation: Federation, run: wire.Run) -> UUID:
    """The run's round, waiting for a worker."""
    step_run(federation, run.id)
    found = federation.round(run.id, 1)
    assert found.state is RoundState.AGGREGATING
    return found.id


def complete(
    federation: Federation, leased: aggregation.AggregationLease, made: aggregation.Aggregated
) -> bool:
    with federation.transactions.begin("complete") as tx:
        return aggregation.complete(tx, leased, made, now=utc_now(), online_for=ONLINE_FOR)


def renew(federation: Federation, leased: aggregation.AggregationLease, *, now: datetime) -> bool:
    with federation.transactions.begin("renew") as tx:
        return aggregation.renew(tx, leased, now=now, duration=AGGREGATION_LEASE)


def test_a_lost_ring_after_the_last_answer_is_found_by_the_sweep(
    federation: Federation, run: wire.Run
) -> None:
    assert due(federation) == [run.id]
    work_off(federation)
    assert federation.run(run.id).state is RunState.COMPLETED
    assert due(federation) == []


def test_a_lost_ring_to_the_aggregating_worker_is_found_by_the_sweep(
    federation: Federation, run: wire.Run, round_id: UUID
) -> None:
    assert due(federation) == [run.id]
    sent = step_run(federation, run.id)[0].jobs
    assert [job.subject for job in sent] == [round_id]


def test_a_passed_deadline_and_a_silent_site_are_found_by_the_sweep(
    federation: Federation,
) -> None:
    sites = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    run = a_run(federation, deadlines={"round_seconds": 3600})
    assert due(federation) == [run.id]  # queued
    work_off(federation)
    assert due(federation) == []
    task = sites[0].claim()
    assert due(federation) == []
    assert due(federation, now=task.lease.expires_at) == [run.id]
    step_run(federation, run.id, now=task.lease.expires_at)
    assert due(federation, now=task.lease.expires_at) == []
    assert due(federation, now=task.deadline_at) == [run.id]
    federation.post(f"/runs/{run.id}/cancel", expect=200)
    assert due(federation, now=task.deadline_at) == []


def test_a_held_lease_keeps_others_off_until_it_runs_out(
    federation: Federation, run: wire.Run, round_id: UUID
) -> None:
    now = utc_now()
    dead = lease_round(federation, round_id, now=now)
    assert dead is not None
    assert lease_round(federation, round_id, now=now) is None
    assert due(federation, now=now) == []
    assert due(federation, now=now + DIED) == [run.id]
    heir = lease_round(federation, round_id, now=now + DIED)
    assert heir is not None
    made = aggregation.aggregate(heir, federation.artifacts)
    assert complete(federation, heir, made)
    assert federation.run(run.id).state is RunState.COMPLETED
    # The dead one was only slow: it made the same bytes, and changes nothing any more.
    late = aggregation.aggregate(dead, federation.artifacts)
    assert late == made
    before = federation.run(run.id)
    assert not complete(federation, dead, late)
    with federation.transactions.begin("fail") as tx:
        aggregation.fail(tx, dead, reason="too late", now=utc_now())
    assert federation.run(run.id) == before
    assert len(checkpoints_of(federation, run.model_id)) == 2


def test_a_living_worker_renews_its_lease_and_an_overtaken_one_cannot(
    federation: Federation, run: wire.Run, round_id: UUID
) -> None:
    now = utc_now()
    slow = lease_round(federation, round_id, now=now)
    assert slow is not None
    later = now + timedelta(seconds=20)
    assert renew(federation, slow, now=later)
    assert lease_round(federation, round_id, now=now + DIED) is None
    assert due(federation, now=now + DIED) == []
    assert lease_round(federation, round_id, now=later + DIED) is not None
    assert not renew(federation, slow, now=later + DIED)
    federation.post(f"/runs/{run.id}/cancel", expect=200)


def test_an_overtaken_worker_cannot_finish_before_its_heir(
    federation: Federation, run: wire.Run, round_id: UUID
) -> None:
    now = utc_now()
    slow = lease_round(federation, round_id, now=now)
    heir = lease_round(federation, round_id, now=now + DIED)
    assert slow is not None
    assert heir is not None
    made = aggregation.aggregate(slow, federation.artifacts)
    assert not complete(federation, slow, made)
    assert federation.round(run.id, 1).state is RoundState.AGGREGATING
    assert complete(federation, heir, made)
    assert checkpoints_of(federation, run.model_id)[1:] == [made.checkpoint.digest]


def test_a_worker_that_dies_between_blob_and_row_costs_nothing_but_time(
    federation: Federation, run: wire.Run, round_id: UUID
) -> None:
    dead = lease_round(federation, round_id)
    assert dead is not None
    made = aggregation.aggregate(dead, federation.artifacts)  # durable, and no row knows
    orphan = made.checkpoint
    assert federation.artifacts.stat(federation.id, orphan.digest) == orphan.size
    missing = federation.get(f"/artifacts/{orphan.digest}", expect=404)
    assert missing["slug"] == "artifact-missing"
    work_off(federation, now=utc_now() + DIED)
    assert federation.run(run.id).state is RunState.COMPLETED
    assert checkpoints_of(federation, run.model_id)[1:] == [orphan.digest]


def test_a_message_delivered_twice_changes_nothing(
    federation: Federation, run: wire.Run, round_id: UUID
) -> None:
    assert aggregate_round(federation, round_id)
    before = federation.get("/events", limit=500)
    assert aggregate_round(federation, round_id) == []
    assert step_run(federation, run.id)[0].events == []
    assert federation.get("/events", limit=500) == before


def test_a_cancelled_round_is_not_aggregated(
    federation: Federation, run: wire.Run, round_id: UUID
) -> None:
    leased = lease_round(federation, round_id)
    assert leased is not None
    federation.post(f"/runs/{run.id}/cancel", expect=200)
    assert not complete(federation, leased, aggregation.aggregate(leased, federation.artifacts))
    assert lease_round(federation, round_id) is None
    assert federation.run(run.id).state is RunState.CANCELLED
    assert len(checkpoints_of(federation, run.model_id)) == 1


def test_after_too_many_dead_workers_the_run_fails_and_says_so(
    federation: Federation, run: wire.Run, round_id: UUID
) -> None:
    now = utc_now()
    for _ in range(MAX_AGGREGATION_ATTEMPTS):
        assert lease_round(federation, round_id, now=now) is not None
        now += DIED
    assert lease_round(federation, round_id, now=now) is None
    assert federation.run(run.id).state is RunState.RUNNING
    work_off(federation, now=now)
    ended = federation.run(run.id)
    assert ended.state is RunState.FAILED
    assert ended.state_reason == (
        f"round 1: {MAX_AGGREGATION_ATTEMPTS} workers died or timed out "
        "while they aggregated the round"
    )
    assert due(federation, now=now + DIED) == []


def test_an_update_that_vanished_from_the_store_fails_the_run_with_its_digest(
    federation: Federation, run: wire.Run, round_id: UUID, tmp_path: Path
) -> None:
    digest = digest_of(encode(a_delta(1)))
    (tmp_path / "artifacts" / blob_key(federation.id, digest)).unlink()
    leased = lease_round(federation, round_id)
    assert leased is not None
    with pytest.raises(UnusableUpdatesError, match=digest):
        aggregation.aggregate(leased, federation.artifacts)
    work_off(federation, now=utc_now() + DIED)
    ended = federation.run(run.id)
    assert ended.state is RunState.FAILED
    assert digest in (ended.state_reason or "")


def test_updates_whose_sum_is_not_finite_fail_the_run_and_keep_the_last_checkpoint(
    federation: Federation,
) -> None:
    sites = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    run = a_run(federation, rounds=3)
    huge = a_delta(1)
    huge["layer.bias"][:] = 3e38  # finite, and so welcome at the door; twice that is not
    for _ in range(2):
        work_off(federation)
        for site in sites:
            site.answer(site.claim(), huge)
    work_off(federation)
    ended = federation.run(run.id)
    assert (ended.state, ended.rounds_completed) == (RunState.FAILED, 1)
    assert "tensor 'layer.bias' element 0 of the new checkpoint is inf" in str(ended.state_reason)
    assert federation.checkpoint(ended.latest_checkpoint_id).round_number == 1
