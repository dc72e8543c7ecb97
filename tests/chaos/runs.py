"""Runs under test: their plans, and everything that has to hold of one that has ended.

A run is summed up by its account. Runs of one plan have equal accounts, whatever was killed
meanwhile: the same model, the same update of every site in every round, the same numbers.
"""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg

from hansa.client import HansaClient
from hansa_core import wire
from hansa_core.plans import RunPlan, parse_plan
from hansa_core.states import RoundKind, RoundState, RunState, TaskState

SITES = ("alpha", "beta", "gamma", "delta")
MODEL = "line"
PATIENCE_SECONDS = 60.0  # with a Postgres that is away
NEVER_SECONDS = 86_400  # no honest site is late, however long it was frozen

_PLANS: tuple[Mapping[str, Any], ...] = (
    {"name": "short", "seed": 1, "rounds": 4, "training": {"steps": 40}},
    {  # a site of four may be lost, a second one burns the round; sites make new keys now and then
        "name": "hidden",
        "seed": 4,
        "rounds": 4,
        "training": {"steps": 20},
        "cohort": {"min_sites": 3, "retries": 1000},
        "deadlines": {"round_seconds": 5},
        "secure": {
            "setup_seconds": 4,
            "opening_seconds": 4,
            "roster_rounds": 2,
            "metrics": {"train": ["loss"], "evaluation": ["loss"]},
        },
    },
    {"name": "long", "seed": 2, "rounds": 3, "training": {"steps": 120}},
    {
        "name": "quick",
        "seed": 3,
        "rounds": 5,
        "training": {"steps": 10},
        "evaluation": {"every": 0, "final": False},
    },
)


@dataclass(frozen=True, slots=True)
class Account:
    """What must be the same in every run of one plan."""

    digest: str  # of the last checkpoint
    checkpoints: tuple[str, ...]  # digests, by round
    updates: tuple[tuple[int, str, str, int], ...]  # round, site, digest, examples
    metrics: tuple[tuple[int, str, str, str, float, int], ...]


def plans() -> list[RunPlan]:
    """Return the plans that are run in turn."""
    common = {
        "model": MODEL,
        "cohort": {"min_sites": len(SITES)},
        "deadlines": {"round_seconds": NEVER_SECONDS},
    }
    return [parse_plan({**common, **plan}) for plan in _PLANS]


@dataclass(frozen=True, slots=True)
class Auditor:
    """Looks at runs from outside, as their owner and in the database."""

    client: HansaClient
    slug: str
    conninfo: str

    def account(self, run: wire.Run) -> Account:
        """Sum up a run that has ended."""
        made = {
            checkpoint.round_number or 0: checkpoint.digest
            for checkpoint in self.client.checkpoints(self.slug, MODEL)
            if checkpoint.run_id == run.id
        }
        updates: list[tuple[int, str, str, int]] = []
        for number in range(1, run.plan.rounds + 1):
            found = self.client.updates(self.slug, run.id, round_number=number)
            updates += [(number, one.site_name, one.digest, one.num_examples) for one in found]
        metrics = [
            (one.round_number, one.kind, one.name, one.site_name or "", one.value, one.num_examples)
            for one in self.client.metrics(self.slug, run.id)
        ]
        return Account(
            digest=self.client.checkpoint(self.slug, run.latest_checkpoint_id).digest,
            checkpoints=tuple(made[number] for number in sorted(made)),
            updates=tuple(sorted(updates)),
            metrics=tuple(sorted(metrics)),
        )

    def violations(self, run: wire.Run) -> list[str]:
        """Return what is wrong with a run that has ended, whatever its plan."""
        wrong: list[str] = []
        if run.state is not RunState.COMPLETED:
            return [f"the run is {run.state}: {run.state_reason}"]
        rounds = list(self.client.rounds(self.slug, run.id))
        trained = [item.number for item in rounds if item.kind is RoundKind.TRAIN]
        if trained != list(range(1, run.plan.rounds + 1)):
            wrong.append(f"trained in rounds {trained}, wanted 1 to {run.plan.rounds}")
        evaluations = len(rounds) - len(trained)
        if evaluations != int(run.plan.evaluation.final):
            wrong.append(f"{evaluations} evaluation rounds, wanted {run.plan.evaluation.final}")
        claimed, ended, single = self._count_events(run)
        for item in rounds:
            wrong += self._violations_of_round(run, item, claimed, ended)
        made = sorted(
            checkpoint.round_number or 0
            for checkpoint in self.client.checkpoints(self.slug, MODEL)
            if checkpoint.run_id == run.id
        )
        if made != trained:
            wrong.append(f"checkpoints of rounds {made}, wanted {trained}")
        wrong += [f"event {kind} {count} times" for kind, count in single.items() if count != 1]
        wrong += self._violations_in_rows(run)
        return wrong

    def losses(self, run: wire.Run) -> tuple[int, int]:
        """Return how many rounds were held in vain, and sites left out of the others."""
        query: LiteralString = (
            "SELECT (SELECT count(*) FROM rounds"
            " WHERE run_id = %(run)s AND state <> 'completed'),"
            " (SELECT count(*) FROM tasks t JOIN rounds r ON r.id = t.round_id"
            " WHERE r.run_id = %(run)s AND r.state = 'completed' AND t.state <> 'done')"
        )
        burnt, late = self.ask(query, run)
        return int(burnt), int(late)

    def repeats(self, run: wire.Run) -> tuple[int, int]:
        """Return how often a task and an aggregation of the run were begun again."""
        query: LiteralString = (
            "SELECT (SELECT sum(greatest(t.attempts - 1, 0)) FROM tasks t"
            " JOIN rounds r ON r.id = t.round_id WHERE r.run_id = %(run)s),"
            " (SELECT sum(greatest(attempts - 1, 0)) FROM rounds"
            " WHERE run_id = %(run)s AND kind = 'train')"
        )
        tasks, aggregations = self.ask(query, run)
        return int(tasks), int(aggregations)

    def _violations_of_round(
        self,
        run: wire.Run,
        item: wire.Round,
        claimed: Counter[tuple[int, UUID]],
        ended: Counter[tuple[int, UUID]],
    ) -> list[str]:
        where = f"round {item.number}"
        wrong: list[str] = []
        if item.state is not RoundState.COMPLETED:
            wrong.append(f"{where} is {item.state}: {item.state_reason}")
        tasks = self.client.round(self.slug, run.id, item.number).tasks
        if sorted(task.site_name for task in tasks) != sorted(SITES):
            wrong.append(f"{where}: its cohort is {[task.site_name for task in tasks]}")
        for task in tasks:
            who = f"{where}, {task.site_name}"
            if task.state is not TaskState.DONE:
                wrong.append(f"{who}: {task.state}, {task.state_reason}")
            key = (item.number, task.site_id)
            if task.attempts != claimed[key]:
                wrong.append(f"{who}: {task.attempts} attempts, {claimed[key]} claims recorded")
            if ended[key] != 1:
                wrong.append(f"{who}: task.done {ended[key]} times")
        if item.kind is RoundKind.TRAIN:
            sent = Counter(
                update.site_name
                for update in self.client.updates(self.slug, run.id, round_number=item.number)
            )
            if sent != Counter(SITES):
                wrong.append(f"{where}: updates of {dict(sent)}, wanted one of each site")
        return wrong

    def _count_events(
        self, run: wire.Run
    ) -> tuple[Counter[tuple[int, UUID]], Counter[tuple[int, UUID]], Counter[str]]:
        """Count claims and ends by round and site, and what may be there once, by name."""
        claimed: Counter[tuple[int, UUID]] = Counter()
        ended: Counter[tuple[int, UUID]] = Counter()
        single: Counter[str] = Counter()
        after = 0
        while page := self.client.event_log(self.slug).page(after=after, run_id=run.id):
            for event in page:
                after = event.id
                number = int(str(event.data.get("round_number", 0)))
                if event.kind in {"task.claimed", "task.done"}:
                    tally = claimed if event.kind == "task.claimed" else ended
                    tally[number, UUID(str(event.data["site_id"]))] += 1
                elif event.kind.startswith("round."):
                    single[f"{event.kind} of round {number}"] += 1
                elif event.kind.startswith("run."):
                    single[event.kind] += 1
        return claimed, ended, single

    def _violations_in_rows(self, run: wire.Run) -> list[str]:
        """Look for what the API does not show: leases left over, doubled or orphaned rows."""
        questions: dict[str, LiteralString] = {
            "open tasks": "SELECT count(*) FROM tasks t JOIN rounds r ON r.id = t.round_id"
            " WHERE r.run_id = %(run)s AND t.state <> 'done'",
            "leases left on tasks": "SELECT count(*) FROM tasks t JOIN rounds r"
            " ON r.id = t.round_id WHERE r.run_id = %(run)s AND t.lease_token IS NOT NULL",
            "leases left on rounds": "SELECT count(*) FROM rounds"
            " WHERE run_id = %(run)s AND lease_token IS NOT NULL",
            "training rounds without an attempt": "SELECT count(*) FROM rounds"
            " WHERE run_id = %(run)s AND kind = 'train'"
            " AND (attempts < 1 OR checkpoint_id IS NULL)",
            "updates beyond one for each task": "SELECT count(*) - count(DISTINCT u.task_id)"
            " FROM updates u JOIN rounds r ON r.id = u.round_id WHERE r.run_id = %(run)s",
            "checkpoints beyond one for each round": "SELECT count(*) - count(DISTINCT c.round_id)"
            " FROM checkpoints c WHERE c.run_id = %(run)s",
        }
        counts = {what: self.ask(query, run)[0] for what, query in questions.items()}
        return [f"{what}: {count}" for what, count in counts.items() if count]

    def ask(self, query: LiteralString, run: wire.Run) -> tuple[Any, ...]:
        """Return the one row of a query about `run`, however long Postgres is away."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with psycopg.connect(self.conninfo, connect_timeout=5) as connection:
                    row = connection.execute(query, {"run": run.id}).fetchone()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                threading.Event().wait(0.1)
            else:
                assert row is not None
                return row
