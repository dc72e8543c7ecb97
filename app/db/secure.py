"""Rows of secure aggregation: rosters, duties and what secure rounds have beside others.

Locks are taken run first, then round, then roster and duty. A duty is answered with its round held
open for reading, as a task is: nobody decides about the round meanwhile.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, exists, func, select, update
from sqlalchemy.orm import Session

from app.db.models import (
    Artifact,
    Duty,
    Roster,
    Round,
    Run,
    SecureRound,
    Site,
    SiteKey,
    Task,
    Update,
    UpdatePart,
)
from app.domain.secure import DutyState, RosterState
from hansa_core.states import RoundState, RunState, SiteState
from hansa_core.wire import DutyKind

AT_WORK = (RosterState.GATHERING, RosterState.CONFIRMING)
COMMITTEE_WANTED = (RoundState.COLLECTING, RoundState.SIGNING, RoundState.OPENING)

# What every claim and every member's step asks is built once: that takes as long as to execute it.
_OWED = (
    Duty.site_id == bindparam("site_id"),
    Duty.state == DutyState.OPEN,
    Run.state == RunState.RUNNING,
)
_OPEN_DUTIES_COUNT = (
    select(func.count())
    .select_from(Duty)
    .join(Round, Round.id == Duty.round_id)
    .join(Run, Run.id == Round.run_id)
    .where(*_OWED)
)
_CONTEXT = (
    select(Duty, Roster, Round, Run)
    .join(Roster, Roster.id == Duty.roster_id)
    .join(Round, Round.id == Duty.round_id)
    .join(Run, Run.id == Round.run_id)
)
_OPEN_DUTIES = (
    _CONTEXT.join(Site, Site.id == Duty.site_id)
    .where(*_OWED, Site.state == SiteState.ACTIVE)
    .order_by(Duty.id)
    .limit(bindparam("most"))
)
_OWES_SETUP = select(
    exists().where(
        Duty.site_id == bindparam("site_id"),
        Round.id == Duty.round_id,
        Round.state == RoundState.SETUP,
        Run.id == Round.run_id,
        Run.state == RunState.RUNNING,
    )
)
_ROSTERS_AT_WORK = (
    select(Roster)
    .join(SecureRound, SecureRound.roster_id == Roster.id)
    .join(Round, Round.id == SecureRound.round_id)
    .join(Run, Run.id == Round.run_id)
    .where(
        Run.state == RunState.RUNNING,
        Round.state.in_(COMMITTEE_WANTED),
        exists().where(
            Duty.roster_id == Roster.id,
            Duty.site_id == bindparam("site_id"),
            Duty.kind == DutyKind.CONFIRM,
        ),
    )
    .distinct()
)
_ROUND_OF_DUTY = select(Duty.round_id).where(
    Duty.id == bindparam("duty_id"), Duty.site_id == bindparam("site_id")
)
_HELD_ROUND = select(Round.id).where(Round.id == bindparam("round_id")).with_for_update(read=True)
_LOCKED_DUTY = (
    _CONTEXT.where(Duty.id == bindparam("duty_id"))
    .with_for_update(of=Duty, key_share=True)
    .execution_options(populate_existing=True)
)
_SECURE_ROUND = (
    select(SecureRound)
    .where(SecureRound.round_id == bindparam("round_id"))
    .execution_options(populate_existing=True)
)


@dataclass(frozen=True, slots=True)
class DutyContext:
    """A duty with everything that it hangs from."""

    duty: Duty
    roster: Roster
    round: Round
    run: Run


@dataclass(frozen=True, slots=True)
class SiteDuty:
    """A duty with its site."""

    duty: Duty
    site: Site
    public_key: bytes | None  # that signed the answer
    in_force: bool  # the key still is the site's


@dataclass(frozen=True, slots=True)
class UploadedUpdate:
    """A masked update that counts in a round, with its seals."""

    site_id: UUID
    manifest: str
    digest: str
    size: int  # bytes
    seals: str  # digest
    seals_size: int  # bytes


def add_roster(session: Session, roster: Roster) -> None:
    session.add(roster)
    session.flush()


def last_version(session: Session, run_id: UUID) -> int:
    """Return the version of the run's newest roster, 0 where there is none."""
    query = select(func.coalesce(func.max(Roster.version), 0)).where(Roster.run_id == run_id)
    return session.execute(query).scalar_one()


def roster_in_force(session: Session, run_id: UUID) -> Roster | None:
    """Return the newest roster that all members have confirmed and no other has replaced."""
    query = select(Roster).where(Roster.run_id == run_id, Roster.state == RosterState.IN_FORCE)
    return session.scalars(query.order_by(Roster.version.desc()).limit(1)).one_or_none()


def roster_at_work(session: Session, round_id: UUID) -> Roster | None:
    """Return the roster that a round is setting up, locked."""
    query = select(Roster).where(Roster.round_id == round_id, Roster.state.in_(AT_WORK))
    return session.scalars(query.with_for_update(key_share=True)).one_or_none()


def newest_of_round(session: Session, round_id: UUID) -> Roster | None:
    """Return the newest roster that the round has set up, or tried to."""
    query = select(Roster).where(Roster.round_id == round_id)
    return session.scalars(query.order_by(Roster.version.desc()).limit(1)).one_or_none()


def find_roster(session: Session, federation_id: UUID, digest: str) -> Roster | None:
    query = select(Roster).where(Roster.federation_id == federation_id, Roster.digest == digest)
    return session.scalars(query.order_by(Roster.version).limit(1)).one_or_none()


def federation_of_roster(session: Session, digest: str) -> UUID | None:
    query = select(Roster.federation_id).where(Roster.digest == digest)
    return session.scalars(query.limit(1)).one_or_none()


def end_rosters(session: Session, run_id: UUID, *, but: UUID | None = None) -> None:
    """End all of the run's rosters, `but` one."""
    statement = update(Roster).where(Roster.run_id == run_id, Roster.state != RosterState.ENDED)
    if but is not None:
        statement = statement.where(Roster.id != but)
    session.execute(statement.values(state=RosterState.ENDED))


def end_setup(session: Session, round_id: UUID) -> None:
    """End the roster that a round was setting up."""
    statement = update(Roster).where(Roster.round_id == round_id, Roster.state.in_(AT_WORK))
    session.execute(statement.values(state=RosterState.ENDED))


def rounds_of_roster(session: Session, roster_id: UUID) -> int:
    """Return how many rounds the roster has served."""
    query = select(func.count()).where(SecureRound.roster_id == roster_id)
    return session.execute(query).scalar_one()


def add_duties(session: Session, duties: Sequence[Duty]) -> None:
    session.add_all(duties)
    session.flush()


def duties(session: Session, roster_id: UUID, round_id: UUID, kind: DutyKind) -> list[SiteDuty]:
    """Return a round's duties of one kind, with who answered, by site id."""
    query = (
        select(Duty, Site, SiteKey.public_key, SiteKey.retired_at)
        .join(Site, Site.id == Duty.site_id)
        .outerjoin(SiteKey, SiteKey.id == Duty.key_id)
        .where(Duty.roster_id == roster_id, Duty.round_id == round_id, Duty.kind == kind)
        .order_by(Duty.site_id)
        .execution_options(populate_existing=True)
    )
    return [
        SiteDuty(duty, site, key, in_force=key is not None and retired_at is None)
        for duty, site, key, retired_at in session.execute(query)
    ]


def lost_in_setup(session: Session, roster_id: UUID, *, after: int) -> dict[UUID, str]:
    """Return the sites that were asked into a roster in vain, and why.

    None once the round that set it up is `after` or before.
    """
    query = (
        select(Duty.site_id, Duty.state, Duty.reason)
        .join(Round, Round.id == Duty.round_id)
        .join(Roster, Roster.round_id == Round.id)
        .where(
            Roster.id == roster_id,
            Round.number > after,
            Duty.kind.in_((DutyKind.KEYS, DutyKind.CONFIRM)),
        )
        .distinct(Duty.site_id)
        .order_by(Duty.site_id, Duty.id.desc())
    )
    return {
        site_id: reason or "gave no reason"
        for site_id, state, reason in session.execute(query)
        if state in {DutyState.REFUSED, DutyState.CLOSED}
    }


def duties_of_round(session: Session, round_id: UUID) -> list[tuple[Duty, str]]:
    """Return all duties of a round, each with its site's name."""
    query = (
        select(Duty, Site.name)
        .join(Site, Site.id == Duty.site_id)
        .where(Duty.round_id == round_id)
        .order_by(Duty.id)
    )
    return [(duty, name) for duty, name in session.execute(query)]


def open_duties(session: Session, site_id: UUID, *, limit: int) -> list[DutyContext]:
    """Return what the site owes to running runs, oldest first."""
    owed = session.execute(_OPEN_DUTIES, {"site_id": site_id, "most": limit})
    return [DutyContext(*row) for row in owed]


def count_open_duties(session: Session, site_id: UUID) -> int:
    """Return how many duties the site owes to running runs."""
    return session.execute(_OPEN_DUTIES_COUNT, {"site_id": site_id}).scalar_one()


def owes_setup(session: Session, site_id: UUID) -> bool:
    """Tell whether a round that is being set up has asked the site."""
    return session.execute(_OWES_SETUP, {"site_id": site_id}).scalar_one()


def rosters_at_work(session: Session, site_id: UUID) -> Sequence[Roster]:
    """Return the rosters that the site is a member of and that an open round goes by."""
    return session.scalars(_ROSTERS_AT_WORK, {"site_id": site_id}).all()


def lock_duty(session: Session, duty_id: UUID, site_id: UUID) -> DutyContext | None:
    """Return the site's duty, locked; its round is decided about by nobody until the commit."""
    of_site = {"duty_id": duty_id, "site_id": site_id}
    round_id = session.scalars(_ROUND_OF_DUTY, of_site).one_or_none()
    if round_id is None:
        return None
    session.execute(_HELD_ROUND, {"round_id": round_id})
    row = session.execute(_LOCKED_DUTY, {"duty_id": duty_id}).one_or_none()
    return None if row is None else DutyContext(*row)


def close_duties(
    session: Session,
    round_id: UUID,
    *,
    reason: str,
    now: datetime,
    kind: DutyKind | None = None,
    sites: Collection[UUID] | None = None,
) -> None:
    """Wait no longer for the round's open duties: all, or those of a kind, or of some sites."""
    statement = update(Duty).where(Duty.round_id == round_id, Duty.state == DutyState.OPEN)
    if kind is not None:
        statement = statement.where(Duty.kind == kind)
    if sites is not None:
        statement = statement.where(Duty.site_id.in_(sites))
    session.execute(statement.values(state=DutyState.CLOSED, reason=reason, answered_at=now))


def rotated_sites(session: Session, roster_id: UUID) -> Sequence[UUID]:
    """Return the sites whose identity key was replaced since they made their keys for a roster."""
    query = (
        select(Duty.site_id)
        .join(SiteKey, SiteKey.id == Duty.key_id)
        .where(
            Duty.roster_id == roster_id,
            Duty.kind == DutyKind.KEYS,
            SiteKey.retired_at.is_not(None),
        )
    )
    return session.scalars(query).all()


def sites_owing(session: Session, round_id: UUID, states: Collection[SiteState]) -> Sequence[Site]:
    """Return the sites in one of these states that owe the round a duty."""
    owing = select(Duty.site_id).where(Duty.round_id == round_id, Duty.state == DutyState.OPEN)
    return session.scalars(select(Site).where(Site.id.in_(owing), Site.state.in_(states))).all()


def confirmations(session: Session, roster_id: UUID) -> Sequence[Duty]:
    """Return the confirmations of a roster, by site id."""
    query = select(Duty).where(
        Duty.roster_id == roster_id,
        Duty.kind == DutyKind.CONFIRM,
        Duty.state == DutyState.DONE,
    )
    return session.scalars(query.order_by(Duty.site_id)).all()


def find_secure_round(session: Session, round_id: UUID) -> SecureRound | None:
    """Return what a secure round has beside others; None: it is not secure, or not collecting."""
    return session.scalars(_SECURE_ROUND, {"round_id": round_id}).one_or_none()


def last_totals(session: Session, run_id: UUID) -> dict[str, Any] | None:
    """Return the totals of the run's last completed secure training round."""
    query = (
        select(SecureRound.totals)
        .join(Round, Round.id == SecureRound.round_id)
        .where(
            Round.run_id == run_id,
            Round.checkpoint_id.is_not(None),
            SecureRound.totals.is_not(None),
        )
    )
    return session.scalars(query.order_by(Round.number.desc()).limit(1)).one_or_none()


def site_names(session: Session, site_ids: Collection[UUID]) -> dict[UUID, str]:
    query = select(Site.id, Site.name).where(Site.id.in_(site_ids))
    return dict(session.execute(query).tuples().all())


def sites(session: Session, site_ids: Collection[UUID]) -> Sequence[Site]:
    """Return these sites, by name."""
    return session.scalars(select(Site).where(Site.id.in_(site_ids)).order_by(Site.name)).all()


def keys_in_force(session: Session, site_ids: Collection[UUID]) -> dict[UUID, bytes]:
    """Return each site's public key in force."""
    query = select(SiteKey.site_id, SiteKey.public_key).where(
        SiteKey.site_id.in_(site_ids), SiteKey.retired_at.is_(None)
    )
    return dict(session.execute(query).tuples().all())


def uploads(session: Session, round_id: UUID, part: str) -> list[UploadedUpdate]:
    """Return the masked updates that count in a round, with their part of that name."""
    seals = Artifact.__table__.alias("seals")
    query = (
        select(
            Update.site_id,
            Update.manifest,
            Update.digest,
            Artifact.size,
            UpdatePart.digest,
            seals.c.size,
        )
        .join(
            Artifact,
            (Artifact.federation_id == Update.federation_id) & (Artifact.digest == Update.digest),
        )
        .join(UpdatePart, (UpdatePart.update_id == Update.id) & (UpdatePart.name == part))
        .join(
            seals,
            (seals.c.federation_id == UpdatePart.federation_id)
            & (seals.c.digest == UpdatePart.digest),
        )
        .where(Update.round_id == round_id)
        .order_by(Update.site_id)
    )
    return [UploadedUpdate(*row) for row in session.execute(query)]


def tasks_of_sites(session: Session, round_id: UUID, site_ids: Collection[UUID]) -> Sequence[Task]:
    """Return the tasks of some of the round's sites, locked, evaluators' left out."""
    query = select(Task).where(
        Task.round_id == round_id, Task.site_id.in_(site_ids), ~Task.evaluator
    )
    return session.scalars(query.order_by(Task.id).with_for_update(key_share=True)).all()
