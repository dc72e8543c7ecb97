"""What is stored of a run, and what has to hold of it whatever has happened."""

from collections import Counter
from dataclasses import dataclass

from app.domain.runs import ENDED
from hansa_core.plans import RunPlan
from hansa_core.states import RoundKind, RoundState, RunState, TaskState

OPEN_ROUNDS = frozenset({RoundState.COLLECTING, RoundState.AGGREGATING})
UNFINISHED = frozenset({TaskState.OPEN, TaskState.CLAIMED})


@dataclass(frozen=True, slots=True)
class SeenRound:
    key: str
    number: int
    kind: RoundKind
    state: RoundState
    threshold: int


@dataclass(frozen=True, slots=True)
class SeenTask:
    key: str
    round: str
    site: str
    state: TaskState
    evaluator: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is stored of a run."""

    state: RunState
    reason: str | None
    rounds_completed: int
    rounds: tuple[SeenRound, ...]
    tasks: tuple[SeenTask, ...]
    updates: tuple[tuple[str, str | None], ...]  # (task, round that it counts in)

    def round(self, key: str) -> SeenRound:
        return next(row for row in self.rounds if row.key == key)

    def task(self, key: str) -> SeenTask:
        return next(task for task in self.tasks if task.key == key)


def check_rounds(now: Snapshot, summed: dict[str, tuple[str, ...]]) -> None:
    """Rounds come one at a time, in order, each of enough updates, and none of them twice."""
    is_open = [row for row in now.rounds if row.state in OPEN_ROUNDS]
    assert len(is_open) <= 1
    assert not (is_open and now.state is not RunState.RUNNING)
    if not is_open and now.state not in ENDED:
        assert now.reason, f"a {now.state} run without an open round does not say why"
    trained = [
        row
        for row in now.rounds
        if row.kind is RoundKind.TRAIN and row.state is RoundState.COMPLETED
    ]
    assert now.rounds_completed == len(trained)
    assert [row.number for row in trained] == list(range(1, len(trained) + 1))
    assert {row.key for row in trained} == set(summed)
    for row in trained:
        updates = summed[row.key]
        assert len(set(updates)) >= row.threshold, f"round {row.number} of {len(updates)} updates"
        assert set(updates) == {task for task, counted in now.updates if counted == row.key}
    everything = Counter(update for updates in summed.values() for update in updates)
    assert all(times == 1 for times in everything.values())
    finals = [row for row in now.rounds if row.kind is RoundKind.EVALUATE]
    assert sum(row.state is not RoundState.CANCELLED for row in finals) <= 1


def check_tasks(now: Snapshot, plan: RunPlan) -> None:
    """Nobody works for what is over, and nobody twice at a time."""
    busy = [task for task in now.tasks if task.state in UNFINISHED]
    assert not (busy and now.state in ENDED)
    for task in busy:
        row = now.round(task.round)
        if row.state is RoundState.COLLECTING:
            continue
        buffered = plan.buffer is not None and row.kind is RoundKind.TRAIN
        assert buffered, f"{task} is open in a {row.state} round"
        assert row.state in {RoundState.AGGREGATING, RoundState.COMPLETED}
    training = [
        task.site
        for task in busy
        if not task.evaluator and now.round(task.round).kind is RoundKind.TRAIN
    ]
    assert len(set(training)) == len(training)
    if plan.buffer is not None:
        assert len(training) <= plan.buffer.concurrency
    central = set(plan.evaluation.evaluators)
    assert not central & set(training)
    if plan.cohort.size is not None:
        for row in now.rounds:
            asked = {t.site for t in now.tasks if t.round == row.key and not t.evaluator}
            if row.kind is RoundKind.TRAIN:
                assert len(asked) <= plan.cohort.size + plan.cohort.over_select
                assert asked >= set(plan.cohort.pinned)


def check_updates(
    now: Snapshot, plan: RunPlan, accepted: set[str], summed: dict[str, tuple[str, ...]]
) -> None:
    """What was accepted is stored, and counts, or was closed for a reason that is written down."""
    stored = dict(now.updates)
    assert len(stored) == len(now.updates)
    for key in accepted:
        task = now.task(key)
        assert task.state is TaskState.DONE
        if task.evaluator or now.round(task.round).kind is RoundKind.EVALUATE:
            continue
        counted = stored.pop(key)  # KeyError: it was lost
        if counted is None:
            # Between two buffers; the next one takes it, unless the run ends before.
            assert plan.buffer is not None
            collecting = any(
                row.state is RoundState.COLLECTING and row.kind is RoundKind.TRAIN
                for row in now.rounds
            )
            assert not collecting, f"nobody counts the update of task {key}"
            continue
        row = now.round(counted)
        assert row.kind is RoundKind.TRAIN, f"the update of task {key} counts in an evaluation"
        assert (plan.buffer is not None) or counted == task.round
        assert (row.state is RoundState.COMPLETED) == (key in summed.get(counted, ()))
    assert not stored, f"nobody was told that these updates were accepted: {stored}"


def check_what_is_final(before: Snapshot, now: Snapshot) -> None:
    """Nothing that is over changes."""
    if before.state in ENDED:
        assert now == before
    rounds = {row.key: row for row in now.rounds}
    for row in before.rounds:
        assert row.state in OPEN_ROUNDS or rounds[row.key] == row
    tasks = {task.key: task for task in now.tasks}
    for task in before.tasks:
        assert task.state in UNFINISHED or tasks[task.key] == task
    counted = dict(now.updates)
    for task, round_ in before.updates:
        assert round_ is None or counted[task] == round_
