"""The site's loop: ask for a task, do it, answer it, for ever.

Invariants:
- a failed task never ends the loop, and neither does a hub that is away: both are waited out;
- what the hub took back is abandoned without a report, what went wrong here is reported;
- an answer that was signed is sent as it is, however often the process is killed (journal.py);
- duties of secure runs are done between tasks, and beside them (secure/duties.py);
- one SIGTERM or SIGINT ends the loop after the task at hand, a second one at once.

What a researcher is told of an exception, and what not: failures.py.
"""

import random
import signal
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from hansa.errors import (
    HansaError,
    NotAuthenticatedError,
    ReenrollError,
    RetryableError,
    SiteNotActiveError,
    TaskLostError,
)
from hansa.failures import describe_failure, traceback_of
from hansa.hardware import hardware_of_this_machine
from hansa.heartbeats import Heartbeats
from hansa.identity import StateDir
from hansa.journal import Journal
from hansa.memory import Memory
from hansa.options import OnEvent, RunnerEvent, RunnerOptions, Summary, log_nothing
from hansa.policies import policy_of
from hansa.secure.duties import Served
from hansa.secure.office import Office, open_office
from hansa.sending import send
from hansa.site import SiteClient, settle_rotation
from hansa.task_logs import TaskLog, captured
from hansa.trainer import Trainer
from hansa.work import AbandonedError, Workshop, promise, require_wanted, work
from hansa_core import wire
from hansa_core.states import SiteState

QUICK_CLAIM_SECONDS = 1.0  # a hub that has nothing and does not wait is not asked at once again
DUTY_SECONDS = 10.0  # that a runner which ends waits for a duty in hand

ResultT = TypeVar("ResultT")


class StopNow(BaseException):
    """Ends the process's work wherever it is."""


class SiteRunner:
    """One enrolled site at work. `run` may be called once."""

    def __init__(
        self,
        state: StateDir,
        trainer: Trainer[Any],
        *,
        options: RunnerOptions | None = None,
        on_event: OnEvent = log_nothing,
    ) -> None:
        self._state = state
        self._trainer = trainer
        self._options = options or RunnerOptions()
        self._on_event = on_event
        self._stopping = threading.Event()
        self._interruptible = False  # the main thread waits for the hub and holds no task
        self._summary = Summary()
        self._duty_failures = 0  # in a row

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
            office = open_office(
                self._state.path,
                client,
                self._emit,
                secure_only=self._options.secure_only,
                least_sum=self._options.least_sum,
                delay=self._delay,
            )
            self._emit(
                "runner_started",
                f"site {identity.record.site_name} of {identity.record.federation_slug} "
                f"works for {identity.record.hub_url}",
            )
            try:
                shop = Workshop(
                    client,
                    journal,
                    memory,
                    self._trainer,
                    self._options.device,
                    self._emit,
                    office.desk,
                )
                self._loop(shop, office)
                self._linger(office)
            except StopNow:
                pass
            finally:
                office.thread.close(DUTY_SECONDS)
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

    def _loop(self, shop: Workshop, office: Office) -> None:
        hardware = hardware_of_this_machine()
        while not self._finished():
            started, duties = time.monotonic(), list[int]()
            try:
                task = self._claim(shop.client, hardware, duties.append)
                if task is None and duties:
                    self._do_duties(office)
                    continue
            except (SiteNotActiveError, NotAuthenticatedError):
                self._wait_until_active(shop.client)
                continue
            if task is None:
                if time.monotonic() - started < QUICK_CLAIM_SECONDS:
                    self._sleep(QUICK_CLAIM_SECONDS * (0.5 + _draw()))
                continue
            if duties:
                office.thread.nudge()
            self._handle(shop, office, task)

    def _linger(self, office: Office) -> None:
        """Do duties while the hub expects some: without them a round's sum is not opened."""
        if self._stopping.is_set() or office.journal.is_empty:
            return
        told = False
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                served = self._do_duties(office, wait_seconds=self._options.wait_seconds)
            except (SiteNotActiveError, NotAuthenticatedError) as error:
                self._emit("duties_failed", f"no duties can be done: {error}")
                return
            if not served.expected:
                return
            if not told:
                self._emit("duties_awaited", "all tasks are done; stays for duties of open rounds")
                told = True
            if not served.asked and time.monotonic() - started < QUICK_CLAIM_SECONDS:
                self._sleep(QUICK_CLAIM_SECONDS * (0.5 + _draw()))

    def _do_duties(self, office: Office, *, wait_seconds: float = 0.0) -> Served:
        """Do the duties that there are. A hub that has no word on some is asked again later.

        Raises ReenrollError, SiteNotActiveError, NotAuthenticatedError.
        """
        served: Served | None = None
        try:
            if wait_seconds:
                wait = partial(office.server.serve, wait_seconds=wait_seconds)
                served = self._patiently(lambda: self._interruptibly(wait))
            else:
                served = self._patiently(office.server.serve)
        except (ReenrollError, SiteNotActiveError, NotAuthenticatedError):
            raise
        except HansaError as error:
            self._emit("duties_failed", f"no duties can be done: {error}")
        if served is not None and served.settled == served.asked:
            self._duty_failures = 0
            return served
        self._duty_failures += 1
        self._sleep(self._delay(self._duty_failures))
        return served or Served(0, 0, expected=False)

    def _finished(self) -> bool:
        limit = self._options.max_tasks
        return self._stopping.is_set() or (limit is not None and self._summary.tasks >= limit)

    def _claim(
        self, client: SiteClient, hardware: wire.Hardware, on_duties: Callable[[int], None]
    ) -> wire.Task | None:
        wait = partial(
            client.claim,
            wait_seconds=self._options.wait_seconds,
            hardware=hardware,
            on_duties=on_duties,
            policy=policy_of(self._options, self._state.path),
        )
        return self._patiently(lambda: self._interruptibly(wait))

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
                self._sleep(max(self._delay(attempt), error.retry_after_seconds))
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

    def _handle(self, shop: Workshop, office: Office, task: wire.Task) -> None:
        """Bring one task to an end. Only what concerns the whole site is raised."""
        self._emit(
            "task_claimed",
            f"run {task.run_name}, round {task.round_number}: {task.kind}",
            {"task_id": str(task.id), "run_id": str(task.run_id), "attempt": task.attempt},
        )
        nudge = office.thread.nudge
        with (
            captured(self._options.shared_lines) as log,
            Heartbeats(shop.client, task, self._on_heartbeat_trouble, nudge) as beats,
        ):
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
                self._fail(shop, task, beats, error, log)
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
        promise(shop, task, answer)
        receipt = self._patiently(lambda: send(shop, task, answer, beats), beats)
        if receipt is None:
            return False
        self._emit(
            "task_submitted",
            f"the hub has round {task.round_number}'s answer",
            {"task_id": str(task.id), "digest": receipt.digest},
        )
        return True

    def _fail(
        self, shop: Workshop, task: wire.Task, beats: Heartbeats, error: Exception, log: TaskLog
    ) -> None:
        """Report a failed task; that the report does not arrive is logged, no more."""
        told, trace = describe_failure(error, self._options.tracebacks)
        self._emit(
            "task_failed",
            f"failed: {error}",
            {"task_id": str(task.id), "traceback": traceback_of(error)},
        )
        try:
            self._patiently(lambda: shop.client.fail(task, told, trace, log.text()), beats)
        except HansaError as failure:
            self._emit("report_failed", f"the hub did not take the failure report: {failure}")

    def _on_heartbeat_trouble(self, error: HansaError) -> None:
        self._emit("heartbeat_failed", f"{error}; the work goes on")

    def _delay(self, attempt: int) -> float:
        return self._options.outage.delay(attempt, _draw())

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
