"""The rules and invariants of tests/round_machines.py against the services and Postgres.

Everything but the arithmetic is real: uploads have rows and no bytes, checkpoints are only named.
"""

from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import select

from app.db import runs as run_rows
from app.db.models import Round, Run, Site, Task, Update
from app.domain.clock import utc_now
from app.domain.errors import LeaseLostError, TaskClosedError, UpdateConflictError
from app.services import aggregation, answers, rounds, runs, sites, tasks
from app.services.checkpoints import NewBlob, record_artifact
from app.services.principals import SitePrincipal
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.layouts import Layout
from hansa_core.plans import RunPlan, parse_plan
from hansa_core.signing import Purpose
from hansa_core.states import RoundKind, RoundState, RunState, SiteState, TaskPhase, TaskState
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_plan,
    an_active_site,
    change_state,
)
from tests.round_invariants import SeenRound, SeenTask, Snapshot
from tests.round_machines import (
    AGGREGATION_LEASE,
    LEASE_FOR,
    ONLINE_FOR,
    Handle,
    Lease,
    RoundMachine,
)
from tests.tensors import BASE, digest_of

A_FEW = settings(
    max_examples=4,
    stateful_step_count=20,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # to shrink takes minutes here; tests/property finds the least
    suppress_health_check=[HealthCheck.too_slow],
)
LAYOUT = Layout.of(BASE)
REFUSED = (LeaseLostError, TaskClosedError, UpdateConflictError)
CHANGES = {
    SiteState.SUSPENDED: "suspend",
    SiteState.ACTIVE: "reinstate",
    SiteState.REVOKED: "revoke",
}


def test_any_interleaving_keeps_the_invariants(
    client: TestClient, transactions: Transactions, settings: Settings
) -> None:
    numbers = count()

    def machine() -> RoundMachine:
        def world(plan: RunPlan) -> ServiceWorld:
            federation = a_federation(client, transactions, settings, f"f{next(numbers)}")
            return ServiceWorld(federation, plan)

        return RoundMachine(world)

    run_state_machine_as_test(  # pyright: ignore[reportUnknownMemberType] -- hypothesis leaves it untyped
        machine,  # pyright: ignore[reportArgumentType] -- a factory will do
        settings=A_FEW,
    )
    assert next(numbers) >= A_FEW.max_examples // 2


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


def a_world(federation: Federation, **plan: Any) -> "ServiceWorld":
    """Return a world with two sites online, whose run has the first round open."""
    world = ServiceWorld(federation, parse_plan(a_plan(**plan)))
    for name in ("bergen", "oslo"):
        world.enroll(name)
        world.seen(name)
    world.step()
    return world


def close_round(world: "ServiceWorld") -> None:
    """Let a worker sum the round that has its answers."""
    world.step()
    lease = world.lease()
    assert lease is not None
    assert world.finish(lease)


def test_a_run_paused_after_its_last_round_is_completed_when_resumed(
    federation: Federation,
) -> None:
    world = a_world(federation)
    for name in ("bergen", "oslo"):
        handle = world.claim(name)
        assert handle is not None
        assert world.answer(handle, 1)
    world.pause(burn=False)
    close_round(world)
    assert world.snapshot().state is RunState.PAUSED
    world.resume()
    world.step()
    assert world.snapshot().state is RunState.COMPLETED


def test_a_final_evaluation_burnt_by_a_pause_is_held_again(federation: Federation) -> None:
    world = a_world(federation, rounds=0, evaluation={"final": True})
    world.pause(burn=True)
    world.resume()
    world.step()
    states = [row.state for row in world.snapshot().rounds]
    assert states == [RoundState.CANCELLED, RoundState.COLLECTING]


def test_nobody_trains_on_during_the_final_evaluation_of_a_buffered_run(
    federation: Federation,
) -> None:
    world = a_world(
        federation,
        cohort={"min_sites": 1},
        buffer={"size": 1},
        evaluation={"every": 0, "final": True},
    )
    fast, slow = world.claim("bergen"), world.claim("oslo")
    assert fast is not None
    assert slow is not None
    assert world.answer(fast, 1)
    close_round(world)
    assert world.answer(slow, 2) is None
    evaluation = world.claim("oslo")
    assert evaluation is not None
    assert evaluation.kind is RoundKind.EVALUATE


class ServiceWorld:
    """One started run of a federation of its own, at a clock of its own."""

    now: datetime

    def __init__(self, federation: Federation, plan: RunPlan) -> None:
        self.federation = federation
        self.transactions = federation.transactions
        self.now = utc_now()
        self.sites: dict[str, ActiveSite] = {}
        self.principals: dict[str, SitePrincipal] = {}
        self.claimed: dict[str, wire.Task] = {}  # by task
        self.tasks_by_digest: dict[str, str] = {}
        a_model(federation)
        made = federation.post("/runs", {"plan": plan.model_dump(mode="json")})
        self.run_id = UUID(made["id"])

    def enroll(self, site: str) -> None:
        self.sites[site] = an_active_site(self.federation, site)
        self.principals[site] = self.sites[site].principal(self.transactions)

    def seen(self, site: str) -> None:
        with self.transactions.begin("seen") as tx:
            sites.seen(tx, self.sites[site].id, self.now, "", None, online_for=ONLINE_FOR)

    def site_state(self, site: str) -> SiteState:
        with self.transactions.begin("state") as tx:
            return SiteState(tx.session.get_one(Site, self.sites[site].id).state)

    def change(self, site: str, state: SiteState) -> None:
        if self.site_state(site) is not state:
            change_state(self.federation, self.sites[site], CHANGES[state])

    def claim(self, site: str) -> Handle | None:
        with self.transactions.begin("claim") as tx:
            task = tasks.claim(
                tx,
                self.principals[site],
                wire.ClaimRequest(sdk_version="0.1.0"),
                now=self.now,
                lease_for=LEASE_FOR,
                online_for=ONLINE_FOR,
            )
        if task is None:
            return None
        self.claimed[str(task.id)] = task
        return Handle(str(task.id), site, str(task.lease.token), task.kind)

    def heartbeat(self, handle: Handle) -> bool:
        if self.site_state(handle.site) is not SiteState.ACTIVE:
            return False  # its token is refused at the door
        beat = wire.Heartbeat(
            lease_token=UUID(handle.token),
            progress=wire.Progress(phase=TaskPhase.TRAINING, fraction=0.5),
        )
        try:
            with self.transactions.begin("heartbeat") as tx:
                reply = tasks.renew(
                    tx,
                    UUID(handle.task),
                    self.sites[handle.site].id,
                    beat,
                    now=self.now,
                    lease_for=LEASE_FOR,
                    online_for=ONLINE_FOR,
                )
        except LeaseLostError:
            return False
        return not reply.stop

    def answer(self, handle: Handle, content: int) -> bool | None:
        if self.site_state(handle.site) is not SiteState.ACTIVE:
            return None
        try:
            if handle.kind is RoundKind.TRAIN:
                return self._update(handle, content)
            return self._evaluate(handle, content)
        except REFUSED:
            return None

    def fail(self, handle: Handle) -> bool:
        if self.site_state(handle.site) is not SiteState.ACTIVE:
            return False
        failure = wire.TaskFailure(lease_token=UUID(handle.token), error="no", traceback="")
        try:
            with self.transactions.begin("fail") as tx:
                tasks.fail(
                    tx, UUID(handle.task), self.principals[handle.site], failure, now=self.now
                )
        except REFUSED:
            return False
        return True

    def step(self) -> None:
        with self.transactions.begin("step") as tx:
            rounds.step(tx, self.run_id, now=self.now, online_for=ONLINE_FOR)

    def deadline(self) -> datetime | None:
        with self.transactions.begin("deadline") as tx:
            row = run_rows.open_round(tx.session, self.run_id)
            return None if row is None else row.deadline_at

    def lease(self) -> Lease | None:
        with self.transactions.begin("lease") as tx:
            row = run_rows.open_round(tx.session, self.run_id)
            if row is None:
                return None
            leased = aggregation.lease(tx, row.id, now=self.now, duration=AGGREGATION_LEASE)
        if leased is None:
            return None
        updates = tuple(self.tasks_by_digest[update.blob.digest] for update in leased.updates)
        return Lease(str(leased.round_id), str(leased.token), updates, leased)

    def finish(self, lease: Lease) -> bool:
        assert isinstance(lease.inner, aggregation.AggregationLease)
        blob = NewBlob(digest_of(lease.token.encode()), 1, LAYOUT)
        made = aggregation.Aggregated(blob, {})
        with self.transactions.begin("finish") as tx:
            return aggregation.complete(tx, lease.inner, made, now=self.now, online_for=ONLINE_FOR)

    def spoil(self, lease: Lease) -> None:
        assert isinstance(lease.inner, aggregation.AggregationLease)
        with self.transactions.begin("spoil") as tx:
            aggregation.fail(tx, lease.inner, reason="unusable", now=self.now)

    def pause(self, *, burn: bool) -> None:
        with self.transactions.begin("pause") as tx:
            runs.pause(tx, self.federation.id, self.run_id, burn=burn, by="somebody", now=self.now)

    def resume(self) -> None:
        with self.transactions.begin("resume") as tx:
            runs.resume(tx, self.federation.id, self.run_id)

    def cancel(self) -> None:
        with self.transactions.begin("cancel") as tx:
            runs.cancel(tx, self.federation.id, self.run_id, by="somebody", now=self.now)

    def snapshot(self) -> Snapshot:
        of_run = Round.run_id == self.run_id
        with self.transactions.begin("snapshot") as tx:
            run = tx.session.get_one(Run, self.run_id)
            held = tx.session.scalars(select(Round).where(of_run).order_by(Round.id)).all()
            asked = tx.session.execute(
                select(Task, Site.name)
                .join(Round, Round.id == Task.round_id)
                .join(Site, Site.id == Task.site_id)
                .where(of_run)
                .order_by(Task.id)
            ).all()
            counted = tx.session.execute(
                select(Update.task_id, Update.round_id)
                .join(Task, Task.id == Update.task_id)
                .join(Round, Round.id == Task.round_id)
                .where(of_run)
                .order_by(Update.id)
            ).all()
            return Snapshot(
                state=RunState(run.state),
                reason=run.state_reason,
                rounds_completed=run.rounds_completed,
                rounds=tuple(
                    SeenRound(
                        str(row.id),
                        row.number,
                        RoundKind(row.kind),
                        RoundState(row.state),
                        row.threshold,
                    )
                    for row in held
                ),
                tasks=tuple(
                    SeenTask(
                        str(task.id),
                        str(task.round_id),
                        name,
                        TaskState(task.state),
                        task.evaluator,
                    )
                    for task, name in asked
                ),
                updates=tuple(
                    (str(task_id), None if round_id is None else str(round_id))
                    for task_id, round_id in counted
                ),
            )

    def _update(self, handle: Handle, content: int) -> bool:
        task, site = self.claimed[handle.task], self.sites[handle.site]
        data = f"{handle.task} {content}".encode()
        manifest = site.manifest(task, data, metrics={"loss": float(content)})
        signed = wire.SignedUpdate(
            lease_token=UUID(handle.token),
            manifest=wire.UpdateManifest.model_validate(manifest),
            signature=site.identity.sign(Purpose.UPDATE, manifest),
        )
        self.tasks_by_digest[digest_of(data)] = handle.task
        with self.transactions.begin("update") as tx:
            blob = NewBlob(digest_of(data), len(data), LAYOUT)
            record_artifact(tx, self.federation.id, blob, now=self.now)
            principal = self.principals[handle.site]
            return answers.submit_update(tx, task.id, principal, signed, now=self.now)[1]

    def _evaluate(self, handle: Handle, content: int) -> bool:
        task, site = self.claimed[handle.task], self.sites[handle.site]
        report = wire.EvaluationReport(
            task_id=task.id,
            run_id=task.run_id,
            site_id=site.id,
            round_number=task.round_number,
            checkpoint_digest=task.checkpoint.digest,
            evaluation=wire.Evaluation(num_examples=10, metrics={"loss": float(content)}),
        )
        signed = wire.SignedEvaluation(
            lease_token=UUID(handle.token),
            report=report,
            signature=site.identity.sign(Purpose.EVALUATION, report.model_dump(mode="json")),
        )
        with self.transactions.begin("evaluate") as tx:
            principal = self.principals[handle.site]
            return answers.submit_evaluation(tx, task.id, principal, signed, now=self.now)[1]
