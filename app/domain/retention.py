"""Which artifacts may be deleted: facts in, digests out. Pure.

An artifact may be named by several updates and checkpoints; it goes when none of them keeps it.
Kept, whatever the policy says:
- what was uploaded within the grace period: its manifest may be on the way;
- of a held receipt's round its updates, its base checkpoint and its result;
- the base and the latest checkpoint of every run, so of every fork, too;
- checkpoints that people uploaded;
- of a run that is not over: the updates that wait for a round, those of its newest round, and
  whatever a round that is open, or that a site still works for, begins from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from hansa_core.wire import Retention

KEEP_EVERYTHING = Retention()


@dataclass(frozen=True, slots=True)
class ArtifactFacts:
    """A stored artifact that is asked about."""

    digest: str
    size: int  # bytes
    uploaded_at: datetime  # the last time that its bytes were sent


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A run of the federation."""

    ended_at: datetime | None  # None: drafts, paused and running ones
    base_checkpoint_id: UUID
    latest_checkpoint_id: UUID
    rounds_completed: int


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """A round that updates count in, or that pins checkpoints."""

    run_id: UUID
    number: int
    closed_at: datetime | None
    busy: bool  # some task of it is unfinished
    held: bool  # somebody holds its receipt
    base_checkpoint_id: UUID
    checkpoint_id: UUID | None


@dataclass(frozen=True, slots=True)
class UpdateFacts:
    """An update whose bytes are an artifact asked about."""

    digest: str
    run_id: UUID
    round_id: UUID | None  # None: it waits for a round to count in


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """A checkpoint whose bytes are an artifact asked about."""

    id: UUID
    digest: str
    run_id: UUID | None  # None: people uploaded it
    round_number: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of some artifacts of one federation.

    `updates` and `checkpoints` are all that name one of `artifacts`; `runs` are all runs of the
    federation; `rounds` holds at least every round named by `updates`, every held one, every open
    or busy one.
    """

    artifacts: tuple[ArtifactFacts, ...]
    updates: tuple[UpdateFacts, ...]
    checkpoints: tuple[CheckpointFacts, ...]
    runs: Mapping[UUID, RunFacts]
    rounds: Mapping[UUID, RoundFacts]


def expendable(
    facts: Facts, policy: Retention, *, now: datetime, grace: timedelta
) -> frozenset[str]:
    """Return the digests of the artifacts that nothing keeps."""
    pinned = _pinned_checkpoints(facts)
    kept = {item.digest for item in facts.artifacts if item.uploaded_at > now - grace}
    kept.update(item.digest for item in facts.updates if _keeps_update(facts, policy, item, now))
    kept.update(
        item.digest for item in facts.checkpoints if _keeps_checkpoint(facts, policy, item, pinned)
    )
    return frozenset(item.digest for item in facts.artifacts) - kept


def _pinned_checkpoints(facts: Facts) -> set[UUID]:
    pinned: set[UUID] = set()
    for run in facts.runs.values():
        pinned.update((run.base_checkpoint_id, run.latest_checkpoint_id))
    for row in facts.rounds.values():
        if row.held or row.busy or row.closed_at is None:
            pinned.add(row.base_checkpoint_id)
            if row.checkpoint_id is not None:
                pinned.add(row.checkpoint_id)
    return pinned


def _keeps_update(facts: Facts, policy: Retention, item: UpdateFacts, now: datetime) -> bool:
    run = facts.runs[item.run_id]
    if item.round_id is None:
        # One that waited in vain ended with its run.
        closed_at, number = run.ended_at, run.rounds_completed
    else:
        row = facts.rounds[item.round_id]
        if row.held or row.busy:
            return True
        closed_at, number = row.closed_at, row.number
    if closed_at is None or (run.ended_at is None and number >= run.rounds_completed):
        return True
    lets_go: list[bool] = []
    if policy.updates_days is not None:
        lets_go.append(now - closed_at > timedelta(days=policy.updates_days))
    if policy.updates_rounds is not None:
        lets_go.append(number <= run.rounds_completed - policy.updates_rounds)
    return not lets_go or not all(lets_go)


def _keeps_checkpoint(
    facts: Facts, policy: Retention, item: CheckpointFacts, pinned: set[UUID]
) -> bool:
    every = policy.checkpoints_every
    if item.run_id is None or item.round_number is None or item.id in pinned or every is None:
        return True
    run = facts.runs[item.run_id]
    newest = run.ended_at is None and item.round_number >= run.rounds_completed
    return newest or item.round_number % every == 0
