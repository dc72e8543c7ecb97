"""How far a secure round is, for people."""

from collections.abc import Sequence

from app.db import secure as rows
from app.db.models import Duty, Round
from app.domain.secure import DutyState
from app.services.secure.groups import bound_of
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.states import RoundState
from hansa_core.wire import DutyKind


def show(tx: Tx, row: Round) -> wire.SecureRound | None:
    """Return how far a round is with what is secure about it; None: nothing is."""
    bound = bound_of(tx, row.id)
    told = rows.duties_of_round(tx.session, row.id)
    if bound is None and not told:
        return None
    waiting = sorted({name for duty, name in told if duty.state == DutyState.OPEN})
    refusals = {name: duty.reason or "" for duty, name in told if duty.state == DutyState.REFUSED}
    if bound is None:
        roster = rows.newest_of_round(tx.session, row.id)
        assert roster is not None
        return wire.SecureRound(
            roster=None,
            roster_version=roster.version,
            members=len({duty.site_id for duty, _ in told if duty.roster_id == roster.id}),
            participants=0,
            survivors=None,
            signatures=0,
            quorum=0,
            openings=0,
            threshold=0,
            waiting_for=waiting,
            refusals=refusals,
            transcript=None,
            expires_at=roster.expires_at if row.state == RoundState.SETUP else None,
        )
    duties = [duty for duty, _ in told]
    polled = row.state in {RoundState.SIGNING, RoundState.OPENING}
    return wire.SecureRound(
        roster=bound.group.digest,
        roster_version=bound.roster.version,
        members=len(bound.group.roster.members),
        participants=len(bound.header.participants),
        survivors=None if bound.row.survivors is None else len(bound.survivors),
        signatures=_done(duties, DutyKind.SIGN),
        quorum=bound.group.parameters.quorum,
        openings=_done(duties, DutyKind.OPEN),
        threshold=bound.row.openings_wanted or bound.group.parameters.threshold,
        waiting_for=waiting,
        refusals=refusals,
        transcript=bound.row.transcript,
        expires_at=bound.row.expires_at if polled else None,
    )


def _done(duties: Sequence[Duty], kind: DutyKind) -> int:
    return sum(duty.kind == kind and duty.state == DutyState.DONE for duty in duties)
