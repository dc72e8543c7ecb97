"""Federations at a glance: how many sites, runs and alerts, and when anything last happened."""

from collections.abc import Sequence
from uuid import UUID

from app.db import overviews as rows
from app.domain.alerts import Severity
from app.services import federations
from app.services.principals import Membership, Principal
from app.services.sites import Presence
from app.services.transactions import Tx
from hansa_core import wire

_RISING = list(Severity)  # from the least to the worst


def list_mine(
    tx: Tx, principal: Principal, presence: Presence, *, before: UUID | None, limit: int
) -> Sequence[wire.Overview]:
    """Return the principal's federations at a glance, all of them for an admin, newest first.

    Raises:
        ForbiddenError.
    """
    found = federations.list_mine(tx, principal, before=before, limit=limit)
    return _overviews(tx, found, presence)


def get(tx: Tx, membership: Membership, presence: Presence) -> wire.Overview:
    """Return the federation at a glance.

    Raises:
        ForbiddenError.
    """
    [overview] = _overviews(tx, [federations.get(tx, membership)], presence)
    return overview


def _overviews(tx: Tx, found: Sequence[wire.Federation], presence: Presence) -> list[wire.Overview]:
    ids = [federation.id for federation in found]
    sites = rows.count_sites(tx.session, ids, seen_since=presence.seen_since)
    runs = rows.count_runs(tx.session, ids)
    alerts = rows.count_open_alerts(tx.session, ids)
    events = rows.last_events(tx.session, ids)
    overviews: list[wire.Overview] = []
    for federation in found:
        states, completed = runs.get(federation.id, ({}, 0))
        severities = alerts.get(federation.id, {})
        overviews.append(
            wire.Overview(
                federation=federation,
                sites=wire.SiteCounts.model_validate(sites.get(federation.id, {})),
                runs=wire.RunCounts.model_validate(states),
                open_alerts=sum(severities.values()),
                worst_alert=max(map(Severity, severities), key=_RISING.index, default=None),
                rounds_completed=completed,
                last_event_at=events.get(federation.id),
            )
        )
    return overviews
