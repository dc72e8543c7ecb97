"""Races on the real database: one outcome, no deadlock, and the invariants hold."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import Any, cast
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.db import events as event_rows
from app.db.events import NewEvent
from app.domain.clock import utc_now
from app.domain.errors import DomainError, LeaseLostError, TaskClosedError, UpdateConflictError
from app.services import aggregation, answers, runs, tasks
from app.services.principals import SitePrincipal
from app.services.transactions import Transactions, Tx
from app.settings import Settings
from hansa_core import wire
from hansa_core.signing import Purpose
from hansa_core.states import RoundState, RunState, TaskState
from tests.factories import (
    LEASE_FOR,
    ONLINE_FOR,
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    aggregate_round,
    change_state,
    checkpoints_of,
    lease_round,
    sites_online,
    step_run,
    work_off,
)
from tests.identities import events_of
from tests.tensors import a_delta, encode

AGAIN = range(3)  # each race is run this often: the interleaving is the scheduler's
DATA = encode(a_delta(1))


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    made = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    return made


def race(*work: Callable[[], object]) -> list[object]:
    """Start all of `work` at once; return results, an expected failure as itself."""
    barrier = Barrier(len(work))

    def go(one: Callable[[], object]) -> object:
        barrier.wait(30)
        try:
            return one()
        except DomainError as error:
            return error

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(go, work))


def opened(federation: Federation, sites: Sequence[ActiveSite], **plan: Any) -> list[wire.Task]:
    """Start a run and let every site claim its task."""
    a_run(federation, **plan)
    work_off(federation)
    return [site.claim() for site in sites]


@dataclass(frozen=True, slots=True)
class Submit:
    """An update that is uploaded and signed, and wants only to be submitted."""

    transactions: Transactions
    site: SitePrincipal
    task_id: UUID
    signed: wire.SignedUpdate

    def __call__(self) -> tuple[wire.TaskReceipt, bool]:
        with self.transactions.begin("submit") as tx:
            return self.within(tx)

    def within(self, tx: Tx) -> tuple[wire.TaskReceipt, bool]:
        return answers.submit_update(tx, self.task_id, self.site, self.signed, now=utc_now())


def submitting(
    federation: Federation, site: ActiveSite, task: wire.Task, *, num_examples: int = 10
) -> Submit:
    """Upload an update and return what submits it."""
    assert site.upload(task, DATA).status_code in {200, 201}
    manifest = site.manifest(task, DATA, num_examples=num_examples)
    signed = wire.SignedUpdate(
        lease_token=task.lease.token,
        manifest=wire.UpdateManifest.model_validate(manifest),
        signature=site.identity.sign(Purpose.UPDATE, manifest),
    )
    return Submit(federation.transactions, site.principal(federation.transactions), task.id, signed)


def is_news(result: object) -> bool:
    """Tell whether a submit was the first one; a failure is no result."""
    if isinstance(result, DomainError):
        raise result
    _, news = cast("tuple[wire.TaskReceipt, bool]", result)
    return news


def kinds(federation: Federation, run_id: object) -> list[str]:
    path = "/events"
    return [event["kind"] for event in federation.get(path, run_id=run_id, limit=500)["items"]]


def test_two_workers_that_step_one_run_open_one_round(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    for _ in AGAIN:
        run = a_run(federation)
        race(*[partial(step_run, federation, run.id)] * 3)
        assert kinds(federation, run.id).count("round.opened") == 1
        assert len(federation.round(run.id, 1).tasks) == len(sites)
        federation.post(f"/runs/{run.id}/cancel", expect=200)


def test_all_sites_submit_while_workers_step(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    for _ in AGAIN:
        claimed = opened(federation, sites)
        run_id = claimed[0].run_id
        submits = [
            submitting(federation, site, task) for site, task in zip(sites, claimed, strict=True)
        ]
        race(*submits, *[partial(step_run, federation, run_id)] * 3)
        work_off(federation)
        assert federation.run(run_id).state is RunState.COMPLETED
        found = kinds(federation, run_id)
        assert found.count("task.done") == len(sites)
        assert (found.count("round.aggregating"), found.count("round.completed")) == (1, 1)


def test_a_step_that_waits_for_an_answer_does_not_stop_it(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    first, _ = opened(federation, sites)
    submit = submitting(federation, sites[0], first)
    with ThreadPoolExecutor(1) as pool:
        with federation.transactions.begin("submit") as tx:
            submit.within(tx)  # holds the round; its metrics and events are not written yet
            stepping = pool.submit(step_run, federation, first.run_id)
            until_it_waits_for_a_lock(federation, stepping)  # the step holds the run
        stepping.result(30)
    assert kinds(federation, first.run_id).count("task.done") == 1


def until_it_waits_for_a_lock(federation: Federation, work: Future[Any]) -> None:
    deadline = utc_now() + timedelta(seconds=30)
    query = text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with federation.transactions.sessions() as session:
        while not session.execute(query).scalar_one():
            session.rollback()  # the view is frozen within a transaction
            assert not work.done(), "it did not wait for anything"
            assert utc_now() < deadline, "it never came to a lock"


def test_one_update_submitted_many_times_at_once_counts_once(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    for _ in AGAIN:
        task = opened(federation, sites)[0]
        submit = submitting(federation, sites[0], task)
        results = race(*[submit] * 4)
        assert sorted(is_news(result) for result in results) == [False, False, False, True]
        assert kinds(federation, task.run_id).count("task.done") == 1
        federation.post(f"/runs/{task.run_id}/cancel", expect=200)


def test_of_two_different_updates_at_once_one_is_refused(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    for _ in AGAIN:
        task = opened(federation, sites)[0]
        results = race(
            submitting(federation, sites[0], task, num_examples=1),
            submitting(federation, sites[0], task, num_examples=2),
        )
        assert sum(isinstance(result, UpdateConflictError) for result in results) == 1
        stored = federation.get(f"/runs/{task.run_id}/updates")["items"]
        won = 1 if isinstance(results[1], UpdateConflictError) else 2
        assert [update["num_examples"] for update in stored] == [won]
        federation.post(f"/runs/{task.run_id}/cancel", expect=200)


def test_a_submit_against_the_deadline_is_counted_or_refused(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    for _ in AGAIN:
        first, second = opened(federation, sites, cohort={"min_sites": 1})
        submitting(federation, sites[0], first)()
        passed = first.deadline_at + timedelta(seconds=1)
        late, *_ = race(
            submitting(federation, sites[1], second),
            partial(step_run, federation, first.run_id, now=passed),
            partial(step_run, federation, first.run_id, now=passed),
        )
        work_off(federation, now=passed)
        round_ = federation.round(first.run_id, 1)
        assert round_.state is RoundState.COMPLETED
        states = {task.id: task.state for task in round_.tasks}
        updates = federation.get(f"/runs/{first.run_id}/updates")["items"]
        if isinstance(late, TaskClosedError):
            assert states[second.id] is TaskState.LATE
            assert len(updates) == 1
        else:
            assert isinstance(late, tuple)
            assert states[second.id] is TaskState.DONE
            assert len(updates) == 2


def test_a_cancel_against_a_submit_ends_cancelled(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    for _ in AGAIN:
        first, second = opened(federation, sites)
        submitting(federation, sites[0], first)()

        submitted, cancelled, _ = race(
            submitting(federation, sites[1], second),
            partial(cancel, federation, first.run_id),
            partial(step_run, federation, first.run_id),
        )
        assert isinstance(cancelled, wire.Run)
        assert cancelled.state is RunState.CANCELLED
        assert isinstance(submitted, tuple | TaskClosedError)
        round_ = federation.round(first.run_id, 1)
        assert round_.state is RoundState.CANCELLED
        expected = TaskState.DONE if isinstance(submitted, tuple) else TaskState.CANCELLED
        assert {task.id: task.state for task in round_.tasks}[second.id] is expected
        work_off(federation)
        assert federation.run(first.run_id).state is RunState.CANCELLED


def cancel(federation: Federation, run_id: UUID) -> wire.Run:
    with federation.transactions.begin("cancel") as tx:
        return runs.cancel(tx, federation.id, run_id, by="ada", now=utc_now())


def test_of_two_claims_at_once_the_later_one_holds_the_lease(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    principal = sites[0].principal(federation.transactions)

    def claim() -> wire.Task | None:
        with federation.transactions.begin("claim") as tx:
            return tasks.claim(
                tx,
                principal,
                wire.ClaimRequest(),
                now=utc_now(),
                lease_for=LEASE_FOR,
                online_for=ONLINE_FOR,
            )

    for _ in AGAIN:
        run_id = opened(federation, sites)[0].run_id
        taken = [item for item in race(claim, claim) if isinstance(item, wire.Task)]
        assert sorted(item.attempt for item in taken) == [2, 3]  # 1 was in `opened`
        first, last = sorted(taken, key=lambda item: item.attempt)
        submit = submitting(federation, sites[0], last)
        overtaken = submit.signed.model_copy(update={"lease_token": first.lease.token})
        with pytest.raises(LeaseLostError):
            replace(submit, signed=overtaken)()
        submit()
        federation.post(f"/runs/{run_id}/cancel", expect=200)


def test_a_claim_against_a_revocation_leaves_no_work_with_the_revoked_site(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, cohort={"min_sites": 1})
    work_off(federation)
    polled, *_ = race(
        sites[0].poll,
        partial(change_state, federation, sites[0], "revoke"),
        partial(step_run, federation, run.id),
    )
    assert getattr(polled, "status_code", None) in {200, 204, 403}  # 204: the step came first
    assert sites[0].poll().status_code == 403
    work_off(federation)
    sites[1].answer(sites[1].claim(), a_delta(2))
    work_off(federation)  # does not wait for the deadline
    assert federation.run(run.id).state is RunState.COMPLETED
    shown = federation.round(run.id, 1).tasks
    assert [task.state for task in shown] == [TaskState.FAILED, TaskState.DONE]
    assert shown[0].state_reason == "the site was revoked"
    assert sites[0].poll().json()["slug"] in {"site-not-active", "site-revoked"}


def test_of_many_workers_one_aggregates(federation: Federation, sites: list[ActiveSite]) -> None:
    for _ in AGAIN:
        claimed = opened(federation, sites)
        for site, task in zip(sites, claimed, strict=True):
            site.answer(task, a_delta(3))
        run = federation.run(claimed[0].run_id)
        step_run(federation, run.id)
        round_id = federation.round(run.id, 1).id
        before = checkpoints_of(federation, run.model_id)
        leases = race(*[partial(lease_round, federation, round_id)] * 4)
        held = [lease for lease in leases if isinstance(lease, aggregation.AggregationLease)]
        assert len(held) == 1
        later = utc_now() + timedelta(hours=1)  # it died: its lease ran out
        race(*[partial(aggregate_round, federation, round_id, now=later)] * 3)
        assert federation.run(run.id).state is RunState.COMPLETED
        after = checkpoints_of(federation, run.model_id)
        assert len(after) == len(before) + 1


def test_an_event_is_numbered_only_when_the_one_before_is_committed(
    federation: Federation,
) -> None:
    def write() -> None:
        with federation.transactions.begin("write") as tx:
            tx.record("test.second", federation_id=federation.id)

    with ThreadPoolExecutor(1) as pool, federation.transactions.sessions() as session:
        with session.begin():
            first = NewEvent(federation_id=federation.id, run_id=None, kind="test.first", data={})
            event_rows.append(session, [first])
            writing = pool.submit(write)
            until_it_waits_for_a_lock(federation, writing)
            last = federation.get("/events", limit=500)["items"][-1]  # a reader comes by
            assert last["kind"] == "federation.created"
        writing.result(30)
    found = federation.get("/events", after=last["id"])["items"]
    assert [event["kind"] for event in found] == ["test.first", "test.second"]


def test_events_are_seen_in_commit_order_by_a_reader_that_resumes(
    federation: Federation,
) -> None:
    writers, each = 4, 15
    seen: list[int] = []

    def write(writer: int) -> None:
        for number in range(each):
            with federation.transactions.begin("write") as tx:
                tx.record("test.done", federation_id=federation.id, writer=writer, number=number)

    def read() -> None:
        last = 0
        deadline = utc_now() + timedelta(seconds=30)
        while sum(1 for _ in seen) < writers * each and utc_now() < deadline:
            page = federation.get("/events", after=last, limit=7)["items"]
            seen.extend(event["id"] for event in page if event["kind"] == "test.done")
            last = page[-1]["id"] if page else last

    race(read, *[partial(write, writer) for writer in range(writers)])
    assert len(seen) == len(set(seen)) == writers * each
    assert seen == sorted(seen)
    stored = events_of(federation.transactions, federation.id)
    for writer in range(writers):  # and each writer's own order is kept
        numbers = [data["number"] for _, data in stored if data.get("writer") == writer]
        assert numbers == list(range(each))
