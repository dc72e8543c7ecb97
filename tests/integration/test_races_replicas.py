"""Races between two hub replicas and two workers on one real database, in real threads.

Each race starts at a barrier and is repeated: the interleaving is the scheduler's, the outcome
must not be. What was answered with 201 counts, what was refused does not, and nothing counts
twice; the checkpoint's bytes are compared with a plain mean over exactly the accepted updates.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from app.domain.clock import utc_now
from app.main import create_app
from app.services import aggregation
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import RoundState, RunState, TaskState
from tests.factories import (
    AGGREGATION_LEASE,
    ONLINE_FOR,
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_plan,
    a_run,
    aggregate_round,
    change_state,
    checkpoints_of,
    lease_round,
    sites_online,
    step_run,
    work_off,
)
from tests.tensors import BASE, Tensors, a_delta, digest_of, encode, plain_fedavg

AGAIN = range(4)
EXAMPLES = 10  # of every update, as tests/factories.py says by default


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    """Two sites, as the first replica knows them."""
    made = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    return made


@pytest.fixture
def replica(client: TestClient, settings: Settings) -> Generator[TestClient]:
    """The second replica: its own pool, its own bell, the same database and store."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        # FastAPI prepares its routes at the first request, and silences warnings meanwhile in a
        # way that two of them in one process disturb: so one after the other.
        for one in (client, opened):
            assert one.get("/nowhere").status_code == 404
        yield opened


def race(*work: Callable[[], Any]) -> list[Any]:
    """Start all of `work` at once and return the results."""
    barrier = Barrier(len(work))

    def go(one: Callable[[], Any]) -> Any:
        barrier.wait(30)
        return one()

    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result(60) for future in [pool.submit(go, one) for one in work]]


def claimed(
    federation: Federation, sites: Sequence[ActiveSite], **plan: Any
) -> tuple[wire.Run, list[wire.Task]]:
    """Start a run from the first checkpoint, and let every site claim its task."""
    base = federation.get("/models/tumor/checkpoints", limit=200)["items"][-1]["id"]
    body = {"plan": a_plan(**plan), "checkpoint_id": base}
    run = wire.Run.model_validate(federation.post("/runs", body))
    work_off(federation)
    return run, [site.claim() for site in sites]


def statuses(answers: Sequence[Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


def counted(federation: Federation, run_id: UUID, number: int = 1) -> set[str]:
    """Return the sites whose updates a round has; each has one."""
    found = federation.get(f"/runs/{run_id}/updates", round=number)["items"]
    names = [update["site_name"] for update in found]
    assert len(names) == len(set(names))
    return set(names)


def mean_of(*deltas: Tensors) -> str:
    """Return the digest of the checkpoint that these updates make of the first one."""
    return digest_of(encode(plain_fedavg(BASE, [(delta, EXAMPLES) for delta in deltas])))


def newest_digest(federation: Federation, run_id: UUID) -> str:
    return federation.checkpoint(federation.run(run_id).latest_checkpoint_id).digest


def test_one_update_sent_to_two_replicas_at_once_is_taken_once(
    federation: Federation, sites: list[ActiveSite], replica: TestClient
) -> None:
    for _ in AGAIN:
        run, tasks = claimed(federation, sites)
        for site, task in zip(sites, tasks, strict=True):
            data, twin = encode(a_delta(1)), replace(site, client=replica)
            uploads = race(partial(site.upload, task, data), partial(twin.upload, task, data))
            assert set(statuses(uploads)) <= {200, 201}
            answers = race(
                *[partial(site.submit, task, data)] * 2, *[partial(twin.submit, task, data)] * 2
            )
            assert statuses(answers) == [200, 200, 200, 201]
            assert len({answer.text for answer in answers}) == 1  # one receipt
        work_off(federation)
        assert federation.run(run.id).state is RunState.COMPLETED
        assert counted(federation, run.id) == {"bergen", "oslo"}
        assert newest_digest(federation, run.id) == mean_of(a_delta(1), a_delta(1))


def test_of_different_updates_sent_to_two_replicas_the_accepted_one_counts(
    federation: Federation, sites: list[ActiveSite], replica: TestClient
) -> None:
    for _ in AGAIN:
        run, (first, second) = claimed(federation, sites)
        sites[1].answer(second, a_delta(9))
        doors = (sites[0], replace(sites[0], client=replica))
        deltas = (a_delta(1), a_delta(2))
        for door, delta in zip(doors, deltas, strict=True):
            assert door.upload(first, encode(delta)).status_code in {200, 201}
        answers = race(
            *[
                partial(door.submit, first, encode(delta))
                for door, delta in zip(doors, deltas, strict=True)
            ]
        )
        assert statuses(answers) == [201, 409]
        won = deltas[0] if answers[0].status_code == 201 else deltas[1]
        work_off(federation)
        assert newest_digest(federation, run.id) == mean_of(won, a_delta(9))


def test_two_claims_on_two_replicas_leave_one_lease_that_holds(
    federation: Federation, sites: list[ActiveSite], replica: TestClient
) -> None:
    twin = replace(sites[0], client=replica)
    for _ in AGAIN:
        run, (first, _) = claimed(federation, sites)
        taken = [
            wire.Task.model_validate(answer.json())
            for answer in race(sites[0].poll, twin.poll, sites[0].poll, twin.poll)
        ]
        assert {task.id for task in taken} == {first.id}
        assert sorted(task.attempt for task in taken) == [2, 3, 4, 5]
        *overtaken, holder = sorted(taken, key=lambda task: task.attempt)
        assert [twin.beat(task).status_code for task in overtaken] == [409] * 3
        assert sites[0].beat(holder).status_code == 200
        assert twin.upload(overtaken[-1], encode(a_delta(1))).status_code == 409
        twin.answer(holder, a_delta(1))
        federation.post(f"/runs/{run.id}/cancel", expect=200)


def test_an_update_against_the_revocation_of_its_site_counts_if_it_was_taken(
    federation: Federation, sites: list[ActiveSite], replica: TestClient
) -> None:
    stays = sites[0]
    for number in AGAIN:
        (leaves,) = sites_online(federation, f"passing-{number}")
        run, (kept, passing) = claimed(federation, [stays, leaves], cohort={"min_sites": 1})
        stays.answer(kept, a_delta(1))
        data = encode(a_delta(2))
        assert leaves.upload(passing, data).status_code in {200, 201}
        answer, *_ = race(
            partial(replace(leaves, client=replica).submit, passing, data),
            partial(change_state, federation, leaves, "revoke"),
            partial(step_run, federation, run.id),
        )
        work_off(federation, now=kept.deadline_at + timedelta(seconds=1))
        assert federation.run(run.id).state is RunState.COMPLETED
        states = {task.site_name: task.state for task in federation.round(run.id, 1).tasks}
        if answer.status_code == 201:
            assert states[leaves.name] is TaskState.DONE
            assert counted(federation, run.id) == {stays.name, leaves.name}
            assert newest_digest(federation, run.id) == mean_of(a_delta(1), a_delta(2))
        else:
            assert answer.status_code in {403, 409}, answer.text
            assert states[leaves.name] is TaskState.FAILED
            assert counted(federation, run.id) == {stays.name}
            assert newest_digest(federation, run.id) == mean_of(a_delta(1))


def test_a_claim_against_the_revocation_of_its_site_leads_to_no_answer_after_it(
    federation: Federation, sites: list[ActiveSite], replica: TestClient
) -> None:
    stays = sites[0]
    for number in AGAIN:
        (leaves,) = sites_online(federation, f"passing-{number}")
        run = a_run(federation, cohort={"min_sites": 1})
        work_off(federation)
        twin = replace(leaves, client=replica)
        polled, *_ = race(
            twin.poll,
            partial(change_state, federation, leaves, "revoke"),
            partial(step_run, federation, run.id),
        )
        assert polled.status_code in {200, 204, 403}
        if polled.status_code == 200:  # it came first, and is of no use any more
            task = wire.Task.model_validate(polled.json())
            assert twin.upload(task, encode(a_delta(2))).status_code == 403
            assert leaves.submit(task, encode(a_delta(2))).status_code == 403
        assert twin.poll().status_code == 403
        stays.answer(stays.claim(), a_delta(1))
        work_off(federation, now=utc_now() + timedelta(seconds=31))  # "oslo" is not here
        assert federation.run(run.id).state is RunState.COMPLETED
        assert counted(federation, run.id) == {stays.name}


def test_a_submission_against_the_rounds_closing_counts_or_is_refused(
    federation: Federation, sites: list[ActiveSite], replica: TestClient
) -> None:
    for _ in AGAIN:
        run, (first, second) = claimed(federation, sites, cohort={"min_sites": 1})
        sites[0].answer(first, a_delta(1))
        data = encode(a_delta(2))
        assert sites[1].upload(second, data).status_code in {200, 201}
        passed = first.deadline_at + timedelta(seconds=1)
        doors = (sites[1], replace(sites[1], client=replica))
        *answers, _, _ = race(
            *[partial(door.submit, second, data) for door in doors],
            *[partial(step_run, federation, run.id, now=passed)] * 2,
        )
        work_off(federation, now=passed)
        assert federation.run(run.id).state is RunState.COMPLETED
        states = {task.site_name: task.state for task in federation.round(run.id, 1).tasks}
        if 201 in statuses(answers):
            assert statuses(answers) == [200, 201]
            assert states["oslo"] is TaskState.DONE
            assert newest_digest(federation, run.id) == mean_of(a_delta(1), a_delta(2))
        else:
            assert statuses(answers) == [409, 409]
            assert {answer.json()["slug"] for answer in answers} == {"task-closed"}
            assert states["oslo"] is TaskState.LATE
            assert newest_digest(federation, run.id) == mean_of(a_delta(1))


def test_a_submission_against_a_cancel_is_stored_or_refused(
    federation: Federation, sites: list[ActiveSite], replica: TestClient
) -> None:
    for _ in AGAIN:
        run, (first, second) = claimed(federation, sites)
        sites[0].answer(first, a_delta(1))
        data = encode(a_delta(2))
        assert sites[1].upload(second, data).status_code in {200, 201}
        answer, _, _ = race(
            partial(replace(sites[1], client=replica).submit, second, data),
            partial(federation.post, f"/runs/{run.id}/cancel", expect=200),
            partial(step_run, federation, run.id),
        )
        work_off(federation)
        assert federation.run(run.id).state is RunState.CANCELLED
        assert federation.round(run.id, 1).state is RoundState.CANCELLED
        assert answer.status_code in {201, 409}, answer.text
        taken = {"bergen", "oslo"} if answer.status_code == 201 else {"bergen"}
        assert counted(federation, run.id) == taken


def test_two_workers_that_aggregate_one_round_at_once_make_one_checkpoint(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    for _ in AGAIN:
        run, tasks = claimed(federation, sites)
        for seed, (site, task) in enumerate(zip(sites, tasks, strict=True)):
            site.answer(task, a_delta(seed))
        step_run(federation, run.id)
        round_id = federation.round(run.id, 1).id
        before = checkpoints_of(federation, run.model_id)
        worked = race(
            *[partial(aggregate_round, federation, round_id)] * 2,
            *[partial(step_run, federation, run.id)] * 2,
        )
        assert sum(bool(transactions) for transactions in worked[:2]) == 1
        assert federation.run(run.id).state is RunState.COMPLETED
        made = checkpoints_of(federation, run.model_id)[len(before) :]
        assert made == [mean_of(a_delta(0), a_delta(1))]


def test_a_worker_and_the_one_that_overtook_it_finish_at_once_and_one_counts(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    for _ in AGAIN:
        run, tasks = claimed(federation, sites)
        for seed, (site, task) in enumerate(zip(sites, tasks, strict=True)):
            site.answer(task, a_delta(seed))
        step_run(federation, run.id)
        round_id = federation.round(run.id, 1).id
        now = utc_now()
        slow = lease_round(federation, round_id, now=now)
        heir = lease_round(federation, round_id, now=now + AGGREGATION_LEASE * 2)
        assert slow is not None
        assert heir is not None
        before = checkpoints_of(federation, run.model_id)
        finished = race(partial(finish, federation, slow), partial(finish, federation, heir))
        assert finished == [False, True]
        made = checkpoints_of(federation, run.model_id)[len(before) :]
        assert made == [mean_of(a_delta(0), a_delta(1))]
        assert federation.run(run.id).state is RunState.COMPLETED


def finish(federation: Federation, leased: aggregation.AggregationLease) -> bool:
    """Aggregate and record; tell whether it counted."""
    made = aggregation.aggregate(leased, federation.artifacts)
    with federation.transactions.begin("complete") as tx:
        return aggregation.complete(tx, leased, made, now=utc_now(), online_for=ONLINE_FOR)


def test_one_run_created_on_two_replicas_with_one_key_is_one_run(
    federation: Federation, sites: list[ActiveSite], replica: TestClient
) -> None:
    twin = replace(federation, client=replica)
    for _ in AGAIN:
        body, key = {"plan": a_plan()}, str(uuid4())
        made = race(*[partial(one.post, "/runs", body, key=key) for one in (federation, twin) * 2])
        assert len({run["id"] for run in made}) == 1
        work_off(federation)
        tasks = [site.claim() for site in sites]
        assert {str(task.run_id) for task in tasks} == {made[0]["id"]}
        federation.post(f"/runs/{made[0]['id']}/cancel", expect=200)


def test_steps_on_all_sides_between_rounds_open_each_round_once(
    federation: Federation, sites: list[ActiveSite], replica: TestClient
) -> None:
    """Sites answer through both replicas, twice each, while two workers do all they can."""
    rounds = 4
    run = a_run(federation, rounds=rounds)
    work_off(federation)
    expected: Tensors = dict(BASE)
    for number in range(1, rounds + 1):
        tasks = race(*[site.claim for site in sites])
        deltas = [a_delta(10 * number + seed) for seed in range(len(sites))]
        race(
            *[
                partial(replace(site, client=door).answer, task, delta)
                for site, task, delta in zip(sites, tasks, deltas, strict=True)
                for door in (site.client, replica)
            ],
            *[partial(work_off, federation)] * 2,
        )
        race(*[partial(work_off, federation)] * 2)
        expected = plain_fedavg(expected, [(delta, EXAMPLES) for delta in deltas])
        assert counted(federation, run.id, number) == {"bergen", "oslo"}
        stored = federation.run(run.id).latest_checkpoint_id
        assert federation.checkpoint(stored).digest == digest_of(encode(expected))
    assert federation.run(run.id).state is RunState.COMPLETED
    events = federation.get("/events", run_id=run.id, limit=500)["items"]
    kinds = [event["kind"] for event in events]
    for kind in ("round.opened", "round.aggregating", "round.completed"):
        assert kinds.count(kind) == rounds
    assert kinds.count("task.done") == rounds * len(sites)
