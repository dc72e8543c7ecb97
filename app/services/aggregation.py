"""One round's aggregation: lease it, combine the updates into the store, record the checkpoint.

Two short transactions with the arithmetic between them, so that no row stays locked while we
compute. The lease token turns the second into a no-op for a worker that was overtaken.
"""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self
from uuid import UUID

from app.db import artifacts as artifact_rows
from app.db import runs as rows
from app.db import tasks as task_rows
from app.db.models import Checkpoint, Round, Run
from app.domain.alerts import AlertKind
from app.domain.errors import ArtifactMissingError, UnusableUpdatesError
from app.domain.ids import new_id
from app.domain.rounds import MAX_AGGREGATION_ATTEMPTS, Decision
from app.services import alerts
from app.services.checkpoints import Blob, NewBlob, record_artifact
from app.services.endings import close_round, fail_run
from app.services.openings import go_on
from app.services.transactions import Tx
from app.storage.artifacts import CHUNK_BYTES, READ_AHEAD_BYTES, Artifacts, BlobReader
from app.storage.staging import BlobWriter
from hansa_core.aggregation import rules
from hansa_core.aggregation.inputs import Contribution, Source
from hansa_core.aggregation.staleness import staleness_scale
from hansa_core.plans import RunPlan
from hansa_core.problems import CoreError
from hansa_core.states import RoundState
from hansa_core.strategies import StrategyPlan


@dataclass(frozen=True, slots=True)
class WeightedUpdate:
    """One update that takes part in an aggregation."""

    blob: Blob
    num_examples: int
    scale: float  # what staleness leaves of it


@dataclass(frozen=True, slots=True)
class AggregationLease:
    """The right to write one round's checkpoint, with all that it takes."""

    round_id: UUID
    run_id: UUID
    token: UUID
    strategy: StrategyPlan
    base: Blob
    updates: tuple[WeightedUpdate, ...]  # by digest: an order that no arrival changes


def lease(tx: Tx, round_id: UUID, *, now: datetime, duration: timedelta) -> AggregationLease | None:
    """Take the round's aggregation, or None: finished, given up, or held by another worker."""
    row = rows.lock_round(tx.session, round_id)
    if row is None or row.state != RoundState.AGGREGATING:
        return None
    if row.lease_expires_at is not None and row.lease_expires_at > now:
        return None
    if row.attempts >= MAX_AGGREGATION_ATTEMPTS:
        return None  # the next step fails the run, with the run's lock held
    token = new_id()
    row.lease_token = token
    row.lease_expires_at = now + duration
    row.attempts += 1
    updates = task_rows.updates_of_round(tx.session, round_id)
    run = tx.session.get_one(Run, row.run_id)
    plan = RunPlan.model_validate(run.plan)
    federation_id = run.federation_id
    if row.attempts > 1:
        alerts.raise_alert(
            tx,
            AlertKind.AGGREGATION_RETRIED,
            federation_id=federation_id,
            subject=str(run.id),
            message=f"a worker died or timed out while it aggregated round {row.number} of run "
            f"{run.name}; attempt {row.attempts} of {MAX_AGGREGATION_ATTEMPTS}",
            run_id=run.id,
            now=now,
        )
    base = artifact_rows.find_checkpoint(tx.session, federation_id, row.base_checkpoint_id)
    assert base is not None
    digests = [base.digest, *(counted.update.digest for counted in updates)]
    sizes = artifact_rows.sizes(tx.session, federation_id, digests)
    return AggregationLease(
        round_id=round_id,
        run_id=row.run_id,
        token=token,
        strategy=plan.strategy,
        base=Blob(federation_id, base.digest, sizes[base.digest]),
        updates=tuple(
            WeightedUpdate(
                blob=Blob(federation_id, counted.update.digest, sizes[counted.update.digest]),
                num_examples=counted.update.num_examples,
                scale=staleness_scale(plan.buffer, row.number - counted.trained_in),
            )
            for counted in updates
        ),
    )


def renew(tx: Tx, held: AggregationLease, *, now: datetime, duration: timedelta) -> bool:
    """Keep the lease for another `duration`; False when it was lost."""
    return rows.renew_round_lease(
        tx.session, held.round_id, token=held.token, expires_at=now + duration
    )


def release(tx: Tx, held: AggregationLease, *, reason: str, not_before: datetime) -> None:
    """Give the lease back for a cause that lies outside of the round, as a store that is away.

    It counts as no attempt, however often and long it goes on; a sweep rings again `not_before`.
    """
    locked = _lock_leased(tx, held)
    if locked is None:
        return
    run, row = locked
    row.lease_token = None
    row.lease_expires_at = not_before
    row.attempts -= 1
    if row.state_reason is None:  # once for one outage
        tx.record(
            "round.delayed",
            federation_id=run.federation_id,
            run_id=run.id,
            round_number=row.number,
            reason=reason,
        )
    row.state_reason = reason


def aggregate(lease: AggregationLease, artifacts: Artifacts) -> NewBlob:
    """Write the next checkpoint to the store and return what it is. No row is touched.

    Memory is the rule's buffers and a share of the read-ahead, whatever the model.

    Raises:
        UnusableUpdatesError: the stored bytes cannot be combined; a retry would read the same.
        StorageUnavailableError: the store failed; a retry may do better.
    """
    read_ahead = READ_AHEAD_BYTES // (1 + len(lease.updates))
    with ExitStack() as stack:

        def open_blob(blob: Blob) -> BlobReader:
            return stack.enter_context(
                artifacts.open(blob.federation_id, blob.digest, read_ahead_bytes=read_ahead)
            )

        writer = stack.enter_context(artifacts.begin(lease.base.federation_id))
        sink = stack.enter_context(_HashingSink(writer))
        try:
            summary = rules.aggregate(
                lease.strategy,
                Source(lease.base.digest, open_blob(lease.base).read_at),
                [
                    Contribution(
                        digest=update.blob.digest,
                        weight=update.num_examples,
                        read=open_blob(update.blob).read_at,
                        scale=update.scale,
                    )
                    for update in lease.updates
                ],
                sink,
            )
        except (CoreError, ArtifactMissingError) as error:
            raise UnusableUpdatesError(str(error)) from error
        digest = sink.finish()
        writer.commit(digest)
    return NewBlob(digest=digest, size=summary.size, layout=summary.layout)


def complete(
    tx: Tx,
    lease: AggregationLease,
    checkpoint_blob: NewBlob,
    *,
    now: datetime,
    online_for: timedelta,
) -> bool:
    """Record the stored checkpoint and go on; False when the lease was lost meanwhile.

    Raises:
        ArtifactPurgedError: the same bytes were once deleted; `retention.revive` them first.
    """
    locked = _lock_leased(tx, lease)
    if locked is None:
        return False
    run, row = locked
    record_artifact(tx, run.federation_id, checkpoint_blob, now=now)
    checkpoint = Checkpoint(
        id=new_id(),
        federation_id=run.federation_id,
        model_id=run.model_id,
        digest=checkpoint_blob.digest,
        parent_id=row.base_checkpoint_id,
        run_id=run.id,
        round_id=row.id,
        round_number=row.number,
        created_at=now,
    )
    tx.session.add(checkpoint)
    tx.session.flush()
    row.checkpoint_id = checkpoint.id
    run.latest_checkpoint_id = checkpoint.id
    run.rounds_completed = row.number
    close_round(
        tx, run, row, Decision(RoundState.COMPLETED), now=now, digest=checkpoint_blob.digest
    )
    go_on(tx, run, now=now, online_for=online_for)
    return True


def fail(tx: Tx, lease: AggregationLease, *, reason: str, now: datetime) -> None:
    """End the round and its run: the same bytes would fail again."""
    locked = _lock_leased(tx, lease)
    if locked is not None:
        fail_run(tx, *locked, reason=reason, now=now)


class _HashingSink:
    """Hashes and writes in a thread of its own while the next sums are computed.

    SHA-256 takes about as long as the arithmetic, and neither holds the interpreter's lock.
    Memory is bounded: one piece is being filled while at most one other is worked on.
    """

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer
        self._hasher = hashlib.sha256()
        self._filling = bytearray()
        self._working: Future[None] | None = None
        self._thread = ThreadPoolExecutor(1, "hansa-sink")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown()  # waits: nobody else may touch the writer before

    def __call__(self, data: memoryview) -> None:
        """Take the next bytes, copied. Raises what writing earlier ones raised."""
        self._filling += data
        if len(self._filling) >= CHUNK_BYTES:
            self._hand_over()

    def finish(self) -> str:
        """Return the SHA-256 of everything, all of it written, as lower-case hex."""
        self._hand_over()
        self._wait()
        return self._hasher.hexdigest()

    def _hand_over(self) -> None:
        self._wait()
        piece, self._filling = self._filling, bytearray()
        self._working = self._thread.submit(self._work, piece)

    def _wait(self) -> None:
        if self._working is not None:
            self._working.result()

    def _work(self, piece: bytearray) -> None:
        self._hasher.update(piece)
        self._writer.write(piece)


def _lock_leased(tx: Tx, lease: AggregationLease) -> tuple[Run, Round] | None:
    run = rows.lock_run(tx.session, lease.run_id)
    row = rows.lock_round(tx.session, lease.round_id)
    if run is None or row is None or row.lease_token != lease.token:
        return None
    if row.state != RoundState.AGGREGATING:
        return None
    return run, row
