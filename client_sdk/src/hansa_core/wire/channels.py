"""Messages about channels, by which a federation's events reach people and programs elsewhere.

A webhook's body is a `Notification`; hansa_core.webhooks verifies the headers beside it.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field

from hansa_core.wire.base import Request, Response
from hansa_core.wire.resources import Event

MAX_EVENTS = 32  # patterns of one channel

# A kind of events, a prefix that ends in ".*", or "*".
EventPattern = Annotated[
    str,
    Field(max_length=64, pattern=r"^(\*|[a-z][a-z_-]*(\.[a-z][a-z_-]*)*(\.\*)?)$"),
]
Events = Annotated[list[EventPattern], Field(min_length=1, max_length=MAX_EVENTS)]


class ChannelKind(StrEnum):
    WEBHOOK = "webhook"  # an HTTPS POST for each event, signed
    EMAIL = "email"  # one message for what came together


class ChannelCreate(Request):
    kind: ChannelKind
    target: str = Field(min_length=3, max_length=2048, description="URL or e-mail address")
    events: Events | None = None  # None: all of them to a webhook, alerts to an e-mail address


class ChannelChange(Request):
    target: str | None = Field(default=None, min_length=3, max_length=2048)
    events: Events | None = None
    enabled: bool | None = None


class Channel(Response):
    id: UUID
    kind: ChannelKind
    target: str
    events: list[str]
    enabled: bool
    failures: int  # in a row
    failing_since: datetime | None
    next_at: datetime | None  # of the next try, after a failure
    last_error: str | None
    last_success_at: datetime | None
    created_at: datetime


class NewChannel(Channel):
    secret: str | None  # verifies a webhook's messages; shown once


class ChannelTest(Response):
    """What became of a message that was sent at once, to try a channel."""

    delivered: bool
    error: str | None


class Notification(Response):
    """One event as it leaves the hub: a webhook's body, a part of an e-mail."""

    type: str  # the event's kind
    timestamp: datetime  # when it happened
    federation_id: UUID
    federation: str  # its slug
    data: Event
