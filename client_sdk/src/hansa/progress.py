"""What a site tells of a transfer: the hub in heartbeats, people in a line now and then."""

import time
from collections.abc import Callable, Mapping

from hansa.heartbeats import Heartbeats
from hansa.transfers import Meter
from hansa_core.states import TaskPhase

REPORT_SECONDS = 0.5  # between two reports to the heartbeats, which carry the last one
LINE_SECONDS = 10.0  # between two lines; a transfer that is over by then has none

_VERBS = {TaskPhase.UPLOADING: "uploaded", TaskPhase.DOWNLOADING: "downloaded"}

Step = Callable[[str, str, Mapping[str, object]], None]  # (event kind, message, fields)


class ProgressReport:
    """One transfer of `size` bytes."""

    def __init__(
        self,
        beats: Heartbeats,
        phase: TaskPhase,
        size: int,
        step: Step,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._beats = beats
        self._phase = phase
        self._size = size
        self._step = step
        self._clock = clock
        self._meter = Meter(size, clock=clock)
        self._reported_at: float | None = None
        self._line_at = clock() + LINE_SECONDS

    def note(self, done: int) -> None:
        """Take in how many bytes are done. Cheap: it may be called for every piece."""
        now = self._clock()
        last = self._reported_at
        if last is not None and now - last < REPORT_SECONDS and done < self._size:
            return
        self._reported_at = now
        pace = self._meter.note(done)
        self._beats.report(self._phase, pace.fraction, pace.metrics)
        if now >= self._line_at:
            self._line_at = now + LINE_SECONDS
            self._step(
                f"{self._phase}_progressed", f"{_VERBS[self._phase]} {pace}", dict(pace.metrics)
            )
