"""Transactions: what one use case changes, commits and then rings for, in that order.

An entry point opens `begin`, calls a service with the `Tx`, and has its answer only after the
commit. Events are written last, under a lock per federation that is held until the commit, so
that their ids are in commit order and a reader that resumes by the last id misses none.

What a transaction with an actor records, it also audits, last of all. One without (a site's daily
traffic, a worker's steps) leaves no entries and does no work for them.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self, TypeVar
from uuid import UUID

import structlog
from pydantic import JsonValue
from sqlalchemy.orm import Session, sessionmaker

from app.db import audit as audit_rows
from app.db import events as event_rows
from app.db.engine import create_database_engine, create_session_factory, open_reading
from app.doorbell import Job, Ringer
from app.services.clock import DatabaseClock
from app.services.hub_keys import HubKey
from app.settings import Settings
from hansa_core.audit import Actor

log = structlog.get_logger()

ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class Tx:
    """An open transaction, and what is to be told once it is committed."""

    session: Session
    hub_key: HubKey  # receipts are signed with it
    actor: Actor | None = None  # None: nothing is audited
    topics: set[UUID] = field(default_factory=set[UUID])
    jobs: dict[Job, None] = field(default_factory=dict[Job, None])  # ordered, no repeats
    events: list[event_rows.NewEvent] = field(default_factory=list[event_rows.NewEvent])
    entries: list[audit_rows.NewEntry] = field(default_factory=list[audit_rows.NewEntry])

    def record(
        self, event: str, *, federation_id: UUID, run_id: UUID | None = None, **data: JsonValue
    ) -> None:
        """Add an event; readers of the federation are woken after the commit."""
        self.events.append(
            event_rows.NewEvent(federation_id=federation_id, run_id=run_id, kind=event, data=data)
        )
        self.topics.add(federation_id)
        if self.actor is not None:
            about: dict[str, JsonValue] = {} if run_id is None else {"run_id": str(run_id)}
            self.audit(event, federation_id=federation_id, **{**data, **about})

    def audit(self, action: str, /, *, federation_id: UUID | None, **data: JsonValue) -> None:
        """Add an audit entry of what is no event; None is the hub's own chain."""
        if self.actor is not None:
            self.entries.append(audit_rows.NewEntry(federation_id, action, data))

    def ring(self, *topics: UUID) -> None:
        """Wake whoever waits for one of `topics`, after the commit."""
        self.topics.update(topics)

    def send(self, task: str, subject: UUID) -> None:
        """Send a worker to look at `subject`, after the commit."""
        self.jobs[Job(task, subject)] = None

    def take(self, task: str) -> list[UUID]:
        """Return what workers were to be sent to look at, for whoever does it himself."""
        taken = [job for job in self.jobs if job.task == task]
        for job in taken:
            del self.jobs[job]
        return [job.subject for job in taken]


@dataclass(frozen=True, slots=True)
class Transactions:
    """Opens transactions for one process."""

    sessions: sessionmaker[Session]
    ringer: Ringer
    hub_key: HubKey
    clock: DatabaseClock = field(default_factory=DatabaseClock)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return transactions on the settings' database and broker."""
        engine = create_database_engine(
            settings.database_url.get_secret_value(), pool_size=settings.database_pool_size
        )
        return cls(
            create_session_factory(engine),
            Ringer(settings.redis_url.get_secret_value()),
            HubKey.from_settings(settings),
        )

    @contextmanager
    def begin(self, name: str, *, by: Actor | None = None) -> Generator[Tx]:
        """Commit when the block ends well, then ring; roll back when it raises.

        What it records goes into the audit log if it is done `by` somebody.
        """
        with self.sessions() as session:
            tx = Tx(session, self.hub_key, by)
            with session.begin():
                self.clock.measure_if_due(session)
                yield tx
                event_rows.append(session, tx.events)
                if by is not None:
                    audit_rows.append(session, by, tx.entries)
        if tx.topics or tx.jobs:
            self.ringer.ring(topics=tx.topics, jobs=tx.jobs)
        log.debug("transaction_committed", name=name, events=len(tx.events), jobs=len(tx.jobs))

    @contextmanager
    def reading(self) -> Generator[Tx]:
        """Give a service that only reads a session without BEGIN and COMMIT; nothing is rung."""
        with open_reading(self.sessions) as session:
            self.clock.measure_if_due(session)
            yield Tx(session, self.hub_key)

    def now(self) -> datetime:
        """Return the time by the database's clock: the `now` of every decision.

        Asks the database once in a process's life, and later in passing, at the begin of a
        transaction.

        Raises:
            sqlalchemy.exc.OperationalError: it was never asked before, and does not answer.
        """
        if not self.clock.is_set:
            with open_reading(self.sessions) as session:
                self.clock.measure(session)
        return self.clock.now()

    async def run(
        self, name: str, work: Callable[[Tx], ResultT], *, by: Actor | None = None
    ) -> ResultT:
        """Do `work` in a transaction on a thread, for callers on the event loop."""

        def transact() -> ResultT:
            with self.begin(name, by=by) as tx:
                return work(tx)

        return await asyncio.to_thread(transact)

    def dispose(self) -> None:
        """Close the pooled connections."""
        bind = self.sessions.kw["bind"]
        bind.dispose()
