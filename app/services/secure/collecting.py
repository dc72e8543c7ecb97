"""A secure round begins to collect: its header is fixed, and its sites are asked."""

from collections.abc import Sequence
from datetime import UTC, datetime

from app.db import artifacts as artifact_rows
from app.db import secure as rows
from app.db.models import Roster, Round, Run, SecureRound, Site
from app.domain.rounds import require_legal
from app.services.asking import ask, deadline_of
from app.services.secure.groups import group_of, terms_of, vector_of
from app.services.transactions import Tx
from hansa_core.plans import RunPlan
from hansa_core.secagg import messages
from hansa_core.secagg.messages import Header, ranges_digest
from hansa_core.secagg.ranges import first_ranges
from hansa_core.secagg.rosters import least_survivors_of
from hansa_core.secagg.vectors import VectorLayout
from hansa_core.states import RoundKind, RoundState


def begin(
    tx: Tx,
    run: Run,
    plan: RunPlan,
    row: Round,
    roster: Roster,
    cohort: Sequence[Site],
    *,
    now: datetime,
) -> None:
    """Ask the cohort, all of it members of the roster in force, for masked updates."""
    group = group_of(tx, roster)
    kind = RoundKind(row.kind)
    if row.state != RoundState.COLLECTING:
        require_legal(RoundState(row.state), RoundState.COLLECTING)
        row.state = RoundState.COLLECTING
        row.deadline_at = deadline_of(tx, run, plan, kind, len(cohort), now=now)
    vector = vector_of(tx, run, plan, sites=len(cohort), kind=kind)
    ranges = _ranges(tx, run, plan, vector)
    base = artifact_rows.find_checkpoint(tx.session, run.federation_id, row.base_checkpoint_id)
    assert base is not None
    header = Header(
        run_id=run.id,
        round_id=row.id,
        round_number=row.number,
        retry=row.retry,
        kind=kind,
        roster=group.digest,
        participants=_positions(group.roster, cohort),
        checkpoint=base.digest,
        slots=_slots(tx, plan, row),
        ranges=ranges_digest(ranges),
        deadline_at=row.deadline_at.astimezone(UTC),
    )
    least = least_survivors_of(group, header)
    row.threshold = max(row.threshold, least)
    row.target = None if row.target is None else max(row.target, row.threshold)
    tx.session.add(
        SecureRound(
            round_id=row.id,
            federation_id=run.federation_id,
            roster_id=roster.id,
            header=header.body().decode(),
            digest=header.digest(),
            ranges=list(ranges),
        )
    )
    tx.session.flush()
    ask(tx, plan, row, [(site, False, 1) for site in cohort], now=now)


def _positions(roster: messages.Roster, cohort: Sequence[Site]) -> tuple[int, ...]:
    wanted = {site.id for site in cohort}
    return tuple(place for place, member in enumerate(roster.members) if member.site_id in wanted)


def _slots(tx: Tx, plan: RunPlan, row: Round) -> dict[str, str]:
    """Return the digests of the server's slots that the sites' work needs."""
    wanted = plan.strategy.local_work().slots
    return {
        slot.name: slot.digest
        for slot, _ in artifact_rows.slots(tx.session, row.base_checkpoint_id)
        if slot.name in wanted and slot.kind == plan.state_kind
    }


def _ranges(tx: Tx, run: Run, plan: RunPlan, vector: VectorLayout) -> tuple[float, ...]:
    """Return the tensors' ranges: what the last secure sum of the run led to, or the first ones."""
    totals = rows.last_totals(tx.session, run.id) if vector.floats else None
    if totals is None:
        return first_ranges(vector, terms_of(plan).quantiser)
    return tuple(totals["ranges"])
