"""A run over plain values: all that app/services does around the decisions of app/domain.

No locks, clock or I/O; every decision, every legal move and every draw is the real one.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from app.domain.cohorts import Candidate, choose_cohort
from app.domain.enrollment import require_legal as require_legal_site
from app.domain.errors import IllegalTransitionError
from app.domain.rounds import (
    MAX_AGGREGATION_ATTEMPTS,
    MAX_TASK_ATTEMPTS,
    Decision,
    RoundFacts,
    decide,
    require_legal,
    weighted_means,
)
from app.domain.runs import NextRound, next_round, spent_budget, stagnation
from app.domain.runs import require_legal as require_legal_run
from hansa_core.plans import RunPlan
from hansa_core.states import RoundKind, RoundState, RunState, SiteState, TaskState
from tests.round_invariants import OPEN_ROUNDS, UNFINISHED, SeenRound, SeenTask, Snapshot
from tests.round_machines import (
    AGGREGATION_LEASE,
    LEASE_FOR,
    ONLINE_FOR,
    ROUND_SECONDS,
    SIZE,
    Handle,
    Lease,
)

ALIVE = frozenset({RunState.QUEUED, RunState.RUNNING})


@dataclass(slots=True)
class _Site:
    state: SiteState
    last_seen_at: datetime | None = None


@dataclass(slots=True)
class _Round:
    key: str
    number: int
    kind: RoundKind
    threshold: int
    target: int | None
    deadline: datetime
    state: RoundState = RoundState.COLLECTING
    lease_token: str | None = None
    lease_expires_at: datetime | None = None
    attempts: int = 0


@dataclass(slots=True)
class _Task:
    key: str
    round: _Round
    site: str
    evaluator: bool
    state: TaskState = TaskState.OPEN
    token: str | None = None
    lease_expires_at: datetime | None = None
    attempts: int = 0
    answer: int | None = None
    counts_in: _Round | None = None


@dataclass(slots=True)
class MemoryWorld:
    """One started run and its federation's sites."""

    plan: RunPlan
    now: datetime = datetime(2030, 5, 1, 12, tzinfo=UTC)
    state: RunState = RunState.QUEUED
    reason: str | None = "waiting for a worker to look at it"
    pausing: bool = False
    stop_reason: str | None = None
    rounds_completed: int = 0
    moved: int = 0  # bytes
    seconds: float = 0.0  # active up to the last pause
    since: datetime | None = None
    sites: dict[str, _Site] = field(default_factory=dict[str, _Site])
    rounds: list[_Round] = field(default_factory=list[_Round])
    tasks: list[_Task] = field(default_factory=list[_Task])
    losses: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    made: int = 0  # keys and tokens

    # Sites

    def enroll(self, site: str) -> None:
        self.sites[site] = _Site(SiteState.ACTIVE if len(self.sites) < 4 else SiteState.PENDING)

    def seen(self, site: str) -> None:
        self.sites[site].last_seen_at = self.now

    def site_state(self, site: str) -> SiteState:
        return self.sites[site].state

    def change(self, site: str, state: SiteState) -> None:
        if self.sites[site].state is not state:
            if state is SiteState.SUSPENDED and self.sites[site].state is SiteState.PENDING:
                return
            require_legal_site(self.sites[site].state, state)
            self.sites[site].state = state

    def claim(self, site: str) -> Handle | None:
        self.seen(site)
        if self.state is not RunState.RUNNING:
            return None
        for task in self.tasks:
            if task.site == site and task.state in UNFINISHED:
                task.state = TaskState.CLAIMED
                task.token = f"lease {self._new()}"
                task.lease_expires_at = self.now + LEASE_FOR
                task.attempts += 1
                kind = RoundKind.EVALUATE if task.evaluator else task.round.kind
                return Handle(task.key, site, task.token, kind)
        return None

    def heartbeat(self, handle: Handle) -> bool:
        task = self._held(handle)
        if task is None:
            return False
        self.seen(task.site)
        task.state = TaskState.CLAIMED
        task.lease_expires_at = self.now + LEASE_FOR
        return True

    def answer(self, handle: Handle, content: int) -> bool | None:
        known = self._task(handle.task)
        if self.sites[handle.site].state is not SiteState.ACTIVE:
            return None
        if known.answer is not None:
            return False if known.answer == content else None
        task = self._held(handle)
        if task is None:
            return None
        task.state, task.token, task.answer = TaskState.DONE, None, content
        if handle.kind is RoundKind.TRAIN:
            task.counts_in = self._counts_in(task)
        return True

    def fail(self, handle: Handle) -> bool:
        known = self._task(handle.task)
        if self.sites[handle.site].state is not SiteState.ACTIVE:
            return False
        if known.state is TaskState.FAILED:
            return True
        task = self._held(handle)
        if task is None:
            return False
        task.state, task.token = TaskState.FAILED, None
        return True

    # Workers

    def step(self) -> None:
        if self.state not in ALIVE:
            return
        row = self._open_round()
        if row is None:
            self._go_on()
        elif row.state is RoundState.COLLECTING:
            self._step_collecting(row)
        elif row.attempts >= MAX_AGGREGATION_ATTEMPTS and not self._is_leased(row):
            self._fail_run(row, "the workers died")

    def deadline(self) -> datetime | None:
        row = self._open_round()
        return None if row is None else row.deadline

    def lease(self) -> Lease | None:
        row = self._open_round()
        if row is None or row.state is not RoundState.AGGREGATING:
            return None
        if self._is_leased(row) or row.attempts >= MAX_AGGREGATION_ATTEMPTS:
            return None
        row.lease_token = f"worker {self._new()}"
        row.lease_expires_at = self.now + AGGREGATION_LEASE
        row.attempts += 1
        updates = tuple(task.key for task in self.tasks if task.counts_in is row)
        return Lease(row.key, row.lease_token, updates)

    def finish(self, lease: Lease) -> bool:
        row = self._leased(lease)
        if row is None:
            return False
        self.rounds_completed = row.number
        self._close_round(row, Decision(RoundState.COMPLETED))
        self._go_on()
        return True

    def spoil(self, lease: Lease) -> None:
        row = self._leased(lease)
        if row is not None:
            self._fail_run(row, "the updates cannot be combined")

    # People

    def pause(self, *, burn: bool) -> None:
        if self.state is RunState.PAUSED or (self.pausing and not burn):
            return
        row = self._open_round()
        if row is not None and not burn:
            self.pausing, self.reason = True, "paused"
            return
        require_legal_run(self.state, RunState.PAUSED)
        if row is not None:
            self._close_round(row, Decision(RoundState.CANCELLED, "paused"))
            self._close_tasks(self.tasks, TaskState.CANCELLED)
        self._rest()

    def resume(self) -> None:
        if self.pausing:
            self.pausing, self.reason = False, None
        elif self.state not in ALIVE:
            require_legal_run(self.state, RunState.QUEUED)
            self.state, self.reason = RunState.QUEUED, "waiting for a worker to look at it"

    def cancel(self) -> None:
        if self.state is RunState.CANCELLED:
            return
        require_legal_run(self.state, RunState.CANCELLED)
        row = self._open_round()
        if row is not None:
            self._close_round(row, Decision(RoundState.CANCELLED, "cancelled"))
        self._end(RunState.CANCELLED, "cancelled")

    def snapshot(self) -> Snapshot:
        return Snapshot(
            state=self.state,
            reason=self.reason,
            rounds_completed=self.rounds_completed,
            rounds=tuple(
                SeenRound(row.key, row.number, row.kind, row.state, row.threshold)
                for row in self.rounds
            ),
            tasks=tuple(
                SeenTask(task.key, task.round.key, task.site, task.state, task.evaluator)
                for task in self.tasks
            ),
            updates=tuple(
                (task.key, None if task.counts_in is None else task.counts_in.key)
                for task in self.tasks
                if self._is_update(task)
            ),
        )

    # As app/services/rounds.py

    def _step_collecting(self, row: _Round) -> None:
        buffered = self._is_buffered(row)
        for task in self.tasks:
            barred = self.sites[task.site].state is not SiteState.ACTIVE
            silent = task.state is TaskState.CLAIMED and (
                task.lease_expires_at is not None and task.lease_expires_at <= self.now
            )
            if task.state in UNFINISHED and (
                barred or (silent and task.attempts >= MAX_TASK_ATTEMPTS)
            ):
                task.state, task.token = TaskState.FAILED, None
            elif silent:
                task.state = TaskState.OPEN
        if buffered:
            self._refill(row)
        decision = decide(self._facts(row), now=self.now)
        if decision is None:
            return
        if decision.state is RoundState.FAILED:
            self._end_short_round(row, str(decision.reason))
            if self.state in ALIVE:
                self._go_on()
        elif decision.state is RoundState.COMPLETED:
            self._close_round(row, decision)
            self._go_on()
        else:
            require_legal(row.state, decision.state)
            row.state = decision.state
            if not buffered:
                self._close_tasks(self._tasks_of(row), TaskState.LATE)

    def _facts(self, row: _Round) -> RoundFacts:
        buffered = self._is_buffered(row)
        asked = [task for task in self._tasks_of(row) if not task.evaluator]
        counted = sum(task.counts_in is row for task in self.tasks)
        return RoundFacts(
            kind=row.kind,
            state=row.state,
            admitted=len(asked),
            answered=counted if buffered else sum(t.state is TaskState.DONE for t in asked),
            failed=sum(task.state is TaskState.FAILED for task in asked),
            threshold=row.threshold,
            deadline=row.deadline,
            target=row.target,
            unfinished=len(self._busy()) if buffered else 0,
            evaluating=sum(t.evaluator and t.state in UNFINISHED for t in self._tasks_of(row)),
            buffered=buffered,
        )

    def _end_short_round(self, row: _Round, reason: str) -> None:
        spent = self._spent()
        if spent is not None and row.kind is RoundKind.TRAIN:
            self._close_round(row, Decision(RoundState.CANCELLED, spent))
        elif row.kind is RoundKind.TRAIN and self._tries(row.number)[1] >= self.plan.cohort.retries:
            self._fail_run(row, reason)
        else:
            self._close_round(row, Decision(RoundState.FAILED, reason))

    # As app/services/openings.py

    def _go_on(self) -> None:
        if self.pausing:
            self._rest()
            return
        self.stop_reason = self.stop_reason or self._why_stop()
        coming = next_round(
            self.plan,
            rounds_completed=self.rounds_completed,
            evaluated=any(
                row.kind is RoundKind.EVALUATE and row.state is not RoundState.CANCELLED
                for row in self.rounds
            ),
            stopped=self.stop_reason is not None,
        )
        if coming is None:
            self._end(RunState.COMPLETED, self.stop_reason)
            return
        cohort = choose_cohort(
            self.plan,
            coming,
            self._candidates(),
            online_for=ONLINE_FOR,
            now=self.now,
            failed_tries=self._tries(coming.number)[1],
        )
        if cohort.waiting_for is not None:
            self.reason = cohort.waiting_for
            return
        if self.state is RunState.QUEUED:
            require_legal_run(self.state, RunState.RUNNING)
            self.state, self.since = RunState.RUNNING, self.now
        self.reason = None
        self._open_next(coming, names=cohort.names, central=cohort.evaluators, target=cohort.target)

    def _open_next(
        self,
        coming: NextRound,
        *,
        names: frozenset[str],
        central: frozenset[str],
        target: int | None,
    ) -> None:
        buffer = self.plan.buffer if coming.kind is RoundKind.TRAIN else None
        left = float(ROUND_SECONDS)
        if self.plan.budget.seconds is not None:
            left = min(left, max(0.0, self.plan.budget.seconds - self._active_seconds()))
        row = _Round(
            key=f"round {self._new()}",
            number=coming.number,
            kind=coming.kind,
            threshold=coming.threshold,
            target=target if buffer is None else buffer.size,
            deadline=self.now + timedelta(seconds=left),
        )
        self.rounds.append(row)
        for site in sorted(central):
            self._ask(row, site, evaluator=row.kind is RoundKind.TRAIN)
        if buffer is None:
            # Training is over, or its rounds are closed: nobody works on for an older one.
            self._close_tasks([t for t in self.tasks if t.round is not row], TaskState.LATE)
            for site in sorted(names - central):
                self._ask(row, site)
            return
        oldest = row.number - buffer.max_staleness
        stale = [task for task in self.tasks if task.round.number < oldest]
        self._close_tasks(stale, TaskState.LATE)
        self._refill(row)

    def _refill(self, row: _Round) -> None:
        assert self.plan.buffer is not None
        for task in self.tasks:
            if self._is_update(task) and task.counts_in is None:
                task.counts_in = row
        busy = self._busy()
        places = max(0, self.plan.buffer.concurrency - len(busy))
        coming = NextRound(row.number, RoundKind.TRAIN, evaluate=False, threshold=1)
        cohort = choose_cohort(
            self.plan, coming, self._candidates(), online_for=ONLINE_FOR, now=self.now
        )
        asked = [task for task in self._tasks_of(row) if not task.evaluator]
        gave_up = {task.site for task in asked if task.state is TaskState.FAILED}
        idle = sorted(
            (sum(task.site == site for task in asked), site)
            for site in cohort.names - busy - gave_up
        )
        for _, site in idle[:places]:
            self._ask(row, site)

    def _ask(self, row: _Round, site: str, *, evaluator: bool = False) -> None:
        self.tasks.append(_Task(f"task {self._new()}", row, site, evaluator))

    def _why_stop(self) -> str | None:
        if self.rounds_completed >= self.plan.rounds:
            return None
        stops = self.plan.early_stopping
        return self._spent() or (None if stops is None else stagnation(stops, self.losses))

    def _spent(self) -> str | None:
        return spent_budget(self.plan.budget, seconds=self._active_seconds(), moved=self.moved)

    def _candidates(self) -> list[Candidate]:
        return [
            Candidate(name, {}, site.last_seen_at, site.state)
            for name, site in self.sites.items()
            if site.state is not SiteState.REVOKED
        ]

    # As app/services/endings.py and answers.py

    def _close_round(self, row: _Round, decision: Decision) -> None:
        require_legal(row.state, decision.state)
        row.state = decision.state
        row.lease_token = row.lease_expires_at = None
        if decision.state is RoundState.CANCELLED:
            self._close_tasks(self._tasks_of(row), TaskState.CANCELLED)
        elif self.plan.buffer is None or decision.state is not RoundState.COMPLETED:
            self._close_tasks(self._tasks_of(row), TaskState.LATE)
        counted = [task for task in self.tasks if task.counts_in is row]
        sent = sum(task.attempts > 0 for task in self._tasks_of(row))
        self.moved += SIZE * (sent + len(counted))
        if decision.state is RoundState.COMPLETED and row.kind is RoundKind.TRAIN:
            means = weighted_means(("loss", float(task.answer or 0), 1) for task in counted)
            self.losses.append((row.number, means["loss"][0]))

    def _fail_run(self, row: _Round, reason: str) -> None:
        self._close_round(row, Decision(RoundState.FAILED, reason))
        self._end(RunState.FAILED, reason)

    def _end(self, state: RunState, reason: str | None) -> None:
        require_legal_run(self.state, state)
        self._close_tasks(self.tasks, TaskState.CANCELLED)
        self.state, self.reason, self.pausing = state, reason, False
        self._stop_clock()

    def _rest(self) -> None:
        require_legal_run(self.state, RunState.PAUSED)
        self.state, self.reason, self.pausing = RunState.PAUSED, "paused", False
        self._stop_clock()

    def _counts_in(self, task: _Task) -> _Round | None:
        if task.round.state is RoundState.COLLECTING:
            return task.round
        row = self._open_round()
        collects = row is not None and row.state is RoundState.COLLECTING
        return row if collects else None

    def _close_tasks(self, tasks: list[_Task], state: TaskState) -> None:
        for task in tasks:
            if task.state in UNFINISHED:
                task.state, task.token = state, None

    def _active_seconds(self) -> float:
        running = 0.0 if self.since is None else (self.now - self.since).total_seconds()
        return self.seconds + running

    def _stop_clock(self) -> None:
        self.seconds, self.since = self._active_seconds(), None

    # Look-ups

    def _new(self) -> int:
        self.made += 1
        return self.made

    def _open_round(self) -> _Round | None:
        found = [row for row in self.rounds if row.state in OPEN_ROUNDS]
        if len(found) > 1:
            raise IllegalTransitionError("two rounds are open")
        return found[0] if found else None

    def _is_leased(self, row: _Round) -> bool:
        return row.lease_expires_at is not None and row.lease_expires_at > self.now

    def _leased(self, lease: Lease) -> _Round | None:
        row = next(row for row in self.rounds if row.key == lease.round)
        held = row.state is RoundState.AGGREGATING and row.lease_token == lease.token
        return row if held else None

    def _held(self, handle: Handle) -> _Task | None:
        task = self._task(handle.task)
        held = task.state in UNFINISHED and task.token == handle.token
        return task if held and self.sites[task.site].state is SiteState.ACTIVE else None

    def _task(self, key: str) -> _Task:
        return next(task for task in self.tasks if task.key == key)

    def _tasks_of(self, row: _Round) -> list[_Task]:
        return [task for task in self.tasks if task.round is row]

    def _busy(self) -> set[str]:
        return {task.site for task in self.tasks if task.state in UNFINISHED and not task.evaluator}

    def _tries(self, number: int) -> tuple[int, int]:
        held = [row for row in self.rounds if row.number == number]
        return len(held), sum(row.state is RoundState.FAILED for row in held)

    def _is_buffered(self, row: _Round) -> bool:
        return self.plan.buffer is not None and row.kind is RoundKind.TRAIN

    def _is_update(self, task: _Task) -> bool:
        training = task.round.kind is RoundKind.TRAIN and not task.evaluator
        return training and task.answer is not None
