"""What a run does next: open a round, ask more sites, wait, rest or end. The run is locked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from app.db import metrics as metric_rows
from app.db import runs as rows
from app.db import secure as secure_rows
from app.db import tasks as task_rows
from app.db.models import Round, Run, Site
from app.domain.cohorts import Candidate, Cohort, Exclusion, choose_cohort, is_online
from app.domain.ids import new_id
from app.domain.runs import (
    NextRound,
    buffer_of,
    next_round,
    require_legal,
    secure_of,
    spent_budget,
    stagnation,
)
from app.services.asking import ask, deadline_of
from app.services.cohorts import candidates_of, idle_sites
from app.services.endings import active_seconds, end_run, rest_run
from app.services.secure import collecting, setup
from app.services.transactions import Tx
from hansa_core.plans import CohortChoice, RunPlan
from hansa_core.states import RoundKind, RoundState, RunState, SiteState, TaskState

ASKED_AGAIN = 10  # rounds after which a site that came into no roster is asked once more
TRAINING_OVER = "training is over: the run evaluates what it has"


def go_on(tx: Tx, run: Run, *, now: datetime, online_for: timedelta) -> None:
    """Open the next round, say what the run waits for, rest it or complete it."""
    if run.pausing:
        rest_run(tx, run, run.state_reason or "paused", now=now)
        return
    plan = RunPlan.model_validate(run.plan)
    run.stop_reason = run.stop_reason or _why_stop(tx, run, plan, now)
    coming = next_round(
        plan,
        rounds_completed=run.rounds_completed,
        evaluated=rows.has_evaluation_round(tx.session, run.id),
        stopped=run.stop_reason is not None,
    )
    if coming is None:
        end_run(tx, run, RunState.COMPLETED, run.stop_reason, now=now)
        return
    held, failed_tries = rows.count_tries(tx.session, run.id, coming.number)
    sites = {site.name: site for site in rows.candidates(tx.session, run.federation_id)}
    candidates = _candidates(tx, run, plan, [*sites.values()])
    unwilling = _unwilling(tx, run, plan, coming)
    willing = [
        replace(it, unwilling=unwilling.get(sites[it.name].id)) if unwilling else it
        for it in candidates
    ]

    def choose(among: Sequence[Candidate]) -> Cohort:
        return choose_cohort(
            plan, coming, among, online_for=online_for, now=now, failed_tries=failed_tries
        )

    cohort = choose(willing)
    if cohort.waiting_for is not None and unwilling:
        cohort = choose(candidates)  # it does not go without them
    if cohort.waiting_for is not None:
        run.state_reason = cohort.waiting_for
        return
    _set_running(tx, run, now=now)
    if coming.kind is RoundKind.EVALUATE:
        _stop_work(tx, run, TRAINING_OVER, number=coming.number, now=now)
    row = _open_round(tx, run, plan, coming, cohort, retry=held, now=now)
    buffer = buffer_of(plan, coming.kind)
    if secure_of(plan, coming.kind) is not None:
        _begin_secure(tx, run, plan, row, cohort, sites, now=now, online_for=online_for)
    elif buffer is None:
        ask(tx, plan, row, [(sites[name], False, 1) for name in sorted(cohort.names)], now=now)
    else:
        stale = f"more than {buffer.max_staleness} rounds old: begin again from the newest"
        below = coming.number - buffer.max_staleness
        _stop_work(tx, run, stale, number=coming.number, now=now, below=below)
        refill(tx, run, plan, row, now=now, online_for=online_for)
    if row.state == RoundState.COLLECTING:
        ask(tx, plan, row, [(sites[name], True, 1) for name in sorted(cohort.evaluators)], now=now)
    tx.record(
        "round.opened",
        federation_id=run.federation_id,
        run_id=run.id,
        round_number=row.number,
        round_kind=row.kind,
        retry=row.retry,
        sites=len(cohort.names | cohort.evaluators),
        deadline_at=row.deadline_at.isoformat(),
    )


def ask_evaluators(
    tx: Tx, run: Run, plan: RunPlan, row: Round, *, now: datetime, online_for: timedelta
) -> None:
    """Ask the sites with central test data, once a secure round has been set up."""
    every = plan.evaluation.every
    evaluates = every > 0 and (row.number - 1) % every == 0
    if row.kind == RoundKind.TRAIN and not evaluates:
        return
    central = set(plan.evaluation.evaluators)
    watching = [
        site
        for site in rows.candidates(tx.session, run.federation_id)
        if site.name in central
        and site.state == SiteState.ACTIVE
        and is_online(site.last_seen_at, online_for, now)
    ]
    ask(tx, plan, row, [(site, True, 1) for site in watching], now=now)


def refill(
    tx: Tx, run: Run, plan: RunPlan, row: Round, *, now: datetime, online_for: timedelta
) -> None:
    """Ask idle sites of a buffered round for updates, as many as may train at once.

    A site that has answered in this round is asked again, with another seed; one that failed in
    it is not.
    """
    buffer = buffer_of(plan, RoundKind(row.kind))
    if buffer is None:
        return
    tx.session.flush()
    task_rows.adopt_updates(tx.session, run.id, row.id)
    if task_rows.count_updates(tx.session, row.id) >= buffer.size:
        return  # full: who is asked now should begin from the checkpoint that it makes
    busy = set(task_rows.busy_sites(tx.session, run.id))
    places = buffer.concurrency - len(busy)
    if places <= 0:
        return
    coming = NextRound(row.number, RoundKind.TRAIN, evaluate=False, threshold=1)
    sites = rows.candidates(tx.session, run.federation_id)
    cohort = choose_cohort(
        plan,
        coming,
        _candidates(tx, run, plan, sites),
        online_for=online_for,
        now=now,
    )
    asked = task_rows.asked_in_round(tx.session, row.id)
    idle = idle_sites(sites, cohort.names, busy=busy, asked=asked, places=places)
    ask(tx, plan, row, [(site, False, repeat + 1) for repeat, site in idle], now=now)


def _begin_secure(
    tx: Tx,
    run: Run,
    plan: RunPlan,
    row: Round,
    cohort: Cohort,
    sites: Mapping[str, Site],
    *,
    now: datetime,
    online_for: timedelta,
) -> None:
    """Ask the cohort for masked updates, or first agree on a roster with all who are eligible."""
    asked = [sites[name] for name in sorted(cohort.names)]
    roster = setup.covering_roster(tx, run, plan, asked, now=now, online_for=online_for)
    if roster is not None:
        collecting.begin(tx, run, plan, row, roster, asked, now=now)
        return
    row.state = RoundState.SETUP
    eligible = cohort.names | {it.site for it in cohort.excluded if it.drawn_against}
    setup.begin(tx, run, plan, row, [sites[name] for name in sorted(eligible)], now=now)


def _why_stop(tx: Tx, run: Run, plan: RunPlan, now: datetime) -> str | None:
    """Return why training ends before the plan's last round, or None."""
    if run.rounds_completed >= plan.rounds:
        return None
    rounds = f"after {run.rounds_completed} of {plan.rounds} rounds"
    spent = spent_budget(plan.budget, seconds=active_seconds(run, now), moved=run.bytes_moved)
    if spent is not None:
        return f"{spent}, {rounds}"
    if plan.early_stopping is None:
        return None
    series = metric_rows.means(
        tx.session, run.id, kind=plan.early_stopping.source, name=plan.early_stopping.metric
    )
    stalled = stagnation(plan.early_stopping, series)
    return None if stalled is None else f"stopped early, {rounds}: {stalled}"


def _unwilling(tx: Tx, run: Run, plan: RunPlan, coming: NextRound) -> dict[UUID, str]:
    """Return the sites that came into no roster of late, and why.

    Each of them would cost every round another set-up, which it then fails again.
    """
    if secure_of(plan, coming.kind) is None:
        return {}
    roster = secure_rows.roster_in_force(tx.session, run.id)
    if roster is None:
        return {}
    return secure_rows.lost_in_setup(tx.session, roster.id, after=coming.number - ASKED_AGAIN)


def _candidates(tx: Tx, run: Run, plan: RunPlan, sites: Sequence[Site]) -> list[Candidate]:
    weighted = plan.cohort.choose is CohortChoice.WEIGHTED
    examples = rows.last_examples(tx.session, run.id) if weighted else {}
    return candidates_of(sites, examples)


def _set_running(tx: Tx, run: Run, *, now: datetime) -> None:
    if run.state == RunState.QUEUED:
        require_legal(RunState(run.state), RunState.RUNNING)
        run.state = RunState.RUNNING
        kind = "run.started" if run.started_at is None else "run.resumed"
        run.started_at = run.started_at or now
        run.active_since = now
        tx.record(kind, federation_id=run.federation_id, run_id=run.id)
    run.state_reason = None


def _open_round(
    tx: Tx,
    run: Run,
    plan: RunPlan,
    coming: NextRound,
    cohort: Cohort,
    *,
    retry: int,
    now: datetime,
) -> Round:
    buffer = buffer_of(plan, coming.kind)
    row = Round(
        id=new_id(),
        run_id=run.id,
        number=coming.number,
        retry=retry,
        kind=coming.kind,
        state=RoundState.COLLECTING,
        base_checkpoint_id=run.latest_checkpoint_id,
        threshold=coming.threshold,
        target=cohort.target if buffer is None else buffer.size,
        population=len(cohort.names) + sum(it.drawn_against for it in cohort.excluded),
        excluded=[_exclusion(item) for item in cohort.excluded],
        evaluate=coming.evaluate and plan.evaluation.at_sites,
        deadline_at=deadline_of(tx, run, plan, coming.kind, len(cohort.names), now=now),
        attempts=0,
        created_at=now,
    )
    tx.session.add(row)
    tx.session.flush()
    return row


def _exclusion(item: Exclusion) -> dict[str, object]:
    return {"site": item.site, "reason": item.reason, "drawn_against": item.drawn_against}


def _stop_work(
    tx: Tx, run: Run, reason: str, *, number: int, now: datetime, below: int | None = None
) -> None:
    """End what a buffered run's sites still do for rounds under `below`; None: for any."""
    tx.session.flush()
    for site_id in rows.close_tasks_of_run(
        tx.session, run.id, state=TaskState.LATE, reason=reason, now=now, below=below
    ):
        tx.record(
            "task.late",
            federation_id=run.federation_id,
            run_id=run.id,
            round_number=number,
            site_id=str(site_id),
            reason=reason,
        )
