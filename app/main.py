"""The hub: composes settings, store, broker and routes into one ASGI application."""

import asyncio
import contextlib
import gc
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.api import console, problems, reference
from app.api.grants import Grants
from app.api.limits import BodyLimit
from app.api.prefixes import PathPrefix
from app.api.v1 import (
    alerts,
    artifacts,
    audit,
    cards,
    channels,
    curves,
    deployment,
    duties,
    enrollments,
    events,
    federations,
    health,
    hub,
    invitations,
    members,
    models,
    overviews,
    plans,
    receipts,
    retention,
    rosters,
    runs,
    session,
    site,
    sites,
    tasks,
    tokens,
    uploads,
    users,
)
from app.doorbell import Bell
from app.observability import configure_logging
from app.senders.outgoing import Outlets
from app.services.audit import Takings
from app.services.deployment import Inspector
from app.services.principals import Membership, SitePrincipal
from app.services.transactions import Transactions
from app.services.uploads import Desk
from app.settings import Settings, get_settings
from app.storage import open_artifacts

# In the order in which a request's path is tried against them: what sites ask all day comes first.
ROUTERS = (
    tasks.router,
    uploads.of_tasks,
    duties.router,
    rosters.router,
    site.router,
    session.router,
    tokens.router,
    users.router,
    federations.router,
    overviews.router,
    retention.router,
    members.router,
    invitations.router,
    sites.router,
    artifacts.router,
    uploads.of_federations,
    models.router,
    cards.router,
    runs.router,
    plans.router,
    curves.router,
    receipts.router,
    events.router,
    alerts.router,
    channels.router,
    audit.router,
    enrollments.router,
    hub.router,
    deployment.router,
    health.router,
)

BLOCKING_THREADS = 64  # for store and database calls of handlers on the event loop
SHUTDOWN_SECONDS = 1  # for the subscription; a client library may swallow a cancellation
DESCRIPTION = "Train one model across many data sites without moving the data."


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the hub's application; without `settings`, of the environment's."""
    chosen = settings or get_settings()
    configure_logging(chosen)
    transactions = Transactions.from_settings(chosen)
    bell = Bell(chosen.redis_url.get_secret_value())
    inspector = Inspector(chosen, transactions)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        # The default has six threads on two cores, and uploads that flush their blob hold them.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(BLOCKING_THREADS))
        console.tell_if_not_built(chosen)
        app.state.artifacts = await asyncio.to_thread(open_artifacts, chosen)
        desk = Desk(app.state.artifacts, transactions, checks_at_once=2 * (os.cpu_count() or 1))
        app.state.desk = desk
        listening = asyncio.create_task(bell.listen())
        try:
            with _closed_by_signals(bell):
                yield
        finally:
            listening.cancel()
            await asyncio.wait({listening}, timeout=SHUTDOWN_SECONDS)
            await desk.close()
            inspector.close()
            transactions.dispose()

    app = FastAPI(
        title="Hansa hub",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.settings = chosen
    app.state.transactions = transactions
    app.state.bell = bell
    app.state.takings = Takings()
    app.state.inspector = inspector
    app.state.site_grants = Grants[SitePrincipal]()
    app.state.person_grants = Grants[Membership]()
    app.state.outlets = Outlets.from_settings(chosen)
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=chosen.max_body_bytes)
    if chosen.path_prefix:
        app.add_middleware(PathPrefix, prefix=chosen.path_prefix)
    for router in ROUTERS:
        app.include_router(router)
    console.install(app, chosen)
    reference.install(app, chosen)
    return app


def create_settled_app() -> FastAPI:
    """Return the application for a process of its own, by the environment's settings.

    What is there by now lives as long as the process: no collection need go through it again.
    """
    app = create_app()
    gc.collect()
    gc.freeze()
    return app


def _operation_id(route: APIRoute) -> str:
    """Name operations after their functions, so that generated clients read well."""
    return route.name


@contextlib.contextmanager
def _closed_by_signals(bell: Bell) -> Generator[None]:
    """Close the bell as soon as a signal asks the server to stop.

    The server waits for open requests before it ends the lifespan, and streams end for nothing
    else. Its own handlers are called as well.
    """
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    loop = asyncio.get_running_loop()

    def close(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(bell.close)
        handlers[number](number, frame)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler):
                handlers[number] = handler
                signal.signal(number, close)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
