"""Celery tasks that carry runs forward. A message is a doorbell, not a record.

It may be lost, repeated or late, and the run still ends the same way: the rows in Postgres say
what is left to do, and `sweep` rings again for every run that is due. So there is no Celery
retry here; the lease is the one retry mechanism.
"""

from datetime import timedelta
from uuid import UUID

from app.domain.clock import utc_now
from app.domain.errors import UnusableUpdatesError
from app.doorbell import AGGREGATE_ROUND, STEP_RUN, SWEEP
from app.services import aggregation, housekeeping, rounds
from worker.celery import celery_app
from worker.leases import kept
from worker.runtime import runtime


@celery_app.task(name=STEP_RUN)
def step_run(run_id: str) -> None:
    """Apply every decision that is due for one run."""
    env = runtime()
    with env.transactions.begin("step_run") as tx:
        rounds.step(tx, UUID(run_id), now=utc_now(), online_for=env.online_for)


@celery_app.task(name=AGGREGATE_ROUND)
def aggregate_round(round_id: str) -> None:
    """Combine one round's updates into the next checkpoint, under a lease."""
    env = runtime()
    duration = timedelta(seconds=env.settings.aggregation_lease_seconds)
    with env.transactions.begin("lease_aggregation") as tx:
        lease = aggregation.lease(tx, UUID(round_id), now=utc_now(), duration=duration)
    if lease is None:
        return  # finished, cancelled, given up, or held by another worker

    def renew() -> bool:
        with env.transactions.begin("renew_aggregation") as tx:
            return aggregation.renew(tx, lease, now=utc_now(), duration=duration)

    try:
        with kept(renew, duration=duration):
            checkpoint = aggregation.aggregate(lease, env.artifacts)
    except UnusableUpdatesError as error:  # a retry would read the same bytes
        with env.transactions.begin("fail_aggregation") as tx:
            aggregation.fail(tx, lease, reason=str(error), now=utc_now())
        return

    with env.transactions.begin("complete_aggregation") as tx:
        aggregation.complete(tx, lease, checkpoint, now=utc_now(), online_for=env.online_for)


@celery_app.task(name=SWEEP)
def sweep() -> None:
    """Ring for every run that is due, and drop what has expired. Beat calls it."""
    env = runtime()
    now = utc_now()
    with env.transactions.begin("sweep") as tx:
        for run_id in rounds.due(tx, now=now):
            tx.send(STEP_RUN, run_id)
        housekeeping.drop_expired(tx, now=now)
    env.artifacts.sweep_incoming(now)
