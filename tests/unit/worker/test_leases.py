"""A lease is kept while its holder works, and only then."""

import threading
from datetime import timedelta

from worker.leases import kept

DURATION = timedelta(milliseconds=30)
DEADLINE = 10.0  # seconds


def test_a_lease_is_renewed_until_the_work_ends() -> None:
    renewals: list[None] = []
    enough = threading.Event()

    def renew() -> bool:
        renewals.append(None)
        if len(renewals) == 3:
            enough.set()
        return True

    with kept(renew, duration=DURATION):
        assert enough.wait(DEADLINE)
    after = len(renewals)
    assert not threading.Event().wait(DURATION.total_seconds() * 3)
    assert len(renewals) == after


def test_a_lost_lease_is_not_asked_for_again() -> None:
    asked = threading.Semaphore(0)

    def renew() -> bool:
        asked.release()
        return False

    with kept(renew, duration=DURATION):
        assert asked.acquire(timeout=DEADLINE)
        assert not asked.acquire(timeout=DURATION.total_seconds() * 3)


def test_a_failed_renewal_is_tried_again() -> None:
    asked = threading.Semaphore(0)

    def renew() -> bool:
        asked.release()
        raise ConnectionError("the database is away")

    with kept(renew, duration=DURATION):
        assert asked.acquire(timeout=DEADLINE)
        assert asked.acquire(timeout=DEADLINE)
