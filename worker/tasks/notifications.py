"""Celery tasks that look for trouble and tell people of it.

As in rounds.py a message is only a doorbell: the cursor and the lease in a channel's row say what
is left to send, and `watch` rings again for every channel that is due.
"""

import random
import time
from datetime import timedelta
from uuid import UUID

from app.domain.errors import StorageFullError, StorageUnavailableError
from app.doorbell import CHECK_STORE, DELIVER, WATCH
from app.senders.errors import DeliveryError
from app.senders.outgoing import send
from app.services import deliveries, watches
from app.services.deliveries import ChannelLease
from app.storage import capacity_of
from worker.celery import celery_app
from worker.leases import kept
from worker.runtime import Runtime, runtime

LEASE = timedelta(seconds=30)  # renewed while the worker lives
TURN_SECONDS = 20.0  # then other channels, and rounds, have their turn


@celery_app.task(name=DELIVER)
def deliver(channel_id: str) -> None:
    """Send one channel what it has not had yet, for a while."""
    env = runtime()
    with env.transactions.begin("lease_channel") as tx:
        lease = deliveries.lease(tx, UUID(channel_id), now=env.transactions.now(), duration=LEASE)
    if lease is None:
        return  # nothing to do, not yet, or another worker is at it

    def renew() -> bool:
        with env.transactions.begin("renew_channel") as tx:
            return deliveries.renew(tx, lease, now=env.transactions.now(), duration=LEASE)

    ends_at = time.monotonic() + TURN_SECONDS
    with kept(renew, duration=LEASE):
        while _deliver_next(env, lease):
            if time.monotonic() >= ends_at:
                with env.transactions.begin("give_back_channel") as tx:
                    deliveries.give_back(tx, lease)
                    tx.send(DELIVER, lease.channel_id)
                return


def _deliver_next(env: Runtime, lease: ChannelLease) -> bool:
    """Send one message; False when there is none left, or no going on."""
    with env.transactions.begin("next_delivery") as tx:
        delivery = deliveries.next_delivery(tx, lease)
    if delivery is None:
        return False
    try:
        send(
            env.outlets,
            lease.destination,
            delivery.messages,
            message_id=delivery.message_id,
            now=env.transactions.now(),
        )
    except DeliveryError as error:
        draw = random.random()  # noqa: S311 -- spreads load; nothing secret hangs on it
        with env.transactions.begin("note_failure") as tx:
            deliveries.failed(
                tx, lease, reason=str(error), gone=error.gone, now=env.transactions.now(), draw=draw
            )
        return False
    with env.transactions.begin("note_delivery") as tx:
        return deliveries.delivered(tx, lease, delivery, now=env.transactions.now())


@celery_app.task(name=WATCH)
def watch() -> None:
    """Look for silent sites and waiting runs, and ring for channels that are due. Beat calls it."""
    env = runtime()
    now = env.transactions.now()
    with env.transactions.begin("watch_sites") as tx:
        watches.watch_sites(tx, now=now, online_for=env.online_for)
    with env.transactions.begin("watch_runs") as tx:
        waiting_for = timedelta(minutes=env.settings.run_waiting_minutes)
        watches.watch_runs(tx, now=now, waiting_for=waiting_for)
    with env.transactions.begin("watch_channels") as tx:
        for channel_id in deliveries.due(tx, now=now):
            tx.send(DELIVER, channel_id)


@celery_app.task(name=CHECK_STORE)
def check_store() -> None:
    """See whether the artifact store answers and has space left. Beat calls it."""
    env = runtime()
    unavailable, full, capacity = None, None, None
    try:
        env.artifacts.require_usable()
        capacity = capacity_of(env.artifacts)
    except StorageFullError as error:
        full = str(error)
    except StorageUnavailableError as error:
        unavailable = str(error)
    with env.transactions.begin("note_store") as tx:
        watches.note_store(
            tx, unavailable=unavailable, full=full, capacity=capacity, now=env.transactions.now()
        )
