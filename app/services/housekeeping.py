"""Dropping rows that have expired and mean nothing any more."""

from datetime import datetime, timedelta

from app.db import housekeeping
from app.services.transactions import Tx

IDEMPOTENCY_KEPT = timedelta(days=2)


def drop_expired(tx: Tx, *, now: datetime) -> None:
    """Delete expired challenges, site tokens and remembered answers."""
    housekeeping.delete_expired(tx.session, now=now, answers_before=now - IDEMPOTENCY_KEPT)
