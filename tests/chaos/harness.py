"""The harness: runs one after another, faults all the while, and a verdict.

The main thread starts and strikes processes. A second thread is the researcher: it creates a
run, waits for its end, and compares it with the undisturbed run of the same plan. It goes on
until the last fault is over, so that every fault falls into a run or between two.
"""

import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random
from uuid import UUID

from app.embedded.errors import StackError
from app.embedded.processes import tail
from hansa.client import ENDED, HansaClient
from hansa.errors import HansaError
from hansa.transfers import digest_file
from hansa_core import wire
from hansa_core.plans import RunPlan
from tests.chaos import logs
from tests.chaos.faults import INSTEAD, STORE, Fault, Kind, Moment, draw_faults
from tests.chaos.machine import SLUG, TASK_LEASE_SECONDS, Machine
from tests.chaos.runs import MODEL, Account, Auditor
from tests.chaos.secure import SecureAuditor, second_answers, transcripts_beyond_one
from tests.chaos.watching import Watch

EVENT_SECONDS = 8.0  # to wait for an event to strike at; then without it
PART_SECONDS = 60.0  # for a part to be whole again
RUN_SECONDS = 300.0  # of a run under faults, at most
LOOK_SECONDS = 0.1
TAIL_LINES = 40
LINE_CHARACTERS = 400

Judge = Callable[[wire.Run], list[str]]  # what is wrong with a run that has ended


@dataclass(slots=True)
class Outcome:
    """What a run of the harness came to."""

    seed: int
    wanted: int  # faults
    struck: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    timeline: list[str] = field(default_factory=list[str])
    runs: int = 0  # that ended under faults
    rounds: int = 0  # of those
    burnt: int = 0  # rounds of secure runs that came to no sum
    late: int = 0  # updates that came too late for a sum
    secure_phases: Counter[str] = field(default_factory=Counter[str])  # that faults struck
    tasks_again: int = 0  # claims beyond the first, of those
    aggregations_again: int = 0  # begun beyond the first, of those
    exceptions: Counter[str] = field(default_factory=Counter[str])
    violations: list[str] = field(default_factory=list[str])
    log_tails: dict[str, str] = field(default_factory=dict[str, str])
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return not self.violations and self.struck.total() == self.wanted


def run_chaos(
    seed: int, count: int, report: Callable[[str], None], *, chosen: Sequence[RunPlan]
) -> Outcome:
    """Strike `count` faults drawn from `seed` at runs of the `chosen` plans in turn.

    Nothing is left running afterwards.
    """
    outcome = Outcome(seed, count)
    # A shell's background job ignores SIGINT, and so would every part in its first instant.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Postgres, started by root, runs as nobody, who must be able to pass through.
    with tempfile.TemporaryDirectory(prefix="hansa-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        started = time.monotonic()
        harness = _Harness(outcome, report, started, chosen)
        try:
            harness.run(folder)
        except (AssertionError, HansaError, StackError) as error:
            outcome.violations.append(str(error))
        outcome.seconds = time.monotonic() - started
        if not outcome.is_good:
            outcome.log_tails = {
                log.name: _tail(log) for log in sorted((folder / "logs").glob("*.log"))
            }
    return outcome


class _Harness:
    def __init__(
        self,
        outcome: Outcome,
        report: Callable[[str], None],
        started: float,
        chosen: Sequence[RunPlan],
    ) -> None:
        self._outcome = outcome
        self._plans = chosen
        self._started = started
        self._print = report
        self._lock = threading.Lock()

    def run(self, folder: Path) -> None:
        """Do all of it. Raises AssertionError when something takes too long."""
        self._say("starting Postgres, Valkey, two hubs, two workers, beat and four sites")
        with Machine(folder) as machine:
            client = machine.enroll_sites()
            auditor = Auditor(client, SLUG, machine.conninfo)
            base = client.model(SLUG, MODEL).latest_checkpoint_id
            assert base is not None
            secure = SecureAuditor(auditor, machine.sites)
            judged: list[tuple[RunPlan, Judge]] = []
            for plan in self._plans:
                if plan.secure is not None:
                    judged.append((plan, secure.violations))
                    continue
                self._say(f"an undisturbed run of plan {plan.name!r}")
                quiet = _undisturbed(machine, client, auditor, plan, base)
                judged.append((plan, _compared(auditor, quiet)))
            with Watch(machine.conninfo) as watch:
                researcher = _Researcher(client, auditor, base, judged, self._outcome, self._say)
                researcher.start()
                try:
                    self._strike_all(machine, watch, researcher)
                    researcher.last_run.set()
                    machine.wait_until(
                        lambda: not researcher.is_alive(), "the last run", seconds=RUN_SECONDS
                    )
                finally:
                    researcher.gives_up.set()
            self._outcome.violations += machine.surprises()
            self._outcome.violations += _blobs_without_their_digest(machine.store.path)
            self._outcome.violations += transcripts_beyond_one(machine.store.path)
            client.close()
        self._read_logs(machine)

    def _strike_all(self, machine: Machine, watch: Watch, researcher: "_Researcher") -> None:
        faults = draw_faults(
            self._outcome.seed,
            self._outcome.wanted,
            tuple(machine.parts),
            lease_seconds=TASK_LEASE_SECONDS,
        )
        rng = Random(self._outcome.seed)  # noqa: S311 -- which child is hit
        for fault in faults:
            self._await(machine, watch, fault.moment, researcher)
            machine.wait_until(
                lambda fault=fault: machine.is_ready_for(fault),
                f"{fault.part} whole again",
                seconds=PART_SECONDS,
            )
            if self._outcome.violations or not researcher.is_alive():
                return
            self._say(_line(fault, watch.phase))
            if researcher.is_secure:
                self._outcome.secure_phases[watch.phase.split()[-1]] += 1
            machine.strike(fault, rng)
            self._outcome.struck[fault.part.partition("-")[0], fault.kind] += 1

    def _await(
        self, machine: Machine, watch: Watch, moment: Moment, researcher: "_Researcher"
    ) -> None:
        if (event := moment.event) is not None:
            event = event if researcher.is_secure else INSTEAD.get(event, event)
            before = watch.seen[event]
            deadline = time.monotonic() + EVENT_SECONDS
            machine.wait_until(
                lambda: watch.seen[event] > before or time.monotonic() > deadline, event
            )
        due = time.monotonic() + moment.seconds
        machine.wait_until(lambda: time.monotonic() >= due, "a moment")

    def _read_logs(self, machine: Machine) -> None:
        for part in machine.parts.values():
            if not part.name.startswith(("hub", "worker", "beat", "site")):
                continue
            found, forbidden = logs.read(part.log)
            self._outcome.exceptions += found
            forbidden += second_answers(part.log) if part.name.startswith("site") else []
            self._outcome.violations += [f"{part.name} logged {line}" for line in forbidden]
            self._outcome.violations += [
                f"{part.name} logged {count} unexpected {name}"
                for name, count in found.items()
                if name not in logs.EXPECTED
            ]

        # Each is logged by the hub and by its server.
        cut = self._outcome.exceptions[logs.CUT_ANSWER] // 2
        chances = sum(n for (part, _), n in self._outcome.struck.items() if part == STORE)
        if cut > chances:
            self._outcome.violations.append(
                f"{cut} answers cut off by {chances} faults of the store"
            )

    def _say(self, text: str) -> None:
        line = f"{time.monotonic() - self._started:6.1f} s  {text}"
        with self._lock:
            self._outcome.timeline.append(line)
            self._print(line)


class _Researcher(threading.Thread):
    """Makes runs one after another, and looks at each when it has ended."""

    def __init__(
        self,
        client: HansaClient,
        auditor: Auditor,
        base: UUID,
        judged: Sequence[tuple[RunPlan, Judge]],
        outcome: Outcome,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(name="researcher", daemon=True)
        self.last_run = threading.Event()  # set: the run at hand is the last one
        self.gives_up = threading.Event()
        self.is_secure = False  # the run at hand
        self._client = client
        self._auditor = auditor
        self._base = base
        self._judged = judged
        self._outcome = outcome
        self._say = say

    def run(self) -> None:
        try:
            for plan, judge in cycle(self._judged):
                self._hold(plan, judge)
                if self.last_run.is_set() or self.gives_up.is_set() or self._outcome.violations:
                    return
        except Exception as error:  # the thread's end is the harness's verdict
            self._outcome.violations.append(f"the researcher got {type(error).__name__}: {error}")

    def _hold(self, plan: RunPlan, judge: Judge) -> None:
        began = time.monotonic()
        self.is_secure = plan.secure is not None
        run = self._client.create_run(SLUG, plan, checkpoint_id=self._base)
        while (run := self._client.run(SLUG, run.id)).state not in ENDED:
            if self.gives_up.wait(LOOK_SECONDS):
                return
            if time.monotonic() - began > RUN_SECONDS:
                raise TimeoutError(
                    f"run {plan.name!r} is {run.state} in round {run.rounds_completed + 1} "
                    f"after {RUN_SECONDS:g} s: {run.state_reason}"
                )
        self.is_secure = False
        took = time.monotonic() - began
        wrong = judge(run)
        tasks_again, aggregations_again = self._auditor.repeats(run)
        self._outcome.tasks_again += tasks_again
        self._outcome.aggregations_again += aggregations_again
        burnt, late = self._auditor.losses(run)
        self._outcome.burnt += burnt
        self._outcome.late += late
        verdict = "; ".join(wrong) or "nothing wrong"
        self._outcome.runs += 1
        self._outcome.rounds += run.rounds_completed
        self._say(
            f"run {self._outcome.runs} ({plan.name}) {run.state} in "
            f"{took:.1f} s, {burnt} rounds burnt, {late} updates late: {verdict}"
        )
        self._outcome.violations += [f"run {self._outcome.runs}: {what}" for what in wrong]


def _undisturbed(
    machine: Machine, client: HansaClient, auditor: Auditor, plan: RunPlan, base: UUID
) -> Account:
    run_id = client.create_run(SLUG, plan, checkpoint_id=base).id
    machine.wait_until(
        lambda: client.run(SLUG, run_id).state in ENDED, "an undisturbed run", seconds=RUN_SECONDS
    )
    run = client.run(SLUG, run_id)
    wrong = auditor.violations(run)
    assert not wrong, f"the undisturbed run {plan.name!r}: {'; '.join(wrong)}"
    return auditor.account(run)


def _compared(auditor: Auditor, quiet: Account) -> Judge:
    """Return what compares runs of a plan with its undisturbed one."""
    return lambda run: auditor.violations(run) or _differences(quiet, auditor.account(run))


def _differences(quiet: Account, seen: Account) -> list[str]:
    """Name the parts of two accounts that are not the same."""
    return [
        f"{name} differ from the undisturbed run: {getattr(seen, name)}, "
        f"wanted {getattr(quiet, name)}"
        for name in ("digest", "checkpoints", "updates", "metrics")
        if getattr(seen, name) != getattr(quiet, name)
    ]


def _blobs_without_their_digest(root: Path) -> list[str]:
    """Look at every stored blob: a name that is there has its bytes."""
    stored = [path for path in root.glob("*/??/*") if path.parent.parent.name != "incoming"]
    assert stored, f"no artifacts below {root}"
    return [
        f"blob {path.name} has the digest {digest}"
        for path in stored
        if (digest := digest_file(path)[0]) != path.name
    ]


def _tail(log: Path) -> str:
    return "\n".join(line[:LINE_CHARACTERS] for line in tail(log, TAIL_LINES).splitlines())


def _line(fault: Fault, phase: str) -> str:
    text = f"#{fault.number:<3} {fault.kind} {fault.part} ({phase})"
    if not fault.seconds:
        return text
    verb = "goes on" if fault.kind in {Kind.FREEZE, Kind.HOLD} else "back"
    return f"{text} {verb} after {fault.seconds:.1f} s"
