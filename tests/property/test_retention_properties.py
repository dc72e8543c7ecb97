"""Whatever the policy, what somebody may still need is never chosen for deletion."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.domain.retention import (
    KEEP_EVERYTHING,
    ArtifactFacts,
    CheckpointFacts,
    Facts,
    RoundFacts,
    RunFacts,
    UpdateFacts,
    expendable,
)
from hansa_core.wire import Retention

NOW = datetime(2030, 1, 1, tzinfo=UTC)
GRACE = timedelta(hours=24)
DIGESTS = [f"{number:064x}" for number in range(12)]  # few, so that they are shared

policies = st.builds(
    Retention,
    updates_days=st.none() | st.floats(0, 60),
    updates_rounds=st.none() | st.integers(0, 6),
    checkpoints_every=st.none() | st.integers(1, 4),
)


@dataclass(frozen=True)
class World:
    """A federation, with who needs what told apart from how the policy finds it."""

    facts: Facts
    held: frozenset[UUID]  # rounds


def days_ago(draw: st.DrawFn) -> datetime:
    return NOW - timedelta(days=draw(st.integers(0, 90)))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    ids = iter(UUID(int=number) for number in range(1, 10_000))
    digest = st.sampled_from(DIGESTS)
    runs: dict[UUID, RunFacts] = {}
    rounds: dict[UUID, RoundFacts] = {}
    updates: list[UpdateFacts] = []
    checkpoints: list[CheckpointFacts] = []
    held: set[UUID] = set()
    uploaded = next(ids)
    checkpoints.append(CheckpointFacts(uploaded, draw(digest), None, None))
    for _ in range(draw(st.integers(1, 3))):
        run_id = next(ids)
        ended = draw(st.booleans())
        completed = draw(st.integers(0, 6))
        # A fork starts from any checkpoint that there is.
        base = draw(st.sampled_from([item.id for item in checkpoints]))
        latest = base
        for number in range(1, completed + 1):
            checkpoint = CheckpointFacts(next(ids), draw(digest), run_id, number)
            checkpoints.append(checkpoint)
            round_id = next(ids)
            rounds[round_id] = RoundFacts(
                run_id=run_id,
                number=number,
                closed_at=days_ago(draw),
                busy=not ended and draw(st.booleans()),
                held=draw(st.booleans()),
                base_checkpoint_id=latest,
                checkpoint_id=checkpoint.id,
            )
            if rounds[round_id].held:
                held.add(round_id)
            updates += [
                UpdateFacts(draw(digest), run_id, round_id) for _ in range(draw(st.integers(0, 3)))
            ]
            latest = checkpoint.id
        if not ended:
            round_id = next(ids)
            rounds[round_id] = RoundFacts(
                run_id, completed + 1, None, draw(st.booleans()), False, latest, None
            )
            updates.append(UpdateFacts(draw(digest), run_id, round_id))
        updates += [UpdateFacts(draw(digest), run_id, None) for _ in range(draw(st.integers(0, 1)))]
        runs[run_id] = RunFacts(days_ago(draw) if ended else None, base, latest, completed)
    artifacts = tuple(
        ArtifactFacts(name, 100, NOW - timedelta(hours=draw(st.sampled_from([1, 23, 25, 999]))))
        for name in DIGESTS
    )
    facts = Facts(artifacts, tuple(updates), tuple(checkpoints), runs, rounds)
    return World(facts, frozenset(held))


def chosen(world: World, policy: Retention) -> frozenset[str]:
    return expendable(world.facts, policy, now=NOW, grace=GRACE)


def digest_of(facts: Facts, checkpoint_id: UUID | None) -> str:
    return next((item.digest for item in facts.checkpoints if item.id == checkpoint_id), "")


@given(worlds(), policies)
def test_nothing_that_a_held_receipt_needs_is_chosen(world: World, policy: Retention) -> None:
    facts, going = world.facts, chosen(world, policy)
    for round_id in world.held:
        row = facts.rounds[round_id]
        assert digest_of(facts, row.base_checkpoint_id) not in going
        assert digest_of(facts, row.checkpoint_id) not in going
        assert not {item.digest for item in facts.updates if item.round_id == round_id} & going


@given(worlds(), policies)
def test_nothing_that_a_living_run_needs_is_chosen(world: World, policy: Retention) -> None:
    facts, going = world.facts, chosen(world, policy)
    for run_id, run in facts.runs.items():
        if run.ended_at is not None:
            continue
        assert digest_of(facts, run.base_checkpoint_id) not in going
        assert digest_of(facts, run.latest_checkpoint_id) not in going
        for row in facts.rounds.values():
            if row.run_id == run_id and (row.closed_at is None or row.busy):
                assert digest_of(facts, row.base_checkpoint_id) not in going
        for item in facts.updates:
            open_round = item.round_id is None or facts.rounds[item.round_id].closed_at is None
            assert not (item.run_id == run_id and open_round and item.digest in going)


@given(worlds(), policies)
def test_no_digest_is_chosen_that_a_kept_checkpoint_shares(world: World, policy: Retention) -> None:
    facts, going = world.facts, chosen(world, policy)
    bases = {run.base_checkpoint_id for run in facts.runs.values()}
    lasts = {run.latest_checkpoint_id for run in facts.runs.values()}
    every = policy.checkpoints_every
    for item in facts.checkpoints:
        nth = every is None or (item.round_number or 0) % every == 0
        if item.run_id is None or item.id in bases | lasts or nth:
            assert item.digest not in going


@given(worlds(), policies)
def test_what_was_just_sent_is_not_chosen(world: World, policy: Retention) -> None:
    fresh = {item.digest for item in world.facts.artifacts if item.uploaded_at > NOW - GRACE}
    assert not fresh & chosen(world, policy)


@given(worlds())
def test_the_default_policy_chooses_only_what_nothing_names(world: World) -> None:
    facts = world.facts
    named = {item.digest for item in (*facts.updates, *facts.checkpoints)}
    old = {item.digest for item in facts.artifacts if item.uploaded_at <= NOW - GRACE}
    assert chosen(world, KEEP_EVERYTHING) == old - named


@given(worlds(), policies)
def test_a_hold_only_ever_keeps_more(world: World, policy: Retention) -> None:
    facts = world.facts
    released = {key: replace(row, held=False) for key, row in facts.rounds.items()}
    without = expendable(replace(facts, rounds=released), policy, now=NOW, grace=GRACE)
    assert chosen(world, policy) <= without


def test_the_rules_let_go_what_they_say() -> None:
    run_id, base, first, second, third = (UUID(int=number) for number in range(1, 6))
    names = dict(zip(("base", "one", "two", "three", "u1", "u3"), DIGESTS, strict=False))
    rounds = {
        UUID(int=100 + number): RoundFacts(
            run_id=run_id,
            number=number,
            closed_at=NOW - timedelta(days=age),
            busy=False,
            held=False,
            base_checkpoint_id=start,
            checkpoint_id=end,
        )
        for number, age, start, end in (
            (1, 40, base, first),
            (2, 39, first, second),
            (3, 5, second, third),
        )
    }
    facts = Facts(
        artifacts=tuple(
            ArtifactFacts(name, 1, NOW - timedelta(days=50)) for name in names.values()
        ),
        updates=(
            UpdateFacts(names["u1"], run_id, UUID(int=101)),
            UpdateFacts(names["u3"], run_id, UUID(int=103)),
        ),
        checkpoints=(
            CheckpointFacts(base, names["base"], None, None),
            CheckpointFacts(first, names["one"], run_id, 1),
            CheckpointFacts(second, names["two"], run_id, 2),
            CheckpointFacts(third, names["three"], run_id, 3),
        ),
        runs={run_id: RunFacts(NOW - timedelta(days=5), base, third, 3)},
        rounds=rounds,
    )

    def going(**rules: float) -> set[str]:
        chosen = expendable(facts, Retention.model_validate(rules), now=NOW, grace=GRACE)
        return {name for name, digest in names.items() if digest in chosen}

    assert going() == set()
    assert going(updates_days=30) == {"u1"}
    assert going(updates_days=1) == {"u1", "u3"}
    assert going(updates_rounds=1) == {"u1"}
    assert going(updates_rounds=0) == {"u1", "u3"}
    assert going(updates_rounds=0, updates_days=30) == {"u1"}  # both have to let go
    assert going(updates_rounds=3, updates_days=0) == set()
    assert going(checkpoints_every=2) == {"one"}
    assert going(checkpoints_every=100) == {"one", "two"}
    assert going(checkpoints_every=1) == set()
