"""The clock enters at the edge: entry points read it and pass `now` down."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the current time, UTC."""
    return datetime.now(UTC)
