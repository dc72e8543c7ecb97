"""Channels as a federation's owners see and govern them; deliveries.py works them off."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.db import channels as rows
from app.db import events as event_rows
from app.db.models import Channel
from app.domain.alerts import AlertKind
from app.domain.channels import DEFAULT_EVENTS, shown, wrong_with_email, wrong_with_url
from app.domain.errors import FieldProblem, InvalidRequestError, NotFoundError
from app.domain.ids import new_id
from app.domain.permissions import Action
from app.doorbell import DELIVER
from app.senders.outgoing import Destination, Outlets
from app.services import alerts
from app.services.principals import Membership
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.webhooks import encode_secret
from hansa_core.wire import ChannelKind

MAX_CHANNELS = 50  # of one federation
SECRET_BYTES = 32


def create(
    tx: Tx,
    membership: Membership,
    request: wire.ChannelCreate,
    *,
    outlets: Outlets,
    now: datetime,
) -> wire.NewChannel:
    """Make a channel for what happens from now on; a webhook's secret is shown this once.

    Raises:
        ForbiddenError.
        InvalidRequestError: the target is not one that this hub sends to, or there are too many.
    """
    membership.require(Action.GOVERN)
    _require_target(request.kind, request.target, outlets)
    if rows.count_channels(tx.session, membership.federation_id) >= MAX_CHANNELS:
        raise InvalidRequestError(f"a federation has at most {MAX_CHANNELS} channels; remove one")
    is_webhook = request.kind is ChannelKind.WEBHOOK
    channel = Channel(
        id=new_id(),
        federation_id=membership.federation_id,
        kind=request.kind,
        target=request.target,
        secret=encode_secret(secrets.token_bytes(SECRET_BYTES)) if is_webhook else None,
        events=list(request.events or DEFAULT_EVENTS[request.kind]),
        enabled=True,
        cursor=event_rows.newest_id(tx.session, membership.federation_id),
        failures=0,
        created_by=membership.principal.user_id,
        created_at=now,
    )
    rows.insert_channel(tx.session, channel)
    _record(tx, membership, "channel.created", channel)
    return wire.NewChannel(**view(channel).model_dump(), secret=channel.secret)


def list_all(
    tx: Tx, membership: Membership, *, before: UUID | None, limit: int
) -> Sequence[wire.Channel]:
    """Return the federation's channels without their secrets, newest first.

    Raises:
        ForbiddenError.
    """
    membership.require(Action.GOVERN)
    found = rows.list_channels(tx.session, membership.federation_id, before=before, limit=limit)
    return [view(channel) for channel in found]


def change(
    tx: Tx,
    membership: Membership,
    channel_id: UUID,
    request: wire.ChannelChange,
    *,
    outlets: Outlets,
    now: datetime,
) -> wire.Channel:
    """Change what `request` names. Enabled again, a channel goes on where it stopped.

    A delivery under way does not count any more: it comes again, as the channel is now.

    Raises:
        ForbiddenError, NotFoundError.
        InvalidRequestError: the target is not one that this hub sends to.
    """
    membership.require(Action.GOVERN)
    channel = _lock(tx, membership, channel_id)
    if request.target is not None:
        _require_target(ChannelKind(channel.kind), request.target, outlets)
        channel.target = request.target
    if request.events is not None:
        channel.events = list(request.events)
    if request.enabled is not None:
        channel.enabled = request.enabled
    if channel.enabled:
        channel.failures = 0
        channel.failing_since = None
        channel.next_at = None
        tx.send(DELIVER, channel.id)
    channel.lease_token = None
    channel.lease_expires_at = None
    _resolve(tx, channel, now=now)
    _record(tx, membership, "channel.changed", channel)
    return view(channel)


def remove(tx: Tx, membership: Membership, channel_id: UUID, *, now: datetime) -> None:
    """Forget a channel; what was not delivered stays in the events only.

    Raises:
        ForbiddenError, NotFoundError.
    """
    membership.require(Action.GOVERN)
    channel = _lock(tx, membership, channel_id)
    _resolve(tx, channel, now=now)
    _record(tx, membership, "channel.removed", channel)
    rows.delete_channel(tx.session, channel.id)


def destination(tx: Tx, membership: Membership, channel_id: UUID) -> Destination:
    """Return where to send a message that tries the channel.

    Raises:
        ForbiddenError, NotFoundError.
    """
    membership.require(Action.GOVERN)
    channel = rows.find_channel(tx.session, membership.federation_id, channel_id)
    if channel is None:
        raise _no_channel(membership, channel_id)
    return Destination(ChannelKind(channel.kind), channel.target, channel.secret)


def view(channel: Channel) -> wire.Channel:
    """Return the channel as its owners see it."""
    return wire.Channel(
        id=channel.id,
        kind=ChannelKind(channel.kind),
        target=channel.target,
        events=channel.events,
        enabled=channel.enabled,
        failures=channel.failures,
        failing_since=channel.failing_since,
        next_at=channel.next_at,
        last_error=channel.last_error,
        last_success_at=channel.last_success_at,
        created_at=channel.created_at,
    )


def _require_target(kind: ChannelKind, target: str, outlets: Outlets) -> None:
    if kind is ChannelKind.WEBHOOK:
        wrong = wrong_with_url(target, allow_private=outlets.webhook_allow_private)
    elif outlets.mail is None:
        wrong = "this hub cannot send e-mail: HANSA_SMTP_URL is not set"
    else:
        wrong = wrong_with_email(target)
    if wrong is not None:
        raise InvalidRequestError(
            f"no {kind} channel to {shown(kind, target)!r}: {wrong}",
            fields=(FieldProblem("target", wrong),),
        )


def _resolve(tx: Tx, channel: Channel, *, now: datetime) -> None:
    alerts.resolve(
        tx,
        AlertKind.CHANNEL_FAILING,
        federation_id=channel.federation_id,
        subject=str(channel.id),
        now=now,
    )


def _record(tx: Tx, membership: Membership, event: str, channel: Channel) -> None:
    tx.record(
        event,
        federation_id=channel.federation_id,
        channel_id=str(channel.id),
        channel=channel.kind,
        target=shown(ChannelKind(channel.kind), channel.target),
        enabled=channel.enabled,
        by=membership.principal.email,
    )


def _lock(tx: Tx, membership: Membership, channel_id: UUID) -> Channel:
    channel = rows.lock_channel(tx.session, membership.federation_id, channel_id)
    if channel is None:
        raise _no_channel(membership, channel_id)
    return channel


def _no_channel(membership: Membership, channel_id: UUID) -> NotFoundError:
    return NotFoundError(f"{membership.slug!r} has no channel {channel_id}")
