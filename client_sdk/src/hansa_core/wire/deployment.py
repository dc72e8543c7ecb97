"""Messages about the deployment's health, for administrators.

Of every part: `ok` says whether it answered as it should, `detail` why not, `seconds` how long that
took. What could not be measured is None.
"""

from datetime import datetime

from pydantic import Field

from hansa_core.wire.base import Response


class HubHealth(Response):
    """The hub's process that answered."""

    host: str
    version: str
    python: str
    started_at: datetime
    public_url: str


class DatabaseHealth(Response):
    """Postgres."""

    ok: bool
    detail: str | None = None
    seconds: float | None = None
    version: str | None = None
    size_bytes: int | None = None
    connections: int | None = None  # of all processes, to this database
    max_connections: int | None = None
    migration: str | None = None  # that the tables are at
    newest_migration: str | None = None  # that this hub's code wants


class QueueHealth(Response):
    """A queue of Celery messages."""

    name: str
    waiting: int  # that no worker took yet


class BrokerHealth(Response):
    """Redis, or what speaks like it."""

    ok: bool
    detail: str | None = None
    seconds: float | None = None
    version: str | None = None  # with the server's name
    memory_bytes: int | None = None
    queues: list[QueueHealth] = Field(default_factory=list[QueueHealth])


class WorkerHealth(Response):
    """A worker that answered."""

    name: str
    concurrency: int | None  # processes
    active: int | None  # tasks in hand
    processed: int  # tasks since it started
    uptime_seconds: float | None


class StoreHealth(Response):
    """The artifact store."""

    ok: bool
    detail: str | None = None
    seconds: float | None = None
    kind: str  # "file", "s3"
    free_bytes: int | None = None  # a bucket has no end that we know
    total_bytes: int | None = None
    artifacts: int | None = None  # with bytes, by the database
    artifact_bytes: int | None = None


class WorkHealth(Response):
    """What there is to do, by the database."""

    ok: bool
    detail: str | None = None
    seconds: float | None = None
    aggregations_waiting: int | None = None
    aggregations_running: int | None = None
    deliveries_waiting: int | None = None  # channels with events ahead of them
    oldest_waiting_seconds: float | None = None  # of all these
    last_sweep_at: datetime | None = None


class Deployment(Response):
    """Everything that this hub is made of, each part measured by itself."""

    checked_at: datetime
    hub: HubHealth
    database: DatabaseHealth
    broker: BrokerHealth
    workers: list[WorkerHealth]  # that answered within a second
    workers_detail: str | None = None  # why there may be more
    store: StoreHealth
    work: WorkHealth
