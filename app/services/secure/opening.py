"""The committee opens a sum: a quorum has signed its survivors, a majority gives its shares."""

from datetime import datetime

from app.db import secure as rows
from app.db.models import Round, Run
from app.domain.rounds import Decision, require_legal
from app.domain.secure import Burnt, DutyState, decide_committee
from app.doorbell import AGGREGATE_ROUND
from app.services.secure.asking import close_barred, owe
from app.services.secure.committee import facts_of
from app.services.secure.groups import Bound, bound_of
from app.services.transactions import Tx
from hansa_core.secagg.messages import Opening, SurvivorSignature, parse
from hansa_core.signing import encode_base64
from hansa_core.states import RoundState, SiteState
from hansa_core.wire import DutyKind

ENOUGH = "enough of the committee have answered"


def begin(tx: Tx, run: Run, row: Round, bound: Bound, *, now: datetime) -> None:
    """Ask the committee for its shares: a quorum has signed."""
    require_legal(RoundState(row.state), RoundState.OPENING)
    row.state = RoundState.OPENING
    rows.close_duties(tx.session, row.id, reason=ENOUGH, now=now)
    bound.row.openings_wanted = bound.group.parameters.threshold
    committee = [bound.site_id(position) for position in bound.group.committee]
    owe(tx, row, bound.roster, DutyKind.OPEN, committee, now=now)
    tx.record(
        "round.opening",
        federation_id=run.federation_id,
        run_id=run.id,
        round_number=row.number,
        survivors=len(bound.survivors),
    )


def step(tx: Tx, run: Run, row: Round, *, now: datetime) -> Decision | None:
    """Do what is due while the committee opens; return how the round ends, if it does."""
    bound = bound_of(tx, row.id)
    assert bound is not None
    assert bound.row.openings_wanted is not None
    close_barred(tx, row, bound.roster, states=(SiteState.REVOKED,), now=now)
    facts = facts_of(tx, bound, DutyKind.OPEN, bound.row.openings_wanted)
    decided = decide_committee(facts, "openings", now=now)
    if isinstance(decided, Burnt):
        return Decision(RoundState.FAILED, decided.reason)
    if not decided:
        return None
    require_legal(RoundState(row.state), RoundState.AGGREGATING)
    row.state = RoundState.AGGREGATING
    row.lease_token, row.lease_expires_at, row.attempts = None, None, 0
    rows.close_duties(tx.session, row.id, reason=ENOUGH, now=now)
    tx.record(
        "round.aggregating",
        federation_id=run.federation_id,
        run_id=run.id,
        round_number=row.number,
    )
    tx.send(AGGREGATE_ROUND, row.id)
    return None


def ask_for_more(tx: Tx, row: Round, *, reason: str) -> Decision | None:
    """Ask the rest of the committee: of the shares that came, some are wrong.

    Return how the round ends where nobody is left who could be asked. The round is locked.
    """
    bound = bound_of(tx, row.id)
    assert bound is not None
    asked = rows.duties(tx.session, bound.roster.id, row.id, DutyKind.OPEN)
    done = sum(it.duty.state == DutyState.DONE for it in asked)
    left = [
        it
        for it in asked
        if it.duty.state == DutyState.CLOSED and it.site.state != SiteState.REVOKED
    ]
    if not left:
        return Decision(RoundState.FAILED, f"all of the committee answered, and yet {reason}")
    require_legal(RoundState(row.state), RoundState.OPENING)
    row.state = RoundState.OPENING
    row.lease_token, row.lease_expires_at, row.attempts = None, None, 0
    bound.row.openings_wanted = done + 1
    for it in left:
        it.duty.state = DutyState.OPEN
        it.duty.reason = None
        it.duty.answered_at = None
    tx.ring(*(it.site.id for it in left))
    return None


def signatures_of(tx: Tx, bound: Bound) -> list[SurvivorSignature]:
    """Return the committee's signatures of the survivors, by position."""
    made: list[SurvivorSignature] = []
    for it in rows.duties(tx.session, bound.roster.id, bound.row.round_id, DutyKind.SIGN):
        if it.duty.state == DutyState.DONE and it.duty.signature is not None:
            position = bound.group.roster.position(it.site.id)
            assert position is not None
            made.append(
                SurvivorSignature(member=position, signature=encode_base64(it.duty.signature))
            )
    return sorted(made, key=lambda it: it.member)


def openings_of(tx: Tx, bound: Bound) -> list[Opening]:
    """Return the openings that came, by position."""
    made = [
        parse(Opening, it.duty.message.encode())
        for it in rows.duties(tx.session, bound.roster.id, bound.row.round_id, DutyKind.OPEN)
        if it.duty.state == DutyState.DONE and it.duty.message is not None
    ]
    return sorted(made, key=lambda it: it.member)
