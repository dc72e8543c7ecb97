"""What this deployment is made of and how it is: every part measured for itself, all at once.

One broken part never hides another. The exception is the database: without it the hub cannot tell
who asks, and answers nobody.
"""

import asyncio
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar
from urllib.parse import urlsplit

from app.db import health as rows
from app.db import marks
from app.domain.errors import StorageFullError, StorageUnavailableError
from app.services.gauges import Gauges, Reading
from app.services.housekeeping import MARK
from app.services.receipts import installed_version
from app.services.transactions import Transactions, Tx
from app.settings import Settings
from app.storage import Capacity, capacity_of
from app.storage.artifacts import Artifacts
from app.workforce import UNREACHABLE, BrokerFacts, WorkerFacts, Workforce
from hansa_core import wire

BOUND_SECONDS: Final = 2.0
GAUGES: Final = 7  # measurements of one look

FactsT = TypeVar("FactsT")


@dataclass(frozen=True, slots=True)
class _Database:
    server: rows.ServerFacts
    newest_migration: str | None


@dataclass(frozen=True, slots=True)
class _Store:
    capacity: Capacity | None
    trouble: str | None  # why it takes no more


@dataclass(frozen=True, slots=True)
class _Work:
    aggregations: list[rows.Aggregation]
    undelivered: list[datetime]  # since when, of each channel
    last_sweep_at: datetime | None


class Inspector:
    """Looks at the parts of one hub process's deployment."""

    def __init__(self, settings: Settings, transactions: Transactions) -> None:
        self._settings = settings
        self._transactions = transactions
        self._workforce = Workforce(settings.redis_url.get_secret_value())
        self._gauges = Gauges(at_once=GAUGES, bound_seconds=BOUND_SECONDS)
        self._started = time.monotonic()

    def close(self) -> None:
        """Look no more."""
        self._gauges.close()

    async def look(self, artifacts: Artifacts, *, now: datetime) -> wire.Deployment:
        """Return how every part is, within BOUND_SECONDS."""
        gauges, force = self._gauges, self._workforce
        async with asyncio.TaskGroup() as group:
            database = group.create_task(self._ask("look_at_database", _database))
            stored = group.create_task(
                self._ask("count_artifacts", lambda tx: rows.artifacts(tx.session))
            )
            work = group.create_task(self._ask("look_at_work", lambda tx: _work(tx, now)))
            broker = group.create_task(gauges.read("broker", force.broker, expected=UNREACHABLE))
            workers = group.create_task(gauges.read("workers", force.workers, expected=UNREACHABLE))
            active = group.create_task(gauges.read("active", force.active, expected=UNREACHABLE))
            store = group.create_task(
                gauges.read("store", lambda: _store(artifacts), expected=(StorageUnavailableError,))
            )
        kind = urlsplit(self._settings.artifacts_url).scheme
        return wire.Deployment(
            checked_at=now,
            hub=self._hub(now),
            database=_database_view(database.result()),
            broker=_broker_view(broker.result()),
            workers=_workers_view(workers.result().facts or {}, active.result().facts or {}),
            workers_detail=workers.result().detail,
            store=_store_view(kind, store.result(), stored.result()),
            work=_work_view(work.result(), now),
        )

    async def _ask(self, name: str, query: Callable[[Tx], FactsT]) -> Reading[FactsT]:
        def measure() -> FactsT:
            with self._transactions.begin(name) as tx:
                rows.bound(tx.session, seconds=BOUND_SECONDS)
                return query(tx)

        return await self._gauges.read(name, measure, expected=rows.UNREACHABLE)

    def _hub(self, now: datetime) -> wire.HubHealth:
        return wire.HubHealth(
            host=platform.node(),
            version=installed_version("hansa-hub"),
            python=platform.python_version(),
            started_at=now - timedelta(seconds=time.monotonic() - self._started),
            public_url=self._settings.public_url,
        )


def _database(tx: Tx) -> _Database:
    return _Database(rows.server(tx.session), rows.newest_migration())


def _store(artifacts: Artifacts) -> _Store:
    capacity = capacity_of(artifacts)
    try:
        artifacts.require_usable()
    except StorageFullError as error:
        return _Store(capacity, str(error))
    return _Store(capacity, None)


def _work(tx: Tx, now: datetime) -> _Work:
    return _Work(
        rows.aggregations(tx.session, now=now),
        list(rows.undelivered(tx.session)),
        marks.last(tx.session, MARK),
    )


def _database_view(read: Reading[_Database]) -> wire.DatabaseHealth:
    if read.facts is None:
        return wire.DatabaseHealth(ok=False, detail=read.detail)
    server, wanted = read.facts.server, read.facts.newest_migration
    behind = None
    if server.migration != wanted:
        behind = f"the tables are at migration {server.migration}, this hub wants {wanted}"
    return wire.DatabaseHealth(
        ok=behind is None,
        detail=behind,
        seconds=read.seconds,
        version=server.version,
        size_bytes=server.size,
        connections=server.connections,
        max_connections=server.max_connections,
        migration=server.migration,
        newest_migration=wanted,
    )


def _broker_view(read: Reading[BrokerFacts]) -> wire.BrokerHealth:
    if read.facts is None:
        return wire.BrokerHealth(ok=False, detail=read.detail)
    queues = read.facts.queues.items()
    return wire.BrokerHealth(
        ok=True,
        seconds=read.seconds,
        version=read.facts.version,
        memory_bytes=read.facts.memory,
        queues=[wire.QueueHealth(name=name, waiting=waiting) for name, waiting in queues],
    )


def _workers_view(
    workers: Mapping[str, WorkerFacts], active: Mapping[str, int]
) -> list[wire.WorkerHealth]:
    return [
        wire.WorkerHealth(
            name=name,
            concurrency=it.concurrency,
            active=active.get(name),
            processed=it.processed,
            uptime_seconds=it.uptime_seconds,
        )
        for name, it in sorted(workers.items())
    ]


def _store_view(
    kind: str, read: Reading[_Store], stored: Reading[tuple[int, int]]
) -> wire.StoreHealth:
    count, size = stored.facts or (None, None)
    capacity = read.facts and read.facts.capacity
    trouble = read.detail if read.facts is None else read.facts.trouble
    return wire.StoreHealth(
        ok=trouble is None,
        detail=trouble,
        seconds=read.seconds,
        kind=kind,
        free_bytes=capacity and capacity.free,
        total_bytes=capacity and capacity.total,
        artifacts=count,
        artifact_bytes=size,
    )


def _work_view(read: Reading[_Work], now: datetime) -> wire.WorkHealth:
    if read.facts is None:
        return wire.WorkHealth(ok=False, detail=read.detail)
    waiting = [it for it in read.facts.aggregations if not it.is_held]
    since = min([it.since for it in waiting] + read.facts.undelivered, default=None)
    return wire.WorkHealth(
        ok=True,
        seconds=read.seconds,
        aggregations_waiting=len(waiting),
        aggregations_running=len(read.facts.aggregations) - len(waiting),
        deliveries_waiting=len(read.facts.undelivered),
        oldest_waiting_seconds=None if since is None else max(0.0, (now - since).total_seconds()),
        last_sweep_at=read.facts.last_sweep_at,
    )
