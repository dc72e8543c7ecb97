"""Tasks counted and listed: what a round's came to, what a site was ever asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Subquery, distinct, func, select
from sqlalchemy.orm import Session

from app.db.models import Artifact, Evaluation, Round, Run, Site, Task, Update, UpdatePart
from app.db.tasks import AnsweredTask
from hansa_core.states import RoundKind, RoundState, TaskState


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tasks are where, and what their updates weigh."""

    states: dict[str, int]  # tasks by state; one that is left out has none
    bytes_up: int = 0  # updates with their parts
    rounds: int = 0  # of a site: completed training rounds that its update counted in
    last_done_at: datetime | None = None
    excluded: int = 0  # of a round: sites that were not asked


@dataclass(frozen=True, slots=True)
class PlacedTask:
    """A task with where it belongs."""

    answered: AnsweredTask
    run_id: UUID
    run_name: str
    round_number: int
    round_kind: str

    @property
    def kind(self) -> RoundKind:
        """What the site is asked for."""
        return RoundKind.EVALUATE if self.answered.task.evaluator else RoundKind(self.round_kind)


def of_rounds(session: Session, round_ids: Sequence[UUID]) -> dict[UUID, Counts]:
    """Return what each round's tasks came to. The bytes are of the updates that count in it."""
    tasks = (
        select(Task.round_id, Task.state, func.count())
        .where(Task.round_id.in_(round_ids))
        .group_by(Task.round_id, Task.state)
    )
    states: dict[UUID, dict[str, int]] = {}
    for round_id, state, number in session.execute(tasks):
        states.setdefault(round_id, {})[state] = number
    updates = select(Update.id, Update.round_id, Update.federation_id, Update.digest)
    counting = updates.where(Update.round_id.in_(round_ids))
    moved = _bytes_up(session, counting.subquery())
    lengths = select(Round.id, func.jsonb_array_length(Round.excluded))
    excluded = dict(session.execute(lengths.where(Round.id.in_(round_ids))).tuples().all())
    return {
        round_id: Counts(
            states.get(round_id, {}),
            bytes_up=moved.get(round_id, 0),
            excluded=excluded.get(round_id, 0),
        )
        for round_id in round_ids
    }


def of_sites(session: Session, federation_id: UUID, site_ids: Sequence[UUID]) -> dict[UUID, Counts]:
    """Return what the tasks of each of the federation's sites came to."""
    theirs = (Site.federation_id == federation_id) & Site.id.in_(site_ids)
    tasks = (
        select(Task.site_id, Task.state, func.count(), func.max(Task.finished_at))
        .join(Site, Site.id == Task.site_id)
        .where(theirs)
        .group_by(Task.site_id, Task.state)
    )
    states: dict[UUID, dict[str, int]] = {}
    last_done: dict[UUID, datetime] = {}
    for site_id, state, number, finished_at in session.execute(tasks):
        states.setdefault(site_id, {})[state] = number
        if state == TaskState.DONE:
            last_done[site_id] = finished_at
    counted = (
        select(Task.site_id, func.count(distinct(Update.round_id)))
        .join(Site, Site.id == Task.site_id)
        .join(Update, Update.task_id == Task.id)
        .join(Round, Round.id == Update.round_id)
        .where(
            theirs,
            Task.state == TaskState.DONE,  # else a secure sum went without it
            Round.state == RoundState.COMPLETED,
            Round.kind == RoundKind.TRAIN,
        )
        .group_by(Task.site_id)
    )
    rounds = dict(session.execute(counted).tuples().all())
    updates = (
        select(Update.id, Task.site_id, Update.federation_id, Update.digest)
        .join(Task, Task.id == Update.task_id)
        .join(Site, Site.id == Task.site_id)
        .where(theirs)
    )
    moved = _bytes_up(session, updates.subquery())
    return {
        site_id: Counts(
            states.get(site_id, {}),
            moved.get(site_id, 0),
            rounds.get(site_id, 0),
            last_done.get(site_id),
        )
        for site_id in site_ids
    }


def list_of_site(
    session: Session,
    federation_id: UUID,
    site_id: UUID,
    *,
    states: Sequence[TaskState],
    before: UUID | None,
    limit: int,
) -> list[PlacedTask]:
    """Return the tasks of one of the federation's sites, in these states if any, newest first."""
    query = (
        select(Task, Site.name, Update, Artifact.size, Evaluation, Run.id, Run.name)
        .add_columns(Round.number, Round.kind)
        .join(Site, Site.id == Task.site_id)
        .join(Round, Round.id == Task.round_id)
        .join(Run, Run.id == Round.run_id)
        .outerjoin(Update, Update.task_id == Task.id)
        .outerjoin(
            Artifact,
            (Artifact.federation_id == Update.federation_id) & (Artifact.digest == Update.digest),
        )
        .outerjoin(Evaluation, Evaluation.task_id == Task.id)
        .where(Task.site_id == site_id, Site.federation_id == federation_id)
    )
    if states:
        query = query.where(Task.state.in_(states))
    if before is not None:
        query = query.where(Task.id < before)
    found = session.execute(query.order_by(Task.id.desc()).limit(limit))
    return [
        PlacedTask(AnsweredTask(task, name, update, size, evaluation), *place)
        for task, name, update, size, evaluation, *place in found
    ]


def _bytes_up(session: Session, updates: Subquery) -> dict[UUID, int]:
    """Return the bytes of updates with their parts, by the key that each is selected with.

    `updates` has (id, key, federation, digest).
    """
    update_id, key, federation_id, digest = updates.c
    own = (
        select(key, func.sum(Artifact.size))
        .join(Artifact, (Artifact.federation_id == federation_id) & (Artifact.digest == digest))
        .group_by(key)
    )
    parts = (
        select(key, func.sum(Artifact.size))
        .join(UpdatePart, UpdatePart.update_id == update_id)
        .join(
            Artifact,
            (Artifact.federation_id == UpdatePart.federation_id)
            & (Artifact.digest == UpdatePart.digest),
        )
        .group_by(key)
    )
    moved: dict[UUID, int] = {}
    for query in (own, parts):
        for whose, size in session.execute(query):
            moved[whose] = moved.get(whose, 0) + int(size)
    return moved
