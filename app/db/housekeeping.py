"""Deletes of rows whose time is over."""

from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.db.models import SiteChallenge, SiteToken


def delete_expired(session: Session, *, now: datetime) -> None:
    """Delete expired challenges and site tokens."""
    session.execute(delete(SiteChallenge).where(SiteChallenge.expires_at < now))
    session.execute(delete(SiteToken).where(SiteToken.expires_at < now))
