"""A federation's events at a hub: pages of what was, a stream of what happens."""

from collections.abc import Iterator
from uuid import UUID

from hansa.calls import within
from hansa.errors import BadAnswerError, RetryableError, UnreachableError
from hansa.pages import PAGE
from hansa.streams import read_messages
from hansa.transport import Params, Transport
from hansa_core import wire

QUIET_SECONDS = 60.0  # without even a keep-alive: the stream is dead


class EventLog:
    """The events of one federation. Every method raises HansaError."""

    def __init__(self, transport: Transport, federation: str) -> None:
        self._transport = transport
        self._path = within(federation, "events")

    def page(self, *, after: int = 0, run_id: UUID | None = None) -> list[wire.Event]:
        """Return up to one page of events newer than `after`, oldest first."""
        params: Params = {**_wanted(after, run_id), "limit": PAGE}
        answer = self._transport.call("GET", self._path, wire.Page[wire.Event], params=params)
        return answer.items

    def stream(
        self, *, after: int | None = None, run_id: UUID | None = None
    ) -> Iterator[wire.Event]:
        """Yield events newer than `after` as they happen, for ever; None: from now on.

        A cut stream is resumed by the last id: nothing is lost or told twice. A hub that is away
        for longer than the retries of one call raises RetryableError; go on then with `after` set
        to the last event's id.
        """
        path, attempt = f"{self._path}/stream", 0
        while True:
            try:
                with self._transport.exchange(
                    "GET",
                    path,
                    params=_wanted(after, run_id),
                    headers={"Accept": "text/event-stream"},
                    wait_seconds=QUIET_SECONDS,
                ) as response:
                    for message in read_messages(response.iter_bytes()):
                        attempt = 0
                        if message.data:
                            yield self._transport.parsed(message.data.encode(), wire.Event, path)
                        if message.id is not None:
                            after = _event_id(message.id)
                raise UnreachableError("the hub ended the stream of events")
            except RetryableError as error:
                attempt += 1
                self._transport.pause(attempt, error)


def _wanted(after: int | None, run_id: UUID | None) -> Params:
    return {"after": after, "run_id": str(run_id) if run_id else None}


def _event_id(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    raise BadAnswerError(f"an event has the id {text[:40]!r}, wanted a number")
