"""This host's clock, for what is no decision of the hub: setup, tests, tools.

Decisions take their `now` from app/services/clock.py: hosts disagree about the time.
"""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time, UTC."""
    return datetime.now(UTC)
