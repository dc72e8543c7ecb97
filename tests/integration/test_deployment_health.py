"""What administrators are told of the deployment is measured; one broken part hides no other."""

import asyncio
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from redis import Redis
from sqlalchemy.engine import make_url

from app.db import marks
from app.domain.ids import new_id
from app.doorbell import QUEUE, STEP_RUN, Job, redis_py_url
from app.embedded import valkey
from app.embedded.migrations import newest_revision
from app.main import create_app
from app.services.gauges import Gauges, Reading
from app.services.housekeeping import MARK
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import RoundState
from tests.e2e.processes import BIN, clean_env, spawn, stop, until
from tests.factories import (
    a_federation,
    a_model,
    a_run,
    lease_round,
    sites_online,
    step_run,
    work_off,
)
from tests.identities import Person, make_person
from tests.tensors import a_delta

BOUND_SECONDS = 2.0
SLACK_SECONDS = 2.0  # of a loaded machine, on top of the bound


@pytest.fixture
def broker(tmp_path: Path) -> Generator[valkey.ValkeyServer]:
    """A broker of the test's own, which it may stop."""
    with valkey.running(tmp_path / "broker") as server:
        yield server


@pytest.fixture
def settings(settings: Settings, broker: valkey.ValkeyServer) -> Settings:
    return settings.model_copy(update={"redis_url": SecretStr(broker.url)})


@pytest.fixture
def admin(transactions: Transactions) -> Person:
    return make_person(transactions, "root@hub.example", is_admin=True)


def look(client: TestClient, admin: Person) -> wire.Deployment:
    started = time.monotonic()
    answer = client.get("/v1/deployment", headers=admin.headers)
    assert answer.status_code == 200, answer.text
    assert time.monotonic() - started < BOUND_SECONDS + SLACK_SECONDS
    return wire.Deployment.model_validate(answer.json())


@contextmanager
def a_worker(settings: Settings, log: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run the real worker, one process, on the test's own hub."""
    env = clean_env(
        HANSA_DATABASE_URL=settings.database_url.get_secret_value(),
        HANSA_REDIS_URL=settings.redis_url.get_secret_value(),
        HANSA_ARTIFACTS_URL=settings.artifacts_url,
        HANSA_SIGNING_KEY=settings.signing_key.get_secret_value(),
    )
    process = spawn((str(BIN / "hansa-hub"), "worker", "--concurrency", "1"), log, env)
    try:
        yield process
    finally:
        stop(process)


def test_a_healthy_hub_without_workers(
    client: TestClient, admin: Person, settings: Settings, transactions: Transactions
) -> None:
    seen = look(client, admin)
    assert seen.database.ok, seen.database.detail
    assert seen.database.migration == seen.database.newest_migration == newest_revision()
    assert seen.database.size_bytes is not None
    assert seen.database.size_bytes > 2**20
    assert 1 <= (seen.database.connections or 0) <= (seen.database.max_connections or 0)
    assert seen.broker.ok
    assert (seen.broker.version or "").split(" ")[0] in {"Valkey", "Redis"}
    assert (seen.broker.memory_bytes or 0) > 0
    assert seen.broker.queues == [wire.QueueHealth(name=QUEUE, waiting=0)]
    assert seen.workers == []
    assert seen.workers_detail is None
    assert seen.store.ok
    assert (seen.store.kind, seen.store.artifacts, seen.store.artifact_bytes) == ("file", 0, 0)
    usage = shutil.disk_usage(settings.artifacts_url.removeprefix("file://"))
    assert seen.store.total_bytes == usage.total
    assert seen.work.ok
    assert (seen.work.aggregations_waiting, seen.work.deliveries_waiting) == (0, 0)
    assert seen.work.oldest_waiting_seconds is None
    assert seen.hub.public_url == settings.public_url
    assert timedelta() <= transactions.now() - seen.hub.started_at < timedelta(minutes=5)
    assert all((it.seconds or 9) < BOUND_SECONDS for it in (seen.database, seen.broker, seen.store))


def test_the_work_that_waits_is_counted(
    client: TestClient, admin: Person, settings: Settings, transactions: Transactions
) -> None:
    federation = a_federation(client, transactions, settings)
    sites = sites_online(federation, "bergen", "oslo")
    base = a_model(federation)
    run = a_run(federation)
    work_off(federation)
    sizes = base.size
    for seed, site in enumerate(sites):
        task = site.claim()
        site.answer(task, a_delta(seed))
    step_run(federation, run.id)
    detail = federation.round(run.id, 1)
    assert detail.state is RoundState.AGGREGATING
    sizes += sum(task.update_size or 0 for task in detail.tasks)
    channel = {"kind": "webhook", "target": "https://example.org/hook", "events": ["run.*"]}
    federation.post("/channels", channel)
    before = transactions.now() - timedelta(minutes=3)
    with transactions.begin("sweep") as tx:
        marks.advance(tx.session, MARK, now=before)
    seen = look(client, admin)
    assert (seen.work.aggregations_waiting, seen.work.aggregations_running) == (1, 0)
    assert seen.work.deliveries_waiting == 1  # that the channel was made
    assert seen.work.oldest_waiting_seconds is not None
    assert 0 <= seen.work.oldest_waiting_seconds < 60
    assert seen.work.last_sweep_at == before
    assert (seen.store.artifacts, seen.store.artifact_bytes) == (3, sizes)
    assert lease_round(federation, detail.id) is not None
    seen = look(client, admin)
    assert (seen.work.aggregations_waiting, seen.work.aggregations_running) == (0, 1)


def test_a_real_worker_tells_what_it_does(
    client: TestClient,
    admin: Person,
    settings: Settings,
    transactions: Transactions,
    tmp_path: Path,
) -> None:
    log = tmp_path / "worker.log"
    transactions.ringer.ring(jobs=[Job(STEP_RUN, new_id())])
    assert look(client, admin).broker.queues == [wire.QueueHealth(name=QUEUE, waiting=1)]
    with a_worker(settings, log) as process:

        def has_worked() -> bool:
            assert process.poll() is None, log.read_text()
            return any(it.processed == 1 for it in look(client, admin).workers)

        until(has_worked, "a worker that has done its task")
        seen = look(client, admin)
        (worker,) = seen.workers
        assert worker.concurrency == 1
        assert worker.active == 0
        assert worker.name.startswith("celery@")
        assert 0 <= (worker.uptime_seconds or 0) < 300
        assert seen.broker.queues == [wire.QueueHealth(name=QUEUE, waiting=0)]
        keys = _keys(settings)
        for _ in range(3):
            look(client, admin)
        assert _keys(settings) == keys, "looking leaves nothing behind at the broker"
    assert look(client, admin).workers == []


def _keys(settings: Settings) -> set[bytes]:
    """Return the broker's keys that do not end by themselves, sets with their members."""
    url = redis_py_url(settings.redis_url.get_secret_value())
    redis: Any  # whose types are those of two clients in one
    with Redis.from_url(url) as redis:
        found: set[bytes] = set()
        for key in redis.scan_iter():
            if redis.ttl(key) == -1:
                found.add(key)
            if redis.type(key) == b"set":
                found |= redis.smembers(key)
        return found


def test_a_stopped_broker_hides_nothing_else(
    client: TestClient, admin: Person, broker: valkey.ValkeyServer
) -> None:
    os.kill(broker.pid, signal.SIGTERM)
    until(lambda: not valkey.is_ready(broker.url), "a broker that is gone")
    seen = look(client, admin)
    assert not seen.broker.ok
    assert seen.broker.detail
    assert seen.workers == []
    assert seen.workers_detail
    assert seen.database.ok
    assert seen.store.ok
    assert seen.work.ok


def test_a_broker_that_hangs_is_told_of_in_time(
    client: TestClient, admin: Person, broker: valkey.ValkeyServer
) -> None:
    with ExitStack() as stack:
        os.kill(broker.pid, signal.SIGSTOP)
        stack.callback(os.kill, broker.pid, signal.SIGCONT)
        seen = look(client, admin)
        assert not seen.broker.ok
        assert seen.broker.detail
        assert seen.workers_detail
        assert seen.database.ok
        assert seen.store.ok
    until(lambda: look(client, admin).broker.ok, "a broker that goes on")


def test_a_broken_store_hides_nothing_else(
    client: TestClient, admin: Person, settings: Settings
) -> None:
    folder = Path(settings.artifacts_url.removeprefix("file://"))
    folder.rename(folder.with_name("away"))
    seen = look(client, admin)
    assert not seen.store.ok
    assert seen.store.detail
    assert (seen.store.artifacts, seen.store.artifact_bytes) == (0, 0)  # by the database
    assert seen.database.ok
    assert seen.broker.ok
    folder.with_name("away").rename(folder)
    assert look(client, admin).store.ok


def test_a_full_store_says_so_with_its_numbers(settings: Settings, admin: Person) -> None:
    full = settings.model_copy(update={"min_free_bytes": 2**62})
    with TestClient(create_app(full)) as client:
        seen = look(client, admin)
    assert not seen.store.ok
    assert seen.store.detail
    assert (seen.store.free_bytes or 0) > 0


def test_a_query_that_waits_is_given_up_and_told_of(
    client: TestClient, admin: Person, settings: Settings
) -> None:
    url = make_url(settings.database_url.get_secret_value()).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as blocking:
        blocking.execute("LOCK TABLE artifacts, rounds IN ACCESS EXCLUSIVE MODE")
        seen = look(client, admin)
        assert not seen.work.ok
        assert seen.work.detail
        assert seen.store.ok
        assert seen.store.artifacts is None
        assert seen.database.ok
    until(lambda: look(client, admin).work.ok, "a database that answers again")


def test_it_takes_an_administrator(client: TestClient, transactions: Transactions) -> None:
    somebody = make_person(transactions, "some@hub.example")
    assert client.get("/v1/deployment").status_code == 401
    assert client.get("/v1/deployment", headers=somebody.headers).status_code == 403


def test_what_hangs_is_measured_once() -> None:
    """However often somebody looks, one thread waits; its answer is the next look's."""
    released = threading.Event()
    begun: list[datetime] = []

    def slow() -> str:
        begun.append(datetime.now(UTC))
        assert released.wait(30)
        return "done"

    async def ask() -> Any:
        gauges = Gauges(at_once=2, bound_seconds=0.05)
        seen = [await gauges.read("slow", slow, expected=(OSError,)) for _ in range(3)]
        quick = await gauges.read("quick", lambda: 7, expected=(OSError,))
        released.set()
        last: Reading[str] = Reading(None, None, None)
        while last.facts is None:
            last = await gauges.read("slow", slow, expected=(OSError,))
        gauges.close()
        return seen, quick, last

    seen, quick, last = asyncio.run(ask())
    assert [it.facts for it in seen] == [None] * 3
    assert {it.detail for it in seen} == {"no answer within 0.05 s"}
    assert (quick.facts, quick.detail) == (7, None)
    assert last.facts == "done"
    assert len(begun) == 1
