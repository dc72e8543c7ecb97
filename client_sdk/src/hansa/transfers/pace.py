"""How fast a transfer is and how long it will take, from what it said of itself."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 10.0  # of the past that the rate is taken from


@dataclass(frozen=True, slots=True)
class Pace:
    """A transfer at one moment."""

    done: int  # bytes
    size: int  # bytes
    bytes_per_second: float  # over the last seconds; 0 while nothing is known
    seconds_left: float | None  # None: unknown

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        return self.done / self.size if self.size else 1.0

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers as a heartbeat carries them."""
        found = {"bytes_per_second": self.bytes_per_second}
        if self.seconds_left is not None:
            found["seconds_left"] = self.seconds_left
        return found

    def __str__(self) -> str:
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
        return (
            f"{megabytes(self.done)} of {megabytes(self.size)} MB, "
            f"{megabytes(self.bytes_per_second)} MB/s{left}"
        )


class Meter:
    """Watches one transfer of `size` bytes. What was there before it began does not count."""

    def __init__(self, size: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = size
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()  # (when, bytes done), oldest first

    def note(self, done: int) -> Pace:
        """Take in how many bytes are done now."""
        now = self._clock()
        seen = self._seen
        while len(seen) > 1 and now - seen[0][0] > WINDOW_SECONDS:
            seen.popleft()
        if not seen or now > seen[-1][0]:
            seen.append((now, done))
        seconds = now - seen[0][0]
        rate = max(0.0, (done - seen[0][1]) / seconds) if seconds > 0 else 0.0
        left = (self._size - done) / rate if rate > 0 else None
        return Pace(done, self._size, rate, left)


def megabytes(count: float) -> str:
    """Return bytes in 10**6, as exact as people want it: "0.5", "12", "1200"."""
    value = count / 1e6
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"  # noqa: PLR2004


def duration(seconds: float) -> str:
    """Return "45 s", "12 min" or "3 h 05 min"."""
    if seconds < 90:  # noqa: PLR2004 -- below, minutes tell too little
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"  # noqa: PLR2004
