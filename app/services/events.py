"""The events of a federation, read by those who resume by the last id they have seen."""

from dataclasses import dataclass
from uuid import UUID

from app.db import events as rows
from app.db.models import Event
from app.domain.permissions import Action
from app.services.principals import Membership
from app.services.transactions import Tx
from hansa_core import wire


@dataclass(frozen=True, slots=True)
class News:
    """What a follower has not seen yet."""

    events: list[wire.Event]  # oldest first
    last_id: int  # nothing up to it is left to be seen
    more: bool  # there was not room for all


def list_events(
    tx: Tx, membership: Membership, *, after: int, run_id: UUID | None, limit: int
) -> list[wire.Event]:
    """Return the federation's oldest events after the id `after`.

    Raises:
        ForbiddenError.
    """
    membership.require(Action.READ)
    found = rows.after(
        tx.session, membership.federation_id, last_id=after, run_id=run_id, limit=limit
    )
    return [view_event(event) for event in found]


def list_newest(
    tx: Tx, membership: Membership, *, before: int | None, run_id: UUID | None, limit: int
) -> list[wire.Event]:
    """Return the federation's newest events below the id `before`, newest first.

    Raises:
        ForbiddenError.
    """
    membership.require(Action.READ)
    found = rows.newest(
        tx.session, membership.federation_id, before=before, run_id=run_id, limit=limit
    )
    return [view_event(event) for event in found]


def news(
    tx: Tx, membership: Membership, *, after: int | None, run_id: UUID | None, limit: int
) -> News:
    """Return what happened after the id `after`; None: nothing, from now on.

    Raises:
        ForbiddenError.
    """
    membership.require(Action.READ)
    # First: of the events up to the newest, none comes later. It also passes other runs' events.
    newest = rows.newest_id(tx.session, membership.federation_id)
    if after is None or newest <= after:
        return News([], newest if after is None else after, more=False)
    found = list_events(tx, membership, after=after, run_id=run_id, limit=limit)
    if len(found) == limit:
        return News(found, found[-1].id, more=True)
    return News(found, max([newest, *(event.id for event in found)]), more=False)


def view_event(event: Event) -> wire.Event:
    """Return the event as it is told."""
    return wire.Event(
        id=event.id, kind=event.kind, run_id=event.run_id, at=event.at, data=event.data
    )
