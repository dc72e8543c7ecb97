"""The events of a federation, as pages and as a stream, from which clients live.

A stream holds a socket and one page of events; it asks the database when the federation's topic
rings and when it gives a sign of life, and holds no connection in between.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Header, Query
from fastapi.responses import StreamingResponse

from app.api.auth import PersonSecret
from app.api.dependencies import Access, BellDep, SettingsDep, TransactionsDep
from app.api.problems import problems
from app.domain.errors import DomainError, ForbiddenError, NotAuthenticatedError, NotFoundError
from app.doorbell import Bell
from app.services import events, federations, sessions
from app.services.events import News
from app.services.transactions import Transactions, Tx
from hansa_core import wire

log = structlog.get_logger()

router = APIRouter(prefix="/v1/federations/{federation}/events", tags=["events"])

MAX_LIMIT = 500
MAX_ID = 2**63 - 1  # what a bigint column holds
STREAM_PAGE = 100  # events held for one reader
LOOKS_APART_SECONDS = 0.1  # rings that come together are looked at once
RECONNECT_MILLISECONDS = 2000  # what a browser waits after a stream's end

AfterId = Annotated[int, Query(ge=0, le=MAX_ID, description="the last id seen")]
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `id`, `event` (the kind) and `data` (an Event).",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get("", responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError))
def list_events(
    access: Access,
    transactions: TransactionsDep,
    after: AfterId = 0,
    run_id: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
    newest: Annotated[
        bool, Query(description="newest first, `before` in place of `after`")
    ] = False,
    before: Annotated[
        int | None, Query(ge=0, le=MAX_ID, description="with `newest`: the last id seen")
    ] = None,
) -> wire.Page[wire.Event]:
    """List events after an id, oldest first; with `newest` backwards from the newest.

    Ids are in commit order: who resumes by the last id misses nothing.
    """
    with transactions.reading() as tx:
        if newest:
            found = events.list_newest(tx, access, before=before, run_id=run_id, limit=limit)
            return wire.Page(items=found)
        found = events.list_events(tx, access, after=after, run_id=run_id, limit=limit)
    return wire.Page(items=found)


@router.get(
    "/stream",
    response_class=StreamingResponse,
    responses={
        **STREAM,
        **problems(NotAuthenticatedError, ForbiddenError, NotFoundError),
    },
)
async def stream_events(
    access: Access,
    secret: PersonSecret,
    transactions: TransactionsDep,
    bell: BellDep,
    settings: SettingsDep,
    after: Annotated[
        int | None, Query(ge=0, le=MAX_ID, description="the last id seen; without: from now on")
    ] = None,
    run_id: UUID | None = None,
    unnamed: Annotated[
        bool, Query(description="without `event:`, for a browser's one handler of all kinds")
    ] = False,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=MAX_ID, description="as `after`, and before it")
    ] = None,
) -> StreamingResponse:
    """Stream events as they happen (text/event-stream), resumable by the last id.

    The stream ends when the token or the membership does, and when the hub stops.
    """
    follower = _Follower(transactions, secret, str(access.federation_id), run_id)
    told = _told_unnamed if unnamed else _told
    start = after if last_event_id is None else last_event_id
    # Before the answer begins, so that a refusal has its status.
    first = await follower.look(start)
    stream = _stream(
        follower, first, bell, access.federation_id, settings.event_keepalive_seconds, told
    )
    return StreamingResponse(
        stream,
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@dataclass(frozen=True, slots=True)
class _Follower:
    """Who reads, and what of."""

    transactions: Transactions
    token: str
    federation: str
    run_id: UUID | None

    async def look(self, after: int | None) -> News:
        """Return the news, if token and membership still allow it. Raises DomainError."""

        def read(tx: Tx) -> News:
            principal = sessions.authenticate(tx, self.token, now=self.transactions.now())
            membership = federations.access(tx, principal, self.federation)
            return events.news(tx, membership, after=after, run_id=self.run_id, limit=STREAM_PAGE)

        return await self.transactions.run("follow_events", read)


async def _stream(
    follower: _Follower,
    news: News,
    bell: Bell,
    topic: UUID,
    keepalive_seconds: float,
    told: Callable[[News], str],
) -> AsyncGenerator[str]:
    loop = asyncio.get_running_loop()
    try:
        yield f"retry: {RECONNECT_MILLISECONDS}\n\n{told(news)}{_sign_of_life(news)}"
        quiet_since = loop.time()
        while not bell.is_closed:
            left = quiet_since + keepalive_seconds - loop.time()
            async for _ in bell.rings(topic, seconds=left):
                news = await follower.look(news.last_id)
                while news.more:
                    yield told(news)
                    news = await follower.look(news.last_id)
                # Rings may be about other runs' events, again and again.
                is_quiet = not news.events and loop.time() - quiet_since >= keepalive_seconds
                if news.events or is_quiet:
                    yield told(news) or _sign_of_life(news)
                    quiet_since = loop.time()
                await asyncio.sleep(LOOKS_APART_SECONDS)
    except DomainError as error:
        log.info("event_stream_ended", reason=str(error), federation_id=str(topic))
    except Exception:
        log.exception("event_stream_broke")  # the reader comes back, and resumes


def _sign_of_life(news: News) -> str:
    """Return what no reader takes for an event: a comment, and where to resume."""
    return f": keep-alive\nid: {news.last_id}\n\n"


def _told(news: News) -> str:
    return "".join(
        f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n"
        for event in news.events
    )


def _told_unnamed(news: News) -> str:
    return "".join(f"id: {event.id}\ndata: {event.model_dump_json()}\n\n" for event in news.events)
