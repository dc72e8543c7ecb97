"""Keeping a lease while long work goes on: a thread renews it, and dies with the process.

So a lease can be short: what a killed worker held is free again in seconds, however long the work
would have taken. A lost lease is not told to the work: its end checks the token anyway.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta

import structlog

log = structlog.get_logger()

RENEWALS_PER_LEASE = 3  # two may fail before the lease runs out


@contextmanager
def kept(renew: Callable[[], bool], *, duration: timedelta) -> Generator[None]:
    """Call `renew` several times a `duration` until the block ends or it answers False."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(duration.total_seconds() / RENEWALS_PER_LEASE):
            try:
                if not renew():
                    log.warning("lease_lost")
                    return
            except Exception:
                log.exception("lease_not_renewed")  # the database may be back at the next turn

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
