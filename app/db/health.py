"""What the database says of itself, of stored artifacts and of the work that waits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import and_, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from app.db.models import Artifact, Channel, Event, Round, Task
from hansa_core.states import RoundState

UNREACHABLE = (DBAPIError, PoolTimeoutError)  # what asking may raise
MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"  # of this code


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Postgres, and this database in it."""

    version: str
    size: int  # bytes
    connections: int  # to this database, of all processes
    max_connections: int
    migration: str | None  # None: nothing was ever migrated


@dataclass(frozen=True, slots=True)
class Aggregation:
    """A round that is to be aggregated."""

    is_held: bool  # a worker has the lease
    since: datetime  # of its last answer


def bound(session: Session, *, seconds: float) -> None:
    """End each statement of this transaction that takes longer."""
    session.execute(select(func.set_config("statement_timeout", f"{int(seconds * 1000)}ms", True)))


def server(session: Session) -> ServerFacts:
    """Ask Postgres about itself."""
    version, size, connections, most = session.execute(
        text(
            "SELECT current_setting('server_version'), pg_database_size(current_database()), "
            "(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()), "
            "current_setting('max_connections')::int"
        )
    ).one()
    migrated = session.execute(text("SELECT to_regclass('alembic_version')")).scalar_one()
    revision = None
    if migrated is not None:
        query = text("SELECT version_num FROM alembic_version")
        revision = session.execute(query).scalar_one_or_none()
    return ServerFacts(str(version), int(size), int(connections), int(most), revision)


@lru_cache
def newest_migration() -> str | None:
    """Return the revision of the database that this code wants."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def artifacts(session: Session) -> tuple[int, int]:
    """Return how many artifacts have bytes, and how many bytes."""
    query = select(func.count(), func.coalesce(func.sum(Artifact.size), 0)).where(
        Artifact.purged_at.is_(None)
    )
    count, size = session.execute(query).one()
    return count, int(size)


def aggregations(session: Session, *, now: datetime) -> list[Aggregation]:
    """Return the rounds that aggregate, or wait for a worker who does."""
    last = select(func.max(Task.finished_at)).where(Task.round_id == Round.id).scalar_subquery()
    held = and_(Round.lease_token.is_not(None), Round.lease_expires_at > now)
    query = select(func.coalesce(held, False), func.coalesce(last, Round.created_at)).where(
        Round.state == RoundState.AGGREGATING
    )
    return [Aggregation(*row) for row in session.execute(query)]


def undelivered(session: Session) -> Sequence[datetime]:
    """Return, of each channel that works and has events ahead of it, when the oldest happened.

    One that fails waits for its next try, and has an alert of its own.
    """
    oldest = (
        select(Event.at)
        .where(Event.federation_id == Channel.federation_id, Event.id > Channel.cursor)
        .order_by(Event.id)
        .limit(1)
        .scalar_subquery()
    )
    query = select(oldest).where(
        Channel.enabled, Channel.failing_since.is_(None), oldest.is_not(None)
    )
    return session.scalars(query).all()
