"""What only the database of a stage can be told: how long somebody has been away."""

from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID

import psycopg

from tests.e2e.processes import Stack


@contextmanager
def connected(stack: Stack) -> Generator[psycopg.Connection]:
    """Connect to the stack's database; what was done is committed at the end.

    Raises:
        KeyError: the stack does not run.
        psycopg.OperationalError: its database does not answer.
    """
    url = stack.state()["env"]["HANSA_DATABASE_URL"].replace("+psycopg", "", 1)
    with psycopg.connect(url) as database:
        yield database


def miss(stack: Stack, site_id: UUID) -> None:
    """Let a site that was killed be away for a quarter of an hour already."""
    with connected(stack) as database:
        database.execute(
            "UPDATE sites SET last_seen_at = now() - interval '15 minutes' WHERE id = %s",
            (site_id,),
        )
