"""Rings: news that a row changed, for those who wait. A ring may be lost; the row never is.

Two kinds leave a process after its transaction committed: topic rings over Redis publish and
subscribe, which wake the long-polls of every hub replica, and job rings, Celery messages that
tell a worker to look at a row. Waiters look again when their wait ends, sweeps ring again for
every row that is due, so an unreachable Redis delays work and loses none.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis import asyncio as aioredis
from redis.exceptions import RedisError

log = structlog.get_logger()

STEP_RUN: Final = "hansa.step_run"
AGREE_ROUND: Final = "hansa.agree_round"
AGGREGATE_ROUND: Final = "hansa.aggregate_round"
AGGREGATE_PART: Final = "hansa.aggregate_part"
SWEEP: Final = "hansa.sweep"
APPLY_RETENTION: Final = "hansa.apply_retention"
SWEEP_STORE: Final = "hansa.sweep_store"
WATCH: Final = "hansa.watch"
CHECK_STORE: Final = "hansa.check_store"
DELIVER: Final = "hansa.deliver"

CHANNEL: Final = "hansa:rings"
QUEUE: Final = "hansa"  # of all jobs
# Jobs that one look serves however often they were sent before it.
COALESCED: Final = frozenset({STEP_RUN})
COALESCE_SECONDS: Final = 2  # a message that is lost delays the next one by no more
RECONNECT_SECONDS: Final = 0.5
SOCKET_TIMEOUT_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Job:
    """A Celery message: which task, about which row."""

    task: str
    subject: UUID


def redis_py_url(url: str) -> str:
    """Return `url` as redis-py spells it; kombu's `redis+socket://` is its `unix://`."""
    return url.replace("redis+socket://", "unix://", 1)


def configure_broker(app: Celery, redis_url: str) -> None:
    """Set what producers and workers must agree on.

    The restore settings bring a killed worker's message back in seconds; kombu's defaults take
    over a minute whatever the visibility timeout is.
    """
    app.conf.update(
        broker_url=redis_url,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": 30,
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
            "socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
        },
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_default_queue=QUEUE,
    )


class Ringer:
    """Sends rings. Never raises: what a ring is about is already committed."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_py_url(redis_url),
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
        )
        self._celery = Celery("hansa-ringer", set_as_current=False)
        configure_broker(self._celery, redis_url)

    def ring(self, *, topics: Iterable[UUID] = (), jobs: Iterable[Job] = ()) -> None:
        """Wake everybody who waits for one of `topics`, and a worker for each job."""
        try:
            if message := ",".join(str(topic) for topic in topics):
                self._redis.publish(CHANNEL, message)
            for job in jobs:
                if self._is_news(job):
                    self._celery.send_task(job.task, args=[str(job.subject)], retry=False)
        except (RedisError, OperationalError, OSError) as error:
            log.warning("ring_lost", error=str(error))

    def heard(self, job: Job) -> None:
        """Note that a worker is about to look: what is sent from now on needs another look.

        Called before the look, so a row that was committed without a message is seen by it.
        """
        if job.task in COALESCED:
            try:
                self._redis.delete(_mark(job))
            except (RedisError, OSError) as error:
                log.warning("mark_kept", error=str(error))  # for COALESCE_SECONDS

    def _is_news(self, job: Job) -> bool:
        """Tell whether no message is on its way that will see the same rows."""
        if job.task not in COALESCED:
            return True
        return bool(self._redis.set(_mark(job), b"", nx=True, ex=COALESCE_SECONDS))

    def ping(self) -> None:
        """Raise RedisError unless Redis answers."""
        self._redis.ping()


class Bell:
    """Hears topic rings. One subscription per process, however many wait."""

    def __init__(self, redis_url: str) -> None:
        self._url = redis_py_url(redis_url)
        self._waiting: dict[UUID, set[asyncio.Event]] = {}
        self.is_closed = False

    def close(self) -> None:
        """End all waits, those to come as well: the process is about to stop."""
        self.is_closed = True
        self._wake(list(self._waiting))

    async def listen(self) -> None:
        """Pass rings on until cancelled; reconnect for ever, waking everybody each time."""
        while True:
            client = aioredis.Redis.from_url(self._url, socket_connect_timeout=3)
            try:
                async with client.pubsub() as subscription:
                    await subscription.subscribe(CHANNEL)
                    self._wake(list(self._waiting))  # rings may have been lost meanwhile
                    # redis-py leaves the message's type open
                    async for message in subscription.listen():  # pyright: ignore[reportUnknownVariableType]
                        self._wake(_topics(message))  # pyright: ignore[reportUnknownArgumentType]
            except (RedisError, OSError) as error:
                log.warning("bell_disconnected", error=str(error))
                await asyncio.sleep(RECONNECT_SECONDS)
            finally:
                await client.aclose()

    async def rings(self, topic: UUID, *, seconds: float) -> AsyncIterator[None]:
        """Yield at once, and again after every ring for `topic`, for at most `seconds`.

        The caller looks at its row at each turn. The subscription stands before the first
        turn, so a ring between a look and the wait is not missed.
        """
        event = asyncio.Event()
        self._waiting.setdefault(topic, set()).add(event)
        try:
            deadline = asyncio.get_running_loop().time() + seconds
            while True:
                event.clear()
                yield
                if self.is_closed:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await event.wait()
                if not event.is_set():
                    return
        finally:
            waiting = self._waiting[topic]
            waiting.discard(event)
            if not waiting:
                del self._waiting[topic]

    def _wake(self, topics: Iterable[UUID]) -> None:
        for topic in topics:
            for event in self._waiting.get(topic, ()):
                event.set()


def _mark(job: Job) -> str:
    return f"hansa:sent:{job.task}:{job.subject}"


def _topics(message: dict[str, Any]) -> list[UUID]:
    """Return the topics that a message of redis-py's subscription names."""
    topics: list[UUID] = []
    if message["type"] == "message":
        for part in message["data"].decode("ascii", "replace").split(","):
            with contextlib.suppress(ValueError):  # not ours: ignore
                topics.append(UUID(part))
    return topics
