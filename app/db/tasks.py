"""Rows of tasks, the answers to them and the metrics that come with the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, select, update
from sqlalchemy.orm import Session

from app.db.models import (
    Artifact,
    Checkpoint,
    Evaluation,
    Metric,
    Round,
    Run,
    Site,
    SiteKey,
    Task,
    Update,
)
from hansa_core.states import RoundState, SiteState, TaskState


@dataclass(frozen=True, slots=True)
class TaskContext:
    """A task with everything that it hangs from."""

    task: Task
    round: Round
    run: Run
    checkpoint: Checkpoint  # the round's base
    checkpoint_size: int  # bytes


@dataclass(frozen=True, slots=True)
class AnsweredTask:
    """A task with its site and, once there is one, its answer."""

    task: Task
    site_name: str
    update: Update | None
    update_size: int | None  # bytes
    evaluation: Evaluation | None


@dataclass(frozen=True, slots=True)
class SiteMetric:
    """A metric with the name of its site; None is the mean over sites."""

    metric: Metric
    site_name: str | None


def oldest_claimable(session: Session, site_id: UUID) -> TaskContext | None:
    """Return the site's oldest unfinished task of a collecting round, locked."""
    query = (
        select(Task, Round, Run, Checkpoint, Artifact.size)
        .join(Round, Round.id == Task.round_id)
        .join(Run, Run.id == Round.run_id)
        .join(Checkpoint, Checkpoint.id == Round.base_checkpoint_id)
        .join(
            Artifact,
            (Artifact.federation_id == Checkpoint.federation_id)
            & (Artifact.digest == Checkpoint.digest),
        )
        .join(Site, Site.id == Task.site_id)
        .where(
            Task.site_id == site_id,
            Task.state.in_((TaskState.OPEN, TaskState.CLAIMED)),
            Round.state == RoundState.COLLECTING,
            Site.state == SiteState.ACTIVE,  # a waiting claim may outlive the site's admission
        )
        .order_by(Task.id)
        .limit(1)
        .with_for_update(of=Task, key_share=True)
    )
    row = session.execute(query).one_or_none()
    return None if row is None else TaskContext(*row)


def find_context(session: Session, task_id: UUID, site_id: UUID) -> TaskContext | None:
    """Return the site's task with its context, without a lock."""
    row = session.execute(_context(task_id, site_id)).one_or_none()
    return None if row is None else TaskContext(*row)


def lock_context(session: Session, task_id: UUID, site_id: UUID) -> TaskContext | None:
    """Return the site's task with its context; the round cannot close until the commit."""
    round_id = session.scalars(
        select(Task.round_id).where(Task.id == task_id, Task.site_id == site_id)
    ).one_or_none()
    if round_id is None:
        return None
    session.execute(select(Round.id).where(Round.id == round_id).with_for_update(read=True))
    row = session.execute(
        _context(task_id, site_id).with_for_update(of=Task, key_share=True)
    ).one_or_none()
    return None if row is None else TaskContext(*row)


def renew_lease(
    session: Session,
    task_id: UUID,
    site_id: UUID,
    *,
    lease_token: UUID,
    expires_at: datetime,
    progress: dict[str, Any],
) -> bool:
    """Renew the lease in one statement; False when the token does not hold the task."""
    statement = (
        update(Task)
        .where(
            Task.id == task_id,
            Task.site_id == site_id,
            Task.lease_token == lease_token,
            Task.state.in_((TaskState.OPEN, TaskState.CLAIMED)),
        )
        .values(state=TaskState.CLAIMED, lease_expires_at=expires_at, progress=progress)
        .returning(Task.id)
    )
    return session.execute(statement).first() is not None


def views_of_round(session: Session, round_id: UUID) -> list[AnsweredTask]:
    """Return the round's tasks with what the sites answered, by site."""
    query = (
        select(Task, Site.name, Update, Artifact.size, Evaluation)
        .join(Site, Site.id == Task.site_id)
        .outerjoin(Update, Update.task_id == Task.id)
        .outerjoin(
            Artifact,
            (Artifact.federation_id == Update.federation_id) & (Artifact.digest == Update.digest),
        )
        .outerjoin(Evaluation, Evaluation.task_id == Task.id)
        .where(Task.round_id == round_id)
        .order_by(Site.name)
    )
    return [AnsweredTask(*row) for row in session.execute(query)]


def count_by_state(session: Session, round_id: UUID) -> dict[TaskState, int]:
    """Return how many of the round's tasks are in each state."""
    query = select(Task.state, func.count()).where(Task.round_id == round_id).group_by(Task.state)
    return {TaskState(state): count for state, count in session.execute(query)}


def failures(session: Session, round_id: UUID) -> Sequence[tuple[str, str]]:
    """Return (site name, reason) of the round's failed tasks."""
    query = (
        select(Site.name, func.coalesce(Task.state_reason, ""))
        .join(Site, Site.id == Task.site_id)
        .where(Task.round_id == round_id, Task.state == TaskState.FAILED)
        .order_by(Site.name)
    )
    return [(name, reason) for name, reason in session.execute(query)]


def expired(session: Session, round_id: UUID, *, now: datetime) -> Sequence[Task]:
    """Return the round's claimed tasks whose lease has run out, locked."""
    query = select(Task).where(
        Task.round_id == round_id,
        Task.state == TaskState.CLAIMED,
        Task.lease_expires_at <= now,
    )
    return session.scalars(query.order_by(Task.id).with_for_update(key_share=True)).all()


def barred(session: Session, round_id: UUID) -> list[tuple[Task, Site]]:
    """Return the round's unfinished tasks whose site may not take part any more, locked."""
    query = (
        select(Task, Site)
        .join(Site, Site.id == Task.site_id)
        .where(
            Task.round_id == round_id,
            Task.state.in_((TaskState.OPEN, TaskState.CLAIMED)),
            Site.state != SiteState.ACTIVE,
        )
        .order_by(Task.id)
        .with_for_update(of=Task, key_share=True)
    )
    return [(task, site) for task, site in session.execute(query)]


def find_update(session: Session, task_id: UUID) -> Update | None:
    return session.scalars(select(Update).where(Update.task_id == task_id)).one_or_none()


def find_evaluation(session: Session, task_id: UUID) -> Evaluation | None:
    return session.scalars(select(Evaluation).where(Evaluation.task_id == task_id)).one_or_none()


def updates_of_round(session: Session, round_id: UUID) -> Sequence[Update]:
    query = select(Update).where(Update.round_id == round_id)
    return session.scalars(query.order_by(Update.digest, Update.num_examples)).all()


def list_updates(
    session: Session, run_id: UUID, *, round_number: int | None, after: UUID | None, limit: int
) -> Sequence[Row[tuple[Update, str, int, SiteKey]]]:
    """Return updates with site name, size and the key that signed them, oldest first."""
    query = (
        select(Update, Site.name, Artifact.size, SiteKey)
        .join(Round, Round.id == Update.round_id)
        .join(Site, Site.id == Update.site_id)
        .join(SiteKey, SiteKey.id == Update.key_id)
        .join(
            Artifact,
            (Artifact.federation_id == Update.federation_id) & (Artifact.digest == Update.digest),
        )
        .where(Round.run_id == run_id)
    )
    if round_number is not None:
        query = query.where(Round.number == round_number)
    if after is not None:
        query = query.where(Update.id > after)
    return session.execute(query.order_by(Update.id).limit(limit)).all()


def site_metrics(
    session: Session, run_id: UUID, *, kind: str, round_number: int
) -> Sequence[Metric]:
    """Return what the sites reported, without the means."""
    query = select(Metric).where(
        Metric.run_id == run_id,
        Metric.kind == kind,
        Metric.round_number == round_number,
        Metric.site_id.is_not(None),
    )
    return session.scalars(query.order_by(Metric.id)).all()


def list_metrics(session: Session, run_id: UUID, *, after: int, limit: int) -> list[SiteMetric]:
    """Return metrics with the site's name, in the order they came."""
    query = (
        select(Metric, Site.name)
        .outerjoin(Site, Site.id == Metric.site_id)
        .where(Metric.run_id == run_id, Metric.id > after)
    )
    return [SiteMetric(*row) for row in session.execute(query.order_by(Metric.id).limit(limit))]


def _context(task_id: UUID, site_id: UUID) -> Select[tuple[Task, Round, Run, Checkpoint, int]]:
    return (
        select(Task, Round, Run, Checkpoint, Artifact.size)
        .join(Round, Round.id == Task.round_id)
        .join(Run, Run.id == Round.run_id)
        .join(Checkpoint, Checkpoint.id == Round.base_checkpoint_id)
        .join(
            Artifact,
            (Artifact.federation_id == Checkpoint.federation_id)
            & (Artifact.digest == Checkpoint.digest),
        )
        .where(Task.id == task_id, Task.site_id == site_id)
    )
