"""Alembic's environment: one connection, one migrator at a time, and no long waits for locks.

An advisory lock makes replicas that start together migrate one after the other; the lock
timeout makes a migration that would block live traffic fail instead.
"""

from alembic import context
from sqlalchemy import create_engine, pool, text

from app.db.models import Base
from app.settings import get_settings

MIGRATION_LOCK = 0x68616E7361  # "hansa"
LOCK_TIMEOUT = "10s"
STATEMENT_TIMEOUT = "10min"


def run_migrations() -> None:
    """Bring the database to the revision that was asked for.

    The database is the one of HANSA_DATABASE_URL, unless the caller names another.
    """
    named = context.config.attributes.get("database_url")
    url = named or get_settings().database_url.get_secret_value()
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
        connection.commit()
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            context.run_migrations()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()


run_migrations()
