"""One round's aggregation: lease it, combine the updates into the store, record the checkpoint.

Two short transactions with the arithmetic between them, so that no row stays locked while we
compute. The lease token turns the second into a no-op for a worker that was overtaken.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from app.db import artifacts as artifact_rows
from app.db import runs as rows
from app.db import updates as update_rows
from app.db.models import Checkpoint, CheckpointSlot, Round, Run
from app.domain.alerts import AlertKind
from app.domain.errors import ArtifactMissingError, UnusableUpdatesError
from app.domain.ids import new_id
from app.domain.rounds import MAX_AGGREGATION_ATTEMPTS, Decision
from app.doorbell import STEP_RUN
from app.services import alerts
from app.services.blob_sinks import FileSink
from app.services.checkpoints import Blob, NewBlob, record_artifact
from app.services.endings import close_round, end_short_round, fail_run
from app.services.openings import go_on
from app.services.secure import sums
from app.services.secure.sums import SecureMean, Sum
from app.services.transactions import Tx
from app.storage.artifacts import READ_AHEAD_BYTES, Artifacts, BlobReader
from hansa_core import wire
from hansa_core.aggregation.inputs import Contribution, Source
from hansa_core.aggregation.jobs import Job, Sinks, slot_names
from hansa_core.aggregation.jobs import aggregate as run_job
from hansa_core.aggregation.staleness import staleness_scale
from hansa_core.plans import RunPlan
from hansa_core.problems import CoreError
from hansa_core.states import RoundState


@dataclass(frozen=True, slots=True)
class WeightedUpdate:
    """One update that takes part in an aggregation."""

    blob: Blob
    num_examples: int
    scale: float  # what staleness leaves of it
    scalars: Mapping[str, float] = field(default_factory=dict[str, float])  # as the site signed
    parts: Mapping[str, Blob] = field(default_factory=dict[str, Blob])
    groups: tuple[str, ...] = ()  # declared tensor groups that it holds
    root: bool = False  # it is of the site that the strategy trusts


@dataclass(frozen=True, slots=True)
class AggregationLease:
    """The right to write one round's checkpoint, with all that it takes."""

    round_id: UUID
    run_id: UUID
    token: UUID
    plan: RunPlan
    base: Blob
    slots: Mapping[str, Blob]  # the server's, that go with the base; none at first
    population: int | None
    updates: tuple[WeightedUpdate, ...]  # by digest: an order that no arrival changes
    participants: int | None = None  # whose updates these are; None: as many as there are
    secure: Sum | None = None  # to be opened first: there are no updates before


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What an aggregation has stored."""

    checkpoint: NewBlob
    slots: Mapping[str, NewBlob]

    @property
    def blobs(self) -> tuple[NewBlob, ...]:
        """All files."""
        return (self.checkpoint, *self.slots.values())


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
    run = tx.session.get_one(Run, row.run_id)
    if row.attempts > 1:
        alerts.raise_alert(
            tx,
            AlertKind.AGGREGATION_RETRIED,
            federation_id=run.federation_id,
            subject=str(run.id),
            message=f"a worker died or timed out while it aggregated round {row.number} of run "
            f"{run.name}; attempt {row.attempts} of {MAX_AGGREGATION_ATTEMPTS}",
            run_id=run.id,
            now=now,
        )
    return describe(tx, run, row, token=token)


def describe(tx: Tx, run: Run, row: Round, *, token: UUID) -> AggregationLease:
    """Return all that a round's aggregation takes, for whoever holds `token`."""
    plan = RunPlan.model_validate(run.plan)
    federation_id = run.federation_id
    base = artifact_rows.find_checkpoint(tx.session, federation_id, row.base_checkpoint_id)
    assert base is not None
    sizes = artifact_rows.sizes(tx.session, federation_id, [base.digest])
    to_open = None if plan.secure is None else sums.describe(tx, run, row, plan)
    mean = None if plan.secure is None or to_open is not None else sums.mean_of(tx, row)
    return AggregationLease(
        round_id=row.id,
        run_id=run.id,
        token=token,
        plan=plan,
        base=Blob(federation_id, base.digest, sizes[base.digest]),
        slots={
            slot.name: Blob(federation_id, slot.digest, size)
            for slot, size in artifact_rows.slots(tx.session, base.id)
            if slot.kind == plan.state_kind
        },
        population=row.population,
        updates=_chosen(tx, row, plan, federation_id, to_open, mean),
        participants=None if mean is None else mean.survivors,
        secure=to_open,
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
    locked = lock_leased(tx, held)
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


def aggregate(lease: AggregationLease, artifacts: Artifacts) -> Aggregated:
    """Write the next checkpoint and its slots to the store. No row is touched.

    Memory is the rule's buffers and a share of the read-ahead, whatever the model.

    Raises:
        UnusableUpdatesError: the stored bytes cannot be combined; a retry would read the same.
        StorageUnavailableError: the store failed; a retry may do better.
    """
    names = slot_names(lease.plan.strategy)
    with ExitStack() as stack:
        job = open_job_files(lease, artifacts, stack)
        checkpoint = stack.enter_context(FileSink(artifacts, lease.base.federation_id))
        slots = {
            name: stack.enter_context(FileSink(artifacts, lease.base.federation_id))
            for name in names
        }
        try:
            summary = run_job(lease.plan.strategy, job, Sinks(checkpoint, slots))
        except (CoreError, ArtifactMissingError) as error:
            raise UnusableUpdatesError(str(error)) from error
        return Aggregated(
            checkpoint=checkpoint.commit(summary.checkpoint.layout),
            slots={name: slots[name].commit(summary.slots[name].layout) for name in names},
        )


def open_job_files(lease: AggregationLease, artifacts: Artifacts, stack: ExitStack) -> Job:
    """Open everything that the lease names, until the stack is closed."""
    files = 1 + len(lease.slots) + sum(1 + len(update.parts) for update in lease.updates)
    read_ahead = READ_AHEAD_BYTES // files

    def open_blob(blob: Blob) -> Source:
        reader: BlobReader = stack.enter_context(
            artifacts.open(blob.federation_id, blob.digest, read_ahead_bytes=read_ahead)
        )
        return Source(blob.digest, reader.read_at)

    try:
        return Job(
            base=open_blob(lease.base),
            contributions=[
                Contribution(
                    digest=update.blob.digest,
                    weight=update.num_examples,
                    read=open_blob(update.blob).read,
                    scale=update.scale,
                    scalars=update.scalars,
                    parts={name: open_blob(part) for name, part in update.parts.items()},
                    groups=update.groups,
                    root=update.root,
                )
                for update in lease.updates
            ],
            slots={name: open_blob(slot) for name, slot in lease.slots.items()},
            population=lease.population,
            participants=lease.participants,
            tensors=lease.plan.tensors,
            codec=lease.plan.codec,
        )
    except ArtifactMissingError as error:
        raise UnusableUpdatesError(str(error)) from error


def complete(
    tx: Tx,
    lease: AggregationLease,
    made: Aggregated,
    *,
    now: datetime,
    online_for: timedelta,
) -> bool:
    """Record what is stored and go on; False when the lease was lost meanwhile.

    Raises:
        ArtifactPurgedError: the same bytes were once deleted; `retention.revive` them first.
    """
    locked = lock_leased(tx, lease)
    if locked is None:
        return False
    run, row = locked
    for blob in made.blobs:
        record_artifact(tx, run.federation_id, blob, now=now)
    checkpoint = Checkpoint(
        id=new_id(),
        federation_id=run.federation_id,
        model_id=run.model_id,
        digest=made.checkpoint.digest,
        parent_id=row.base_checkpoint_id,
        run_id=run.id,
        round_id=row.id,
        round_number=row.number,
        created_at=now,
    )
    tx.session.add(checkpoint)
    tx.session.flush()
    tx.session.add_all(
        CheckpointSlot(
            checkpoint_id=checkpoint.id,
            name=name,
            kind=lease.plan.state_kind,
            federation_id=run.federation_id,
            digest=blob.digest,
        )
        for name, blob in made.slots.items()
    )
    tx.session.flush()
    row.checkpoint_id = checkpoint.id
    run.latest_checkpoint_id = checkpoint.id
    run.rounds_completed = row.number
    close_round(
        tx, run, row, Decision(RoundState.COMPLETED), now=now, digest=made.checkpoint.digest
    )
    go_on(tx, run, now=now, online_for=online_for)
    return True


def fail(tx: Tx, lease: AggregationLease, *, reason: str, now: datetime) -> None:
    """End the round and its run: the same bytes would fail again.

    A secure round whose sum cannot be opened is one that came to too few answers: it is burnt, and
    may be held again.
    """
    locked = lock_leased(tx, lease)
    if locked is None:
        return
    run, row = locked
    if lease.secure is None:
        fail_run(tx, run, row, reason=reason, now=now)
        return
    end_short_round(tx, run, row, f"the sum cannot be opened: {reason}", now=now)
    tx.send(STEP_RUN, run.id)


def _chosen(
    tx: Tx,
    row: Round,
    plan: RunPlan,
    federation_id: UUID,
    to_open: Sum | None,
    mean: SecureMean | None,
) -> tuple[WeightedUpdate, ...]:
    """Return the updates that make the checkpoint: of a secure round their mean, as one."""
    if to_open is not None:
        return ()
    if mean is None:
        return _updates(tx, row, plan, federation_id)
    scalars = {scalar.value: 1.0 for scalar in plan.strategy.local_work().scalars}
    return (
        WeightedUpdate(mean.delta, num_examples=1, scale=1.0, scalars=scalars, parts=mean.parts),
    )


def _updates(tx: Tx, row: Round, plan: RunPlan, federation_id: UUID) -> tuple[WeightedUpdate, ...]:
    counted = update_rows.updates_of_round(tx.session, row.id)
    digests = [item.update.digest for item in counted]
    sizes = artifact_rows.sizes(tx.session, federation_id, digests)
    parts: dict[UUID, dict[str, Blob]] = {}
    for part, size in update_rows.parts_of_round(tx.session, row.id):
        blob = Blob(federation_id, part.digest, size)
        parts.setdefault(part.update_id, {})[part.name] = blob
    made: list[WeightedUpdate] = []
    for item in counted:
        update = item.update
        manifest = wire.UpdateManifest.model_validate_json(update.manifest)
        made.append(
            WeightedUpdate(
                blob=Blob(federation_id, update.digest, sizes[update.digest]),
                num_examples=update.num_examples,
                scale=staleness_scale(plan.buffer, row.number - item.trained_in),
                scalars={name.value: value for name, value in manifest.scalars.items()},
                parts=parts.get(update.id, {}),
                groups=tuple(manifest.groups),
                root=item.site_name == plan.strategy.root_site,
            )
        )
    return tuple(made)


def lock_leased(tx: Tx, lease: AggregationLease) -> tuple[Run, Round] | None:
    """Return the run and the round, locked, or None where the lease was lost."""
    run = rows.lock_run(tx.session, lease.run_id)
    row = rows.lock_round(tx.session, lease.round_id)
    if run is None or row is None or row.lease_token != lease.token:
        return None
    if row.state != RoundState.AGGREGATING:
        return None
    return run, row
