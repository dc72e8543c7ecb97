"""What needs somebody's attention, and how they are told."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class Alert(Base):
    """A condition that holds, or held. Raised again while open, it only counts up."""

    __tablename__ = "alerts"
    __table_args__ = (
        CheckConstraint("severity IN ('info', 'warning', 'critical')", name="severity_known"),
        Index(
            "uq_alerts_open",
            "federation_id",
            "kind",
            "subject",
            unique=True,
            postgresql_where=text("resolved_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    kind: Mapped[str]  # permanent slug, "site-offline"
    subject: Mapped[str]  # what it is about: a site's name, a run's id
    severity: Mapped[str]
    message: Mapped[str]
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id"))
    site_id: Mapped[UUID | None] = mapped_column(ForeignKey("sites.id"))
    count: Mapped[int] = mapped_column(default=1)
    raised_at: Mapped[datetime]
    last_at: Mapped[datetime]
    resolved_at: Mapped[datetime | None]
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))


class Channel(Base):
    """Where a federation's events are sent: a webhook or an e-mail address.

    `cursor` is the last event that was delivered or did not match: a killed worker delivers again,
    and loses none.
    """

    __tablename__ = "channels"
    __table_args__ = (CheckConstraint("kind IN ('webhook', 'email')", name="kind_known"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"), index=True)
    kind: Mapped[str]
    target: Mapped[str]  # URL or address
    secret: Mapped[str | None]  # signs a webhook's deliveries
    events: Mapped[list[Any]]  # kinds, or prefixes that end in "*"
    enabled: Mapped[bool] = mapped_column(default=True)
    cursor: Mapped[int]
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    failing_since: Mapped[datetime | None]  # the first of those
    next_at: Mapped[datetime | None]  # not before
    last_error: Mapped[str | None]
    last_success_at: Mapped[datetime | None]
    lease_token: Mapped[UUID | None]
    lease_expires_at: Mapped[datetime | None]
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]


class Mark(Base):
    """When something was last done by any of the hub's processes."""

    __tablename__ = "marks"

    name: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
