"""Waiting: a ring wakes who waits, at once, and waiting costs no database."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event
from sqlalchemy.pool import QueuePool

from app.domain.clock import utc_now
from app.doorbell import Bell
from app.main import create_app
from app.services import tasks
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from tests.factories import (
    LEASE_FOR,
    ONLINE_FOR,
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    sites_online,
    work_off,
)

WAIT = 25  # seconds that the waiting requests ask for
SOON = 5  # seconds, far below WAIT: who is not woken fails; generous for a busy machine
MANY = 200


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def site(federation: Federation) -> ActiveSite:
    site, _ = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    return site


@asynccontextmanager
async def serving(settings: Settings) -> AsyncGenerator[tuple[FastAPI, httpx2.AsyncClient]]:
    """A hub on this event loop, its bell connected, with a client of it."""
    app = create_app(settings)
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://hub", timeout=60) as client,
    ):
        yield app, client


def engine_of(app: FastAPI) -> Engine:
    return app.state.transactions.sessions.kw["bind"]


def waiting_on(app: FastAPI) -> int:
    bell: Bell = app.state.bell
    return sum(len(events) for events in bell._waiting.values())  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] -- nothing else tells who waits


async def until(condition: Any) -> None:
    """Let the others run until the condition holds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.to_thread(lambda: None)


@contextmanager
def counted_statements(engine: Engine) -> Generator[list[str]]:
    """Collect the statements that are sent to the database."""
    sent: list[str] = []

    def note(*arguments: Any) -> None:
        sent.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)


def test_many_waiting_claims_hold_no_connection_and_wake_on_a_ring(
    federation: Federation, settings: Settings, site: ActiveSite
) -> None:
    run = a_run(federation)

    async def wait_and_ring() -> tuple[list[int], float]:
        async with serving(settings) as (app, client), asyncio.TaskGroup() as group:
            claims = [
                group.create_task(
                    client.post(
                        "/v1/tasks/claim",
                        params={"wait_seconds": WAIT},
                        json={},
                        headers=site.identity.headers,
                    )
                )
                for _ in range(MANY)
            ]
            pool = engine_of(app).pool
            assert isinstance(pool, QueuePool)
            await until(lambda: waiting_on(app) == MANY and pool.checkedout() == 0)
            with counted_statements(engine_of(app)) as sent:
                for _ in range(MANY):  # turns of the loop: whoever polls would show
                    await asyncio.to_thread(lambda: None)
                assert sent == []
                assert pool.checkedout() == 0
            rung_at = monotonic()
            await asyncio.to_thread(work_off, federation)  # opens the round, rings the site
            answers = [await claim for claim in claims]
            return [answer.status_code for answer in answers], monotonic() - rung_at

    statuses, seconds = asyncio.run(wait_and_ring())
    assert statuses == [200] * MANY  # every repeat takes the lease over
    assert seconds < WAIT
    assert federation.round(run.id, 1).tasks[0].attempts == MANY


def test_a_waiting_claim_looks_once_before_and_once_after_a_ring(
    federation: Federation, settings: Settings, site: ActiveSite
) -> None:
    a_run(federation)

    async def wait_and_ring() -> tuple[list[str], float, int]:
        async with serving(settings) as (app, client), asyncio.TaskGroup() as group:
            with counted_statements(engine_of(app)) as sent:
                claim = group.create_task(
                    client.post(
                        "/v1/tasks/claim",
                        params={"wait_seconds": WAIT},
                        json={},
                        headers=site.identity.headers,
                    )
                )
                await until(lambda: waiting_on(app) == 1 and any("FROM tasks" in s for s in sent))
                await asyncio.to_thread(work_off, federation)
                rung_at = monotonic()
                answer = await claim
                return sent, monotonic() - rung_at, answer.status_code

    sent, seconds, status = asyncio.run(wait_and_ring())
    assert status == 200
    assert seconds < SOON
    assert sum("FROM tasks" in statement for statement in sent) == 2


def test_a_claim_that_nobody_wakes_ends_with_nothing_to_do(site: ActiveSite) -> None:
    answer = site.poll(wait_seconds=0.1)
    assert answer.status_code == 204
    assert float(answer.headers["Retry-After"]) > 0


def test_a_ring_between_the_look_and_the_wait_is_not_missed(
    federation: Federation, settings: Settings, site: ActiveSite
) -> None:
    a_run(federation)
    principal = site.principal(federation.transactions)

    def claim(transactions: Transactions) -> wire.Task | None:
        with transactions.begin("claim") as tx:
            return tasks.claim(
                tx,
                principal,
                wire.ClaimRequest(),
                now=utc_now(),
                lease_for=LEASE_FOR,
                online_for=ONLINE_FOR,
            )

    async def look_ring_wait() -> list[wire.Task | None]:
        async with serving(settings) as (app, _):
            looks: list[wire.Task | None] = []
            async for _ in app.state.bell.rings(site.id, seconds=WAIT):
                looks.append(claim(federation.transactions))
                if len(looks) == 1:
                    await asyncio.to_thread(work_off, federation)  # before the wait begins
                else:
                    break
            return looks

    nothing, task = asyncio.run(look_ring_wait())
    assert nothing is None
    assert task is not None


def test_a_lost_broker_loses_rings_and_no_work(
    federation: Federation, settings: Settings, site: ActiveSite
) -> None:
    del site
    nowhere = settings.model_copy(
        update={"redis_url": type(settings.redis_url)(f"redis+socket:///{uuid4().hex}")}
    )
    cut_off = Transactions.from_settings(nowhere)
    with cut_off.begin("record") as tx:
        tx.record("test.done", federation_id=federation.id)
        tx.send("hansa.step_run", uuid4())
    cut_off.dispose()
    kinds = [item["kind"] for item in federation.get("/events", limit=500)["items"]]
    assert kinds[-1] == "test.done"


def record(federation: Federation, kind: str) -> None:
    with federation.transactions.begin("record") as tx:
        tx.record(kind, federation_id=federation.id)
