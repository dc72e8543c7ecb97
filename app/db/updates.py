"""Rows of updates: those that count in a round, their parts, who sent them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from app.db.models import Artifact, Round, Site, SiteKey, Task, Update, UpdatePart
from hansa_core.states import RoundState, TaskState


@dataclass(frozen=True, slots=True)
class CountedUpdate:
    """An update that counts in a round, and where it comes from."""

    update: Update
    trained_in: int  # the number of the round that its task belongs to
    site_name: str


def updates_of_round(session: Session, round_id: UUID) -> list[CountedUpdate]:
    """Return the updates that count in the round, in an order that no arrival changes."""
    query = (
        select(Update, Round.number, Site.name)
        .join(Task, Task.id == Update.task_id)
        .join(Round, Round.id == Task.round_id)
        .join(Site, Site.id == Update.site_id)
        .where(Update.round_id == round_id)
        .order_by(Update.digest, Update.num_examples, Update.id)
    )
    return [CountedUpdate(*row) for row in session.execute(query)]


def parts_of_round(session: Session, round_id: UUID) -> list[tuple[UpdatePart, int]]:
    """Return the parts of the updates that count in the round, each with its size in bytes."""
    query = (
        select(UpdatePart, Artifact.size)
        .join(Update, Update.id == UpdatePart.update_id)
        .join(
            Artifact,
            (Artifact.federation_id == UpdatePart.federation_id)
            & (Artifact.digest == UpdatePart.digest),
        )
        .where(Update.round_id == round_id)
        .order_by(UpdatePart.update_id, UpdatePart.name)
    )
    return [(part, size) for part, size in session.execute(query)]


def last_counted(
    session: Session, run_id: UUID, site_id: UUID, *, up_to: int | None
) -> tuple[UUID, int] | None:
    """Return the task of the site's last update that a completed round of the run counted.

    With the number of that round, which is at most `up_to`.
    """
    query = (
        select(Update.task_id, Round.number)
        .join(Round, Round.id == Update.round_id)
        .join(Task, Task.id == Update.task_id)
        .where(
            Task.state == TaskState.DONE,  # else a secure sum went without it
            Round.run_id == run_id,
            Round.state == RoundState.COMPLETED,
            Update.site_id == site_id,
        )
    )
    if up_to is not None:
        query = query.where(Round.number <= up_to)
    row = session.execute(query.order_by(Round.number.desc(), Update.id.desc()).limit(1)).first()
    return None if row is None else (row.task_id, row.number)


def list_updates(
    session: Session, run_id: UUID, *, round_number: int | None, after: UUID | None, limit: int
) -> Sequence[Row[tuple[Update, str, int, SiteKey]]]:
    """Return updates with site name, size and the key that signed them, oldest first."""
    query = (
        select(Update, Site.name, Artifact.size, SiteKey)
        .join(Task, Task.id == Update.task_id)
        .join(Round, Round.id == Task.round_id)
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
