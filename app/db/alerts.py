"""Rows of alerts, and of what deserves one. A federation has one open alert of a kind and subject.

What is watched is read without a lock and may be over a moment later; the next look notices.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import Alert, Event, Federation, Round, Run, Site, User
from app.db.runs import ALIVE, OPEN_ROUNDS
from hansa_core.states import SiteState


def upsert(session: Session, **columns: Any) -> tuple[Alert, bool]:  # noqa: ANN401 -- column values
    """Return the open alert of this kind and subject, counted up or made; tell which: True is made.

    Message and severity become the newest ones.
    """
    new = insert(Alert).values(count=1, **columns)
    statement = new.on_conflict_do_update(
        index_elements=[Alert.federation_id, Alert.kind, Alert.subject],
        index_where=Alert.resolved_at.is_(None),
        set_={
            "count": Alert.count + 1,
            "last_at": new.excluded.last_at,
            "message": new.excluded.message,
            "severity": new.excluded.severity,
        },
    ).returning(Alert)
    alert = session.scalars(statement, execution_options={"populate_existing": True}).one()
    return alert, alert.count == 1


def resolve(
    session: Session, federation_id: UUID, *, kind: str, subject: str, now: datetime
) -> Alert | None:
    """Close the open alert of this kind and subject; None: there is none."""
    statement = (
        update(Alert)
        .where(
            Alert.federation_id == federation_id,
            Alert.kind == kind,
            Alert.subject == subject,
            Alert.resolved_at.is_(None),
        )
        .values(resolved_at=now)
        .returning(Alert)
    )
    return session.scalars(statement, execution_options={"populate_existing": True}).one_or_none()


def lock_alert(session: Session, federation_id: UUID, alert_id: UUID) -> Alert | None:
    query = select(Alert).where(Alert.id == alert_id, Alert.federation_id == federation_id)
    return session.scalars(query.with_for_update(key_share=True)).one_or_none()


def list_alerts(
    session: Session, federation_id: UUID, *, is_open: bool | None, before: UUID | None, limit: int
) -> list[tuple[Alert, str | None]]:
    """Return alerts with the address of who acknowledged them, newest first."""
    query = (
        select(Alert, User.email)
        .outerjoin(User, User.id == Alert.acknowledged_by)
        .where(Alert.federation_id == federation_id)
    )
    if is_open is not None:
        closed = Alert.resolved_at.is_not(None)
        query = query.where(~closed if is_open else closed)
    if before is not None:
        query = query.where(Alert.id < before)
    found = session.execute(query.order_by(Alert.id.desc()).limit(limit))
    return [(alert, email) for alert, email in found]


def missing_sites(session: Session, *, kind: str, cutoff: datetime, limit: int) -> Sequence[Site]:
    """Return active sites without a sign of life, or admitted, since `cutoff` and no open alert."""
    heard = func.greatest(Site.last_seen_at, Site.admitted_at, Site.enrolled_at)
    reported = exists().where(
        Alert.federation_id == Site.federation_id,
        Alert.kind == kind,
        Alert.subject == Site.name,
        Alert.resolved_at.is_(None),
    )
    query = select(Site).where(Site.state == SiteState.ACTIVE, heard < cutoff, ~reported)
    return session.scalars(query.order_by(Site.federation_id, Site.name).limit(limit)).all()


def found_sites(
    session: Session, *, kind: str, cutoff: datetime, limit: int
) -> Sequence[Row[tuple[Alert, Site]]]:
    """Return open alerts about sites that have been seen since `cutoff` or are not active."""
    query = (
        select(Alert, Site)
        .join(Site, Site.id == Alert.site_id)
        .where(
            Alert.kind == kind,
            Alert.resolved_at.is_(None),
            (Site.state != SiteState.ACTIVE) | (Site.last_seen_at >= cutoff),
        )
        .order_by(Alert.federation_id, Alert.subject)
        .limit(limit)
    )
    return session.execute(query).all()


def waiting_runs(
    session: Session, *, kind: str, now: datetime, waited: timedelta, limit: int
) -> Sequence[Run]:
    """Return alive runs without an open round that nothing has happened to for so long.

    Those with an open alert are left out.
    """
    open_round = exists().where(Round.run_id == Run.id, Round.state.in_(OPEN_ROUNDS))
    reported = exists().where(
        Alert.federation_id == Run.federation_id,
        Alert.run_id == Run.id,
        Alert.kind == kind,
        Alert.resolved_at.is_(None),
    )
    last_event = (
        select(Event.at)
        .where(Event.federation_id == Run.federation_id, Event.run_id == Run.id)
        .order_by(Event.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    cutoff = now - waited
    query = select(Run).where(
        Run.state.in_(ALIVE),
        Run.created_at < cutoff,
        Run.state_reason.is_not(None),
        ~open_round,
        ~reported,
        last_event < cutoff,
    )
    return session.scalars(query.order_by(Run.federation_id, Run.id).limit(limit)).all()


def moving_runs(session: Session, *, kind: str, limit: int) -> Sequence[Alert]:
    """Return open alerts about runs that have a round again, or do not wait for one any more."""
    open_round = exists().where(Round.run_id == Run.id, Round.state.in_(OPEN_ROUNDS))
    query = (
        select(Alert)
        .join(Run, Run.id == Alert.run_id)
        .where(
            Alert.kind == kind,
            Alert.resolved_at.is_(None),
            Run.state.not_in(ALIVE) | open_round,
        )
        .order_by(Alert.federation_id, Alert.subject)
        .limit(limit)
    )
    return session.scalars(query).all()


def federations_by_alert(session: Session, *, kind: str, is_open: bool) -> Sequence[UUID]:
    """Return the federations that have, or have not, an open alert of a kind."""
    reported = exists().where(
        Alert.federation_id == Federation.id, Alert.kind == kind, Alert.resolved_at.is_(None)
    )
    query = select(Federation.id).where(reported if is_open else ~reported)
    return session.scalars(query.order_by(Federation.id)).all()


def email_of(session: Session, user_id: UUID) -> str:
    return session.execute(select(User.email).where(User.id == user_id)).scalar_one()


def open_subjects(session: Session, federation_id: UUID, *, kind: str, run_id: UUID) -> set[str]:
    """Return what the run's open alerts of that kind are about."""
    query = select(Alert.subject).where(
        Alert.federation_id == federation_id,
        Alert.kind == kind,
        Alert.run_id == run_id,
        Alert.resolved_at.is_(None),
    )
    return set(session.scalars(query))
