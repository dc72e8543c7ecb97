"""Noticing sites that a run leaves out again and again."""

from datetime import datetime

from app.db import alerts as alert_rows
from app.db import runs as rows
from app.db.models import Round, Run
from app.domain.alerts import AlertKind
from app.domain.cohorts import always_left_out
from app.services import alerts
from app.services.transactions import Tx
from hansa_core.states import RoundKind

WINDOW = 10  # training rounds


def watch_exclusions(tx: Tx, run: Run, row: Round, *, now: datetime) -> None:
    """Every WINDOW rounds, raise an alert for each site that none of them made use of.

    Left out is who was eligible and online but never drawn, whose answers always came too late,
    and who always failed. Who is offline or does not fit the plan has other alerts.
    """
    if row.kind != RoundKind.TRAIN or row.number % WINDOW:
        return
    tx.session.flush()
    held = rows.excluded_of_rounds(tx.session, run.id, after=row.number - WINDOW)
    left_out = {
        round_id: {item["site"] for item in excluded if item["drawn_against"]}
        for round_id, excluded in held
    }
    for round_id, name in rows.unused_sites(tx.session, list(left_out)):
        left_out[round_id].add(name)
    unheard = always_left_out(list(left_out.values()))
    sites = {site.name: site.id for site in rows.candidates(tx.session, run.federation_id)}
    for name in sorted(unheard & sites.keys()):
        alerts.raise_alert(
            tx,
            AlertKind.SITE_EXCLUDED,
            federation_id=run.federation_id,
            subject=_subject(run, name),
            message=f"none of the last {len(left_out)} rounds of run {run.name} made use of {name}",
            run_id=run.id,
            site_id=sites[name],
            now=now,
        )
    known = alert_rows.open_subjects(
        tx.session, run.federation_id, kind=AlertKind.SITE_EXCLUDED, run_id=run.id
    )
    for subject in known - {_subject(run, name) for name in unheard}:
        alerts.resolve(
            tx,
            AlertKind.SITE_EXCLUDED,
            federation_id=run.federation_id,
            subject=subject,
            now=now,
        )


def _subject(run: Run, site_name: str) -> str:
    return f"{site_name} in run {run.id}"
