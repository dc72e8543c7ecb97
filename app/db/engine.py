"""The database engine and session factory. Nothing here knows a table."""

import time
from datetime import datetime

import psycopg
from sqlalchemy import Engine, create_engine, event, func, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000

# A connection that was in use so recently is trusted; others are asked for a sign of life first.
# Asking every time would be one more round trip in each of a round's hundreds of transactions.
TRUSTED_SECONDS = 1.0


def create_database_engine(url: str, *, pool_size: int) -> Engine:
    """Return an engine of at most `pool_size` connections, checked before use and bounded in time.

    A restarted database costs the next request one reconnect; an error (answered 503, which
    clients repeat) only where a connection was in use less than TRUSTED_SECONDS before.
    """
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,  # a connection beyond the pool would be opened and closed for each use
        pool_timeout=10,
        connect_args={
            "connect_timeout": 5,
            "application_name": "hansa",
            "options": (
                f"-c statement_timeout={STATEMENT_TIMEOUT_MS} "
                f"-c lock_timeout={LOCK_TIMEOUT_MS} -c timezone=UTC"
            ),
        },
    )
    _check_idle_connections(engine)
    return engine


def create_session_factory(engine: Engine) -> sessionmaker[Session]:
    """Return a factory of sessions whose rows stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False, autoflush=True)


def open_reading(sessions: sessionmaker[Session]) -> Session:
    """Return a session for statements that only read: each is its own transaction.

    In READ COMMITTED every statement sees its own snapshot anyway; this spares BEGIN and COMMIT.
    """
    session = sessions()
    session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
    return session


def ping(session: Session) -> None:
    """Ask the database for nothing but an answer."""
    session.execute(select(1))


def database_time(session: Session) -> datetime:
    """Return what the database's clock says at this moment, in a transaction or not."""
    return session.execute(select(func.clock_timestamp())).scalar_one()


def _check_idle_connections(engine: Engine) -> None:
    """Replace the pool's connections when one that was idle does not answer."""

    def on_checkin(_connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        entry.info["used_at"] = time.monotonic()

    def on_checkout(
        connection: DBAPIConnection, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection
    ) -> None:
        used_at = entry.info.get("used_at")  # None: it was opened for this very use
        if used_at is None or time.monotonic() - used_at < TRUSTED_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except psycopg.Error as error:
            raise InvalidatePoolError from error

    event.listen(engine, "checkin", on_checkin)
    event.listen(engine, "checkout", on_checkout)
