"""Federations, who belongs to them, and what lets a site in."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, one_of
from hansa_core.states import Role


class Federation(Base):
    __tablename__ = "federations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str]
    requires_approval: Mapped[bool]
    retention: Mapped[dict[str, Any] | None]  # wire.Retention; None keeps everything
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]


class Member(Base):
    __tablename__ = "members"
    __table_args__ = (one_of("role", Role),)

    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    role: Mapped[str]
    created_at: Mapped[datetime]


class Invitation(Base):
    __tablename__ = "invitations"
    __table_args__ = (CheckConstraint("uses >= 0 AND uses <= max_uses", name="uses_bounded"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"), index=True)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    max_uses: Mapped[int]
    uses: Mapped[int] = mapped_column(default=0)
    labels: Mapped[dict[str, Any]]
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
