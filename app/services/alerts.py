"""Alerts: raised where something is noticed, seen and acknowledged by the federation's people.

`raise_alert` and `resolve` are one line each where they are called, in the caller's transaction;
both say in an event what they changed, and wake the federation's channels.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.db import alerts as rows
from app.db import channels as channel_rows
from app.db.models import Alert
from app.domain.alerts import TRAITS, AlertKind, Severity
from app.domain.errors import NotFoundError
from app.domain.ids import new_id
from app.domain.permissions import Action
from app.doorbell import DELIVER
from app.services.principals import Membership
from app.services.transactions import Tx
from hansa_core import wire


def raise_alert(
    tx: Tx,
    kind: AlertKind,
    *,
    federation_id: UUID,
    subject: str,
    message: str,
    now: datetime,
    severity: Severity | None = None,
    run_id: UUID | None = None,
    site_id: UUID | None = None,
) -> None:
    """Open an alert; one that is open counts up and takes the new message, without an event."""
    alert, is_new = rows.upsert(
        tx.session,
        id=new_id(),
        federation_id=federation_id,
        kind=kind,
        subject=subject,
        severity=severity or TRAITS[kind].severity,
        message=message,
        run_id=run_id,
        site_id=site_id,
        raised_at=now,
        last_at=now,
    )
    if is_new:
        _record(tx, "alert.raised", alert)


def resolve(tx: Tx, kind: AlertKind, *, federation_id: UUID, subject: str, now: datetime) -> bool:
    """Close the open alert of this kind and subject; tell whether there was one."""
    alert = rows.resolve(tx.session, federation_id, kind=kind, subject=subject, now=now)
    if alert is not None:
        _record(tx, "alert.resolved", alert)
    return alert is not None


def list_all(
    tx: Tx, membership: Membership, *, is_open: bool | None, before: UUID | None, limit: int
) -> Sequence[wire.Alert]:
    """Return the federation's alerts, newest first; `is_open` None: both kinds.

    Raises:
        ForbiddenError.
    """
    membership.require(Action.READ)
    found = rows.list_alerts(
        tx.session, membership.federation_id, is_open=is_open, before=before, limit=limit
    )
    return [_view(alert, email) for alert, email in found]


def acknowledge(tx: Tx, membership: Membership, alert_id: UUID, *, now: datetime) -> wire.Alert:
    """Note who looks after an alert; one about something that happened is resolved by that.

    Again is no error, and the first one stays noted.

    Raises:
        ForbiddenError, NotFoundError.
    """
    membership.require(Action.READ)
    alert = rows.lock_alert(tx.session, membership.federation_id, alert_id)
    if alert is None:
        raise NotFoundError(f"{membership.slug!r} has no alert {alert_id}")
    traits = TRAITS[AlertKind(alert.kind)]
    membership.require(traits.action)
    if alert.acknowledged_at is None:
        alert.acknowledged_at = now
        alert.acknowledged_by = membership.principal.user_id
        _record(tx, "alert.acknowledged", alert, by=membership.principal.email)
        if not traits.lasts and alert.resolved_at is None:
            alert.resolved_at = now
            _record(tx, "alert.resolved", alert)
    assert alert.acknowledged_by is not None
    return _view(alert, rows.email_of(tx.session, alert.acknowledged_by))


def _record(tx: Tx, event: str, alert: Alert, **more: str) -> None:
    tx.record(
        event,
        federation_id=alert.federation_id,
        run_id=alert.run_id,
        alert_id=str(alert.id),
        alert=alert.kind,
        subject=alert.subject,
        severity=alert.severity,
        message=alert.message,
        site_id=None if alert.site_id is None else str(alert.site_id),
        **more,
    )
    for channel_id in channel_rows.enabled_ids(tx.session, alert.federation_id):
        tx.send(DELIVER, channel_id)


def _view(alert: Alert, acknowledged_by: str | None) -> wire.Alert:
    return wire.Alert(
        id=alert.id,
        kind=alert.kind,
        subject=alert.subject,
        severity=alert.severity,
        message=alert.message,
        run_id=alert.run_id,
        site_id=alert.site_id,
        count=alert.count,
        raised_at=alert.raised_at,
        last_at=alert.last_at,
        resolved_at=alert.resolved_at,
        acknowledged_at=alert.acknowledged_at,
        acknowledged_by=acknowledged_by,
    )
