"""The one clock of all decisions: the database's, whatever the clocks of its hosts say.

Hubs, workers and beat may run on hosts that disagree about the time by minutes; a lease that one
of them gave would then be over, or for ever, to another. So every process measures the database's
clock and goes on from there by its own monotonic clock, which nobody sets. The wall clock of the
host is not read at all.

Invariants: a measurement is off by half its round trip at most; one whose answer was slow never
replaces a better one; between two measurements the error grows by the drift of a quartz, some
microseconds a second.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from app.db.engine import database_time

MEASURE_EVERY_SECONDS = 30.0
SLOW_SECONDS = 1.0  # a round trip that tells the time too badly


@dataclass(frozen=True, slots=True)
class _Measurement:
    time: datetime  # the database's, UTC
    at: float  # monotonic seconds


class DatabaseClock:
    """The database's time as one process knows it. Safe between threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last: _Measurement | None = None
        self._due_at = float("-inf")  # monotonic seconds

    @property
    def is_set(self) -> bool:
        """Whether `now` can answer."""
        return self._last is not None

    def now(self) -> datetime:
        """Return the database's time, UTC, without asking it.

        Raises:
            ValueError: nothing was measured yet.
        """
        last = self._last
        if last is None:
            raise ValueError("the database's clock was not measured yet; measure() it first")
        return last.time + timedelta(seconds=self._monotonic() - last.at)

    def measure_if_due(self, session: Session) -> None:
        """Measure when the last time was MEASURE_EVERY_SECONDS ago; usually costs nothing."""
        if self._monotonic() >= self._due_at:
            self.measure(session)

    def measure(self, session: Session) -> None:
        """Ask the database for its time."""
        began = self._monotonic()
        self._due_at = began + MEASURE_EVERY_SECONDS  # before: other threads need not ask, too
        session.connection()  # waiting for one is no part of the round trip
        asked = self._monotonic()
        told = database_time(session)
        answered = self._monotonic()
        if self._last is None or answered - asked <= SLOW_SECONDS:
            self._last = _Measurement(told, (asked + answered) / 2)
