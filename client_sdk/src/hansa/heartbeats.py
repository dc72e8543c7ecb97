"""Keeps a task's lease alive from a thread of its own while the main thread works.

Invariants: a hub that cannot be reached does not stop the work; a hub that says the task is
closed, lost or unwanted does, through `stop_reason`. Closing waits for no slow hub.
"""

import threading
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Self

from pydantic import ValidationError

from hansa.errors import HansaError, RetryableError, TaskLostError
from hansa.site import SiteClient
from hansa.trainer import TrainerError
from hansa_core import wire
from hansa_core.states import TaskPhase

FIRST_BEAT_SECONDS = 1.0  # then as often as the lease asks
JOIN_SECONDS = 2.0


class Heartbeats:
    """The heartbeats of one task, from entering to leaving the `with` block."""

    def __init__(
        self,
        client: SiteClient,
        task: wire.Task,
        on_trouble: Callable[[HansaError], None],
        on_duties: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._task = task
        self._on_trouble = on_trouble
        self._on_duties = on_duties  # told when the hub has duties for this site
        self._progress = wire.Progress(phase=TaskPhase.DOWNLOADING, fraction=0.0)
        self._closed = threading.Event()
        self._stop_reason: str | None = None
        self._lost: TaskLostError | None = None
        self._thread = threading.Thread(target=self._run, name="hansa-heartbeats", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join(JOIN_SECONDS)

    @property
    def stop_reason(self) -> str | None:
        """Why the work should stop; None while it should go on."""
        return self._stop_reason

    @property
    def lost(self) -> TaskLostError | None:
        """What the hub said when it took the task away; None otherwise."""
        return self._lost

    def report(
        self, phase: TaskPhase, fraction: float, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Say how far the work is; the next beat carries it. Metrics that are NaN are left out.

        Raises:
            TrainerError: a metric's name is one that no hub takes.
        """
        if not metrics:  # told for every chunk of a file: nothing to check, nothing to spend
            self._progress = wire.Progress.model_construct(
                phase=phase, fraction=_within(fraction), metrics={}
            )
            return
        finite = {name: float(value) for name, value in metrics.items() if isfinite(value)}
        try:
            self._progress = wire.Progress(phase=phase, fraction=_within(fraction), metrics=finite)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise TrainerError(f"reported metrics {sorted(finite)}: {first['msg']}") from error

    def _run(self) -> None:
        interval = self._task.lease.heartbeat_seconds
        wait = min(FIRST_BEAT_SECONDS, interval)
        while not self._closed.wait(wait):
            wait = interval
            try:
                reply = self._client.beat(self._task, self._progress)
            except RetryableError as error:
                if not self._closed.is_set():
                    self._on_trouble(error)
                continue
            except HansaError as error:
                if not self._closed.is_set():
                    self._lost = error if isinstance(error, TaskLostError) else None
                    self._stop_reason = str(error)
                return
            if reply.duties:
                self._on_duties()
            if reply.stop:
                self._stop_reason = reply.reason or "the hub asked to stop"
                return


def _within(fraction: float) -> float:
    return min(1.0, max(0.0, fraction)) if isfinite(fraction) else 0.0
