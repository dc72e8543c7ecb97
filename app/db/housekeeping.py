"""Deletes of rows whose time is over, and time given back after an outage."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, literal, update
from sqlalchemy.orm import Session

from app.db.models import Roster, Round, Run, SecureRound, SiteChallenge, SiteToken, Task
from app.domain.secure import RosterState
from hansa_core.states import RoundState, TaskState


@dataclass(frozen=True, slots=True)
class ExtendedRound:
    """A round whose deadline was moved."""

    federation_id: UUID
    run_id: UUID
    number: int
    deadline_at: datetime


def delete_expired(session: Session, *, now: datetime) -> None:
    """Delete expired challenges and site tokens."""
    session.execute(delete(SiteChallenge).where(SiteChallenge.expires_at < now))
    session.execute(delete(SiteToken).where(SiteToken.expires_at < now))


def extend_rounds(session: Session, *, since: datetime, now: datetime) -> list[ExtendedRound]:
    """Move the deadlines of collecting rounds by what they lived of the time since `since`."""
    statement = (
        update(Round)
        .where(Round.state == RoundState.COLLECTING, Run.id == Round.run_id)
        .values(deadline_at=Round.deadline_at + (now - func.greatest(Round.created_at, since)))
        .returning(Run.federation_id, Run.id, Round.number, Round.deadline_at)
        .execution_options(synchronize_session=False)
    )
    return [ExtendedRound(*row) for row in session.execute(statement)]


def extend_polls(session: Session, *, since: datetime, now: datetime) -> None:
    """Move the ends of set-ups, signings and openings by what they lived of the time since."""
    session.execute(
        update(Roster)
        .where(
            Roster.state.in_((RosterState.GATHERING, RosterState.CONFIRMING)),
            Round.id == Roster.round_id,
            Round.state == RoundState.SETUP,
        )
        .values(expires_at=Roster.expires_at + (now - func.greatest(Roster.created_at, since)))
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(SecureRound)
        .where(
            Round.id == SecureRound.round_id,
            Round.state.in_((RoundState.SIGNING, RoundState.OPENING)),
        )
        .values(expires_at=SecureRound.expires_at + literal(now - since))
        .execution_options(synchronize_session=False)
    )


def extend_leases(
    session: Session, *, since: datetime, now: datetime, of_tasks: timedelta, of_rounds: timedelta
) -> None:
    """Give leases that were alive at `since` what was left of them then, counted from `now`.

    None becomes longer than a fresh one: some were renewed meanwhile.
    """
    gap = literal(now - since)
    for table, states, longest in (
        (Task, (TaskState.CLAIMED,), of_tasks),
        (Round, (RoundState.SIGNING, RoundState.AGGREGATING), of_rounds),
    ):
        moved = func.least(table.lease_expires_at + gap, now + longest)
        session.execute(
            update(table)
            .where(
                table.state.in_(states),
                table.lease_token.is_not(None),
                table.lease_expires_at > since,
            )
            .values(lease_expires_at=func.greatest(table.lease_expires_at, moved))
            .execution_options(synchronize_session=False)
        )
