"""Facts for the retention policy, marks on what goes, and rows of blobs that had none.

A row whose `purged_at` is set is a tombstone: its bytes are gone or about to be. Only the caller
of `take_purged` may delete them, with the row locked.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    delete,
    exists,
    func,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import (
    Artifact,
    Channel,
    Checkpoint,
    CheckpointSlot,
    Event,
    Federation,
    Receipt,
    ReceiptHold,
    Round,
    Run,
    SecureRound,
    Task,
    Update,
    UpdatePart,
)
from app.domain.retention import (
    ArtifactFacts,
    CheckpointFacts,
    Facts,
    RoundFacts,
    RunFacts,
    UpdateFacts,
)
from hansa_core.states import RunState, TaskState

ENDED = (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)
_part = func.jsonb_each_text(SecureRound.summed_parts).table_valued("key", "value", name="part")
UNFINISHED = (TaskState.OPEN, TaskState.CLAIMED)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """An artifact without bytes, as it was seen: whoever revives it makes this untrue."""

    federation_id: UUID
    digest: str
    purged_at: datetime


def policies(session: Session) -> list[tuple[UUID, dict[str, Any] | None]]:
    """Return every federation with its policy."""
    found = session.execute(select(Federation.id, Federation.retention).order_by(Federation.id))
    return [(federation_id, policy) for federation_id, policy in found]


def candidates(
    session: Session,
    federation_id: UUID,
    *,
    before: datetime,
    after: str,
    unreferenced: bool,
    limit: int,
) -> tuple[ArtifactFacts, ...]:
    """Return artifacts uploaded by `before` with a digest above `after`, ascending.

    With `unreferenced`, only those that nothing refers to.
    """
    query = _kept(federation_id).where(Artifact.created_at <= before, Artifact.digest > after)
    if unreferenced:
        tables = (Update, UpdatePart, Checkpoint, CheckpointSlot)
        query = query.where(*(~_named_by(table) for table in tables), ~_named_by_secure())
    return _artifacts(session, query.order_by(Artifact.digest).limit(limit))


def lock_kept(
    session: Session, federation_id: UUID, digests: Collection[str]
) -> tuple[ArtifactFacts, ...]:
    """Lock those of the artifacts that have their bytes: until the commit nothing new names them.

    What names them by a foreign key waits for the lock, so facts read after this are complete.
    """
    query = _kept(federation_id).where(Artifact.digest.in_(digests)).order_by(Artifact.digest)
    return _artifacts(session, query.with_for_update())


def facts(session: Session, federation_id: UUID, artifacts: tuple[ArtifactFacts, ...]) -> Facts:
    """Return all that the policy needs to know of `artifacts`."""
    digests = [item.digest for item in artifacts]
    updates = tuple(
        UpdateFacts(*row)
        for row in session.execute(
            select(Update.digest, Round.run_id, Update.round_id)
            .join(Task, Task.id == Update.task_id)
            .join(Round, Round.id == Task.round_id)
            .where(Update.federation_id == federation_id, Update.digest.in_(digests))
            .union_all(
                select(UpdatePart.digest, Round.run_id, Update.round_id)
                .join(Update, Update.id == UpdatePart.update_id)
                .join(Task, Task.id == Update.task_id)
                .join(Round, Round.id == Task.round_id)
                .where(UpdatePart.federation_id == federation_id, UpdatePart.digest.in_(digests)),
                *(
                    select(named, Round.run_id, SecureRound.round_id)
                    .join(Round, Round.id == SecureRound.round_id)
                    .where(SecureRound.federation_id == federation_id, named.in_(digests))
                    for named in (SecureRound.transcript, SecureRound.summed)
                ),
                _named_parts(federation_id, digests),
            )
        )
    )
    checkpoints = tuple(
        CheckpointFacts(*row)
        for row in session.execute(
            select(Checkpoint.id, Checkpoint.digest, Checkpoint.run_id, Checkpoint.round_number)
            .where(Checkpoint.federation_id == federation_id, Checkpoint.digest.in_(digests))
            .union_all(
                select(
                    Checkpoint.id,
                    CheckpointSlot.digest,
                    Checkpoint.run_id,
                    Checkpoint.round_number,
                )
                .join(Checkpoint, Checkpoint.id == CheckpointSlot.checkpoint_id)
                .where(
                    CheckpointSlot.federation_id == federation_id,
                    CheckpointSlot.digest.in_(digests),
                )
            )
        )
    )
    runs = {
        run_id: RunFacts(*rest)
        for run_id, *rest in session.execute(
            select(
                Run.id,
                Run.finished_at,
                Run.base_checkpoint_id,
                Run.latest_checkpoint_id,
                Run.rounds_completed,
            ).where(Run.federation_id == federation_id)
        )
    }
    named = {item.round_id for item in updates if item.round_id is not None}
    return Facts(artifacts, updates, checkpoints, runs, _rounds(session, federation_id, named))


def mark_purged(
    session: Session, federation_id: UUID, digests: Collection[str], *, now: datetime
) -> list[Tombstone]:
    """Turn the rows, which are locked, into tombstones."""
    session.execute(
        update(Artifact)
        .where(Artifact.federation_id == federation_id, Artifact.digest.in_(digests))
        .values(purged_at=now)
    )
    return [Tombstone(federation_id, digest, now) for digest in sorted(digests)]


def bury(
    session: Session, blobs: Sequence[tuple[UUID, str, int]], *, now: datetime
) -> list[Tombstone]:
    """Return a tombstone of each (federation, digest, size) that has no living row.

    One that has no row at all gets one. Blobs of federations that are not in this database are
    left out: it may be the wrong database, or an old copy.
    """
    names = [(federation_id, digest) for federation_id, digest, _ in blobs]
    known = set(
        session.scalars(
            select(Federation.id).where(Federation.id.in_({owner for owner, _ in names}))
        )
    )
    rows = [
        {
            "federation_id": federation_id,
            "digest": digest,
            "size": size,
            "created_at": now,
            "purged_at": now,
        }
        for federation_id, digest, size in blobs
        if federation_id in known
    ]
    if not rows:
        return []
    session.execute(insert(Artifact).values(rows).on_conflict_do_nothing())
    found = session.execute(
        select(Artifact.federation_id, Artifact.digest, Artifact.purged_at).where(
            tuple_(Artifact.federation_id, Artifact.digest).in_(names),
            Artifact.purged_at.is_not(None),
        )
    )
    return [Tombstone(*row) for row in found]


def take_purged(session: Session, tombstone: Tombstone) -> bool:
    """Lock the row; False unless it is still that tombstone."""
    row = lock_artifact(session, tombstone.federation_id, tombstone.digest)
    return row is not None and row.purged_at == tombstone.purged_at


def lock_artifact(session: Session, federation_id: UUID, digest: str) -> Artifact | None:
    """Return the row, locked until the transaction ends."""
    query = select(Artifact).where(
        Artifact.federation_id == federation_id, Artifact.digest == digest
    )
    locked = query.with_for_update().execution_options(populate_existing=True)
    return session.scalars(locked).one_or_none()


def pin_round(session: Session, round_id: UUID) -> None:
    """Keep what a round's receipt needs from being purged until the commit."""
    row = session.get_one(Round, round_id)
    updates = select(Update.digest).where(Update.round_id == round_id)
    parts = (
        select(UpdatePart.digest)
        .join(Update, Update.id == UpdatePart.update_id)
        .where(Update.round_id == round_id)
    )
    both = (row.base_checkpoint_id, row.checkpoint_id)
    checkpoints = select(Checkpoint.digest).where(Checkpoint.id.in_(both))
    slots = select(CheckpointSlot.digest).where(CheckpointSlot.checkpoint_id.in_(both))
    sums = [
        select(column).where(SecureRound.round_id == round_id, column.is_not(None))
        for column in (SecureRound.transcript, SecureRound.summed)
    ]
    means = _with_parts(_part.c.value).where(SecureRound.round_id == round_id)
    named = updates.union_all(parts, checkpoints, slots, *sums, means)
    owner = select(Run.federation_id).where(Run.id == row.run_id).scalar_subquery()
    query = select(Artifact.digest).where(
        Artifact.federation_id == owner, Artifact.digest.in_(named)
    )
    locked = query.order_by(Artifact.digest).with_for_update(read=True, key_share=True)
    session.execute(locked).all()


def count_events(session: Session, federation_id: UUID, *, before: datetime) -> int:
    """Return how many events `delete_events` would delete."""
    query = select(func.count()).select_from(Event).where(*_old_events(federation_id, before))
    return session.execute(query).scalar_one()


def delete_events(session: Session, federation_id: UUID, *, before: datetime, limit: int) -> int:
    """Delete the oldest events before that time; return how many.

    Those of runs that are not over stay, and those that a channel has still to deliver.
    """
    oldest = (
        select(Event.id).where(*_old_events(federation_id, before)).order_by(Event.id).limit(limit)
    )
    deleted = delete(Event).where(Event.id.in_(oldest.scalar_subquery())).returning(Event.id)
    return len(session.scalars(deleted).all())


def _old_events(federation_id: UUID, before: datetime) -> tuple[ColumnElement[bool], ...]:
    alive = exists().where(Run.id == Event.run_id, Run.state.not_in(ENDED))
    undelivered = exists().where(
        Channel.federation_id == federation_id,
        Channel.enabled.is_(True),
        Channel.cursor < Event.id,
    )
    return (Event.federation_id == federation_id, Event.at < before, ~alive, ~undelivered)


def _kept(federation_id: UUID) -> Select[tuple[str, int, datetime]]:
    return select(Artifact.digest, Artifact.size, Artifact.created_at).where(
        Artifact.federation_id == federation_id, Artifact.purged_at.is_(None)
    )


def _artifacts(
    session: Session, query: Select[tuple[str, int, datetime]]
) -> tuple[ArtifactFacts, ...]:
    return tuple(ArtifactFacts(*row) for row in session.execute(query))


def _named_by(
    table: type[Update | UpdatePart | Checkpoint | CheckpointSlot],
) -> ColumnElement[bool]:
    return exists().where(
        table.federation_id == Artifact.federation_id, table.digest == Artifact.digest
    )


def _named_by_secure() -> ColumnElement[bool]:
    """Tell whether a secure round's transcript, sum or part of one is the artifact."""
    mine = SecureRound.federation_id == Artifact.federation_id
    part = _with_parts(_part.c.value).where(mine, _part.c.value == Artifact.digest)
    return or_(
        exists().where(mine, SecureRound.transcript == Artifact.digest),
        exists().where(mine, SecureRound.summed == Artifact.digest),
        part.correlate(Artifact).exists(),
    )


def _with_parts(*columns: Any) -> Select[Any]:  # noqa: ANN401 -- columns of any type
    """Return a query of secure rounds and the parts of their sums, one row a part."""
    return select(*columns).select_from(SecureRound).join(_part, true())


def _named_parts(federation_id: UUID, digests: Collection[str]) -> Select[Any]:
    return (
        _with_parts(_part.c.value, Round.run_id, SecureRound.round_id)
        .join(Round, Round.id == SecureRound.round_id)
        .where(SecureRound.federation_id == federation_id, _part.c.value.in_(digests))
    )


def _rounds(
    session: Session, federation_id: UUID, named: Collection[UUID]
) -> dict[UUID, RoundFacts]:
    busy = exists().where(Task.round_id == Round.id, Task.state.in_(UNFINISHED))
    held = exists().where(Receipt.round_id == Round.id, ReceiptHold.receipt_id == Receipt.id)
    query = (
        select(
            Round.id,
            Round.run_id,
            Round.number,
            Round.closed_at,
            busy,
            held,
            Round.base_checkpoint_id,
            Round.checkpoint_id,
        )
        .join(Run, Run.id == Round.run_id)
        .where(
            Run.federation_id == federation_id,
            or_(Round.id.in_(named), Round.closed_at.is_(None), held, busy),
        )
    )
    return {round_id: RoundFacts(*rest) for round_id, *rest in session.execute(query)}
