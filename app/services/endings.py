"""How rounds and runs end: closed, failed, paused, cancelled. Called with the run's lock held."""

from datetime import datetime

from app.db import metrics as metric_rows
from app.db import runs as rows
from app.db import secure as secure_rows
from app.db import tasks as task_rows
from app.db.models import Round, Run
from app.domain.alerts import AlertKind
from app.domain.rounds import Decision, Reported, means_over_sites, require_legal
from app.domain.runs import require_legal as require_legal_run
from app.domain.runs import spent_budget
from app.services import alerts, receipts
from app.services.fairness import watch_exclusions
from app.services.transactions import Tx
from hansa_core.plans import RunPlan
from hansa_core.states import RoundKind, RoundState, RunState, TaskState


def close_round(
    tx: Tx, run: Run, row: Round, decision: Decision, *, now: datetime, digest: str | None = None
) -> None:
    """End a round. A completed buffered round leaves its unfinished tasks to the next ones."""
    plan = RunPlan.model_validate(run.plan)
    require_legal(RoundState(row.state), decision.state)
    row.state = decision.state
    row.state_reason = decision.reason
    row.closed_at = now
    row.lease_token = None
    row.lease_expires_at = None
    if decision.state is RoundState.CANCELLED:
        close_tasks(tx, run, row, TaskState.CANCELLED, str(decision.reason), now=now)
    elif plan.buffer is None or decision.state is not RoundState.COMPLETED:
        close_tasks(tx, run, row, TaskState.LATE, "the round closed without this site", now=now)
    secure_rows.close_duties(
        tx.session, row.id, reason=decision.reason or f"the round is {decision.state}", now=now
    )
    secure_rows.end_setup(tx.session, row.id)
    tx.session.flush()
    run.bytes_moved += task_rows.transferred(tx.session, row.id)
    if decision.state is RoundState.COMPLETED:
        _record_means(tx, plan, row)
        watch_exclusions(tx, run, row, now=now)
    tx.record(
        f"round.{decision.state}",
        federation_id=run.federation_id,
        run_id=run.id,
        round_number=row.number,
        reason=decision.reason,
        digest=digest,
    )
    receipts.issue_round(tx, run, row, now=now)


def close_tasks(
    tx: Tx, run: Run, row: Round, state: TaskState, reason: str, *, now: datetime
) -> None:
    """End the round's unfinished tasks; the sites learn it with their next heartbeat."""
    tx.session.flush()
    for site_id in rows.close_tasks(tx.session, row.id, state=state, reason=reason, now=now):
        tx.record(
            f"task.{state}",
            federation_id=run.federation_id,
            run_id=run.id,
            round_number=row.number,
            site_id=str(site_id),
            reason=reason,
        )


def cancel_run(tx: Tx, run: Run, *, reason: str, now: datetime) -> None:
    """Cancel a locked run, its open round and its tasks."""
    require_legal_run(RunState(run.state), RunState.CANCELLED)
    current = rows.lock_open_round(tx.session, run.id)
    if current is not None:
        close_round(tx, run, current, Decision(RoundState.CANCELLED, reason), now=now)
    end_run(tx, run, RunState.CANCELLED, reason, now=now)


def pause_run(tx: Tx, run: Run, *, burn: bool, by: str, now: datetime) -> None:
    """Pause a locked run: at once, burning its open round, or when that round is closed.

    Raises:
        IllegalTransitionError: the run is not started, or over.
    """
    require_legal_run(RunState(run.state), RunState.PAUSED)
    reason = f"paused by {by}"
    current = rows.lock_open_round(tx.session, run.id)
    if current is not None and not burn:
        run.pausing = True
        run.state_reason = reason
        tx.record("run.pausing", federation_id=run.federation_id, run_id=run.id, reason=reason)
        return
    if current is not None:
        burnt = Decision(RoundState.CANCELLED, f"{reason}; the round is held again later")
        close_round(tx, run, current, burnt, now=now)
        tx.session.flush()
        rows.close_tasks_of_run(
            tx.session, run.id, state=TaskState.CANCELLED, reason=reason, now=now
        )
    rest_run(tx, run, reason, now=now)


def rest_run(tx: Tx, run: Run, reason: str, *, now: datetime) -> None:
    """Let a run without an open round be paused."""
    require_legal_run(RunState(run.state), RunState.PAUSED)
    run.state = RunState.PAUSED
    run.state_reason = reason
    run.pausing = False
    _stop_clock(run, now)
    tx.record("run.paused", federation_id=run.federation_id, run_id=run.id, reason=reason)


def end_short_round(tx: Tx, run: Run, row: Round, reason: str, *, now: datetime) -> None:
    """Close a round that has too few answers: hold it again, do without it, or fail the run."""
    plan = RunPlan.model_validate(run.plan)
    spent = spent_budget(plan.budget, seconds=active_seconds(run, now), moved=run.bytes_moved)
    if spent is not None and row.kind == RoundKind.TRAIN:
        close_round(tx, run, row, Decision(RoundState.CANCELLED, spent), now=now)
        return
    failures = task_rows.failures(tx.session, row.id)
    named = "; ".join(f"{name}: {why}" for name, why in failures)
    reason = f"{reason} ({named})" if named else reason
    failed = rows.count_tries(tx.session, run.id, row.number)[1]
    if row.kind == RoundKind.TRAIN and failed >= plan.cohort.retries:
        fail_run(tx, run, row, reason=reason, now=now)
        return
    # Of an evaluation the trained model stands; a training round is held again.
    close_round(tx, run, row, Decision(RoundState.FAILED, reason), now=now)


def fail_run(tx: Tx, run: Run, row: Round, *, reason: str, now: datetime) -> None:
    """Fail a round and its run."""
    close_round(tx, run, row, Decision(RoundState.FAILED, reason), now=now)
    end_run(tx, run, RunState.FAILED, f"round {row.number}: {reason}", now=now)


def end_run(tx: Tx, run: Run, state: RunState, reason: str | None, *, now: datetime) -> None:
    """End a run without an open round, and whatever its sites still do."""
    require_legal_run(RunState(run.state), state)
    tx.session.flush()
    rows.close_tasks_of_run(
        tx.session,
        run.id,
        state=TaskState.CANCELLED,
        reason=f"the run is {state}",
        now=now,
    )
    secure_rows.end_rosters(tx.session, run.id)
    run.state = state
    run.state_reason = reason
    run.pausing = False
    run.finished_at = now
    _stop_clock(run, now)
    if state is RunState.FAILED:
        alerts.raise_alert(
            tx,
            AlertKind.RUN_FAILED,
            federation_id=run.federation_id,
            subject=str(run.id),
            message=f"run {run.name} failed: {reason}",
            run_id=run.id,
            now=now,
        )
    tx.record(f"run.{state}", federation_id=run.federation_id, run_id=run.id, reason=reason)
    receipts.issue_run(tx, run, now=now)


def active_seconds(run: Run, now: datetime) -> float:
    """Return how long the run has been at work, pauses left out."""
    since = run.active_since
    return run.active_seconds + (0.0 if since is None else (now - since).total_seconds())


def _stop_clock(run: Run, now: datetime) -> None:
    run.active_seconds = active_seconds(run, now)
    run.active_since = None


def _record_means(tx: Tx, plan: RunPlan, row: Round) -> None:
    """Write the mean over sites beside what the sites reported, once, when the round closes."""
    measured = [("eval", row.number - 1)]
    if row.kind == RoundKind.TRAIN:
        measured.append(("train", row.number))
    central = set(plan.evaluation.evaluators)
    summed = _summed_means(tx, row)
    for kind, number in measured:
        reports = metric_rows.of_sites(tx.session, row.run_id, kind=kind, round_number=number)
        means = means_over_sites(
            (
                Reported(it.site_name, it.metric.name, it.metric.value, it.metric.num_examples)
                for it in reports
            ),
            central,
        ) | summed.get(kind, {})
        metric_rows.put(
            tx.session,
            [
                metric_rows.NewMetric(
                    run_id=row.run_id,
                    round_number=number,
                    kind=kind,
                    name=name,
                    site_id=None,
                    value=value,
                    num_examples=num_examples,
                )
                for name, (value, num_examples) in means.items()
            ],
        )


def _summed_means(tx: Tx, row: Round) -> dict[str, dict[str, tuple[float, int]]]:
    """Return the means that a secure sum says, with their examples, by kind and name."""
    secure = secure_rows.find_secure_round(tx.session, row.id)
    means: dict[str, dict[str, tuple[float, int]]] = {}
    for name, it in ((secure and secure.totals) or {"metrics": {}})["metrics"].items():
        kind, _, metric = name.partition("/")
        means.setdefault(kind, {})[metric] = (it["mean"], it["weight"])
    return means
