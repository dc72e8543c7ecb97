"""How far a round's committee is with what it owes."""

from app.db import secure as rows
from app.domain.secure import CommitteeFacts, DutyState
from app.services.secure.groups import Bound
from app.services.transactions import Tx
from hansa_core.wire import DutyKind


def facts_of(tx: Tx, bound: Bound, kind: DutyKind, wanted: int) -> CommitteeFacts:
    """Return how far the committee is with duties of one kind."""
    tx.session.flush()
    asked = rows.duties(tx.session, bound.roster.id, bound.row.round_id, kind)
    assert bound.row.expires_at is not None
    return CommitteeFacts(
        wanted=wanted,
        done=sum(it.duty.state == DutyState.DONE for it in asked),
        open=sum(it.duty.state == DutyState.OPEN for it in asked),
        refusals={
            it.site.name: it.duty.reason or "gave no reason"
            for it in asked
            if it.duty.state in {DutyState.REFUSED, DutyState.CLOSED}
        },
        expires_at=bound.row.expires_at,
    )
