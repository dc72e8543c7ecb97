"""Rows of runs and their rounds. Locks are taken run first, then round, then task.

All of them leave the key alone (FOR NO KEY UPDATE): a row that is locked can still be pointed at
by a foreign key, so an answer to a task never waits for the run above it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.orm import Session, defer

from app.db.models import Round, Run, Site, Task, Update
from hansa_core.states import RoundKind, RoundState, RunState, SiteState, TaskState

ALIVE = (RunState.QUEUED, RunState.RUNNING)
OPEN_ROUNDS = (
    RoundState.SETUP,
    RoundState.COLLECTING,
    RoundState.SIGNING,
    RoundState.OPENING,
    RoundState.AGGREGATING,
)
WAITING_FOR_DUTIES = (RoundState.SETUP, RoundState.SIGNING, RoundState.OPENING)
UNFINISHED = (TaskState.OPEN, TaskState.CLAIMED)

# Of a thousand sites, far more than all the rest of a round.
_WITHOUT_EXCLUDED = defer(Round.excluded, raiseload=True)


def lock_run(session: Session, run_id: UUID) -> Run | None:
    """Return the run, locked until the transaction ends."""
    return session.scalars(
        select(Run).where(Run.id == run_id).with_for_update(key_share=True)
    ).one_or_none()


def find_run(session: Session, federation_id: UUID, run_id: UUID) -> Run | None:
    query = select(Run).where(Run.id == run_id, Run.federation_id == federation_id)
    return session.scalars(query).one_or_none()


def list_runs(
    session: Session,
    federation_id: UUID,
    *,
    states: Sequence[RunState],
    model_id: UUID | None,
    named: str | None,
    before: UUID | None,
    limit: int,
) -> Sequence[Run]:
    """Return the federation's runs, newest first.

    Only those in one of `states`, if any are given; of that model; whose name has `named` in it.
    """
    query = select(Run).where(Run.federation_id == federation_id)
    if states:
        query = query.where(Run.state.in_(states))
    if model_id is not None:
        query = query.where(Run.model_id == model_id)
    if named is not None:
        query = query.where(Run.name.icontains(named, autoescape=True))
    if before is not None:
        query = query.where(Run.id < before)
    return session.scalars(query.order_by(Run.id.desc()).limit(limit)).all()


def alive_run_ids(session: Session, federation_id: UUID) -> Sequence[UUID]:
    """Return the federation's queued and running runs."""
    query = select(Run.id).where(Run.federation_id == federation_id, Run.state.in_(ALIVE))
    return session.scalars(query.order_by(Run.id)).all()


def due_run_ids(session: Session, *, now: datetime, limit: int) -> Sequence[UUID]:
    """Return the alive runs that a step may carry forward.

    That is: no open round; a round past its deadline, with all answers in or as many as it wants,
    or with too few sites left; an aggregation without a live lease; a task whose lease ran out, or
    whose site may not take part any more; a buffered round, which may have sites to ask; a secure
    round that waits for duties, whose polls end by the clock.
    """
    open_round = exists().where(Round.run_id == Run.id, Round.state.in_(OPEN_ROUNDS))
    collecting = (Round.run_id == Run.id) & (Round.state == RoundState.COLLECTING)
    overdue = exists().where(collecting, Round.deadline_at <= now)
    orphaned = exists().where(
        Round.run_id == Run.id,
        Round.state == RoundState.AGGREGATING,
        Round.lease_expires_at.is_(None) | (Round.lease_expires_at <= now),
    )
    unfinished = (Task.round_id == Round.id) & Task.state.in_(UNFINISHED)
    silent = exists().where(
        Round.run_id == Run.id,
        Task.round_id == Round.id,
        Task.state == TaskState.CLAIMED,
        Task.lease_expires_at <= now,
    )
    barred = exists().where(
        Round.run_id == Run.id, unfinished, Site.id == Task.site_id, Site.state != SiteState.ACTIVE
    )
    all_in = exists().where(collecting, ~exists().where(unfinished))
    counted = (
        select(func.count()).where(Update.round_id == Round.id).correlate(Round).scalar_subquery()
    )
    full = exists().where(collecting, Round.target.is_not(None), counted >= Round.target)
    left = (
        select(func.count())
        .where(Task.round_id == Round.id, Task.state != TaskState.FAILED, ~Task.evaluator)
        .correlate(Round)
        .scalar_subquery()
    )
    hopeless = exists().where(collecting, left < Round.threshold)
    buffered = exists().where(collecting, Run.plan["buffer"].astext.is_not(None))
    dutiful = exists().where(Round.run_id == Run.id, Round.state.in_(WAITING_FOR_DUTIES))
    reasons = (
        *(~open_round, overdue, orphaned, silent, barred),
        *(all_in, full, hopeless, buffered, dutiful),
    )
    query = select(Run.id).where(Run.state.in_(ALIVE), or_(*reasons)).order_by(Run.id).limit(limit)
    return session.scalars(query).all()


def candidates(session: Session, federation_id: UUID) -> Sequence[Site]:
    """Return the federation's sites but the revoked, by name."""
    query = select(Site).where(Site.federation_id == federation_id, Site.state != SiteState.REVOKED)
    return session.scalars(query.order_by(Site.name)).all()


def last_examples(session: Session, run_id: UUID) -> dict[UUID, int]:
    """Return num_examples of every site's last update in the run."""
    query = (
        select(Update.site_id, Update.num_examples)
        .join(Task, Task.id == Update.task_id)
        .join(Round, Round.id == Task.round_id)
        .where(Round.run_id == run_id)
        .distinct(Update.site_id)
        .order_by(Update.site_id, Update.id.desc())
    )
    return dict(session.execute(query).tuples().all())


def count_tries(session: Session, run_id: UUID, number: int) -> tuple[int, int]:
    """Return how many rounds of that number the run has held, and how many of them failed."""
    failed = func.count().filter(Round.state == RoundState.FAILED)
    query = select(func.count(), failed).where(Round.run_id == run_id, Round.number == number)
    held, lost = session.execute(query).one()
    return held, lost


def answer_seconds(session: Session, run_id: UUID, *, after: int) -> Sequence[float]:
    """Return how long answered tasks of the rounds above `after` took since they were opened."""
    query = (
        select(Task.created_at, Task.finished_at)
        .join(Round, Round.id == Task.round_id)
        .where(Round.run_id == run_id, Round.number > after, Task.state == TaskState.DONE)
    )
    return [
        (finished_at - created_at).total_seconds()
        for created_at, finished_at in session.execute(query)
        if finished_at is not None
    ]


def lock_open_round(session: Session, run_id: UUID) -> Round | None:
    """Return the run's open round, locked."""
    query = select(Round).where(Round.run_id == run_id, Round.state.in_(OPEN_ROUNDS))
    return session.scalars(query.with_for_update(key_share=True)).one_or_none()


def lock_round(session: Session, round_id: UUID) -> Round | None:
    query = select(Round).where(Round.id == round_id).with_for_update(key_share=True)
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def renew_round_lease(
    session: Session, round_id: UUID, *, token: UUID, expires_at: datetime
) -> bool:
    """Move the end of an aggregation's lease; False when the token does not hold it any more."""
    statement = (
        update(Round)
        .where(
            Round.id == round_id,
            Round.lease_token == token,
            Round.state.in_((RoundState.SIGNING, RoundState.AGGREGATING)),
        )
        .values(lease_expires_at=expires_at)
        .returning(Round.id)
    )
    return session.execute(statement).first() is not None


def has_evaluation_round(session: Session, run_id: UUID) -> bool:
    """Tell whether the final evaluation round was held, whatever came of it; burnt is not held."""
    query = select(
        exists().where(
            Round.run_id == run_id,
            Round.kind == RoundKind.EVALUATE,
            Round.state != RoundState.CANCELLED,
        )
    )
    return session.execute(query).scalar_one()


def list_rounds(
    session: Session, run_id: UUID, *, after: UUID | None, limit: int
) -> Sequence[Round]:
    """Return the run's rounds that came later than `after`, in the order they were opened.

    Without who was excluded.
    """
    query = select(Round).where(Round.run_id == run_id).options(_WITHOUT_EXCLUDED)
    if after is not None:
        query = query.where(Round.id > after)
    return session.scalars(query.order_by(Round.id).limit(limit)).all()


def newest_rounds(
    session: Session, run_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Round]:
    """Return the run's rounds that came earlier than `before`, the newest first.

    Without who was excluded.
    """
    query = select(Round).where(Round.run_id == run_id).options(_WITHOUT_EXCLUDED)
    if before is not None:
        query = query.where(Round.id < before)
    return session.scalars(query.order_by(Round.id.desc()).limit(limit)).all()


@dataclass(frozen=True, slots=True)
class Part:
    """A site's part in a round."""

    site_name: str
    last_seen_at: datetime | None
    state: TaskState
    progress: dict[str, Any] | None
    evaluator: bool


def parts_of_round(session: Session, round_id: UUID) -> list[Part]:
    """Return every site's part in the round, by name."""
    query = (
        select(Site.name, Site.last_seen_at, Task.state, Task.progress, Task.evaluator)
        .join(Site, Site.id == Task.site_id)
        .where(Task.round_id == round_id)
        .order_by(Site.name)
    )
    return [
        Part(name, seen_at, TaskState(state), progress, evaluator)
        for name, seen_at, state, progress, evaluator in session.execute(query)
    ]


def open_round(session: Session, run_id: UUID) -> Round | None:
    """Return the run's open round, without a lock."""
    query = select(Round).where(Round.run_id == run_id, Round.state.in_(OPEN_ROUNDS))
    return session.scalars(query).one_or_none()


def checkpoint_of_round(session: Session, run_id: UUID, number: int) -> UUID | None:
    """Return the checkpoint that a round of that number made."""
    query = select(Round.checkpoint_id).where(
        Round.run_id == run_id, Round.number == number, Round.checkpoint_id.is_not(None)
    )
    return session.scalars(query).one_or_none()


def find_round(session: Session, run_id: UUID, number: int) -> Round | None:
    """Return the round of that number, its last try when it was held again."""
    query = select(Round).where(Round.run_id == run_id, Round.number == number)
    return session.scalars(query.order_by(Round.retry.desc()).limit(1)).one_or_none()


def excluded_of_rounds(
    session: Session, run_id: UUID, *, after: int
) -> Sequence[tuple[UUID, list[Any]]]:
    """Return (round id, who was not asked) of completed training rounds above `after`."""
    query = select(Round.id, Round.excluded).where(
        Round.run_id == run_id,
        Round.number > after,
        Round.kind == RoundKind.TRAIN,
        Round.state == RoundState.COMPLETED,
    )
    return [(round_id, excluded) for round_id, excluded in session.execute(query)]


def unused_sites(session: Session, round_ids: Sequence[UUID]) -> Sequence[tuple[UUID, str]]:
    """Return (round id, site name) of every site that was asked and did not count."""
    query = (
        select(Task.round_id, Site.name)
        .join(Site, Site.id == Task.site_id)
        .where(Task.round_id.in_(round_ids), Task.state.in_((TaskState.LATE, TaskState.FAILED)))
    )
    return [(round_id, name) for round_id, name in session.execute(query)]


def close_tasks(
    session: Session, round_id: UUID, *, state: TaskState, reason: str, now: datetime
) -> Sequence[UUID]:
    """End the round's unfinished tasks; return their sites."""
    return _close(session, Task.round_id == round_id, state=state, reason=reason, now=now)


def close_tasks_of_run(
    session: Session,
    run_id: UUID,
    *,
    state: TaskState,
    reason: str,
    now: datetime,
    below: int | None = None,
) -> Sequence[UUID]:
    """End the run's unfinished tasks, of rounds numbered under `below` if given; return sites."""
    rounds = select(Round.id).where(Round.run_id == run_id)
    if below is not None:
        rounds = rounds.where(Round.number < below)
    return _close(session, Task.round_id.in_(rounds), state=state, reason=reason, now=now)


def _close(
    session: Session,
    which: ColumnElement[bool],
    *,
    state: TaskState,
    reason: str,
    now: datetime,
) -> Sequence[UUID]:
    statement = (
        update(Task)
        .where(which, Task.state.in_(UNFINISHED))
        .values(state=state, state_reason=reason, lease_token=None, finished_at=now)
        .returning(Task.site_id)
    )
    return session.scalars(statement).all()
