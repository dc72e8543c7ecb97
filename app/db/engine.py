"""The database engine and session factory. Nothing here knows a table."""

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session, sessionmaker

STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000


def create_database_engine(url: str, *, pool_size: int) -> Engine:
    """Return an engine whose connections are checked before use and bounded in time.

    A restarted database costs the next request one reconnect, not an error.
    """
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=10,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 5,
            "application_name": "hansa",
            "options": (
                f"-c statement_timeout={STATEMENT_TIMEOUT_MS} "
                f"-c lock_timeout={LOCK_TIMEOUT_MS} -c timezone=UTC"
            ),
        },
    )


def create_session_factory(engine: Engine) -> sessionmaker[Session]:
    """Return a factory of sessions whose rows stay readable after the commit."""
    return sessionmaker(engine, expire_on_commit=False, autoflush=True)


def ping(session: Session) -> None:
    """Ask the database for nothing but an answer."""
    session.execute(select(1))
