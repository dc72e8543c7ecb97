"""The stream of events over a real socket: nothing is lost or told twice, and it ends in time."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.pool import QueuePool

from app.main import create_app
from app.services.transactions import Transactions
from app.settings import Settings
from hansa.client import HansaClient
from hansa.transport import RetryPolicy
from hansa_core import wire
from hansa_core.states import Role
from tests.factories import Federation, a_federation, a_model, a_run
from tests.identities import add_member, events_of, make_person

DEADLINE = 60.0  # seconds that a test waits for anything
KEEPALIVE_SECONDS = 0.3


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"event_keepalive_seconds": KEEPALIVE_SECONDS})


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@dataclass
class Hub:
    """A hub on a socket, served by a thread."""

    app: FastAPI
    port: int
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(settings: Settings, port: int = 0) -> Generator[Hub]:
    listener = socket.create_server(("127.0.0.1", port), reuse_port=False)
    hub = Hub(create_app(settings), listener.getsockname()[1])
    config = uvicorn.Config(hub.app, log_level="warning", ws="none", timeout_graceful_shutdown=20)
    server = uvicorn.Server(config)

    async def serve() -> None:
        hub.loop = asyncio.get_running_loop()
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield hub
    finally:
        server.should_exit = True
        assert hub.loop is not None
        hub.loop.call_soon_threadsafe(hub.app.state.bell.close)  # what a signal does
        thread.join(DEADLINE)
        listener.close()
    assert not thread.is_alive()


@pytest.fixture
def hub(settings: Settings) -> Generator[Hub]:
    with serving(settings) as running:
        yield running


@dataclass
class Stream:
    """A reader that parses the stream by hand."""

    response: httpx2.Response
    last_id: int | None = None
    comments: int = 0
    unnamed: bool = False
    _lines: Iterator[str] = field(init=False)

    def __post_init__(self) -> None:
        self._lines = self.response.iter_lines()

    def events(self) -> Generator[wire.Event]:
        """Yield events until the stream ends."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(":"):
                self.comments += 1
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            else:
                if "id" in fields:
                    self.last_id = int(fields["id"])
                if "data" in fields:
                    event = wire.Event.model_validate_json(fields["data"])
                    assert event.id == self.last_id
                    assert fields.get("event") == (None if self.unnamed else event.kind)
                    yield event
                fields = {}

    def until(self, condition: Callable[[], bool]) -> None:
        """Read lines until the condition holds; the keep-alive brings new ones."""
        while not condition():
            line = next(self._lines)
            self.comments += line.startswith(":")
            if line.startswith("id: "):
                self.last_id = int(line[4:])


@contextmanager
def streaming(
    hub: Hub,
    federation: Federation,
    *,
    expect: int = 200,
    last_event_id: int | None = None,
    headers: dict[str, str] | None = None,
    **params: Any,
) -> Generator[Stream]:
    sent = dict(headers or federation.owner.headers)
    if last_event_id is not None:
        sent["Last-Event-ID"] = str(last_event_id)
    url = f"{hub.url}/v1/federations/{federation.slug}/events/stream"
    with (
        httpx2.Client(timeout=DEADLINE) as client,
        client.stream("GET", url, params=params, headers=sent) as response,
    ):
        assert response.status_code == expect
        yield Stream(response, unnamed=bool(params.get("unnamed")))


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    ends_at = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < ends_at, "it did not happen"
        pause.wait(0.01)


def record(federation: Federation, kind: str, run_id: UUID | None = None, **data: Any) -> None:
    with federation.transactions.begin("record") as tx:
        tx.record(kind, federation_id=federation.id, run_id=run_id, **data)


def stored(federation: Federation) -> list[int]:
    items: list[int] = []
    while page := federation.get("/events", after=items[-1] if items else 0, limit=500)["items"]:
        items += [item["id"] for item in page]
    return items


def test_a_reader_that_resumes_loses_and_repeats_nothing_while_others_write(
    federation: Federation, hub: Hub
) -> None:
    each, writers = 40, 4

    def write(name: int) -> None:
        for number in range(each):
            record(federation, "test.written", writer=name, number=number)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(writers)]
    for thread in threads:
        thread.start()
    seen: list[wire.Event] = []
    last, by_header = 0, True
    while sum(event.kind == "test.written" for event in seen) < each * writers:
        resumed = (
            streaming(hub, federation, last_event_id=last)
            if by_header
            else streaming(hub, federation, after=last)
        )
        by_header = not by_header
        with resumed as stream:
            for count, event in enumerate(stream.events(), 1):
                seen.append(event)
                last = event.id
                done = sum(item.kind == "test.written" for item in seen) == each * writers
                if done or count == 17:
                    break  # the connection is cut, with events on their way
    for thread in threads:
        thread.join()
    assert [event.id for event in seen] == stored(federation)


def test_a_reader_that_names_no_id_hears_what_comes_from_now_on(
    federation: Federation, hub: Hub
) -> None:
    newest = stored(federation)[-1]
    with streaming(hub, federation) as stream:
        stream.until(lambda: stream.last_id is not None)
        assert stream.last_id == newest  # so it can resume before it has heard anything
        record(federation, "test.done", said="\n\nid: 1\n\n")
        event = next(stream.events())
    assert (event.kind, event.data["said"]) == ("test.done", "\n\nid: 1\n\n")
    with streaming(hub, federation, last_event_id=newest, after=0) as stream:
        assert next(stream.events()) == event


def test_the_head_of_a_stream_says_what_it_is(federation: Federation, hub: Hub) -> None:
    with streaming(hub, federation) as stream:
        headers = stream.response.headers
    assert headers["Content-Type"].startswith("text/event-stream")
    assert headers["Cache-Control"] == "no-store"


def test_an_unnamed_stream_tells_the_same_without_kinds_of_its_own(
    federation: Federation, hub: Hub
) -> None:
    with streaming(hub, federation, unnamed=True) as stream:
        stream.until(lambda: stream.last_id is not None)
        record(federation, "test.done", number=1)
        assert next(stream.events()).kind == "test.done"


def test_the_newest_events_are_listed_backwards_page_by_page(federation: Federation) -> None:
    for number in range(5):
        record(federation, "test.written", number=number)
    all_ids = stored(federation)
    seen: list[int] = []
    while page := federation.get(
        "/events", newest=True, limit=2, **({"before": seen[-1]} if seen else {})
    )["items"]:
        seen += [item["id"] for item in page]
    assert seen == all_ids[::-1]


def test_a_quiet_stream_shows_signs_of_life_and_holds_no_connection(
    federation: Federation, hub: Hub
) -> None:
    pool = hub.app.state.transactions.sessions.kw["bind"].pool
    assert isinstance(pool, QueuePool)
    with streaming(hub, federation) as stream:
        began = time.monotonic()
        stream.until(lambda: stream.comments == 4)  # the first comes at once
        assert time.monotonic() - began >= 2.5 * KEEPALIVE_SECONDS
        wait_until(lambda: pool.checkedout() == 0)


def test_a_stream_of_one_run_passes_the_others_and_can_resume_behind_them(
    federation: Federation, hub: Hub
) -> None:
    a_model(federation)
    run, other = a_run(federation), a_run(federation)
    with streaming(hub, federation, run_id=run.id, after=0) as stream:
        record(federation, "test.other", run_id=other.id)
        record(federation, "test.done", run_id=run.id)
        events = stream.events()
        kinds: list[str] = []
        while "test.done" not in kinds:
            event = next(events)
            assert event.run_id == run.id
            kinds.append(event.kind)
        record(federation, "test.other", run_id=other.id)
        newest = stored(federation)[-1]
        stream.until(lambda: stream.last_id == newest)  # told by a keep-alive
    assert "test.other" not in kinds


def test_a_revoked_token_ends_the_stream(federation: Federation, hub: Hub) -> None:
    with streaming(hub, federation) as stream:
        stream.until(lambda: stream.last_id is not None)
        answer = federation.client.delete("/v1/session", headers=federation.owner.headers)
        assert answer.status_code == 204
        record(federation, "test.secret")
        assert list(stream.events()) == []  # ends, and tells nothing more
    with streaming(hub, federation, expect=401):
        pass


def test_a_lost_membership_ends_the_stream(
    federation: Federation, hub: Hub, transactions: Transactions
) -> None:
    person = make_person(transactions, "eve@example.org")
    with streaming(hub, federation, headers=person.headers, expect=404):
        pass
    add_member(federation.client, federation.owner, federation.slug, person, Role.AUDITOR)
    with streaming(hub, federation, headers=person.headers) as stream:
        stream.until(lambda: stream.last_id is not None)
        path = f"/v1/federations/{federation.slug}/members/{person.id}"
        answer = federation.client.delete(path, headers=federation.owner.headers)
        assert answer.status_code == 204
        record(federation, "test.secret")
        assert "test.secret" not in [event.kind for event in stream.events()]


def test_the_sdk_lives_through_a_restart_of_the_hub(
    federation: Federation, settings: Settings
) -> None:
    seen: list[wire.Event] = []

    def read(url: str) -> None:
        retry = RetryPolicy(attempts=200, first_delay_seconds=0.02, max_delay_seconds=0.1)
        with HansaClient(url, federation.owner.token, retry=retry) as client:
            for event in client.event_log(federation.slug).stream(after=0):
                seen.append(event)
                if event.kind == "test.last":
                    return

    with serving(settings) as first:
        reader = threading.Thread(target=read, args=(first.url,))
        reader.start()
        record(federation, "test.before")
        wait_until(lambda: any(event.kind == "test.before" for event in seen))
    record(federation, "test.between")
    with serving(settings, port=first.port):
        record(federation, "test.last")
        reader.join(DEADLINE)
    assert not reader.is_alive()
    kinds = [kind for kind, _ in events_of(federation.transactions, federation.id)]
    assert [event.kind for event in seen] == kinds
    assert len({event.id for event in seen}) == len(seen)


def test_a_signal_ends_streams_cleanly_and_the_hub_at_once(
    federation: Federation, settings: Settings
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    environment = os.environ | {
        "HANSA_DATABASE_URL": settings.database_url.get_secret_value(),
        "HANSA_REDIS_URL": settings.redis_url.get_secret_value(),
        "HANSA_ARTIFACTS_URL": settings.artifacts_url,
        "HANSA_SIGNING_KEY": settings.signing_key.get_secret_value(),
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
    process = subprocess.Popen(  # noqa: S603 -- our own hub
        [*command, "--fd", str(listener.fileno()), "--log-level", "warning"],
        env=environment,
        pass_fds=[listener.fileno()],
    )
    try:
        hub = Hub(FastAPI(), listener.getsockname()[1])
        with streaming(hub, federation) as stream:
            stream.until(lambda: stream.last_id is not None)
            process.send_signal(signal.SIGTERM)
            assert list(stream.events()) == []  # read to its proper end: a cut one would raise
        process.wait(DEADLINE)
    finally:
        process.kill()
        process.wait()
        listener.close()
    # uvicorn lets the signal end it, once all is closed.
    assert process.returncode in {0, -signal.SIGTERM}
