"""The hub: composes settings, store, broker and routes into one ASGI application."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI
from fastapi.routing import APIRoute

from app.api import problems
from app.api.limits import BodyLimit
from app.api.v1 import (
    artifacts,
    enrollments,
    events,
    federations,
    health,
    invitations,
    members,
    models,
    runs,
    session,
    site,
    sites,
    tasks,
    tokens,
    users,
)
from app.doorbell import Bell
from app.observability import configure_logging
from app.services.transactions import Transactions
from app.settings import Settings, get_settings
from app.storage import open_artifacts

# In the order in which a request's path is tried against them: what sites ask all day comes first.
ROUTERS = (
    tasks.router,
    site.router,
    session.router,
    tokens.router,
    users.router,
    federations.router,
    members.router,
    invitations.router,
    sites.router,
    artifacts.router,
    models.router,
    runs.router,
    events.router,
    enrollments.router,
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

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        # The default has six threads on two cores, and uploads that flush their blob hold them.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(BLOCKING_THREADS))
        app.state.artifacts = await asyncio.to_thread(open_artifacts, chosen)
        listening = asyncio.create_task(bell.listen())
        try:
            yield
        finally:
            listening.cancel()
            await asyncio.wait({listening}, timeout=SHUTDOWN_SECONDS)
            transactions.dispose()

    app = FastAPI(
        title="Hansa hub",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=_operation_id,
    )
    app.state.settings = chosen
    app.state.transactions = transactions
    app.state.bell = bell
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=chosen.max_body_bytes)
    for router in ROUTERS:
        app.include_router(router)
    return app


def _operation_id(route: APIRoute) -> str:
    """Name operations after their functions, so that generated clients read well."""
    return route.name
