"""Events: append-only, numbered in commit order within a federation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, func, insert, or_, select
from sqlalchemy.orm import Session

from app.db.models import Event

_LOCK = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("federation"), 0)))


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event that is not written yet."""

    federation_id: UUID
    run_id: UUID | None
    kind: str  # past tense, dotted
    data: dict[str, Any]


def append(session: Session, events: Sequence[NewEvent]) -> None:
    """Write `events` in order, last in the transaction.

    The advisory lock of each federation is held until the commit: whoever gets a higher id
    commits later.
    """
    if not events:
        return
    session.flush()
    for federation_id in sorted({event.federation_id for event in events}):
        session.execute(_LOCK, {"federation": str(federation_id)})
    session.execute(
        insert(Event),
        [
            {
                "federation_id": event.federation_id,
                "run_id": event.run_id,
                "kind": event.kind,
                "data": event.data,
            }
            for event in events
        ],
    )


def after(
    session: Session, federation_id: UUID, *, last_id: int, run_id: UUID | None, limit: int
) -> Sequence[Event]:
    """Return the oldest events after `last_id`, at most `limit`."""
    query = select(Event).where(Event.federation_id == federation_id, Event.id > last_id)
    if run_id is not None:
        query = query.where(Event.run_id == run_id)
    return session.scalars(query.order_by(Event.id).limit(limit)).all()


def newest(
    session: Session, federation_id: UUID, *, before: int | None, run_id: UUID | None, limit: int
) -> Sequence[Event]:
    """Return the newest events below the id `before`, at most `limit`, newest first."""
    query = select(Event).where(Event.federation_id == federation_id)
    if before is not None:
        query = query.where(Event.id < before)
    if run_id is not None:
        query = query.where(Event.run_id == run_id)
    return session.scalars(query.order_by(Event.id.desc()).limit(limit)).all()


def newest_id(session: Session, federation_id: UUID) -> int:
    """Return the id of the federation's newest event, 0 if it has none.

    All events up to it are committed and may be read; none of them comes later.
    """
    query = select(func.coalesce(func.max(Event.id), 0)).where(Event.federation_id == federation_id)
    return session.execute(query).scalar_one()


def matching(
    session: Session, federation_id: UUID, *, last_id: int, patterns: Sequence[str], limit: int
) -> Sequence[Event]:
    """Return the oldest events after `last_id` of kinds that one of `patterns` names.

    A pattern is a kind, a prefix that ends in ".*", or "*".
    """
    query = select(Event).where(Event.federation_id == federation_id, Event.id > last_id)
    if "*" not in patterns:
        prefixes = [pattern[:-1] for pattern in patterns if pattern.endswith(".*")]
        query = query.where(
            or_(
                Event.kind.in_(patterns),
                *(Event.kind.startswith(prefix, autoescape=True) for prefix in prefixes),
            )
        )
    return session.scalars(query.order_by(Event.id).limit(limit)).all()
