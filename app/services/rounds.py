"""Carrying runs forward: open a round, close it, hand it to an aggregator, go on.

Everybody may call `step` for any run at any time; the row locks (run, then round, then task)
and the pure decisions of app/domain make it safe to repeat.
"""

from datetime import datetime, timedelta
from uuid import UUID

from app.db import runs as rows
from app.db import tasks as task_rows
from app.db.models import Metric, Round, Run, Task
from app.domain.ids import new_id
from app.domain.rounds import (
    MAX_AGGREGATION_ATTEMPTS,
    MAX_TASK_ATTEMPTS,
    Decision,
    RoundFacts,
    decide,
    require_legal,
    weighted_means,
)
from app.domain.runs import Candidate, NextRound, choose_cohort, next_round
from app.domain.runs import require_legal as require_legal_run
from app.doorbell import AGGREGATE_ROUND
from app.services.transactions import Tx
from hansa_core.plans import RunPlan
from hansa_core.states import RoundKind, RoundState, RunState, TaskState

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
        case RoundState.AGGREGATING:
            _step_aggregating(tx, run, current, now=now)
        case RoundState.COMPLETED | RoundState.FAILED | RoundState.CANCELLED:
            raise AssertionError(f"{current.state} is not an open round's state")


def due(tx: Tx, *, now: datetime) -> list[UUID]:
    """Return runs that `step` may carry forward."""
    return list(rows.due_run_ids(tx.session, now=now, limit=SWEEP_LIMIT))


def cancel_run(tx: Tx, run: Run, *, reason: str, now: datetime) -> None:
    """Cancel a locked run, its open round and its tasks."""
    require_legal_run(RunState(run.state), RunState.CANCELLED)
    current = rows.lock_open_round(tx.session, run.id)
    if current is not None:
        close_round(tx, run, current, Decision(RoundState.CANCELLED, reason), now=now)
    _end_run(tx, run, RunState.CANCELLED, reason, now=now)


def _step_collecting(tx: Tx, run: Run, row: Round, *, now: datetime, online_for: timedelta) -> None:
    _reopen_silent_tasks(tx, run, row, now=now)
    _give_up_barred_tasks(tx, run, row, now=now)
    decision = decide(_facts(tx, row), now=now)
    if decision is None:
        return
    match decision.state:
        case RoundState.AGGREGATING:
            require_legal(RoundState(row.state), decision.state)
            row.state = decision.state
            _close_tasks(tx, run, row, TaskState.LATE, now=now)
            tx.record(
                "round.aggregating",
                federation_id=run.federation_id,
                run_id=run.id,
                round_number=row.number,
            )
            tx.send(AGGREGATE_ROUND, row.id)
        case RoundState.COMPLETED:
            close_round(tx, run, row, decision, now=now)
            go_on(tx, run, now=now, online_for=online_for)
        case RoundState.FAILED if row.kind == RoundKind.EVALUATE:
            close_round(tx, run, row, decision, now=now)  # the trained model stands
            go_on(tx, run, now=now, online_for=online_for)
        case _:
            failures = task_rows.failures(tx.session, row.id)
            named = "; ".join(f"{name}: {reason}" for name, reason in failures)
            reason = f"{decision.reason} ({named})" if named else str(decision.reason)
            fail_run(tx, run, row, reason=reason, now=now)


def _step_aggregating(tx: Tx, run: Run, row: Round, *, now: datetime) -> None:
    if row.lease_expires_at is not None and row.lease_expires_at > now:
        return
    if row.attempts >= MAX_AGGREGATION_ATTEMPTS:
        reason = f"{row.attempts} workers died or timed out while they aggregated the round"
        fail_run(tx, run, row, reason=reason, now=now)
    else:
        tx.send(AGGREGATE_ROUND, row.id)


def _facts(tx: Tx, row: Round) -> RoundFacts:
    tx.session.flush()
    counts = task_rows.count_by_state(tx.session, row.id)
    return RoundFacts(
        kind=RoundKind(row.kind),
        state=RoundState(row.state),
        admitted=sum(counts.values()),
        answered=counts.get(TaskState.DONE, 0),
        failed=counts.get(TaskState.FAILED, 0),
        threshold=row.threshold,
        deadline=row.deadline_at,
    )


def _reopen_silent_tasks(tx: Tx, run: Run, row: Round, *, now: datetime) -> None:
    """Make tasks whose lease ran out claimable again, or give them up.

    The old token stays good until the site claims again: a site that was only slow may still
    renew or answer.
    """
    for task in task_rows.expired(tx.session, row.id, now=now):
        if task.attempts >= MAX_TASK_ATTEMPTS:
            reason = f"given up: {task.attempts} leases ran out without an answer"
            _give_up(tx, run, row, task, reason, now=now)
            continue
        task.state = TaskState.OPEN
        task.state_reason = "the site went silent; waiting for it to come back"
        tx.ring(task.site_id)
        tx.record(
            "task.reopened",
            federation_id=run.federation_id,
            run_id=run.id,
            round_number=row.number,
            site_id=str(task.site_id),
            reason=task.state_reason,
        )


def _give_up_barred_tasks(tx: Tx, run: Run, row: Round, *, now: datetime) -> None:
    """Wait no longer for sites that were suspended or revoked since the round opened."""
    for task, site in task_rows.barred(tx.session, row.id):
        because = f": {site.state_reason}" if site.state_reason else ""
        _give_up(tx, run, row, task, f"the site was {site.state}{because}", now=now)


def _give_up(tx: Tx, run: Run, row: Round, task: Task, reason: str, *, now: datetime) -> None:
    task.state = TaskState.FAILED
    task.state_reason = reason
    task.lease_token = None
    task.finished_at = now
    tx.record(
        "task.failed",
        federation_id=run.federation_id,
        run_id=run.id,
        round_number=row.number,
        site_id=str(task.site_id),
        reason=reason,
    )


def go_on(tx: Tx, run: Run, *, now: datetime, online_for: timedelta) -> None:
    """Open the next round, say what the run waits for, or complete it."""
    plan = RunPlan.model_validate(run.plan)
    coming = next_round(
        plan,
        rounds_completed=run.rounds_completed,
        evaluated=rows.has_evaluation_round(tx.session, run.id),
    )
    if coming is None:
        _end_run(tx, run, RunState.COMPLETED, None, now=now)
        return
    sites = rows.candidates(tx.session, run.federation_id)
    cohort = choose_cohort(
        plan.cohort,
        [Candidate(site.name, site.labels, site.last_seen_at) for site in sites],
        threshold=coming.threshold,
        online_for=online_for,
        now=now,
        pending=rows.pending_names(tx.session, run.federation_id),
    )
    if cohort.waiting_for is not None:
        run.state_reason = cohort.waiting_for
        return
    if run.state == RunState.QUEUED:
        require_legal_run(RunState(run.state), RunState.RUNNING)
        run.state = RunState.RUNNING
        run.started_at = now
        tx.record("run.started", federation_id=run.federation_id, run_id=run.id)
    run.state_reason = None
    admitted = [site.id for site in sites if site.name in cohort.names]
    _open_round(tx, run, plan, coming, admitted, now=now)


def _open_round(
    tx: Tx, run: Run, plan: RunPlan, coming: NextRound, site_ids: list[UUID], *, now: datetime
) -> None:
    row = Round(
        id=new_id(),
        run_id=run.id,
        number=coming.number,
        kind=coming.kind,
        state=RoundState.COLLECTING,
        base_checkpoint_id=run.latest_checkpoint_id,
        threshold=coming.threshold,
        evaluate=coming.evaluate,
        deadline_at=now + timedelta(seconds=plan.deadlines.round_seconds),
        attempts=0,
        created_at=now,
    )
    tx.session.add(row)
    tx.session.flush()
    tx.session.add_all(
        Task(
            id=new_id(),
            round_id=row.id,
            site_id=site_id,
            state=TaskState.OPEN,
            attempts=0,
            created_at=now,
        )
        for site_id in site_ids
    )
    tx.ring(*site_ids)
    tx.record(
        "round.opened",
        federation_id=run.federation_id,
        run_id=run.id,
        round_number=row.number,
        round_kind=row.kind,
        sites=len(site_ids),
    )


def close_round(
    tx: Tx, run: Run, row: Round, decision: Decision, *, now: datetime, digest: str | None = None
) -> None:
    require_legal(RoundState(row.state), decision.state)
    row.state = decision.state
    row.state_reason = decision.reason
    row.closed_at = now
    row.lease_token = None
    row.lease_expires_at = None
    cancelled = decision.state is RoundState.CANCELLED
    _close_tasks(tx, run, row, TaskState.CANCELLED if cancelled else TaskState.LATE, now=now)
    if decision.state is RoundState.COMPLETED:
        _record_means(tx, row)
    tx.record(
        f"round.{decision.state}",
        federation_id=run.federation_id,
        run_id=run.id,
        round_number=row.number,
        reason=decision.reason,
        digest=digest,
    )


def _close_tasks(tx: Tx, run: Run, row: Round, state: TaskState, *, now: datetime) -> None:
    reason = {
        TaskState.CANCELLED: "the run was cancelled",
        TaskState.LATE: "the round closed without this site",
    }[state]
    tx.session.flush()
    for site_id in rows.close_tasks(tx.session, row.id, state=state, reason=reason, now=now):
        tx.record(
            f"task.{state}",
            federation_id=run.federation_id,
            run_id=run.id,
            round_number=row.number,
            site_id=str(site_id),
        )


def _record_means(tx: Tx, row: Round) -> None:
    """Write the mean over sites beside what the sites reported, once, when the round closes."""
    measured = [("eval", row.number - 1)]
    if row.kind == RoundKind.TRAIN:
        measured.append(("train", row.number))
    for kind, number in measured:
        reports = task_rows.site_metrics(tx.session, row.run_id, kind=kind, round_number=number)
        means = weighted_means(
            (report.name, report.value, report.num_examples) for report in reports
        )
        tx.session.add_all(
            Metric(
                run_id=row.run_id,
                round_number=number,
                kind=kind,
                name=name,
                site_id=None,
                value=value,
                num_examples=num_examples,
            )
            for name, (value, num_examples) in means.items()
        )


def fail_run(tx: Tx, run: Run, row: Round, *, reason: str, now: datetime) -> None:
    close_round(tx, run, row, Decision(RoundState.FAILED, reason), now=now)
    _end_run(tx, run, RunState.FAILED, f"round {row.number}: {reason}", now=now)


def _end_run(tx: Tx, run: Run, state: RunState, reason: str | None, *, now: datetime) -> None:
    require_legal_run(RunState(run.state), state)
    run.state = state
    run.state_reason = reason
    run.finished_at = now
    tx.record(f"run.{state}", federation_id=run.federation_id, run_id=run.id, reason=reason)
