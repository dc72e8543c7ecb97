"""Rows of runs and their rounds. Locks are taken run first, then round, then task.

All of them leave the key alone (FOR NO KEY UPDATE): a row that is locked can still be pointed at
by a foreign key, so an answer to a task never waits for the run above it.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session

from app.db.models import Round, Run, Site, Task
from hansa_core.states import RoundKind, RoundState, RunState, SiteState, TaskState

ALIVE = (RunState.QUEUED, RunState.RUNNING)
OPEN_ROUNDS = (RoundState.COLLECTING, RoundState.AGGREGATING)


def lock_run(session: Session, run_id: UUID) -> Run | None:
    """Return the run, locked until the transaction ends."""
    return session.scalars(
        select(Run).where(Run.id == run_id).with_for_update(key_share=True)
    ).one_or_none()


def find_run(session: Session, federation_id: UUID, run_id: UUID) -> Run | None:
    query = select(Run).where(Run.id == run_id, Run.federation_id == federation_id)
    return session.scalars(query).one_or_none()


def list_runs(
    session: Session, federation_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Run]:
    query = select(Run).where(Run.federation_id == federation_id)
    if before is not None:
        query = query.where(Run.id < before)
    return session.scalars(query.order_by(Run.id.desc()).limit(limit)).all()


def alive_run_ids(session: Session, federation_id: UUID) -> Sequence[UUID]:
    """Return the federation's queued and running runs."""
    query = select(Run.id).where(Run.federation_id == federation_id, Run.state.in_(ALIVE))
    return session.scalars(query.order_by(Run.id)).all()


def due_run_ids(session: Session, *, now: datetime, limit: int) -> Sequence[UUID]:
    """Return the alive runs that a step may carry forward.

    That is: no open round; a round past its deadline, with all answers in or with too few sites
    left; an aggregation without a live lease; a task whose lease ran out, or whose site may not
    take part any more.
    """
    open_round = exists().where(Round.run_id == Run.id, Round.state.in_(OPEN_ROUNDS))
    collecting = (Round.run_id == Run.id) & (Round.state == RoundState.COLLECTING)
    overdue = exists().where(collecting, Round.deadline_at <= now)
    orphaned = exists().where(
        Round.run_id == Run.id,
        Round.state == RoundState.AGGREGATING,
        Round.lease_expires_at.is_(None) | (Round.lease_expires_at <= now),
    )
    silent = exists().where(
        collecting,
        Task.round_id == Round.id,
        Task.state == TaskState.CLAIMED,
        Task.lease_expires_at <= now,
    )
    unfinished = exists().where(
        Task.round_id == Round.id, Task.state.in_((TaskState.OPEN, TaskState.CLAIMED))
    )
    barred = exists().where(
        collecting,
        Task.round_id == Round.id,
        Task.state.in_((TaskState.OPEN, TaskState.CLAIMED)),
        Site.id == Task.site_id,
        Site.state != SiteState.ACTIVE,
    )
    all_in = exists().where(collecting, ~unfinished)
    left = (
        select(func.count())
        .where(Task.round_id == Round.id, Task.state != TaskState.FAILED)
        .scalar_subquery()
    )
    hopeless = exists().where(collecting, left < Round.threshold)
    reasons = (~open_round, overdue, orphaned, silent, barred, all_in, hopeless)
    query = select(Run.id).where(Run.state.in_(ALIVE), or_(*reasons)).order_by(Run.id).limit(limit)
    return session.scalars(query).all()


def candidates(session: Session, federation_id: UUID) -> Sequence[Site]:
    """Return the federation's active sites, by name."""
    query = select(Site).where(Site.federation_id == federation_id, Site.state == SiteState.ACTIVE)
    return session.scalars(query.order_by(Site.name)).all()


def pending_names(session: Session, federation_id: UUID) -> Sequence[str]:
    """Return the names of the federation's sites that wait for approval."""
    query = select(Site.name).where(
        Site.federation_id == federation_id, Site.state == SiteState.PENDING
    )
    return session.scalars(query.order_by(Site.name)).all()


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
            Round.state == RoundState.AGGREGATING,
        )
        .values(lease_expires_at=expires_at)
        .returning(Round.id)
    )
    return session.execute(statement).first() is not None


def has_evaluation_round(session: Session, run_id: UUID) -> bool:
    """Tell whether the final evaluation round was held, whatever came of it."""
    query = select(exists().where(Round.run_id == run_id, Round.kind == RoundKind.EVALUATE))
    return session.execute(query).scalar_one()


def list_rounds(session: Session, run_id: UUID, *, after: int, limit: int) -> Sequence[Round]:
    """Return the run's rounds with a number above `after`, ascending."""
    query = select(Round).where(Round.run_id == run_id, Round.number > after)
    return session.scalars(query.order_by(Round.number).limit(limit)).all()


def find_round(session: Session, run_id: UUID, number: int) -> Round | None:
    query = select(Round).where(Round.run_id == run_id, Round.number == number)
    return session.scalars(query).one_or_none()


def close_tasks(
    session: Session, round_id: UUID, *, state: TaskState, reason: str, now: datetime
) -> Sequence[UUID]:
    """End the round's unfinished tasks; return their sites."""
    statement = (
        update(Task)
        .where(Task.round_id == round_id, Task.state.in_((TaskState.OPEN, TaskState.CLAIMED)))
        .values(state=state, state_reason=reason, lease_token=None, finished_at=now)
        .returning(Task.site_id)
    )
    return session.scalars(statement).all()
