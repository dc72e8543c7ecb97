"""What the sweep does beside ringing: dropping what has expired, and forgiving outages.

While no sweep runs (the database, Redis, beat or every worker is away), sites cannot be heard or
nobody listens; that time is no site's fault and eats no deadline. The mark "sweep" says until
when all was well. Whoever finds it too old, a sweep or a step that comes before one, moves the
deadlines by the gap and sets the mark, in one transaction that locks the mark: each stretch of
time is given back once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from app.db import aggregations, marks
from app.db import housekeeping as rows
from app.services import idempotency
from app.services.transactions import Tx

MARK = "sweep"
OUTAGE = timedelta(seconds=60)  # without a sweep


@dataclass(frozen=True, slots=True)
class Leases:
    """How long fresh leases are."""

    of_tasks: timedelta
    of_rounds: timedelta  # a worker's, to aggregate


def drop_expired(tx: Tx, *, now: datetime) -> None:
    """Delete expired challenges, site tokens, remembered answers, parts of closed rounds."""
    rows.delete_expired(tx.session, now=now)
    aggregations.forget_closed(tx.session)
    idempotency.forget_old(tx, now=now)


def note_sweep(tx: Tx, *, now: datetime, leases: Leases) -> timedelta:
    """Say that a sweep runs; return the outage that it ended, usually none."""
    before = marks.advance(tx.session, MARK, now=now)
    gap = now - before
    if gap <= OUTAGE:
        return timedelta()
    for extended in rows.extend_rounds(tx.session, since=before, now=now):
        tx.record(
            "round.extended",
            federation_id=extended.federation_id,
            run_id=extended.run_id,
            round_number=extended.number,
            seconds=round(gap.total_seconds(), 3),
            deadline_at=extended.deadline_at.isoformat(),
            reason="the hub was not at work for that long",
        )
    rows.extend_polls(tx.session, since=before, now=now)
    rows.extend_leases(
        tx.session,
        since=before,
        now=now,
        of_tasks=leases.of_tasks,
        of_rounds=leases.of_rounds,
    )
    return gap


def forgive_outage(tx: Tx, *, now: datetime, leases: Leases) -> datetime | None:
    """Do what the next sweep would do about an outage, before a decision that cannot wait.

    A message may be older than the outage and come before the sweep that ends it. Returns until
    when all was well then: until OUTAGE later, `is_well` needs no other look.
    """
    before = marks.last(tx.session, MARK)
    if before is not None and now - before > OUTAGE:
        note_sweep(tx, now=now, leases=leases)
        return now
    return before


def is_well(until: datetime | None, *, now: datetime) -> bool:
    """Tell whether there is no outage, from a mark seen before: a mark never goes back."""
    return until is not None and now - until <= OUTAGE
