"""Celery tasks that carry runs forward. A message is a doorbell, not a record.

It may be lost, repeated or late, and the run still ends the same way: the rows in Postgres say
what is left to do, and `sweep` rings again for every run that is due. So there is no Celery
retry here; the lease is the one retry mechanism. `now` is the database's, on every host.
"""

from datetime import timedelta
from uuid import UUID

import structlog

from app.domain.errors import ArtifactPurgedError, StorageUnavailableError, UnusableUpdatesError
from app.doorbell import (
    AGGREGATE_PART,
    AGGREGATE_ROUND,
    AGREE_ROUND,
    STEP_RUN,
    SWEEP,
    Job,
)
from app.services import aggregation, housekeeping, retention, rounds, splitting
from app.services.aggregation import Aggregated, AggregationLease
from app.services.secure import driving, signing
from worker.celery import celery_app
from worker.leases import kept
from worker.runtime import Runtime, runtime

log = structlog.get_logger()

STORE_RETRY = timedelta(seconds=10)  # after the store failed an aggregation


@celery_app.task(name=STEP_RUN)
def step_run(run_id: str) -> None:
    """Apply every decision that is due for one run, and do at once what it decides to aggregate.

    Whoever dies over that has left rows that a sweep rings for, as after any message.
    """
    env = runtime()
    env.transactions.ringer.heard(Job(STEP_RUN, UUID(run_id)))
    now = env.transactions.now()
    if not housekeeping.is_well(env.health.well_until, now=now):
        with env.transactions.begin("forgive_outage") as tx:
            env.health.well_until = housekeeping.forgive_outage(tx, now=now, leases=env.leases)
    with env.transactions.begin("step_run") as tx:
        rounds.step(tx, UUID(run_id), now=now, online_for=env.online_for)
        agreed = tx.take(AGREE_ROUND)
        decided = tx.take(AGGREGATE_ROUND)
    for round_id in agreed:
        agree_round(str(round_id))
    for round_id in decided:
        aggregate_round(str(round_id))


@celery_app.task(name=AGREE_ROUND)
def agree_round(round_id: str) -> None:
    """Find out which masked updates of a round fit each other; ask the committee to sign that."""
    env = runtime()
    duration = env.aggregation_lease
    with env.transactions.begin("lease_agreement") as tx:
        lease = signing.lease(tx, UUID(round_id), now=env.transactions.now(), duration=duration)
    if lease is None:
        return  # done, closed, given up, or held by another worker

    def renew() -> bool:
        with env.transactions.begin("renew_agreement") as tx:
            return signing.renew(tx, lease, now=env.transactions.now(), duration=duration)

    try:
        with kept(renew, duration=duration):
            found = signing.agree(lease, env.artifacts)
        with env.transactions.begin("propose_survivors") as tx:
            rounds.propose(tx, lease, found, now=env.transactions.now(), online_for=env.online_for)
    except StorageUnavailableError as error:
        log.warning("agreement_delayed", round_id=round_id, error=str(error))
        with env.transactions.begin("release_agreement") as tx:
            signing.release(tx, lease, not_before=env.transactions.now() + STORE_RETRY)


@celery_app.task(name=AGGREGATE_ROUND)
def aggregate_round(round_id: str) -> None:
    """Combine one round's updates into the next checkpoint, under a lease.

    A large one is split: then this only plans the next stage, or puts the finished parts together.
    A store that is away or full is nobody's failure: the lease is given back for a while, and no
    attempt is counted.
    """
    env = runtime()
    duration = env.aggregation_lease
    with env.transactions.begin("lease_aggregation") as tx:
        lease = aggregation.lease(tx, UUID(round_id), now=env.transactions.now(), duration=duration)
    if lease is None:
        return  # finished, cancelled, given up, or held by another worker

    def renew() -> bool:
        with env.transactions.begin("renew_aggregation") as tx:
            return aggregation.renew(tx, lease, now=env.transactions.now(), duration=duration)

    try:
        with kept(renew, duration=duration):
            ready = lease if lease.secure is None else _open_sum(env, lease)
            made = None if ready is None else _make(env, ready)
        if ready is not None and made is not None:
            _complete(env, ready, made)
    except UnusableUpdatesError as error:  # a retry would read the same bytes
        with env.transactions.begin("fail_aggregation") as tx:
            aggregation.fail(tx, lease, reason=str(error), now=env.transactions.now())
    except StorageUnavailableError as error:
        log.warning("aggregation_delayed", round_id=round_id, error=str(error))
        with env.transactions.begin("release_aggregation") as tx:
            not_before = env.transactions.now() + STORE_RETRY
            aggregation.release(tx, lease, reason=str(error), not_before=not_before)


def _open_sum(env: Runtime, lease: AggregationLease) -> AggregationLease | None:
    part_bytes, duration = env.settings.aggregation_part_bytes, env.aggregation_lease
    return driving.advance(
        env.transactions, env.artifacts, lease, part_bytes=part_bytes, duration=duration
    )


def _make(env: Runtime, lease: AggregationLease) -> Aggregated | None:
    wanted = splitting.parts_wanted(lease, part_bytes=env.settings.aggregation_part_bytes)
    if wanted == 1:
        return aggregation.aggregate(lease, env.artifacts)
    return _advance(env, lease, wanted)


def _advance(env: Runtime, lease: AggregationLease, wanted: int) -> Aggregated | None:
    """Do what a split aggregation needs next; None while its parts are worked on.

    Raises:
        UnusableUpdatesError, StorageUnavailableError: as `aggregation.aggregate`.
    """
    with env.transactions.begin("read_parts") as tx:
        progress = splitting.progress_of(tx, lease.round_id)
        hopeless = splitting.given_up(tx, lease.round_id, now=env.transactions.now())
    if hopeless is not None:
        raise UnusableUpdatesError(hopeless)
    if progress is not None and progress.written is not None:
        try:
            return splitting.assemble(lease, env.artifacts, progress.written)
        except splitting.PartsLostError as error:
            log.warning("parts_lost", round_id=str(lease.round_id), error=str(error))
            with env.transactions.begin("begin_again") as tx:
                splitting.begin_again(tx, lease.round_id)
                splitting.let_go(tx, lease, until=env.transactions.now())
            return None
    until = env.transactions.now() + env.aggregation_lease
    if progress is not None and progress.open:
        with env.transactions.begin("await_parts") as tx:
            splitting.ring(tx, lease.round_id)
            splitting.let_go(tx, lease, until=until)
        return None
    so_far = progress or splitting.Progress(parts=wanted, done=(), open=0)
    stage = splitting.plan_stage(lease, env.artifacts, so_far)
    with env.transactions.begin("open_stage") as tx:
        splitting.open_stage(tx, lease, stage, number=len(so_far.done), wanted=so_far.parts)
        splitting.let_go(tx, lease, until=until)
    return None


@celery_app.task(name=AGGREGATE_PART)
def aggregate_part(part_id: str) -> None:
    """Make one part of an aggregation that is split, under a lease of its own."""
    env = runtime()
    duration = env.aggregation_lease
    with env.transactions.begin("lease_part") as tx:
        held = splitting.lease_part(
            tx, UUID(part_id), now=env.transactions.now(), duration=duration
        )
    if held is None:
        return  # done, held by another worker, or given up with its round

    def renew() -> bool:
        with env.transactions.begin("renew_part") as tx:
            return splitting.renew_part(tx, held, now=env.transactions.now(), duration=duration)

    try:
        with kept(renew, duration=duration):
            result = splitting.make_part(held, env.artifacts)
        with env.transactions.begin("finish_part") as tx:
            splitting.finish_part(tx, held, result)
    except UnusableUpdatesError as error:
        with env.transactions.begin("fail_part") as tx:
            splitting.fail_part(tx, held, reason=str(error), now=env.transactions.now())
    except StorageUnavailableError as error:
        log.warning("part_delayed", part_id=part_id, error=str(error))
        with env.transactions.begin("release_part") as tx:
            not_before = env.transactions.now() + STORE_RETRY
            splitting.release_part(tx, held, not_before=not_before)


def _complete(env: Runtime, lease: AggregationLease, made: Aggregated) -> None:
    parts: list[str] = []
    try:
        with env.transactions.begin("complete_aggregation") as tx:
            if aggregation.complete(
                tx, lease, made, now=env.transactions.now(), online_for=env.online_for
            ):
                parts = splitting.forget(tx, lease.round_id)
    except ArtifactPurgedError:  # these very bytes were once deleted
        federation_id = lease.base.federation_id
        with env.transactions.begin("revive_checkpoint") as tx:
            retention.revive_purged(
                tx, env.artifacts, federation_id, made.blobs, now=env.transactions.now()
            )
        with env.transactions.begin("complete_aggregation") as tx:
            if aggregation.complete(
                tx, lease, made, now=env.transactions.now(), online_for=env.online_for
            ):
                parts = splitting.forget(tx, lease.round_id)
    for digest in parts:  # the orphan sweep would find them, a day later
        env.artifacts.delete(lease.base.federation_id, digest)


@celery_app.task(name=SWEEP)
def sweep() -> None:
    """Ring for every run that is due, and drop what has expired. Beat calls it."""
    env = runtime()
    now = env.transactions.now()
    with env.transactions.begin("note_sweep") as tx:
        gap = housekeeping.note_sweep(tx, now=now, leases=env.leases)
    if gap:
        log.warning("outage_forgiven", seconds=gap.total_seconds())
    with env.transactions.begin("sweep") as tx:
        for run_id in rounds.due(tx, now=now):
            tx.send(STEP_RUN, run_id)
        housekeeping.drop_expired(tx, now=now)
