"""Secure aggregation: rosters, what sites owe the protocol, and how secure rounds stand."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, one_of
from app.domain.secure import DutyState, RosterState
from hansa_core.wire import DutyKind


class Roster(Base):
    """One version of who takes part in a run's secure sums."""

    __tablename__ = "rosters"
    __table_args__ = (
        one_of("state", RosterState),
        UniqueConstraint("run_id", "version"),
        Index("ix_rosters_digest", "digest"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id"))
    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), index=True)  # that set it up
    version: Mapped[int]  # from 1
    state: Mapped[str]
    body: Mapped[str | None]  # canonical JSON, exactly what was hashed; None: gathering keys
    digest: Mapped[str | None]
    expires_at: Mapped[datetime]  # of the poll in hand
    created_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]


class Duty(Base):
    """A small message that a site owes the protocol."""

    __tablename__ = "duties"
    __table_args__ = (
        one_of("kind", DutyKind),
        one_of("state", DutyState),
        UniqueConstraint("round_id", "roster_id", "site_id", "kind"),
        # What a site asks for.
        Index("ix_duties_open", "site_id", "id", postgresql_where=text("state = 'open'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"))
    roster_id: Mapped[UUID] = mapped_column(ForeignKey("rosters.id"), index=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"))
    kind: Mapped[str]
    state: Mapped[str]
    key_id: Mapped[UUID | None] = mapped_column(ForeignKey("site_keys.id"))  # that signed
    message: Mapped[str | None]  # canonical JSON, exactly the signed bytes
    signature: Mapped[bytes | None]
    reason: Mapped[str | None]  # why it was refused, or nobody waits for it any more
    created_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]


class SecureRound(Base):
    """What a round of a secure run has beside every other: written when it begins to collect."""

    __tablename__ = "secure_rounds"
    __table_args__ = (
        ForeignKeyConstraint(
            ["federation_id", "transcript"], ["artifacts.federation_id", "artifacts.digest"]
        ),
        ForeignKeyConstraint(
            ["federation_id", "summed"], ["artifacts.federation_id", "artifacts.digest"]
        ),
    )

    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    roster_id: Mapped[UUID] = mapped_column(ForeignKey("rosters.id"))
    header: Mapped[str]  # canonical JSON
    digest: Mapped[str]  # of the header
    ranges: Mapped[list[Any]]
    survivors: Mapped[list[Any] | None]  # positions; None: still collecting
    expires_at: Mapped[datetime | None]  # of signing and opening
    openings_wanted: Mapped[int | None]  # more than the threshold once shares were wrong
    transcript: Mapped[str | None]  # digests of artifacts
    summed: Mapped[str | None]  # the mean delta, as an update that the strategy steps by
    summed_parts: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"), default=dict)
    totals: Mapped[dict[str, Any] | None]  # weight, metrics, and the ranges that follow
