"""Working off a channel: lease it, send what it has not had yet, in order, note how that went.

The cursor moves only after a message was taken, under the lease's token: a killed worker's
message comes again, none is lost, and an overtaken worker changes nothing. The network is used
between transactions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.db import channels as rows
from app.db import events as event_rows
from app.db.models import Channel
from app.domain.alerts import AlertKind, Severity
from app.domain.channels import GIVE_UP_AFTER, WARN_AFTER, delay, shown
from app.domain.ids import new_id
from app.senders.outgoing import Destination
from app.services import alerts
from app.services.events import view_event
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.wire import ChannelKind

DUE_LIMIT = 500  # channels of one sweep; the rest wait for the next one
MAX_ERROR = 500  # characters kept
BATCH = {ChannelKind.WEBHOOK: 1, ChannelKind.EMAIL: 100}  # events in one message


@dataclass(frozen=True, slots=True)
class ChannelLease:
    """The right to deliver to one channel."""

    channel_id: UUID
    token: UUID
    destination: Destination
    federation_id: UUID
    federation: str  # slug
    events: tuple[str, ...]  # patterns


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a channel gets next, in one message."""

    message_id: str  # the same each time it is tried
    messages: tuple[wire.Notification, ...]
    last_id: int  # of the newest event in it


def due(tx: Tx, *, now: datetime) -> Sequence[UUID]:
    """Return channels that have something to look at and that nobody delivers now."""
    return rows.due_ids(tx.session, now=now, limit=DUE_LIMIT)


def lease(tx: Tx, channel_id: UUID, *, now: datetime, duration: timedelta) -> ChannelLease | None:
    """Take the channel, or None: removed, disabled, not due, or in another worker's hands."""
    found = rows.lock_with_slug(tx.session, channel_id)
    if found is None:
        return None
    channel, slug = found
    is_held = channel.lease_expires_at is not None and channel.lease_expires_at > now
    waits = channel.next_at is not None and channel.next_at > now
    if is_held or waits or not channel.enabled:
        return None
    channel.lease_token = token = new_id()
    channel.lease_expires_at = now + duration
    return ChannelLease(
        channel_id=channel.id,
        token=token,
        destination=Destination(ChannelKind(channel.kind), channel.target, channel.secret),
        federation_id=channel.federation_id,
        federation=slug,
        events=tuple(channel.events),
    )


def renew(tx: Tx, held: ChannelLease, *, now: datetime, duration: timedelta) -> bool:
    """Keep the lease; False when it was lost."""
    return rows.renew_lease(
        tx.session, held.channel_id, token=held.token, expires_at=now + duration
    )


def next_delivery(tx: Tx, held: ChannelLease) -> Delivery | None:
    """Return what comes next, or None: all was delivered, or the lease was lost.

    Nothing left, the cursor passes what did not match and the lease is given back.
    """
    channel = rows.lock_leased(tx.session, held.channel_id, held.token)
    if channel is None:
        return None
    newest = event_rows.newest_id(tx.session, held.federation_id)
    found = event_rows.matching(
        tx.session,
        held.federation_id,
        last_id=channel.cursor,
        patterns=held.events,
        limit=BATCH[held.destination.kind],
    )
    if not found:
        channel.cursor = max(channel.cursor, newest)
        _give_back(channel)
        return None
    messages = tuple(
        _message(view_event(event), held.federation_id, held.federation) for event in found
    )
    return Delivery(f"evt_{found[-1].id}", messages, found[-1].id)


def delivered(tx: Tx, held: ChannelLease, delivery: Delivery, *, now: datetime) -> bool:
    """Note that a delivery was taken; False when the lease was lost meanwhile."""
    channel = rows.lock_leased(tx.session, held.channel_id, held.token)
    if channel is None:
        return False
    if channel.failures:
        alerts.resolve(
            tx,
            AlertKind.CHANNEL_FAILING,
            federation_id=channel.federation_id,
            subject=str(channel.id),
            now=now,
        )
    channel.cursor = delivery.last_id
    channel.failures = 0
    channel.failing_since = None
    channel.next_at = None
    channel.last_error = None
    channel.last_success_at = now
    return True


def failed(
    tx: Tx, held: ChannelLease, *, reason: str, gone: bool, now: datetime, draw: float
) -> None:
    """Note a failure and give the lease back until the next try; `draw` in [0, 1) is its jitter.

    After days of failing, or when the receiver is `gone` for good, the channel is disabled.
    """
    channel = rows.lock_leased(tx.session, held.channel_id, held.token)
    if channel is None:
        return
    failing_since = channel.failing_since or now
    channel.failing_since = failing_since
    channel.failures += 1
    channel.last_error = reason[:MAX_ERROR]
    channel.next_at = now + delay(channel.failures, draw)
    _give_back(channel)
    where = shown(ChannelKind(channel.kind), channel.target)
    gives_up = gone or now - failing_since >= GIVE_UP_AFTER
    if gives_up:
        channel.enabled = False
        tx.record(
            "channel.disabled",
            federation_id=channel.federation_id,
            channel_id=str(channel.id),
            channel=channel.kind,
            target=where,
            reason=channel.last_error,
        )
    if gives_up or channel.failures >= WARN_AFTER:
        done = "disabled after" if gives_up else "not delivered to for"
        alerts.raise_alert(
            tx,
            AlertKind.CHANNEL_FAILING,
            federation_id=channel.federation_id,
            subject=str(channel.id),
            severity=Severity.CRITICAL if gives_up else None,
            message=f"{channel.kind} {where} was {done} {channel.failures} failures: {reason}",
            now=now,
        )


def give_back(tx: Tx, held: ChannelLease) -> None:
    """Let another worker go on with the channel."""
    channel = rows.lock_leased(tx.session, held.channel_id, held.token)
    if channel is not None:
        _give_back(channel)


def trial(federation_id: UUID, federation: str, *, by: str, now: datetime) -> wire.Notification:
    """Return a message that tries a channel; its event has the id 0, which no real one has."""
    event = wire.Event(id=0, kind="channel.tested", run_id=None, at=now, data={"by": by})
    return _message(event, federation_id, federation)


def _message(event: wire.Event, federation_id: UUID, federation: str) -> wire.Notification:
    return wire.Notification(
        type=event.kind,
        timestamp=event.at,
        federation_id=federation_id,
        federation=federation,
        data=event,
    )


def _give_back(channel: Channel) -> None:
    channel.lease_token = None
    channel.lease_expires_at = None
