"""What federations are shown by: sites, runs and alerts counted, a query for a whole page of them.

Whoever calls has found the federations by what the person may read.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, true
from sqlalchemy.orm import Session

from app.db.models import Alert, Event, Federation, Run, Site
from hansa_core.states import SiteState


def count_sites(
    session: Session, federation_ids: Sequence[UUID], *, seen_since: datetime
) -> dict[UUID, dict[str, int]]:
    """Return each federation's sites by state; under "online" the active ones seen since then."""
    online = func.count().filter(Site.state == SiteState.ACTIVE, Site.last_seen_at >= seen_since)
    query = (
        select(Site.federation_id, Site.state, func.count(), online)
        .where(Site.federation_id.in_(federation_ids))
        .group_by(Site.federation_id, Site.state)
    )
    counts: dict[UUID, dict[str, int]] = {}
    for federation_id, state, number, present in session.execute(query):
        told = counts.setdefault(federation_id, {"online": 0})
        told[state] = number
        told["online"] += present
    return counts


def count_runs(
    session: Session, federation_ids: Sequence[UUID]
) -> dict[UUID, tuple[dict[str, int], int]]:
    """Return each federation's (runs by state, training rounds completed in all of them)."""
    query = (
        select(Run.federation_id, Run.state, func.count(), func.sum(Run.rounds_completed))
        .where(Run.federation_id.in_(federation_ids))
        .group_by(Run.federation_id, Run.state)
    )
    counts: dict[UUID, tuple[dict[str, int], int]] = {}
    for federation_id, state, number, rounds in session.execute(query):
        states, completed = counts.get(federation_id, ({}, 0))
        counts[federation_id] = ({**states, state: number}, completed + rounds)
    return counts


def count_open_alerts(
    session: Session, federation_ids: Sequence[UUID]
) -> dict[UUID, dict[str, int]]:
    """Return each federation's open alerts by severity."""
    query = (
        select(Alert.federation_id, Alert.severity, func.count())
        .where(Alert.federation_id.in_(federation_ids), Alert.resolved_at.is_(None))
        .group_by(Alert.federation_id, Alert.severity)
    )
    counts: dict[UUID, dict[str, int]] = {}
    for federation_id, severity, number in session.execute(query):
        counts.setdefault(federation_id, {})[severity] = number
    return counts


def last_events(session: Session, federation_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Return when the newest event of each federation was; one look in the index for each."""
    newest = (
        select(Event.at)
        .where(Event.federation_id == Federation.id)
        .order_by(Event.id.desc())
        .limit(1)
        .lateral()
    )
    query = (
        select(Federation.id, newest.c.at)
        .join(newest, true())
        .where(Federation.id.in_(federation_ids))
    )
    return dict(session.execute(query).tuples().all())
