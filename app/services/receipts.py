"""Receipts: issued in the transaction that closes a round or ends a run, read and held later.

Signing takes microseconds, so it is done with the run's row locked: the lock makes the chain's
numbers gapless, and a round that is closed without its receipt cannot be committed.
"""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from platform import python_version
from typing import Any
from uuid import UUID

from app.db import artifacts as artifact_rows
from app.db import receipts as rows
from app.db import retention as retention_rows
from app.db import runs as run_rows
from app.db.models import Receipt, Round, Run
from app.domain.errors import NotFoundError
from app.domain.ids import new_id
from app.services.secure.groups import bound_of, surviving_sites
from app.services.transactions import Tx
from hansa_core import receipts, wire
from hansa_core.aggregation.staleness import staleness_scale
from hansa_core.canonical import canonical_json
from hansa_core.plans import RunPlan
from hansa_core.problems import CanonicalizationError
from hansa_core.signing import encode_base64, fingerprint
from hansa_core.states import RoundKind, RoundState, RunState, TaskState

LEFT_OUT = "its masks do not fit those of the others, or came too late for them"
_DISTRIBUTIONS = {"hub": "hansa-hub", "hansa_core": "hansa", "numpy": "numpy"}


def issue_round(tx: Tx, run: Run, row: Round, *, now: datetime) -> str:
    """Sign the account of a round that has just been closed; return its digest."""
    tx.session.flush()
    _, base = rows.checkpoint_blob(tx.session, row.base_checkpoint_id)
    account = receipts.RoundAccount(
        id=row.id,
        round_number=row.number,
        retry=row.retry,
        kind=RoundKind(row.kind),
        state=RoundState(row.state),
        reason=row.state_reason,
        opened_at=_utc(row.created_at),
        closed_at=_utc(row.closed_at or now),
        threshold=row.threshold,
        target=row.target,
        base=_blob(base),
        base_slots=_slots(tx, run, row.base_checkpoint_id),
        population=row.population,
        cohort=_cohort(tx, row),
        excluded=_excluded(row.excluded),
        updates=_updates(tx, run, row),
        aggregate=_aggregate(tx, run, row),
        secure=_secure(tx, run, row),
    )
    return _issue(tx, run, round_=account, end=None, round_row=row, now=now)


def issue_run(tx: Tx, run: Run, *, now: datetime) -> str:
    """Sign the account of a run that has just ended; return its digest."""
    tx.session.flush()
    _, checkpoint = rows.checkpoint_blob(tx.session, run.latest_checkpoint_id)
    final = rows.last_round(tx.session, run.id)
    cause = _cause(RunState(run.state), final)
    waited = final is not None and cause is receipts.EndCause.QUORUM
    end = receipts.RunEnd(
        cause=cause,
        state=RunState(run.state),
        reason=run.state_reason,
        stop_reason=run.stop_reason,
        sites=_unanswered(tx, final) if final is not None and waited else (),
        rounds_completed=run.rounds_completed,
        checkpoint=_blob(checkpoint),
        bytes_moved=run.bytes_moved,
        started_at=None if run.started_at is None else _utc(run.started_at),
        ended_at=_utc(run.finished_at or now),
    )
    return _issue(tx, run, round_=None, end=end, round_row=None, now=now)


def list_receipts(
    tx: Tx, federation_id: UUID, run_id: UUID, *, after: int, limit: int
) -> list[wire.Receipt]:
    """Return the run's receipts with a number above `after`, ascending.

    Raises:
        NotFoundError: the federation has no such run.
    """
    _require_run(tx, federation_id, run_id)
    found = rows.list_receipts(tx.session, run_id, after=after, limit=limit)
    return [_view(item) for item in found]


def hold(
    tx: Tx,
    federation_id: UUID,
    run_id: UUID,
    digest: str,
    request: wire.HoldRequest,
    *,
    user_id: UUID,
    now: datetime,
) -> wire.Receipt:
    """Keep everything that the receipt names from being deleted. Repeating changes nothing.

    Raises:
        NotFoundError: no such run, or no such receipt of it.
    """
    receipt = _require(tx, federation_id, run_id, digest).receipt
    if receipt.round_id is not None:  # a purge that has begun either sees the hold or was first
        retention_rows.pin_round(tx.session, receipt.round_id)
    if rows.hold(tx.session, receipt.id, reason=request.reason, held_by=user_id, now=now):
        tx.record(
            "receipt.held",
            federation_id=federation_id,
            run_id=run_id,
            digest=digest,
            reason=request.reason,
        )
    return _view(_require(tx, federation_id, run_id, digest))


def release(tx: Tx, federation_id: UUID, run_id: UUID, digest: str) -> None:
    """Let retention decide again. Releasing what is not held changes nothing.

    Raises:
        NotFoundError: no such run, or no such receipt of it.
    """
    receipt = _require(tx, federation_id, run_id, digest).receipt
    if rows.release(tx.session, receipt.id):
        tx.record("receipt.released", federation_id=federation_id, run_id=run_id, digest=digest)


def _issue(
    tx: Tx,
    run: Run,
    *,
    round_: receipts.RoundAccount | None,
    end: receipts.RunEnd | None,
    round_row: Round | None,
    now: datetime,
) -> str:
    federation = rows.federation_of(tx.session, run)
    before = rows.last(tx.session, run.id)
    number, parent = (1, None) if before is None else (before[0] + 1, before[1])
    receipt = receipts.Receipt(
        format=receipts.FORMAT,
        hub=tx.hub_key.fingerprint,
        federation=receipts.Named(id=federation.id, name=federation.slug),
        run=receipts.Named(id=run.id, name=run.name),
        plan_digest=run.plan_digest,
        number=number,
        parent=parent,
        origin=_origin(tx, run, round_row) if before is None else None,
        issued_at=_utc(now),
        software=dict(_software()),
        round=round_,
        end=end,
    )
    sealed = receipts.seal(receipt, tx.hub_key.private)
    tx.session.add(
        Receipt(
            id=new_id(),
            federation_id=run.federation_id,
            run_id=run.id,
            round_id=None if round_row is None else round_row.id,
            number=number,
            digest=sealed.digest,
            body=sealed.body.decode(),
            signature=sealed.signature,
            public_key=sealed.public_key,
            created_at=now,
        )
    )
    tx.session.flush()  # the next receipt of this transaction has to see it
    return sealed.digest


def _origin(tx: Tx, run: Run, row: Round | None) -> receipts.Origin:
    checkpoint, blob = rows.checkpoint_blob(tx.session, run.base_checkpoint_id)
    made_by = (
        None
        if checkpoint.round_id is None
        else rows.digest_of_round(tx.session, checkpoint.round_id)
    )
    completed = rows.count_completed(tx.session, run.id)
    if row is not None and row.kind == RoundKind.TRAIN and row.state == RoundState.COMPLETED:
        completed -= 1  # the one that this very receipt is about
    return receipts.Origin(
        checkpoint=_blob(blob),
        parent_run=run.parent_run_id,
        receipt=made_by,
        plan=_plan_text(run),
        rounds_before=completed,
    )


def _plan_text(run: Run) -> str | None:
    """Return the bytes that `plan_digest` names; None where an older version digested others."""
    try:
        plan = RunPlan.model_validate(run.plan).model_dump(mode="json", exclude_defaults=True)
        text = canonical_json(plan)
    except CanonicalizationError:  # a number that jsonb gives back as another
        return None
    return text.decode() if hashlib.sha256(text).hexdigest() == run.plan_digest else None


def _cohort(tx: Tx, row: Round) -> tuple[receipts.CohortEntry, ...]:
    told = rows.tasks_of_round(tx.session, row.id)
    keys = rows.fingerprints(tx.session, [item.site.id for item in told])
    return tuple(
        receipts.CohortEntry(
            task_id=item.task.id,
            site=receipts.Site(
                id=item.site.id, name=item.site.name, fingerprint=keys[item.site.id]
            ),
            evaluator=item.task.evaluator,
            outcome=TaskState(item.task.state),
            reason=item.task.state_reason,
            report=None
            if item.evaluation is None
            else hashlib.sha256(item.evaluation.report.encode()).hexdigest(),
        )
        for item in told
    )


def _updates(tx: Tx, run: Run, row: Round) -> tuple[receipts.ReceivedUpdate, ...]:
    buffer = RunPlan.model_validate(run.plan).buffer
    because = row.state_reason or f"the round is {row.state}"
    survivors = surviving_sites(tx, row)  # a secure evaluation is made of updates as well
    made_of = row.checkpoint_id is not None or survivors is not None
    completed = made_of and row.state == RoundState.COMPLETED
    made: list[receipts.ReceivedUpdate] = []
    for item in rows.updates_in_round(tx.session, row.id):
        staleness = row.number - item.trained_in
        used = completed and (survivors is None or item.site.id in survivors)
        left_out = completed and not used
        made.append(
            receipts.ReceivedUpdate(
                task_id=item.update.task_id,
                site=receipts.Site(
                    id=item.site.id, name=item.site.name, fingerprint=item.fingerprint
                ),
                digest=item.update.digest,
                size=item.size,
                num_examples=item.update.num_examples,
                manifest=hashlib.sha256(item.update.manifest.encode()).hexdigest(),
                staleness=staleness,
                weight=item.update.num_examples if used else None,
                scale=staleness_scale(buffer, staleness) if used else None,
                reason=None if used else LEFT_OUT if left_out else because,
            )
        )
    return tuple(made)


def _aggregate(tx: Tx, run: Run, row: Round) -> receipts.Aggregate | None:
    if row.checkpoint_id is None:
        return None
    _, blob = rows.checkpoint_blob(tx.session, row.checkpoint_id)
    strategy = RunPlan.model_validate(run.plan).strategy
    return receipts.Aggregate(
        rule=strategy.rule_name(),
        checkpoint=_blob(blob),
        slots=_slots(tx, run, row.checkpoint_id),
    )


def _secure(tx: Tx, run: Run, row: Round) -> receipts.SecureAccount | None:
    """Return how a secure round's sum was opened; None: the round is not secure, or was set up."""
    bound = bound_of(tx, row.id)
    if bound is None:
        return None
    secure = bound.row
    named = [secure.transcript, secure.summed, *secure.summed_parts.values()]
    digests = [digest for digest in named if digest is not None]
    sizes = artifact_rows.sizes(tx.session, run.federation_id, digests)

    def blob(digest: str | None) -> receipts.Blob | None:
        return None if digest is None else receipts.Blob(digest=digest, size=sizes[digest])

    return receipts.SecureAccount(
        roster=bound.group.digest,
        roster_version=bound.roster.version,
        round=secure.digest,
        participants=bound.header.participants,
        survivors=bound.survivors,
        transcript=blob(secure.transcript),
        summed=blob(secure.summed),
        summed_parts={
            name: receipts.Blob(digest=digest, size=sizes[digest])
            for name, digest in secure.summed_parts.items()
        },
    )


def _slots(tx: Tx, run: Run, checkpoint_id: UUID) -> dict[str, receipts.Blob]:
    """Return the slots of a checkpoint that the run's strategy goes on from, or has made."""
    kind = RunPlan.model_validate(run.plan).state_kind
    return {
        slot.name: receipts.Blob(digest=slot.digest, size=size)
        for slot, size in artifact_rows.slots(tx.session, checkpoint_id)
        if slot.kind == kind
    }


def _cause(state: RunState, final: Round | None) -> receipts.EndCause:
    if state is RunState.COMPLETED:
        return receipts.EndCause.FINISHED
    if state is RunState.CANCELLED:
        return receipts.EndCause.CANCELLED
    if final is not None and final.state == RoundState.FAILED and final.attempts:
        return receipts.EndCause.AGGREGATION
    return receipts.EndCause.QUORUM


def _unanswered(tx: Tx, final: Round) -> tuple[receipts.Unanswered, ...]:
    return tuple(
        receipts.Unanswered(
            site=item.site.name, outcome=TaskState(item.task.state), reason=item.task.state_reason
        )
        for item in rows.tasks_of_round(tx.session, final.id)
        if item.task.state != TaskState.DONE and not item.task.evaluator
    )


def _excluded(stored: Iterable[Any]) -> tuple[receipts.Exclusion, ...]:
    return tuple(
        receipts.Exclusion(site=str(item["site"]), reason=str(item["reason"])) for item in stored
    )


def _blob(stored: rows.StoredBlob) -> receipts.Blob:
    return receipts.Blob(digest=stored.digest, size=stored.size)


def _utc(at: datetime) -> datetime:
    """Return the time as receipts write it, whatever zone the connection has."""
    return at.astimezone(UTC)


@lru_cache
def _software() -> Sequence[tuple[str, str]]:
    """Return the versions that a receipt names."""
    return (
        *((name, installed_version(it)) for name, it in _DISTRIBUTIONS.items()),
        ("python", python_version()),
    )


def installed_version(distribution: str) -> str:
    """Return a distribution's version; "unknown" when it runs from files that nobody installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def _require_run(tx: Tx, federation_id: UUID, run_id: UUID) -> None:
    if run_rows.find_run(tx.session, federation_id, run_id) is None:
        raise NotFoundError(f"this federation has no run {run_id}")


def _require(tx: Tx, federation_id: UUID, run_id: UUID, digest: str) -> rows.HeldReceipt:
    _require_run(tx, federation_id, run_id)
    found = rows.find(tx.session, run_id, digest)
    if found is None:
        raise NotFoundError(f"run {run_id} has no receipt {digest}")
    return found


def _view(found: rows.HeldReceipt) -> wire.Receipt:
    receipt, hold_ = found.receipt, found.hold
    return wire.Receipt(
        number=receipt.number,
        digest=receipt.digest,
        round_number=found.round_number,
        body=receipt.body,
        signature=encode_base64(receipt.signature),
        public_key=encode_base64(receipt.public_key),
        fingerprint=fingerprint(receipt.public_key),
        hold=None
        if hold_ is None
        else wire.ReceiptHold(
            reason=hold_.reason, held_by=found.held_by or "", created_at=hold_.created_at
        ),
        created_at=receipt.created_at,
    )
