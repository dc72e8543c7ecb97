"""What the sweeps look for and no request would notice: sites gone silent, runs that wait, disks.

Each function reads what changed since the last look, so that looking again changes nothing.
"""

from datetime import datetime, timedelta

from app.db import alerts as rows
from app.domain.alerts import AlertKind, is_nearly_full, missed_after
from app.services import alerts
from app.services.transactions import Tx
from app.storage import Capacity

WATCH_LIMIT = 500  # rows of one look; the rest wait for the next one


def watch_sites(tx: Tx, *, now: datetime, online_for: timedelta) -> None:
    """Say which active sites have gone silent, and which are back."""
    cutoff = now - missed_after(online_for)
    kind = AlertKind.SITE_OFFLINE
    for site in rows.missing_sites(tx.session, kind=kind, cutoff=cutoff, limit=WATCH_LIMIT):
        seen = site.last_seen_at
        tx.record(
            "site.offline",
            federation_id=site.federation_id,
            site_id=str(site.id),
            site=site.name,
            last_seen_at=None if seen is None else seen.isoformat(),
        )
        since = "has not asked for work yet" if seen is None else f"was last seen at {seen:%F %T}"
        alerts.raise_alert(
            tx,
            kind,
            federation_id=site.federation_id,
            subject=site.name,
            message=f"site {site.name} {since}",
            site_id=site.id,
            now=now,
        )
    for alert, site in rows.found_sites(tx.session, kind=kind, cutoff=cutoff, limit=WATCH_LIMIT):
        if site.last_seen_at is not None and site.last_seen_at >= cutoff:
            tx.record(
                "site.online",
                federation_id=site.federation_id,
                site_id=str(site.id),
                site=site.name,
            )
        alerts.resolve(tx, kind, federation_id=alert.federation_id, subject=alert.subject, now=now)


def watch_runs(tx: Tx, *, now: datetime, waiting_for: timedelta) -> None:
    """Say which runs have waited long for sites, and which go on."""
    kind = AlertKind.RUN_WAITING
    for run in rows.waiting_runs(
        tx.session, kind=kind, now=now, waited=waiting_for, limit=WATCH_LIMIT
    ):
        minutes = waiting_for.total_seconds() / 60
        alerts.raise_alert(
            tx,
            kind,
            federation_id=run.federation_id,
            subject=str(run.id),
            message=f"run {run.name} has waited for {minutes:g} minutes: {run.state_reason}",
            run_id=run.id,
            now=now,
        )
    for alert in rows.moving_runs(tx.session, kind=kind, limit=WATCH_LIMIT):
        alerts.resolve(tx, kind, federation_id=alert.federation_id, subject=alert.subject, now=now)


def note_store(
    tx: Tx,
    *,
    now: datetime,
    unavailable: str | None = None,
    full: str | None = None,
    capacity: Capacity | None = None,
) -> None:
    """Tell every federation what is wrong with the artifact store; None: nothing, or unknown."""
    _note(tx, AlertKind.STORE_UNAVAILABLE, unavailable, now=now)
    if unavailable is not None:
        return  # what is not reached may still be nearly full
    kind = AlertKind.STORE_NEARLY_FULL
    if full is None and capacity is not None:
        was = bool(rows.federations_by_alert(tx.session, kind=kind, is_open=True))
        if is_nearly_full(free=capacity.free, total=capacity.total, was=was):
            full = (
                f"the artifact store has {capacity.free / 2**30:.1f} of "
                f"{capacity.total / 2**30:.1f} GiB left; add space, or keep less"
            )
    _note(tx, kind, full, now=now)


def _note(tx: Tx, kind: AlertKind, message: str | None, *, now: datetime) -> None:
    if message is None:
        for federation_id in rows.federations_by_alert(tx.session, kind=kind, is_open=True):
            alerts.resolve(tx, kind, federation_id=federation_id, subject="store", now=now)
        return
    for federation_id in rows.federations_by_alert(tx.session, kind=kind, is_open=False):
        alerts.raise_alert(
            tx, kind, federation_id=federation_id, subject="store", message=message, now=now
        )
