"""Webhooks and e-mail addresses that a federation's events are sent to. For owners."""

from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Request, status

from app.api.dependencies import Access, IdempotencyKey, Now, PageParams, TransactionsDep
from app.api.pagination import page_of
from app.api.problems import problems
from app.domain.errors import (
    ForbiddenError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
    SecretAlreadyShownError,
)
from app.senders.errors import DeliveryError
from app.senders.outgoing import Outlets, send
from app.services import channels, deliveries
from app.services.idempotency import once, once_secret
from hansa_core import wire
from hansa_core.wire import ChannelKind

router = APIRouter(prefix="/v1/federations/{federation}/channels", tags=["channels"])


async def _outlets(request: Request) -> Outlets:
    return request.app.state.outlets


OutletsDep = Annotated[Outlets, Depends(_outlets)]


@router.get(
    "",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError, InvalidRequestError),
)
def list_channels(
    access: Access, transactions: TransactionsDep, page: PageParams
) -> wire.Page[wire.Channel]:
    """Return the federation's channels, newest first, without their secrets."""
    with transactions.reading() as tx:
        found = channels.list_all(tx, access, before=page.id(), limit=page.fetch)
    return page_of(found, page.limit, lambda channel: channel.id)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=problems(
        NotAuthenticatedError,
        ForbiddenError,
        NotFoundError,
        InvalidRequestError,
        IdempotencyKeyReusedError,
        SecretAlreadyShownError,
    ),
)
def create_channel(
    request: wire.ChannelCreate,
    access: Access,
    transactions: TransactionsDep,
    outlets: OutletsDep,
    claim: IdempotencyKey,
    now: Now,
) -> wire.NewChannel:
    """Make a channel for what happens from now on; a webhook's secret is in this answer only."""
    with transactions.begin("create_channel", by=access.actor) as tx:

        def make() -> wire.NewChannel:
            return channels.create(tx, access, request, outlets=outlets, now=now)

        if request.kind is ChannelKind.WEBHOOK:
            return once_secret(tx, claim, make)
        return once(tx, claim, wire.NewChannel, make)


@router.patch(
    "/{channel_id}",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError, InvalidRequestError),
)
def change_channel(
    channel_id: UUID,
    request: wire.ChannelChange,
    access: Access,
    transactions: TransactionsDep,
    outlets: OutletsDep,
    now: Now,
) -> wire.Channel:
    """Change a channel. Enabled again, it goes on with the event at which it stopped."""
    with transactions.begin("change_channel", by=access.actor) as tx:
        return channels.change(tx, access, channel_id, request, outlets=outlets, now=now)


@router.delete(
    "/{channel_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError),
)
def remove_channel(
    channel_id: UUID, access: Access, transactions: TransactionsDep, now: Now
) -> None:
    """Remove a channel; nothing more is sent to it."""
    with transactions.begin("remove_channel", by=access.actor) as tx:
        channels.remove(tx, access, channel_id, now=now)


@router.post(
    "/{channel_id}/test",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError),
)
def try_channel(
    channel_id: UUID,
    access: Access,
    transactions: TransactionsDep,
    outlets: OutletsDep,
    now: Now,
) -> wire.ChannelTest:
    """Send a message of the kind `channel.tested` at once, and tell what became of it."""
    with transactions.reading() as tx:
        destination = channels.destination(tx, access, channel_id)
    by = access.principal.email
    message = deliveries.trial(access.federation_id, access.slug, by=by, now=now)
    try:
        send(outlets, destination, [message], message_id=f"test_{uuid4().hex}", now=now)
    except DeliveryError as error:
        return wire.ChannelTest(delivered=False, error=str(error))
    return wire.ChannelTest(delivered=True, error=None)
