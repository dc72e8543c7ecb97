"""Who works: what the broker and Celery's workers say of themselves. Only asks, changes nothing.

Workers are asked by Celery's own remote control, over the broker: a worker whose pool is busy still
answers, one that is gone does not. So an answer is awaited for as long as ANSWER_SECONDS, and
nobody knows beforehand how many there will be.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from celery import Celery
from kombu.exceptions import OperationalError
from redis import Redis
from redis.exceptions import RedisError

from app.doorbell import QUEUE, configure_broker, redis_py_url

ANSWER_SECONDS: Final = 0.8  # that workers are waited for, after the last that answered
SOCKET_SECONDS: Final = 2.0
UNREACHABLE: Final = (RedisError, OperationalError, OSError)  # what asking may raise


@dataclass(frozen=True, slots=True)
class BrokerFacts:
    """A Redis server, or one like it."""

    version: str  # with its name
    memory: int  # bytes in use
    queues: Mapping[str, int]  # name to messages that no worker took yet


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What one worker counts."""

    concurrency: int | None  # processes
    processed: int  # tasks since it started
    uptime_seconds: float | None


class Workforce:
    """Asks broker and workers. Safe to share between threads; every call blocks."""

    def __init__(self, redis_url: str) -> None:
        self._redis = Redis.from_url(
            redis_py_url(redis_url),
            socket_timeout=SOCKET_SECONDS,
            socket_connect_timeout=SOCKET_SECONDS,
        )
        self._celery = Celery("hansa-workforce", set_as_current=False)
        configure_broker(self._celery, redis_url)
        # A broker that is away is told of at once; kombu would try for ever.
        self._celery.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0}

    def broker(self) -> BrokerFacts:
        """Ask the broker about itself. Raises one of UNREACHABLE."""
        told = self._redis.info()
        name, version = "Redis", told.get("redis_version", "of no known version")
        if "valkey_version" in told:
            name, version = "Valkey", told["valkey_version"]
        waiting = self._redis.llen(QUEUE)
        return BrokerFacts(f"{name} {version}", int(told["used_memory"]), {QUEUE: waiting})

    def workers(self) -> dict[str, WorkerFacts]:
        """Return what each worker that answers counts, by its name. Raises one of UNREACHABLE."""
        return {name: _facts(said) for name, said in self._ask("stats").items()}

    def active(self) -> dict[str, int]:
        """Return how many tasks each worker has in hand. Raises one of UNREACHABLE."""
        return {name: len(tasks) for name, tasks in self._ask("active").items()}

    def _ask(self, command: str) -> dict[str, Any]:
        """Return what each worker answers; one that cannot is left out."""
        self._redis.ping()
        celery: Any = self._celery  # which leaves its types open
        with celery.connection_for_write() as connection:
            replies: list[dict[str, Any]] = celery.control.broadcast(
                command, reply=True, timeout=ANSWER_SECONDS, connection=connection
            )
        return {
            name: said
            for reply in replies
            for name, said in reply.items()
            if not (isinstance(said, dict) and "error" in said)
        }


def _facts(said: Mapping[str, Any]) -> WorkerFacts:
    """Return what an answer to `stats` says; of what a pool does not tell, None."""
    pool = said.get("pool")
    size = pool.get("max-concurrency") if isinstance(pool, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    total = said.get("total")
    uptime = said.get("uptime")
    return WorkerFacts(
        concurrency=size if isinstance(size, int) else None,
        processed=sum(total.values()) if isinstance(total, dict) else 0,  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        uptime_seconds=float(uptime) if isinstance(uptime, int | float) else None,
    )
