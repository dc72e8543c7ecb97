"""Rows of channels. Whoever delivers holds the lease; whoever changes a channel takes it away."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.orm import Session

from app.db.models import Channel, Event, Federation


def insert_channel(session: Session, channel: Channel) -> None:
    session.add(channel)
    session.flush()


def list_channels(
    session: Session, federation_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Channel]:
    query = select(Channel).where(Channel.federation_id == federation_id)
    if before is not None:
        query = query.where(Channel.id < before)
    return session.scalars(query.order_by(Channel.id.desc()).limit(limit)).all()


def count_channels(session: Session, federation_id: UUID) -> int:
    query = select(func.count()).where(Channel.federation_id == federation_id)
    return session.execute(query).scalar_one()


def find_channel(session: Session, federation_id: UUID, channel_id: UUID) -> Channel | None:
    query = select(Channel).where(Channel.id == channel_id, Channel.federation_id == federation_id)
    return session.scalars(query).one_or_none()


def lock_channel(session: Session, federation_id: UUID, channel_id: UUID) -> Channel | None:
    query = select(Channel).where(Channel.id == channel_id, Channel.federation_id == federation_id)
    return session.scalars(query.with_for_update()).one_or_none()


def delete_channel(session: Session, channel_id: UUID) -> None:
    session.execute(delete(Channel).where(Channel.id == channel_id))


def enabled_ids(session: Session, federation_id: UUID) -> Sequence[UUID]:
    query = select(Channel.id).where(Channel.federation_id == federation_id, Channel.enabled)
    return session.scalars(query.order_by(Channel.id)).all()


def due_ids(session: Session, *, now: datetime, limit: int) -> Sequence[UUID]:
    """Return enabled channels that have events ahead of them and that nobody delivers now."""
    newest = (
        select(func.max(Event.id))
        .where(Event.federation_id == Channel.federation_id)
        .scalar_subquery()
    )
    query = select(Channel.id).where(
        Channel.enabled,
        Channel.next_at.is_(None) | (Channel.next_at <= now),
        Channel.lease_expires_at.is_(None) | (Channel.lease_expires_at <= now),
        newest > Channel.cursor,
    )
    return session.scalars(query.order_by(Channel.id).limit(limit)).all()


def lock_with_slug(session: Session, channel_id: UUID) -> Row[tuple[Channel, str]] | None:
    """Return the channel, locked, with its federation's slug."""
    query = (
        select(Channel, Federation.slug)
        .join(Federation, Federation.id == Channel.federation_id)
        .where(Channel.id == channel_id)
        .with_for_update(of=Channel)
    )
    return session.execute(query).one_or_none()


def lock_leased(session: Session, channel_id: UUID, token: UUID) -> Channel | None:
    """Return the channel, locked, if the token still holds it."""
    query = select(Channel).where(Channel.id == channel_id, Channel.lease_token == token)
    locked = query.with_for_update().execution_options(populate_existing=True)
    return session.scalars(locked).one_or_none()


def renew_lease(session: Session, channel_id: UUID, *, token: UUID, expires_at: datetime) -> bool:
    """Move the end of a lease; False when the token does not hold the channel any more."""
    statement = (
        update(Channel)
        .where(Channel.id == channel_id, Channel.lease_token == token)
        .values(lease_expires_at=expires_at)
        .returning(Channel.id)
    )
    return session.execute(statement).first() is not None
