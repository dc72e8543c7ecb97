"""Dropping rows that have expired and mean nothing any more."""

from datetime import datetime

from app.db import housekeeping
from app.services import idempotency
from app.services.transactions import Tx


def drop_expired(tx: Tx, *, now: datetime) -> None:
    """Delete expired challenges, site tokens and remembered answers."""
    housekeeping.delete_expired(tx.session, now=now)
    idempotency.forget_old(tx, now=now)
