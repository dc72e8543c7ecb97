"""The account of what happened: events, the audit log, receipts."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class Event(Base):
    """What happened, in commit-independent order of `id`; readers resume by the last id."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_federation_id_id", "federation_id", "id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id"))
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]
    # The database's clock: one for all writers, and read while the federation's lock is held.
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class AuditEntry(Base):
    """Who did what, from where: a hash chain per federation, and one for the hub itself.

    A trigger refuses to change or delete rows. `body` is what `digest` covers; the columns beside
    it only repeat parts of it, to search by.
    """

    __tablename__ = "audit_entries"
    __table_args__ = (
        UniqueConstraint("federation_id", "number", postgresql_nulls_not_distinct=True),
        Index("ix_audit_entries_federation_id_actor", "federation_id", "actor"),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    federation_id: Mapped[UUID | None] = mapped_column(ForeignKey("federations.id"))
    number: Mapped[int]  # from 1, without gaps
    at: Mapped[datetime]
    actor: Mapped[str]  # a person's email, a site's name, or "hub"
    action: Mapped[str]  # an event's kind
    body: Mapped[str]  # canonical JSON; names the digest of the entry before
    digest: Mapped[str]  # SHA-256 of `body`, lower-case hex


class Receipt(Base):
    """The signed account of a closed round, or of a run's end. A trigger keeps it as it is."""

    __tablename__ = "receipts"
    __table_args__ = (
        UniqueConstraint("run_id", "number"),
        CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name="digest_sha256"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id"))
    round_id: Mapped[UUID | None] = mapped_column(ForeignKey("rounds.id"), unique=True)
    number: Mapped[int]  # from 1 within the run, without gaps
    digest: Mapped[str] = mapped_column(unique=True)  # SHA-256 of `body`
    body: Mapped[str]  # canonical JSON, exactly the signed bytes; names the parent's digest
    signature: Mapped[bytes]
    public_key: Mapped[bytes]  # the hub's, at that time
    created_at: Mapped[datetime]


class ReceiptHold(Base):
    """A receipt whose artifacts no retention policy may delete."""

    __tablename__ = "receipt_holds"

    receipt_id: Mapped[UUID] = mapped_column(ForeignKey("receipts.id"), primary_key=True)
    reason: Mapped[str]
    held_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
