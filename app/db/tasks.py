"""Rows of tasks, the answers to them and the metrics that come with the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from app.db.models import (
    Artifact,
    Checkpoint,
    Evaluation,
    Round,
    Run,
    Site,
    Task,
    Update,
    UpdatePart,
)
from hansa_core.states import RoundKind, RoundState, RunState, SiteState, TaskState

UNFINISHED = (TaskState.OPEN, TaskState.CLAIMED)


@dataclass(frozen=True, slots=True)
class TaskContext:
    """A task with everything that it hangs from."""

    task: Task
    round: Round
    run: Run
    checkpoint: Checkpoint  # the round's base
    checkpoint_size: int  # bytes

    @property
    def kind(self) -> RoundKind:
        """What the site is asked for."""
        return RoundKind.EVALUATE if self.task.evaluator else RoundKind(self.round.kind)


@dataclass(frozen=True, slots=True)
class AnsweredTask:
    """A task with its site and, once there is one, its answer."""

    task: Task
    site_name: str
    update: Update | None
    update_size: int | None  # bytes
    evaluation: Evaluation | None


# What sites ask all day is built once: to build a statement over five tables and its cache key
# takes as long as to execute it.
_CONTEXT = (
    select(Task, Round, Run, Checkpoint, Artifact.size)
    .join(Round, Round.id == Task.round_id)
    .join(Run, Run.id == Round.run_id)
    .join(Checkpoint, Checkpoint.id == Round.base_checkpoint_id)
    .join(
        Artifact,
        (Artifact.federation_id == Checkpoint.federation_id)
        & (Artifact.digest == Checkpoint.digest),
    )
)
_OLDEST_CLAIMABLE = (
    _CONTEXT.join(Site, Site.id == Task.site_id)
    .where(
        Task.site_id == bindparam("site_id"),
        Task.state.in_((TaskState.OPEN, TaskState.CLAIMED)),
        Run.state == RunState.RUNNING,
        Site.state == SiteState.ACTIVE,  # a waiting claim may outlive the site's admission
    )
    .order_by(Task.id)
    .limit(1)
    .with_for_update(of=Task, key_share=True)
)
_OF_SITE = (Task.id == bindparam("task_id"), Task.site_id == bindparam("site_id"))
_CONTEXT_OF_SITE = _CONTEXT.where(*_OF_SITE)
_BASE_OF_SITE = _CONTEXT_OF_SITE.with_only_columns(
    *(Checkpoint.federation_id, Checkpoint.digest, Artifact.size), maintain_column_froms=True
)
_LOCKED_CONTEXT = _CONTEXT_OF_SITE.with_for_update(of=Task, key_share=True)
_ROUND_OF_TASK = select(Task.round_id).where(*_OF_SITE)
_RUN_OF_ROUND = select(Round.run_id).where(Round.id == bindparam("round_id"))
_ROUNDS_THAT_TAKE_ANSWERS = (
    select(Round.id)
    .where(
        Round.run_id == _RUN_OF_ROUND.scalar_subquery(),
        (Round.id == bindparam("round_id")) | (Round.state == RoundState.COLLECTING),
    )
    .order_by(Round.id)
    .with_for_update(read=True)
)
_UPDATE_OF_TASK = select(Update).where(Update.task_id == bindparam("task_id"))


def oldest_claimable(session: Session, site_id: UUID) -> TaskContext | None:
    """Return the site's oldest unfinished task of a running run, locked."""
    row = session.execute(_OLDEST_CLAIMABLE, {"site_id": site_id}).one_or_none()
    return None if row is None else TaskContext(*row)


def find_context(session: Session, task_id: UUID, site_id: UUID) -> TaskContext | None:
    """Return the site's task with its context, without a lock."""
    of_site = {"task_id": task_id, "site_id": site_id}
    row = session.execute(_CONTEXT_OF_SITE, of_site).one_or_none()
    return None if row is None else TaskContext(*row)


def find_base(session: Session, task_id: UUID, site_id: UUID) -> tuple[UUID, str, int] | None:
    """Return federation, digest and size of the checkpoint that the site's task starts from."""
    row = session.execute(_BASE_OF_SITE, {"task_id": task_id, "site_id": site_id}).one_or_none()
    return None if row is None else (row.federation_id, row.digest, row.size)


def lock_context(session: Session, task_id: UUID, site_id: UUID) -> TaskContext | None:
    """Return the site's task with its context; no round of the run closes until the commit.

    The rounds are locked before the task, as everywhere: a buffered run's open round is another
    than the task's.
    """
    of_site = {"task_id": task_id, "site_id": site_id}
    round_id = session.scalars(_ROUND_OF_TASK, of_site).one_or_none()
    if round_id is None:
        return None
    session.execute(_ROUNDS_THAT_TAKE_ANSWERS, {"round_id": round_id})
    row = session.execute(_LOCKED_CONTEXT, of_site).one_or_none()
    return None if row is None else TaskContext(*row)


def collecting_round(session: Session, run_id: UUID) -> Round | None:
    """Return the run's round that takes answers, held open until the commit.

    None also while somebody decides about it: to wait with a task locked could be a deadlock.
    """
    query = select(Round).where(Round.run_id == run_id, Round.state == RoundState.COLLECTING)
    return session.scalars(query.with_for_update(read=True, skip_locked=True)).one_or_none()


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


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """How many of a round's tasks are where."""

    admitted: int
    answered: int
    failed: int
    evaluating: int  # evaluators that have not answered


def count_tasks(session: Session, round_id: UUID) -> TaskCounts:
    """Count the round's tasks."""
    asked = ~Task.evaluator
    query = select(
        func.count().filter(asked),
        func.count().filter(asked, Task.state == TaskState.DONE),
        func.count().filter(asked, Task.state == TaskState.FAILED),
        func.count().filter(Task.evaluator, Task.state.in_(UNFINISHED)),
    ).where(Task.round_id == round_id)
    return TaskCounts(*session.execute(query).one())


def count_updates(session: Session, round_id: UUID) -> int:
    """Return how many updates count in the round."""
    query = select(func.count()).where(Update.round_id == round_id)
    return session.execute(query).scalar_one()


def adopt_updates(session: Session, run_id: UUID, round_id: UUID) -> int:
    """Let the run's updates that came between two buffers count in this round; return how many."""
    tasks = select(Task.id).join(Round, Round.id == Task.round_id).where(Round.run_id == run_id)
    statement = (
        update(Update)
        .where(Update.round_id.is_(None), Update.task_id.in_(tasks))
        .values(round_id=round_id)
        .returning(Update.id)
    )
    return len(session.execute(statement).all())


def busy_sites(session: Session, run_id: UUID) -> Sequence[UUID]:
    """Return the site of every unfinished task of the run, evaluations left out."""
    query = (
        select(Task.site_id)
        .join(Round, Round.id == Task.round_id)
        .where(Round.run_id == run_id, Task.state.in_(UNFINISHED), ~Task.evaluator)
    )
    return session.scalars(query).all()


def asked_in_round(session: Session, round_id: UUID) -> dict[UUID, tuple[int, bool]]:
    """Return how often the round asked each site, and whether one of its tasks failed there."""
    query = (
        select(Task.site_id, func.max(Task.repeat), func.bool_or(Task.state == TaskState.FAILED))
        .where(Task.round_id == round_id)
        .group_by(Task.site_id)
    )
    return {site_id: (repeat, failed) for site_id, repeat, failed in session.execute(query)}


def transferred(session: Session, round_id: UUID) -> int:
    """Return the bytes that the round moved: checkpoints to sites, updates from them."""
    sent = (
        select(func.coalesce(func.sum(Artifact.size), 0))
        .select_from(Task)
        .join(Round, Round.id == Task.round_id)
        .join(Checkpoint, Checkpoint.id == Round.base_checkpoint_id)
        .join(
            Artifact,
            (Artifact.federation_id == Checkpoint.federation_id)
            & (Artifact.digest == Checkpoint.digest),
        )
        .where(Task.round_id == round_id, Task.claimed_at.is_not(None))
    )
    received = (
        select(func.coalesce(func.sum(Artifact.size), 0))
        .select_from(Update)
        .join(
            Artifact,
            (Artifact.federation_id == Update.federation_id) & (Artifact.digest == Update.digest),
        )
        .where(Update.round_id == round_id)
    )
    parts = (
        select(func.coalesce(func.sum(Artifact.size), 0))
        .select_from(UpdatePart)
        .join(Update, Update.id == UpdatePart.update_id)
        .join(
            Artifact,
            (Artifact.federation_id == UpdatePart.federation_id)
            & (Artifact.digest == UpdatePart.digest),
        )
        .where(Update.round_id == round_id)
    )
    moved = session.execute(
        select(sent.scalar_subquery(), received.scalar_subquery(), parts.scalar_subquery())
    ).one()
    return sum(map(int, moved))


def failures(session: Session, round_id: UUID) -> Sequence[tuple[str, str]]:
    """Return (site name, reason) of the round's failed tasks."""
    query = (
        select(Site.name, func.coalesce(Task.state_reason, ""))
        .join(Site, Site.id == Task.site_id)
        .where(Task.round_id == round_id, Task.state == TaskState.FAILED)
        .order_by(Site.name)
    )
    return [(name, reason) for name, reason in session.execute(query)]


def expired(session: Session, run_id: UUID, *, now: datetime) -> list[tuple[Task, int]]:
    """Return the run's claimed tasks whose lease has run out, locked, with their round's number."""
    query = (
        select(Task, Round.number)
        .join(Round, Round.id == Task.round_id)
        .where(
            Round.run_id == run_id,
            Task.state == TaskState.CLAIMED,
            Task.lease_expires_at <= now,
        )
        .order_by(Task.id)
        .with_for_update(of=Task, key_share=True)
    )
    return [(task, number) for task, number in session.execute(query)]


def barred(session: Session, run_id: UUID) -> list[tuple[Task, Site, int]]:
    """Return the run's unfinished tasks whose site may not take part any more, locked."""
    query = (
        select(Task, Site, Round.number)
        .join(Site, Site.id == Task.site_id)
        .join(Round, Round.id == Task.round_id)
        .where(
            Round.run_id == run_id,
            Task.state.in_(UNFINISHED),
            Site.state != SiteState.ACTIVE,
        )
        .order_by(Task.id)
        .with_for_update(of=Task, key_share=True)
    )
    return [(task, site, number) for task, site, number in session.execute(query)]


def find_update(session: Session, task_id: UUID) -> Update | None:
    return session.scalars(_UPDATE_OF_TASK, {"task_id": task_id}).one_or_none()


def find_evaluation(session: Session, task_id: UUID) -> Evaluation | None:
    return session.scalars(select(Evaluation).where(Evaluation.task_id == task_id)).one_or_none()
