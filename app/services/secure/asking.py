"""Asking sites for duties, and asking no more."""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import UUID

from app.db import secure as rows
from app.db.models import Duty, Roster, Round
from app.domain.ids import new_id
from app.domain.secure import DutyState
from app.services.transactions import Tx
from hansa_core.states import SiteState
from hansa_core.wire import DutyKind

ROTATED = "its identity key was replaced since it made its keys for the roster"


def owe(
    tx: Tx,
    row: Round,
    roster: Roster,
    kind: DutyKind,
    site_ids: Iterable[UUID],
    *,
    now: datetime,
) -> None:
    """Ask each of the sites for a duty."""
    asked = list(site_ids)
    rows.add_duties(
        tx.session,
        [
            Duty(
                id=new_id(),
                round_id=row.id,
                roster_id=roster.id,
                site_id=site_id,
                kind=kind,
                state=DutyState.OPEN,
                created_at=now,
            )
            for site_id in asked
        ],
    )
    tx.ring(*asked)


def close_barred(
    tx: Tx, row: Round, roster: Roster, *, states: Collection[SiteState], now: datetime
) -> None:
    """Wait no longer for sites in one of these states, nor for those that the roster misnames.

    A site that has another identity key by now can sign nothing that the others would believe.
    """
    tx.session.flush()
    for site in rows.sites_owing(tx.session, row.id, states):
        because = f": {site.state_reason}" if site.state_reason else ""
        reason = f"the site was {site.state}{because}"
        rows.close_duties(tx.session, row.id, reason=reason, now=now, sites=[site.id])
    rotated = rows.rotated_sites(tx.session, roster.id)
    if rotated:
        rows.close_duties(tx.session, row.id, reason=ROTATED, now=now, sites=rotated)
