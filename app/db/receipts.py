"""Rows of receipts and their holds, and what a receipt tells of a round."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import (
    Artifact,
    Checkpoint,
    Evaluation,
    Federation,
    Receipt,
    ReceiptHold,
    Round,
    Run,
    Site,
    SiteKey,
    Task,
    Update,
    User,
)
from hansa_core.states import RoundKind, RoundState


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A checkpoint's file."""

    digest: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class ToldTask:
    """A task of a round with its site and the signed report that answered it."""

    task: Task
    site: Site
    evaluation: Evaluation | None


@dataclass(frozen=True, slots=True)
class ToldUpdate:
    """An update that counts in a round, with who signed it."""

    update: Update
    site: Site
    fingerprint: str  # of the key that signed
    size: int  # bytes
    trained_in: int  # the number of the round that its task belongs to


@dataclass(frozen=True, slots=True)
class HeldReceipt:
    """A receipt with the round's number and its hold, if there are any."""

    receipt: Receipt
    round_number: int | None
    hold: ReceiptHold | None
    held_by: str | None  # email


def last(session: Session, run_id: UUID) -> tuple[int, str] | None:
    """Return (number, digest) of the run's newest receipt; the run is locked."""
    query = select(Receipt.number, Receipt.digest).where(Receipt.run_id == run_id)
    row = session.execute(query.order_by(Receipt.number.desc()).limit(1)).one_or_none()
    return None if row is None else (row.number, row.digest)


def digest_of_round(session: Session, round_id: UUID) -> str | None:
    """Return the digest of a round's receipt; rounds closed long ago have none."""
    query = select(Receipt.digest).where(Receipt.round_id == round_id)
    return session.scalars(query).one_or_none()


def federation_of(session: Session, run: Run) -> Federation:
    return session.scalars(select(Federation).where(Federation.id == run.federation_id)).one()


def checkpoint_blob(session: Session, checkpoint_id: UUID) -> tuple[Checkpoint, StoredBlob]:
    """Return a checkpoint and its file."""
    query = (
        select(Checkpoint, Artifact.size)
        .join(
            Artifact,
            (Artifact.federation_id == Checkpoint.federation_id)
            & (Artifact.digest == Checkpoint.digest),
        )
        .where(Checkpoint.id == checkpoint_id)
    )
    checkpoint, size = session.execute(query).one()
    return checkpoint, StoredBlob(checkpoint.digest, size)


def tasks_of_round(session: Session, round_id: UUID) -> list[ToldTask]:
    """Return the round's tasks, by site."""
    query = (
        select(Task, Site, Evaluation)
        .join(Site, Site.id == Task.site_id)
        .outerjoin(Evaluation, Evaluation.task_id == Task.id)
        .where(Task.round_id == round_id)
        .order_by(Site.name, Task.repeat, Task.id)
        .execution_options(populate_existing=True)  # tasks are closed in bulk just before
    )
    return [ToldTask(*row) for row in session.execute(query)]


def updates_in_round(session: Session, round_id: UUID) -> list[ToldUpdate]:
    """Return the updates that the hub holds for a round, in the order of their digests."""
    query = (
        select(Update, Site, SiteKey.fingerprint, Artifact.size, Round.number)
        .join(Task, Task.id == Update.task_id)
        .join(Round, Round.id == Task.round_id)
        .join(Site, Site.id == Update.site_id)
        .join(SiteKey, SiteKey.id == Update.key_id)
        .join(
            Artifact,
            (Artifact.federation_id == Update.federation_id) & (Artifact.digest == Update.digest),
        )
        .where(Update.round_id == round_id)
        .order_by(Update.digest, Update.num_examples, Update.id)
    )
    return [ToldUpdate(*row) for row in session.execute(query)]


def fingerprints(session: Session, site_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return the fingerprint of each site's key in force, else of its newest."""
    query = (
        select(SiteKey.site_id, SiteKey.fingerprint)
        .where(SiteKey.site_id.in_(site_ids))
        .distinct(SiteKey.site_id)
        .order_by(
            SiteKey.site_id, SiteKey.retired_at.desc().nulls_first(), SiteKey.created_at.desc()
        )
    )
    return dict(session.execute(query).tuples().all())


def last_round(session: Session, run_id: UUID) -> Round | None:
    """Return the round of the run that was closed last."""
    query = select(Round).where(Round.run_id == run_id, Round.closed_at.is_not(None))
    return session.scalars(query.order_by(Round.id.desc()).limit(1)).one_or_none()


def count_completed(session: Session, run_id: UUID) -> int:
    """Return how many training rounds of the run are completed."""
    query = select(func.count()).where(
        Round.run_id == run_id,
        Round.kind == RoundKind.TRAIN,
        Round.state == RoundState.COMPLETED,
    )
    return session.execute(query).scalar_one()


def list_receipts(session: Session, run_id: UUID, *, after: int, limit: int) -> list[HeldReceipt]:
    """Return the run's receipts with a number above `after`, ascending."""
    query = (
        select(Receipt, Round.number, ReceiptHold, User.email)
        .outerjoin(Round, Round.id == Receipt.round_id)
        .outerjoin(ReceiptHold, ReceiptHold.receipt_id == Receipt.id)
        .outerjoin(User, User.id == ReceiptHold.held_by)
        .where(Receipt.run_id == run_id, Receipt.number > after)
        .order_by(Receipt.number)
        .limit(limit)
    )
    return [HeldReceipt(*row) for row in session.execute(query)]


def find(session: Session, run_id: UUID, digest: str) -> HeldReceipt | None:
    """Return the run's receipt of that digest."""
    query = (
        select(Receipt, Round.number, ReceiptHold, User.email)
        .outerjoin(Round, Round.id == Receipt.round_id)
        .outerjoin(ReceiptHold, ReceiptHold.receipt_id == Receipt.id)
        .outerjoin(User, User.id == ReceiptHold.held_by)
        .where(Receipt.run_id == run_id, Receipt.digest == digest)
    )
    row = session.execute(query).one_or_none()
    return None if row is None else HeldReceipt(*row)


def hold(session: Session, receipt_id: UUID, *, reason: str, held_by: UUID, now: datetime) -> bool:
    """Hold the receipt, or change the reason of its hold; tell whether anything changed."""
    statement = insert(ReceiptHold).values(
        receipt_id=receipt_id, reason=reason, held_by=held_by, created_at=now
    )
    statement = statement.on_conflict_do_update(
        index_elements=[ReceiptHold.receipt_id],
        set_={"reason": reason, "held_by": held_by, "created_at": now},
        where=ReceiptHold.reason != reason,
    )
    returned = session.execute(statement.returning(ReceiptHold.receipt_id))
    return returned.first() is not None


def release(session: Session, receipt_id: UUID) -> bool:
    """Drop the receipt's hold; tell whether there was one."""
    statement = delete(ReceiptHold).where(ReceiptHold.receipt_id == receipt_id)
    return session.execute(statement.returning(ReceiptHold.receipt_id)).first() is not None
