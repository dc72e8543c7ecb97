"""A worker brings a secure round's sum forward, under the lease of the round's aggregation.

Each step is recorded when it is done, so whoever takes the lease over goes on from there. A sum
that is split over workers is a stage of its own among the parts of an aggregation, before the rest
(app/services/splitting.py).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from app.db import aggregations as part_rows
from app.db.models import AggregationPart, Round
from app.domain.errors import ArtifactMissingError, ArtifactPurgedError, UnusableUpdatesError
from app.domain.ids import new_id
from app.domain.rounds import Decision
from app.doorbell import STEP_RUN
from app.services import aggregation, retention, splitting
from app.services.aggregation import AggregationLease
from app.services.checkpoints import Blob, NewBlob
from app.services.endings import close_round, end_short_round
from app.services.secure import opening, summing, sums
from app.services.secure.summing import MoreSharesError
from app.services.secure.sums import Sum, Summed
from app.services.splitting import SUM_STAGE
from app.services.transactions import Transactions, Tx
from app.storage.artifacts import Artifacts
from hansa_core.states import RoundKind, RoundState

log = structlog.get_logger()


def advance(
    transactions: Transactions,
    artifacts: Artifacts,
    lease: AggregationLease,
    *,
    part_bytes: int,
    duration: timedelta,
) -> AggregationLease | None:
    """Do what a round's sum needs; return the aggregation that follows, once it can.

    None: others work on parts, more shares are asked for, the round is closed, or the lease lost.

    Raises:
        UnusableUpdatesError: the sum is none that such updates add up to, or a file is gone.
        StorageUnavailableError: the store failed; a retry may do better.
    """
    work = lease.secure
    assert work is not None
    if work.transcript is None:
        try:
            made = summing.open_seeds(work, artifacts)
        except MoreSharesError as error:
            _ask_for_more(transactions, lease, str(error))
            return None
        if not _record(
            transactions,
            artifacts,
            lease,
            [made],
            lambda tx, row, now: sums.record_transcript(tx, row, made, now=now),
        ):
            return None
        work = replace(work, transcript=Blob(work.federation_id, made.digest, made.size))
    count = summing.parts_wanted(work, part_bytes=part_bytes)
    summed = (
        summing.take_off(work, artifacts)
        if count == 1
        else _in_parts(transactions, artifacts, lease, work, count, duration)
    )
    return None if summed is None else _finish(transactions, artifacts, lease, work, summed)


def _finish(
    transactions: Transactions,
    artifacts: Artifacts,
    lease: AggregationLease,
    work: Sum,
    summed: Summed,
) -> AggregationLease | None:
    """Record the sum: an evaluation is over with it, a training round is aggregated then."""
    recorded = _record(
        transactions,
        artifacts,
        lease,
        summed.files.values(),
        lambda tx, row, now: sums.record_sum(tx, row, work, summed, now=now),
    )
    if not recorded:
        return None
    digests: list[str] = []
    following: AggregationLease | None = None
    with transactions.begin("proceed_from_sum") as tx:
        locked = aggregation.lock_leased(tx, lease)
        if locked is not None:
            run, row = locked
            digests = splitting.forget(tx, row.id)
            if work.kind is RoundKind.EVALUATE:
                close_round(tx, run, row, Decision(RoundState.COMPLETED), now=transactions.now())
                tx.send(STEP_RUN, run.id)
            else:
                following = aggregation.describe(tx, run, row, token=lease.token)
    for digest in digests:  # the orphan sweep would find them, a day later
        artifacts.delete(work.federation_id, digest)
    return following


def _in_parts(
    transactions: Transactions,
    artifacts: Artifacts,
    lease: AggregationLease,
    work: Sum,
    count: int,
    duration: timedelta,
) -> Summed | None:
    """Let workers take the masks off parts of the sum; None while they do."""
    with transactions.begin("read_sum_parts") as tx:
        found = [it for it in part_rows.parts(tx.session, lease.round_id) if it.stage == SUM_STAGE]
        results = [it.result for it in found if it.result is not None]
        hopeless = splitting.given_up(tx, lease.round_id, now=transactions.now())
    if hopeless is not None:
        raise UnusableUpdatesError(hopeless)
    if found and len(results) == len(found):
        try:
            return summing.put_together(work, artifacts, [result["summed"] for result in results])
        except ArtifactMissingError as error:
            log.warning("parts_lost", round_id=str(lease.round_id), error=str(error))
            with transactions.begin("begin_again") as tx:
                splitting.begin_again(tx, lease.round_id)
                splitting.let_go(tx, lease, until=transactions.now())
            return None
    with transactions.begin("await_sum_parts") as tx:
        if not found:
            part_rows.add_parts(
                tx.session,
                [
                    AggregationPart(
                        id=new_id(),
                        round_id=lease.round_id,
                        stage=SUM_STAGE,
                        index=index,
                        count=count,
                    )
                    for index in range(count)
                ],
            )
        splitting.ring(tx, lease.round_id)
        splitting.let_go(tx, lease, until=transactions.now() + duration)
    return None


def _ask_for_more(transactions: Transactions, lease: AggregationLease, reason: str) -> None:
    with transactions.begin("ask_for_more_shares") as tx:
        locked = aggregation.lock_leased(tx, lease)
        if locked is None:
            return
        run, row = locked
        decision = opening.ask_for_more(tx, row, reason=reason)
        if decision is not None:
            end_short_round(tx, run, row, str(decision.reason), now=transactions.now())
        tx.send(STEP_RUN, run.id)


def _record(
    transactions: Transactions,
    artifacts: Artifacts,
    lease: AggregationLease,
    blobs: Iterable[NewBlob],
    record: Callable[[Tx, Round, datetime], None],
) -> bool:
    """Record what is stored; False when the lease was lost meanwhile."""

    def attempt() -> bool:
        with transactions.begin("record_sum") as tx:
            locked = aggregation.lock_leased(tx, lease)
            if locked is None:
                return False
            record(tx, locked[1], transactions.now())
        return True

    try:
        return attempt()
    except ArtifactPurgedError:  # these very bytes were once deleted
        with transactions.begin("revive_sum") as tx:
            retention.revive_purged(
                tx, artifacts, lease.base.federation_id, blobs, now=transactions.now()
            )
        return attempt()
