"""Sites and how they prove who they are."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, one_of
from hansa_core.states import SiteState


class Site(Base):
    __tablename__ = "sites"
    __table_args__ = (
        one_of("state", SiteState),
        UniqueConstraint("federation_id", "name"),
        UniqueConstraint("federation_id", "id"),  # target of federation-scoped foreign keys
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    name: Mapped[str]
    state: Mapped[str]
    state_reason: Mapped[str | None]
    labels: Mapped[dict[str, Any]]
    hardware: Mapped[dict[str, Any] | None]
    sdk_version: Mapped[str]
    policy: Mapped[dict[str, Any] | None]  # wire.SitePolicy, as the site told it last
    invitation_id: Mapped[UUID] = mapped_column(ForeignKey("invitations.id"))
    enrolled_at: Mapped[datetime]
    admitted_at: Mapped[datetime | None]  # last approved or reinstated
    last_seen_at: Mapped[datetime | None]


class SiteKey(Base):
    """An Ed25519 public key of a site; kept for ever, so that old signatures stay checkable."""

    __tablename__ = "site_keys"
    __table_args__ = (
        # One key in force per site; a key belongs to one site only.
        Index(
            "uq_site_keys_active",
            "site_id",
            unique=True,
            postgresql_where=text("retired_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), index=True)
    public_key: Mapped[bytes] = mapped_column(unique=True)
    fingerprint: Mapped[str]
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class SiteChallenge(Base):
    """A nonce that a site was asked to sign; deleted when it is used."""

    __tablename__ = "site_challenges"

    nonce_hash: Mapped[bytes] = mapped_column(primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"))
    expires_at: Mapped[datetime] = mapped_column(index=True)


class SiteToken(Base):
    __tablename__ = "site_tokens"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), index=True)
    key_id: Mapped[UUID] = mapped_column(ForeignKey("site_keys.id"))
    expires_at: Mapped[datetime] = mapped_column(index=True)
