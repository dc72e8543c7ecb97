"""Transactions: what one use case changes, commits and then rings for, in that order.

An entry point opens `begin`, calls a service with the `Tx`, and has its answer only after the
commit. Events are written last, under a lock per federation that is held until the commit, so
that their ids are in commit order and a reader that resumes by the last id misses none.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self, TypeVar
from uuid import UUID

import structlog
from pydantic import JsonValue
from sqlalchemy.orm import Session, sessionmaker

from app.db import events as event_rows
from app.db.engine import create_database_engine, create_session_factory, open_reading
from app.doorbell import Job, Ringer
from app.settings import Settings

log = structlog.get_logger()

ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class Tx:
    """An open transaction, and what is to be told once it is committed."""

    session: Session
    topics: set[UUID] = field(default_factory=set[UUID])
    jobs: dict[Job, None] = field(default_factory=dict[Job, None])  # ordered, no repeats
    events: list[event_rows.NewEvent] = field(default_factory=list[event_rows.NewEvent])

    def record(
        self, event: str, *, federation_id: UUID, run_id: UUID | None = None, **data: JsonValue
    ) -> None:
        """Add an event; readers of the federation are woken after the commit."""
        self.events.append(
            event_rows.NewEvent(federation_id=federation_id, run_id=run_id, kind=event, data=data)
        )
        self.topics.add(federation_id)

    def ring(self, *topics: UUID) -> None:
        """Wake whoever waits for one of `topics`, after the commit."""
        self.topics.update(topics)

    def send(self, task: str, subject: UUID) -> None:
        """Send a worker to look at `subject`, after the commit."""
        self.jobs[Job(task, subject)] = None


@dataclass(frozen=True, slots=True)
class Transactions:
    """Opens transactions for one process."""

    sessions: sessionmaker[Session]
    ringer: Ringer

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return transactions on the settings' database and broker."""
        engine = create_database_engine(
            settings.database_url.get_secret_value(), pool_size=settings.database_pool_size
        )
        return cls(create_session_factory(engine), Ringer(settings.redis_url.get_secret_value()))

    @contextmanager
    def begin(self, name: str) -> Generator[Tx]:
        """Commit when the block ends well, then ring; roll back when it raises."""
        with self.sessions() as session:
            tx = Tx(session)
            with session.begin():
                yield tx
                event_rows.append(session, tx.events)
        if tx.topics or tx.jobs:
            self.ringer.ring(topics=tx.topics, jobs=tx.jobs)
        log.debug("transaction_committed", name=name, events=len(tx.events), jobs=len(tx.jobs))

    @contextmanager
    def reading(self) -> Generator[Tx]:
        """Give a service that only reads a session without BEGIN and COMMIT; nothing is rung."""
        with open_reading(self.sessions) as session:
            yield Tx(session)

    async def run(self, name: str, work: Callable[[Tx], ResultT]) -> ResultT:
        """Do `work` in a transaction on a thread, for callers on the event loop."""

        def transact() -> ResultT:
            with self.begin(name) as tx:
                return work(tx)

        return await asyncio.to_thread(transact)

    def dispose(self) -> None:
        """Close the pooled connections."""
        bind = self.sessions.kw["bind"]
        bind.dispose()
