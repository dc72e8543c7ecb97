"""A bound on bytes per second, shared by everything that is sent or received at once.

A token bucket: it fills at the rate, holds a quarter of a second's worth, and who takes more than
is there waits. So a transfer that pauses does not make up for it in one burst.
"""

import re
import threading
import time
from collections.abc import Callable

from hansa.errors import LocalError

BURST_SECONDS = 0.25
LEAST_RATE = 1024.0  # bytes per second; less is a mistake in the unit

_RATE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKmMgG]?)(i?)(?:[bB](?:/s)?)?\s*")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3}


class Throttle:
    """At most `rate` bytes per second; None: no bound. Safe to share between threads."""

    def __init__(
        self, rate: float | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._level = 0.0  # bytes that may go now; negative: promised to those who wait
        self._at = clock()

    def take(self, size: int) -> float:
        """Take `size` bytes; return the seconds to wait before they are sent or asked for."""
        if self.rate is None:
            return 0.0
        with self._lock:
            now = self._clock()
            full = self.rate * BURST_SECONDS
            self._level = min(full, self._level + (now - self._at) * self.rate) - size
            self._at = now
            return max(0.0, -self._level / self.rate)


def parse_rate(text: str) -> float:
    """Return "5MB/s", "800 KB/s", "2MiB" or "1000000" in bytes per second. Raises LocalError."""
    match = _RATE.fullmatch(text)
    rate = 0.0
    if match is not None:
        base = 1024 if match[3] else 1000
        rate = float(match[1]) * base ** _POWERS[match[2].lower()]
    if rate < LEAST_RATE:
        raise LocalError(
            f"the rate {text!r} is none, or too little: wanted like 5MB/s, at least 1KiB/s"
        )
    return rate
