"""Which updates the sum is of: those whose masks fit each other, as the committee signs it.

The files of seals are read under the round's lease, outside of any transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.db import runs as run_rows
from app.db import secure as rows
from app.db.models import Round, Run
from app.domain.ids import new_id
from app.domain.rounds import MAX_AGGREGATION_ATTEMPTS, Decision, require_legal
from app.domain.secure import Burnt, decide_committee
from app.doorbell import AGREE_ROUND
from app.services.checkpoints import Blob
from app.services.endings import close_tasks, fail_run
from app.services.secure import opening
from app.services.secure.asking import close_barred, owe
from app.services.secure.committee import facts_of
from app.services.secure.groups import Bound, bound_of, neighbours_of
from app.services.secure.seals import open_stored
from app.services.transactions import Tx
from app.storage.artifacts import Artifacts
from hansa_core.plans import RunPlan
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.hub import agreeing
from hansa_core.secagg.member import check_survivors
from hansa_core.secagg.rosters import SEALS, least_survivors_of
from hansa_core.states import RoundState, SiteState, TaskState
from hansa_core.wire import DutyKind


@dataclass(frozen=True, slots=True)
class AgreementLease:
    """The right to find out which of a round's updates fit each other."""

    round_id: UUID
    run_id: UUID
    token: UUID
    bound: Bound
    seals: Mapping[int, Blob]  # of the updates that came, by position


@dataclass(frozen=True, slots=True)
class Agreement:
    """Which updates fit each other, and why the others are left out."""

    survivors: tuple[int, ...]
    left_out: Mapping[int, str]


def begin(tx: Tx, run: Run, row: Round, *, now: datetime) -> None:
    """Stop collecting, and look which updates fit each other."""
    require_legal(RoundState(row.state), RoundState.SIGNING)
    row.state = RoundState.SIGNING
    row.lease_token, row.lease_expires_at, row.attempts = None, None, 0
    close_tasks(tx, run, row, TaskState.LATE, "the round closed without this site", now=now)
    tx.send(AGREE_ROUND, row.id)


def step(tx: Tx, run: Run, row: Round, *, now: datetime) -> Decision | None:
    """Do what is due while the committee signs; return how the round ends, if it does."""
    bound = bound_of(tx, row.id)
    assert bound is not None
    if bound.row.survivors is None:
        if row.lease_expires_at is not None and row.lease_expires_at > now:
            return None
        if row.attempts >= MAX_AGGREGATION_ATTEMPTS:
            reason = f"{row.attempts} workers died or timed out while they read the round's seals"
            fail_run(tx, run, row, reason=reason, now=now)
        else:
            tx.send(AGREE_ROUND, row.id)
        return None
    close_barred(tx, row, bound.roster, states=(SiteState.REVOKED,), now=now)
    facts = facts_of(tx, bound, DutyKind.SIGN, bound.group.parameters.quorum)
    decided = decide_committee(facts, "signatures", now=now)
    if isinstance(decided, Burnt):
        return Decision(RoundState.FAILED, decided.reason)
    if decided:
        opening.begin(tx, run, row, bound, now=now)
    return None


def lease(tx: Tx, round_id: UUID, *, now: datetime, duration: timedelta) -> AgreementLease | None:
    """Take the reading of a round's seals, or None: done, given up, or held by another worker."""
    row = run_rows.lock_round(tx.session, round_id)
    if row is None or row.state != RoundState.SIGNING or row.attempts >= MAX_AGGREGATION_ATTEMPTS:
        return None
    if row.lease_expires_at is not None and row.lease_expires_at > now:
        return None
    bound = bound_of(tx, round_id)
    assert bound is not None
    if bound.row.survivors is not None:
        return None
    token = new_id()
    row.lease_token = token
    row.lease_expires_at = now + duration
    row.attempts += 1
    seals = {
        position: Blob(bound.row.federation_id, it.seals, it.seals_size)
        for it in rows.uploads(tx.session, round_id, SEALS)
        if (position := bound.position(it.site_id)) is not None
    }
    return AgreementLease(round_id, row.run_id, token, bound, seals)


def renew(tx: Tx, held: AgreementLease, *, now: datetime, duration: timedelta) -> bool:
    """Keep the lease for another `duration`; False when it was lost."""
    return run_rows.renew_round_lease(
        tx.session, held.round_id, token=held.token, expires_at=now + duration
    )


def release(tx: Tx, held: AgreementLease, *, not_before: datetime) -> None:
    """Give the lease back for a cause that lies outside of the round; it counts as no attempt."""
    row = run_rows.lock_round(tx.session, held.round_id)
    if row is not None and row.lease_token == held.token:
        row.lease_token = None
        row.lease_expires_at = not_before
        row.attempts -= 1


def agree(held: AgreementLease, artifacts: Artifacts) -> Agreement:
    """Find out which updates fit each other. No row is touched.

    Raises:
        StorageUnavailableError: the store failed.
    """
    group, header = held.bound.group, held.bound.header
    graph = neighbours_of(held.bound)
    opened, unusable = open_stored(artifacts, held.seals, graph, len(group.committee))
    survivors, left_out = agreeing(group, header, opened)
    return Agreement(survivors, {**unusable, **left_out})


def propose(
    tx: Tx, held: AgreementLease, found: Agreement, *, now: datetime
) -> tuple[Run, Round, Decision | None] | None:
    """Ask the committee to sign the survivors, or return how the round ends.

    None: the lease was lost meanwhile.
    """
    run = run_rows.lock_run(tx.session, held.run_id)
    row = run_rows.lock_round(tx.session, held.round_id)
    if run is None or row is None or row.lease_token != held.token:
        return None
    bound = bound_of(tx, held.round_id)
    if bound is None or row.state != RoundState.SIGNING or bound.row.survivors is not None:
        return None
    secure = RunPlan.model_validate(run.plan).secure
    assert secure is not None
    row.lease_token, row.lease_expires_at, row.attempts = None, None, 0
    left_out = {bound.site_id(position): why for position, why in found.left_out.items()}
    for task in rows.tasks_of_sites(tx.session, row.id, [*left_out]):
        task.state = TaskState.FAILED
        task.state_reason = f"the update cannot be added: {left_out[task.site_id]}"
    wanted = max(least_survivors_of(bound.group, bound.header), row.threshold)
    if len(found.survivors) < wanted:
        names = rows.site_names(tx.session, [*left_out])
        told = "; ".join(f"{names[site]}: {why}" for site, why in left_out.items())
        reason = f"{len(found.survivors)} updates fit each other, {wanted} were needed"
        return run, row, Decision(RoundState.FAILED, f"{reason} ({told})" if told else reason)
    try:
        check_survivors(bound.group, bound.header, found.survivors)
    except SecaggError as error:  # no member would sign them
        return run, row, Decision(RoundState.FAILED, str(error))
    bound.row.survivors = list(found.survivors)
    expires_at = now + timedelta(seconds=secure.opening_seconds)
    bound.row.expires_at = expires_at
    committee = [bound.site_id(position) for position in bound.group.committee]
    owe(tx, row, bound.roster, DutyKind.SIGN, committee, now=now)
    tx.record(
        "round.signing",
        federation_id=run.federation_id,
        run_id=run.id,
        round_number=row.number,
        survivors=len(found.survivors),
        participants=len(bound.header.participants),
        expires_at=expires_at.isoformat(),
    )
    return run, row, None
