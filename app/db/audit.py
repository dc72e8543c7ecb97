"""The audit log: append-only, a hash chain per federation and one of the hub's.

The rows' bodies are hansa_core.audit's. Numbers have no gaps: a chain's advisory lock is held from
the look at its head until the commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import ColumnElement, func, insert, select
from sqlalchemy.orm import Session

from app.db.models import AuditEntry
from hansa_core.audit import Actor, Entry, Head, Sealed, seal

_SEED = 1  # of the locks' keys; the events' locks have 0


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry that has no place in its chain yet."""

    federation_id: UUID | None  # None: the hub's chain
    action: str
    data: dict[str, JsonValue]


def append(session: Session, actor: Actor, entries: Sequence[NewEntry]) -> None:
    """Write `entries` in order, as the very last thing in the transaction, after its events.

    Every transaction takes the events' locks first, then these, each kind in the order of ids:
    no two wait for each other.
    """
    if not entries:
        return
    session.flush()
    for chain in sorted({entry.federation_id for entry in entries}, key=str):
        _append(session, actor, chain, [e for e in entries if e.federation_id == chain])


def head(session: Session, federation_id: UUID | None) -> Head | None:
    """Return the chain's newest entry's number and digest; None when there is none."""
    query = select(AuditEntry.number, AuditEntry.digest).where(_in(federation_id))
    row = session.execute(query.order_by(AuditEntry.number.desc()).limit(1)).one_or_none()
    return None if row is None else Head(row.number, row.digest)


def after(
    session: Session, federation_id: UUID | None, *, number: int, upto: int, limit: int
) -> Sequence[tuple[int, Sealed]]:
    """Return the oldest entries with a number in (number, upto], as they are stored."""
    query = select(AuditEntry.number, AuditEntry.body, AuditEntry.digest).where(
        _in(federation_id), AuditEntry.number > number, AuditEntry.number <= upto
    )
    rows = session.execute(query.order_by(AuditEntry.number).limit(limit))
    return [(found, Sealed(body, digest)) for found, body, digest in rows]


def newest(
    session: Session,
    federation_id: UUID | None,
    *,
    actor: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    limit: int,
) -> Sequence[Sealed]:
    """Return the newest entries by this actor, with an action that starts so, in [since, until)."""
    query = select(AuditEntry.body, AuditEntry.digest).where(_in(federation_id))
    if actor is not None:
        query = query.where(AuditEntry.actor == actor)
    if action is not None:
        query = query.where(AuditEntry.action.startswith(action, autoescape=True))
    if since is not None:
        query = query.where(AuditEntry.at >= since)
    if until is not None:
        query = query.where(AuditEntry.at < until)
    if before is not None:
        query = query.where(AuditEntry.number < before)
    rows = session.execute(query.order_by(AuditEntry.number.desc()).limit(limit))
    return [Sealed(body, digest) for body, digest in rows]


def count_newest(
    session: Session, federation_id: UUID | None, *, action: str, since: datetime, among: int
) -> int:
    """Return how many of the chain's newest `among` entries are `action`, since then."""
    last = (
        select(AuditEntry.action, AuditEntry.at)
        .where(_in(federation_id))
        .order_by(AuditEntry.number.desc())
        .limit(among)
        .subquery()
    )
    query = select(func.count()).where(last.c.action == action, last.c.at >= since)
    return session.scalars(query).one()


def _append(
    session: Session, actor: Actor, chain: UUID | None, entries: Sequence[NewEntry]
) -> None:
    # Two statements: the second one's snapshot must not be older than the lock.
    session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"audit {chain}", _SEED)))
    )
    newest_first = select(AuditEntry).where(_in(chain)).order_by(AuditEntry.number.desc()).limit(1)
    last = newest_first.subquery()
    at, number, previous = session.execute(
        select(
            func.clock_timestamp(),  # one clock for all writers
            func.coalesce(select(last.c.number).scalar_subquery(), 0),
            select(last.c.digest).scalar_subquery(),
        )
    ).one()
    columns: list[dict[str, object]] = []
    for new in entries:
        number += 1
        entry = Entry(
            federation_id=chain,
            number=number,
            at=at,
            actor=actor,
            action=new.action,
            data=new.data,
            previous=previous,
        )
        sealed = seal(entry)
        previous = sealed.digest
        columns.append(
            {
                "federation_id": chain,
                "number": number,
                "at": at,
                "actor": actor.name,
                "action": new.action,
                "body": sealed.body,
                "digest": sealed.digest,
            }
        )
    session.execute(insert(AuditEntry), columns)


def _in(federation_id: UUID | None) -> ColumnElement[bool]:
    if federation_id is None:
        return AuditEntry.federation_id.is_(None)
    return AuditEntry.federation_id == federation_id
