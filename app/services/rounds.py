"""Carrying runs forward: what is due in a run's open round. Opening is openings.py's part.

Everybody may call `step` for any run at any time; the row locks (run, then round, then task)
and the pure decisions of app/domain make it safe to repeat.
"""

from datetime import datetime, timedelta
from uuid import UUID

from app.db import runs as rows
from app.db import secure as secure_rows
from app.db import tasks as task_rows
from app.db.models import Round, Run, Site, Task
from app.domain.alerts import AlertKind
from app.domain.rounds import (
    MAX_AGGREGATION_ATTEMPTS,
    MAX_TASK_ATTEMPTS,
    Decision,
    RoundFacts,
    decide,
    require_legal,
)
from app.domain.runs import buffer_of
from app.doorbell import AGGREGATE_ROUND
from app.services import alerts
from app.services.endings import close_round, close_tasks, end_short_round, fail_run
from app.services.openings import ask_evaluators, go_on, refill
from app.services.secure import opening, setup, signing
from app.services.secure.signing import Agreement, AgreementLease
from app.services.transactions import Tx
from hansa_core.plans import RunPlan
from hansa_core.states import RoundKind, RoundState, TaskState

SWEEP_LIMIT = 500  # runs per sweep; the rest wait for the next one


def step(tx: Tx, run_id: UUID, *, now: datetime, online_for: timedelta) -> None:
    """Apply every decision that is due for one run."""
    run = rows.lock_run(tx.session, run_id)
    if run is None or run.state not in rows.ALIVE:
        return
    current = rows.lock_open_round(tx.session, run_id)
    if current is None:
        go_on(tx, run, now=now, online_for=online_for)
        return
    match RoundState(current.state):
        case RoundState.COLLECTING:
            _step_collecting(tx, run, current, now=now, online_for=online_for)
        case RoundState.SETUP | RoundState.SIGNING | RoundState.OPENING:
            _step_secure(tx, run, current, now=now, online_for=online_for)
        case RoundState.AGGREGATING:
            _step_aggregating(tx, run, current, now=now)
        case RoundState.COMPLETED | RoundState.FAILED | RoundState.CANCELLED:
            raise AssertionError(f"{current.state} is not an open round's state")


def due(tx: Tx, *, now: datetime) -> list[UUID]:
    """Return runs that `step` may carry forward."""
    return list(rows.due_run_ids(tx.session, now=now, limit=SWEEP_LIMIT))


def _step_collecting(tx: Tx, run: Run, row: Round, *, now: datetime, online_for: timedelta) -> None:
    plan = RunPlan.model_validate(run.plan)
    buffered = buffer_of(plan, RoundKind(row.kind)) is not None
    _reopen_silent_tasks(tx, run, now=now)
    _give_up_barred_tasks(tx, run, now=now)
    refill(tx, run, plan, row, now=now, online_for=online_for)
    decision = decide(_facts(tx, run, row, buffered=buffered), now=now)
    if decision is None:
        return
    if decision.state is RoundState.FAILED:
        end_short(tx, run, row, decision, now=now, online_for=online_for)
        return
    if decision.state is RoundState.SIGNING:
        signing.begin(tx, run, row, now=now)
        return
    if decision.state is RoundState.COMPLETED:
        close_round(tx, run, row, decision, now=now)
        go_on(tx, run, now=now, online_for=online_for)
        return
    require_legal(RoundState(row.state), decision.state)
    row.state = decision.state
    if not buffered:
        close_tasks(tx, run, row, TaskState.LATE, "the round closed without this site", now=now)
    tx.record(
        "round.aggregating",
        federation_id=run.federation_id,
        run_id=run.id,
        round_number=row.number,
    )
    tx.send(AGGREGATE_ROUND, row.id)


def _step_secure(tx: Tx, run: Run, row: Round, *, now: datetime, online_for: timedelta) -> None:
    """Carry a set-up, the signing of survivors or an opening forward."""
    plan = RunPlan.model_validate(run.plan)
    match RoundState(row.state):
        case RoundState.SETUP:
            decision = setup.step(tx, run, plan, row, now=now)
            if row.state == RoundState.COLLECTING:
                ask_evaluators(tx, run, plan, row, now=now, online_for=online_for)
        case RoundState.SIGNING:
            decision = signing.step(tx, run, row, now=now)
        case _:
            decision = opening.step(tx, run, row, now=now)
    if decision is not None:
        end_short(tx, run, row, decision, now=now, online_for=online_for)


def propose(
    tx: Tx, lease: AgreementLease, found: Agreement, *, now: datetime, online_for: timedelta
) -> None:
    """Ask the committee to sign which updates the sum is of; end a round that has too few."""
    proposed = signing.propose(tx, lease, found, now=now)
    if proposed is None:
        return
    run, row, decision = proposed
    if decision is not None:
        end_short(tx, run, row, decision, now=now, online_for=online_for)


def end_short(
    tx: Tx, run: Run, row: Round, decision: Decision, *, now: datetime, online_for: timedelta
) -> None:
    """End a round that cannot go on, and go on with the run if that is not its end too."""
    end_short_round(tx, run, row, str(decision.reason), now=now)
    if run.state in rows.ALIVE:
        go_on(tx, run, now=now, online_for=online_for)


def _step_aggregating(tx: Tx, run: Run, row: Round, *, now: datetime) -> None:
    if row.lease_expires_at is not None and row.lease_expires_at > now:
        return
    if row.attempts >= MAX_AGGREGATION_ATTEMPTS:
        reason = f"{row.attempts} workers died or timed out while they aggregated the round"
        fail_run(tx, run, row, reason=reason, now=now)
    else:
        tx.send(AGGREGATE_ROUND, row.id)


def _facts(tx: Tx, run: Run, row: Round, *, buffered: bool) -> RoundFacts:
    tx.session.flush()
    counts = task_rows.count_tasks(tx.session, row.id)
    return RoundFacts(
        kind=RoundKind(row.kind),
        state=RoundState(row.state),
        admitted=counts.admitted,
        answered=task_rows.count_updates(tx.session, row.id) if buffered else counts.answered,
        failed=counts.failed,
        threshold=row.threshold,
        deadline=row.deadline_at,
        target=row.target,
        unfinished=len(task_rows.busy_sites(tx.session, run.id)) if buffered else 0,
        evaluating=counts.evaluating,
        buffered=buffered,
        secure=secure_rows.find_secure_round(tx.session, row.id) is not None,
    )


def _reopen_silent_tasks(tx: Tx, run: Run, *, now: datetime) -> None:
    """Make tasks whose lease ran out claimable again, or give them up.

    The old token stays good until the site claims again: a site that was only slow may still
    renew or answer.
    """
    for task, number in task_rows.expired(tx.session, run.id, now=now):
        if task.attempts >= MAX_TASK_ATTEMPTS:
            reason = f"given up: {task.attempts} leases ran out without an answer"
            _give_up(tx, run, number, task, reason, now=now)
            site = tx.session.get_one(Site, task.site_id)
            alerts.raise_alert(
                tx,
                AlertKind.TASK_ABANDONED,
                federation_id=run.federation_id,
                subject=site.name,
                message=f"round {number} of run {run.name} without {site.name}: {reason}",
                run_id=run.id,
                site_id=site.id,
                now=now,
            )
            continue
        task.state = TaskState.OPEN
        task.state_reason = "the site went silent; waiting for it to come back"
        tx.ring(task.site_id)
        tx.record(
            "task.reopened",
            federation_id=run.federation_id,
            run_id=run.id,
            round_number=number,
            site_id=str(task.site_id),
            reason=task.state_reason,
        )


def _give_up_barred_tasks(tx: Tx, run: Run, *, now: datetime) -> None:
    """Wait no longer for sites that were suspended or revoked since the round opened."""
    for task, site, number in task_rows.barred(tx.session, run.id):
        because = f": {site.state_reason}" if site.state_reason else ""
        _give_up(tx, run, number, task, f"the site was {site.state}{because}", now=now)


def _give_up(tx: Tx, run: Run, number: int, task: Task, reason: str, *, now: datetime) -> None:
    task.state = TaskState.FAILED
    task.state_reason = reason
    task.lease_token = None
    task.finished_at = now
    tx.record(
        "task.failed",
        federation_id=run.federation_id,
        run_id=run.id,
        round_number=number,
        site_id=str(task.site_id),
        reason=reason,
    )
