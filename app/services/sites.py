"""Sites as the people of a federation see and govern them, and their sign of life.

A change of state rings the site's topic, so that a waiting claim looks again at once, and sends
a worker to the federation's runs, whose cohorts it may complete.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from app.db import runs as run_rows
from app.db import sites as rows
from app.db.models import Site
from app.domain.cohorts import is_online
from app.domain.enrollment import require_legal
from app.domain.errors import IllegalTransitionError, NotFoundError
from app.domain.permissions import Action
from app.doorbell import STEP_RUN
from app.services import records
from app.services.principals import Membership
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.states import SiteState, TaskState

SEEN_NOTED_EVERY = timedelta(seconds=10)


class Change(StrEnum):
    """What people do with a site."""

    APPROVE = "approve"  # let a pending site in
    SUSPEND = "suspend"  # refuse it until it is reinstated
    REINSTATE = "reinstate"  # let a suspended site in again
    REVOKE = "revoke"  # refuse it for ever


@dataclass(frozen=True, slots=True)
class _Move:
    target: SiteState
    event: str
    only_from: SiteState | None  # None: from wherever the domain allows


_MOVES: Mapping[Change, _Move] = {
    Change.APPROVE: _Move(SiteState.ACTIVE, "site.approved", SiteState.PENDING),
    Change.SUSPEND: _Move(SiteState.SUSPENDED, "site.suspended", None),
    Change.REINSTATE: _Move(SiteState.ACTIVE, "site.reinstated", SiteState.SUSPENDED),
    Change.REVOKE: _Move(SiteState.REVOKED, "site.revoked", None),
}


@dataclass(frozen=True, slots=True)
class Presence:
    """By which clock, and for how long since it was seen, a site counts as online."""

    now: datetime
    online_for: timedelta

    @property
    def seen_since(self) -> datetime:
        """Since when a site was seen that counts as online."""
        return self.now - self.online_for


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sites are asked for."""

    states: Sequence[SiteState] = ()  # none: in any
    online: bool | None = None  # None: both
    named: str | None = None  # a part of the name, in whatever case


def list_all(
    tx: Tx,
    membership: Membership,
    presence: Presence,
    *,
    wanted: Wanted,
    with_record: bool,
    before: UUID | None,
    limit: int,
) -> Sequence[wire.Site]:
    """Return the federation's sites, newest first."""
    membership.require(Action.READ)
    found = rows.list_sites(
        tx.session,
        membership.federation_id,
        states=wanted.states,
        seen=wanted.online,
        seen_since=presence.seen_since,
        named=wanted.named,
        before=before,
        limit=limit,
    )
    ids = [site.id for site, _ in found]
    told = records.of_sites(tx, membership.federation_id, ids) if with_record else {}
    return [
        _view(site, fingerprint, presence, record=told.get(site.id)) for site, fingerprint in found
    ]


def get(tx: Tx, membership: Membership, site_id: UUID, presence: Presence) -> wire.Site:
    """Return one site with its record.

    Raises:
        ForbiddenError, NotFoundError.
    """
    membership.require(Action.READ)
    found = rows.find_site(tx.session, membership.federation_id, site_id)
    if found is None:
        raise _no_site(membership, site_id)
    site, fingerprint = found
    told = records.of_sites(tx, membership.federation_id, [site.id])
    return _view(site, fingerprint, presence, record=told[site.id])


def list_tasks(
    tx: Tx,
    membership: Membership,
    site_id: UUID,
    *,
    states: Sequence[TaskState],
    before: UUID | None,
    limit: int,
) -> list[wire.SiteTask]:
    """Return what the site was asked for, in these states if any, newest first.

    Raises:
        ForbiddenError, NotFoundError.
    """
    membership.require(Action.READ)
    if rows.find_site(tx.session, membership.federation_id, site_id) is None:
        raise _no_site(membership, site_id)
    return records.tasks_of_site(
        tx, membership.federation_id, site_id, states=states, before=before, limit=limit
    )


def change(
    tx: Tx,
    membership: Membership,
    site_id: UUID,
    change: Change,
    request: wire.SiteStateChange,
    presence: Presence,
) -> wire.Site:
    """Move a site to another state; one that is there already is left alone.

    Raises:
        ForbiddenError, NotFoundError.
        IllegalTransitionError: not possible from the state it is in.
    """
    membership.require(Action.ENROLL)
    site, fingerprint = _lock(tx, membership, site_id)
    move = _MOVES[change]
    current = SiteState(site.state)
    if current is move.target:
        return _view(site, fingerprint, presence)
    require_legal(current, move.target)
    if move.only_from is not None and current is not move.only_from:
        raise IllegalTransitionError(
            f"cannot {change} site {site.name!r}: it is {current}, only a {move.only_from} one can"
        )
    site.state = move.target
    if move.target is SiteState.ACTIVE:
        site.admitted_at = presence.now
    site.state_reason = None if move.target is SiteState.ACTIVE else request.reason or None
    tx.record(
        move.event,
        federation_id=site.federation_id,
        site_id=str(site.id),
        site=site.name,
        reason=request.reason or None,
        by=membership.principal.email,
    )
    tx.ring(site.id)
    wake_runs(tx, site.federation_id)
    return _view(site, fingerprint, presence)


def put_labels(
    tx: Tx, membership: Membership, site_id: UUID, request: wire.SiteLabels, presence: Presence
) -> wire.Site:
    """Replace a site's labels, by which runs choose their cohorts.

    Raises:
        ForbiddenError, NotFoundError.
    """
    membership.require(Action.ENROLL)
    site, fingerprint = _lock(tx, membership, site_id)
    if site.labels != request.labels:
        site.labels = dict(request.labels)
        tx.record(
            "site.labelled",
            federation_id=site.federation_id,
            site_id=str(site.id),
            site=site.name,
            labels=dict(request.labels),
            by=membership.principal.email,
        )
        wake_runs(tx, site.federation_id)
    return _view(site, fingerprint, presence)


def seen(
    tx: Tx,
    site_id: UUID,
    now: datetime,
    sdk_version: str,
    hardware: wire.Hardware | None,
    *,
    online_for: timedelta,
    policy: wire.SitePolicy | None = None,
) -> bool:
    """Note a sign of life, at most every 10 s; tell whether the site was offline before.

    Takes no lock unless there is something to write. Of concurrent calls one tells True.
    """
    previous = rows.last_seen(tx.session, site_id)
    if previous is not None and now - previous < SEEN_NOTED_EVERY:
        return False
    told: dict[str, Any] = {"last_seen_at": now}
    if sdk_version:
        told["sdk_version"] = sdk_version
    if hardware is not None:
        told["hardware"] = hardware.model_dump(mode="json")
    if policy is not None:
        told["policy"] = policy.model_dump(mode="json")
    was_first = rows.touch(tx.session, site_id, previous=previous, **told)
    return was_first and not is_online(previous, online_for, now)


def wake_runs(tx: Tx, federation_id: UUID) -> None:
    """Send a worker to every queued and running run of the federation."""
    for run_id in run_rows.alive_run_ids(tx.session, federation_id):
        tx.send(STEP_RUN, run_id)


def _lock(tx: Tx, membership: Membership, site_id: UUID) -> tuple[Site, str]:
    found = rows.lock_site(tx.session, membership.federation_id, site_id)
    if found is None:
        raise _no_site(membership, site_id)
    site, fingerprint = found
    return site, fingerprint


def _no_site(membership: Membership, site_id: UUID) -> NotFoundError:
    return NotFoundError(f"federation {membership.slug!r} has no site {site_id}")


def _view(
    site: Site, fingerprint: str, presence: Presence, *, record: wire.SiteRecord | None = None
) -> wire.Site:
    return wire.Site(
        id=site.id,
        federation_id=site.federation_id,
        name=site.name,
        state=SiteState(site.state),
        state_reason=site.state_reason,
        fingerprint=fingerprint,
        labels=site.labels,
        hardware=None if site.hardware is None else wire.Hardware.model_validate(site.hardware),
        sdk_version=site.sdk_version,
        policy=None if site.policy is None else wire.SitePolicy.model_validate(site.policy),
        online=is_online(site.last_seen_at, presence.online_for, presence.now),
        last_seen_at=site.last_seen_at,
        enrolled_at=site.enrolled_at,
        invitation_id=site.invitation_id,
        record=record,
    )
