"""Celery tasks that delete: what policies let go, blobs that no row names, broken-off uploads.

Slow, hourly, and repeatable. A mark keeps two workers from doing the same at once, as a message
that takes long is delivered twice; it is no lock, because both may do it without harm.
"""

from datetime import timedelta

import structlog

from app.domain.errors import StorageUnavailableError
from app.doorbell import APPLY_RETENTION, SWEEP_STORE
from app.services import retention
from worker.celery import HOUSEKEEPING_SECONDS, celery_app
from worker.runtime import Runtime, runtime

log = structlog.get_logger()

# Of beat's interval: its messages are late by some seconds, now and then.
NOT_AGAIN_WITHIN = timedelta(seconds=HOUSEKEEPING_SECONDS / 2)


@celery_app.task(name=APPLY_RETENTION)
def apply_retention() -> None:
    """Delete what the federations' retention policies let go."""
    env = runtime()
    if not _claimed(env, APPLY_RETENTION):
        return
    try:
        retention.apply(
            env.transactions, env.artifacts, now=env.transactions.now(), grace=env.orphan_grace
        )
    except StorageUnavailableError as error:
        log.warning("retention_put_off", error=str(error))


@celery_app.task(name=SWEEP_STORE)
def sweep_store() -> None:
    """Delete orphaned blobs and what killed writers left."""
    env = runtime()
    if not _claimed(env, SWEEP_STORE):
        return
    try:
        env.artifacts.sweep_incoming(env.transactions.now())
        retention.sweep_orphans(
            env.transactions, env.artifacts, now=env.transactions.now(), grace=env.orphan_grace
        )
    except StorageUnavailableError as error:
        log.warning("store_sweep_put_off", error=str(error))


def _claimed(env: Runtime, name: str) -> bool:
    with env.transactions.begin("claim_housekeeping") as tx:
        return retention.claim(tx, name, now=env.transactions.now(), every=NOT_AGAIN_WITHIN)
