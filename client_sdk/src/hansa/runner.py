"""The site's loop: ask for a task, do it, answer it, for ever.

Invariants:
- a failed task never ends the loop, and neither does a hub that is away: both are waited out;
- what the hub took back is abandoned without a report, what went wrong here is reported;
- an answer that was signed is sent as it is, however often the process is killed (journal.py);
- one SIGTERM or SIGINT ends the loop after the task at hand, a second one at once.

What a researcher is told of an exception, and what not: failures.py.
"""

import random
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeVar

from hansa.errors import (
    HansaError,
    LocalError,
    NotAuthenticatedError,
    ReenrollError,
    RetryableError,
    SiteNotActiveError,
    TaskLostError,
)
from hansa.failures import Tracebacks, describe_failure, traceback_of
from hansa.hardware import hardware_of_this_machine
from hansa.heartbeats import Heartbeats
from hansa.identity import StateDir
from hansa.journal import Answer, Journal
from hansa.memory import Memory, MemoryLimits
from hansa.progress import ProgressReport
from hansa.site import SiteClient, settle_rotation
from hansa.trainer import Trainer
from hansa.transfers import TransferOptions
from hansa.transport import RetryPolicy
from hansa.work import AbandonedError, Workshop, require_wanted, work
from hansa_core import wire
from hansa_core.states import SiteState, TaskPhase

QUICK_CLAIM_SECONDS = 1.0  # a hub that has nothing and does not wait is not asked at once again
CALL_RETRY = RetryPolicy(attempts=4)
OUTAGE = RetryPolicy(first_delay_seconds=0.5, max_delay_seconds=30.0)
APPROVAL = RetryPolicy(first_delay_seconds=1.0, max_delay_seconds=15.0)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class RunnerEvent:
    """Something that happened, for people (`message`) and for programs."""

    kind: str  # past tense: "task_claimed"
    message: str
    fields: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How a runner behaves."""

    device: str = "cpu"
    tracebacks: Tracebacks = Tracebacks.FULL
    max_tasks: int | None = None  # None: until stopped
    wait_seconds: float = 25.0  # of one long poll
    call_retry: RetryPolicy = CALL_RETRY  # within one call
    outage: RetryPolicy = OUTAGE  # between calls, without an end
    approval: RetryPolicy = APPROVAL  # between looks at the site's state, without an end
    memory: MemoryLimits = field(default_factory=MemoryLimits)  # kept from round to round
    transfers: TransferOptions = field(default_factory=TransferOptions)


@dataclass(slots=True)
class Summary:
    """What a runner did."""

    done: int = 0
    failed: int = 0
    abandoned: int = 0

    @property
    def tasks(self) -> int:
        """How many tasks came to an end here."""
        return self.done + self.failed + self.abandoned


class StopNow(BaseException):
    """Ends the process's work wherever it is."""


def log_nothing(event: RunnerEvent) -> None:
    """Drop the event."""
    del event


class SiteRunner:
    """One enrolled site at work. `run` may be called once."""

    def __init__(
        self,
        state: StateDir,
        trainer: Trainer[Any],
        *,
        options: RunnerOptions | None = None,
        on_event: Callable[[RunnerEvent], None] = log_nothing,
    ) -> None:
        self._state = state
        self._trainer = trainer
        self._options = options or RunnerOptions()
        self._on_event = on_event
        self._stopping = threading.Event()
        self._interruptible = False  # the main thread waits for the hub and holds no task
        self._summary = Summary()

    def run(self) -> Summary:
        """Work until stopped, or until `max_tasks` tasks came to an end.

        Raises:
            LocalError: the state folder is in use or holds no site.
            ReenrollError: the hub does not know this site any more.
        """
        with self._state.locked():
            identity = self._patiently(
                lambda: settle_rotation(self._state, retry=self._options.call_retry)
            )
            if identity is None:
                return self._summary
            journal = Journal(self._state.path)
            memory = Memory(self._state.path, self._options.memory)
            memory.trim()
            client = SiteClient(
                identity,
                retry=self._options.call_retry,
                sleep=self._stopping.wait,
                transfers=self._options.transfers,
            )
            self._emit(
                "runner_started",
                f"site {identity.record.site_name} of {identity.record.federation_slug} "
                f"works for {identity.record.hub_url}",
            )
            try:
                shop = Workshop(
                    client, journal, memory, self._trainer, self._options.device, self._emit
                )
                self._loop(shop)
            except StopNow:
                pass
            finally:
                client.close()
                self._emit(
                    "runner_stopped",
                    f"stopped after {self._summary.done} done, {self._summary.failed} failed, "
                    f"{self._summary.abandoned} abandoned",
                )
        return self._summary

    def stop(self) -> None:
        """Ask the loop to end after the task at hand. Safe from any thread and twice."""
        self._stopping.set()

    @contextmanager
    def stopping_on_signals(self) -> Generator[None]:
        """Let SIGTERM and SIGINT stop the runner: politely, the second time at once."""
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._stopping.is_set():
            raise StopNow
        self._stopping.set()
        if self._interruptible:
            raise StopNow
        name = signal.Signals(number).name
        self._emit("stop_requested", f"{name}: stops after this task; once more stops now")

    def _loop(self, shop: Workshop) -> None:
        hardware = hardware_of_this_machine()
        while not self._finished():
            started = time.monotonic()
            try:
                task = self._claim(shop.client, hardware)
            except (SiteNotActiveError, NotAuthenticatedError):
                self._wait_until_active(shop.client)
                continue
            if task is None:
                if time.monotonic() - started < QUICK_CLAIM_SECONDS:
                    self._sleep(QUICK_CLAIM_SECONDS * (0.5 + _draw()))
                continue
            self._handle(shop, task)

    def _finished(self) -> bool:
        limit = self._options.max_tasks
        return self._stopping.is_set() or (limit is not None and self._summary.tasks >= limit)

    def _claim(self, client: SiteClient, hardware: wire.Hardware) -> wire.Task | None:
        return self._patiently(
            lambda: self._interruptibly(
                lambda: client.claim(wait_seconds=self._options.wait_seconds, hardware=hardware)
            )
        )

    def _interruptibly(self, wait: Callable[[], ResultT]) -> ResultT | None:
        """Return what `wait` returns; a signal ends it. Nothing may be lost by that."""
        self._interruptible = True
        try:
            # A signal before this line has set the event, one after it raises.
            return None if self._stopping.is_set() else wait()
        finally:
            self._interruptible = False

    def _patiently(
        self, call: Callable[[], ResultT], beats: Heartbeats | None = None
    ) -> ResultT | None:
        """Return what `call` returns, waiting out a hub that is away; None when stopping.

        Raises:
            HansaError: what `call` raises, but no RetryableError.
            TaskLostError, AbandonedError: `beats` learnt that nobody waits for this.
        """
        attempt = 0
        while True:
            try:
                result = call()
            except RetryableError as error:
                attempt += 1
                if attempt == 1:
                    self._emit("hub_unreachable", f"{error}; trying again until it answers")
                self._sleep(
                    max(self._options.outage.delay(attempt, _draw()), error.retry_after_seconds)
                )
                if self._stopping.is_set():
                    return None
                if beats is not None:
                    require_wanted(beats)
                continue
            if attempt:
                self._emit("hub_reached", "the hub answers again")
            return result

    def _wait_until_active(self, client: SiteClient) -> None:
        """Return once the site may take part, or the runner stops. Raises ReenrollError."""
        said: str | None = None
        attempt = 0
        while not self._stopping.is_set():
            try:
                view = self._patiently(client.view)
            except SiteNotActiveError as error:
                reason, state = str(error), SiteState.SUSPENDED
            else:
                if view is None:
                    return
                if view.state is SiteState.ACTIVE:
                    if said is not None:
                        self._emit("site_active", "the site is active")
                    self._sleep(self._options.approval.delay(1, _draw()) if not attempt else 0)
                    return
                reason, state = view.state_reason, view.state
            message = _waits_for(state, reason, client.identity.record.fingerprint)
            if message != said:
                said = message
                kind = "approval_awaited" if state is SiteState.PENDING else "site_not_active"
                self._emit(kind, message)
            attempt += 1
            self._sleep(self._options.approval.delay(attempt, _draw()))

    def _handle(self, shop: Workshop, task: wire.Task) -> None:
        """Bring one task to an end. Only what concerns the whole site is raised."""
        self._emit(
            "task_claimed",
            f"run {task.run_name}, round {task.round_number}: {task.kind}",
            {"task_id": str(task.id), "run_id": str(task.run_id), "attempt": task.attempt},
        )
        with Heartbeats(shop.client, task, self._on_heartbeat_trouble) as beats:
            try:
                if not self._answer(shop, task, beats):
                    return  # stopping; the journal has the answer
            except (TaskLostError, AbandonedError) as error:
                if error.slug != "lease-lost":  # that one comes back: its answer stays
                    shop.journal.finish(task.id)
                self._summary.abandoned += 1
                self._emit("task_abandoned", f"abandoned: {error}", {"task_id": str(task.id)})
            except (ReenrollError, SiteNotActiveError, NotAuthenticatedError) as error:
                self._summary.abandoned += 1
                self._emit("task_abandoned", f"abandoned: {error}", {"task_id": str(task.id)})
                if isinstance(error, ReenrollError):
                    raise
            except Exception as error:
                self._fail(shop, task, beats, error)
                shop.journal.finish(task.id)
                self._summary.failed += 1
            else:
                shop.journal.finish(task.id)
                self._summary.done += 1

    def _answer(self, shop: Workshop, task: wire.Task, beats: Heartbeats) -> bool:
        """Do the task, or take the answer that is ready, and send it. False when stopping."""
        answer = shop.journal.begin(task)
        if answer is None:
            answer = self._patiently(lambda: work(shop, task, beats), beats)
        else:
            self._emit("task_resumed", "an answer was ready: sending it, not training again")
        if answer is None:
            return False
        receipt = self._patiently(lambda: self._send(shop, task, answer, beats), beats)
        if receipt is None:
            return False
        self._emit(
            "task_submitted",
            f"the hub has round {task.round_number}'s answer",
            {"task_id": str(task.id), "digest": receipt.digest},
        )
        return True

    def _send(
        self, shop: Workshop, task: wire.Task, answer: Answer, beats: Heartbeats
    ) -> wire.TaskReceipt:
        if answer.report is not None:
            return shop.client.submit_evaluation(task, answer.report, answer.signature)
        manifest = answer.manifest
        if manifest is None:
            raise LocalError("the journal's answer is empty")

        total = manifest.size + sum(part.size for part in manifest.parts.values())
        before = 0  # bytes of the files that are there
        told = ProgressReport(beats, TaskPhase.UPLOADING, total, self._emit)

        def on_bytes(done: int) -> None:
            told.note(before + done)
            require_wanted(beats)

        for name, part in manifest.parts.items():
            path = shop.journal.part_path(task.id, name)
            shop.client.upload_delta(
                task, path, digest=part.digest, size=part.size, part=name, on_bytes=on_bytes
            )
            before += part.size
            self._emit("part_uploaded", f"uploaded the update's {name}, {part.size} bytes")
        shop.client.upload_delta(
            task,
            shop.journal.delta_path(task),
            digest=manifest.digest,
            size=manifest.size,
            on_bytes=on_bytes,
        )
        self._emit("delta_uploaded", f"uploaded the delta, {manifest.size} bytes")
        return shop.client.submit_update(task, manifest, answer.signature)

    def _fail(self, shop: Workshop, task: wire.Task, beats: Heartbeats, error: Exception) -> None:
        """Report a failed task; that the report does not arrive is logged, no more."""
        told, trace = describe_failure(error, self._options.tracebacks)
        self._emit(
            "task_failed",
            f"failed: {error}",
            {"task_id": str(task.id), "traceback": traceback_of(error)},
        )
        try:
            self._patiently(lambda: shop.client.fail(task, told, trace), beats)
        except HansaError as failure:
            self._emit("report_failed", f"the hub did not take the failure report: {failure}")

    def _on_heartbeat_trouble(self, error: HansaError) -> None:
        self._emit("heartbeat_failed", f"{error}; the work goes on")

    def _sleep(self, seconds: float) -> None:
        self._interruptibly(lambda: self._stopping.wait(seconds))

    def _emit(self, kind: str, message: str, fields: Mapping[str, object] | None = None) -> None:
        self._on_event(RunnerEvent(kind, message, fields or {}))


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _waits_for(state: SiteState, reason: str | None, fingerprint: str) -> str:
    if state is SiteState.PENDING:
        return (
            "waiting for approval; ask the federation's operator to compare the fingerprint "
            f"{fingerprint}"
        )
    return f"the site may not take part now: {reason or state}; asking again from time to time"


def _draw() -> float:
    return random.random()  # noqa: S311 -- spreads load; nothing secret hangs on it
