"""Invariants of the round state machine, of cohorts and of means, for whatever is counted."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.domain.rounds import Decision, RoundFacts, decide, require_legal, weighted_means
from app.domain.runs import Candidate, choose_cohort, is_online, next_round
from hansa_core.plans import CohortPlan, EvaluationPlan, RunPlan
from hansa_core.states import RoundKind, RoundState

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
ONLINE_FOR = timedelta(seconds=120)

offsets = st.timedeltas(timedelta(days=-40), timedelta(days=40))
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def collecting(draw: st.DrawFn) -> RoundFacts:
    """Facts as they can be counted: no more answers and failures than sites."""
    admitted = draw(st.integers(1, 50))
    answered = draw(st.integers(0, admitted))
    return RoundFacts(
        kind=draw(st.sampled_from(RoundKind)),
        state=RoundState.COLLECTING,
        admitted=admitted,
        answered=answered,
        failed=draw(st.integers(0, admitted - answered)),
        threshold=draw(st.integers(1, admitted)),
        deadline=NOW + draw(offsets),
    )


@given(collecting(), offsets)
def test_a_round_never_succeeds_with_fewer_answers_than_its_threshold(
    facts: RoundFacts, offset: timedelta
) -> None:
    decision = decide(facts, now=NOW + offset)
    if decision is not None:
        require_legal(facts.state, decision.state)
        succeeded = decision.state is not RoundState.FAILED
        assert succeeded == (facts.answered >= facts.threshold)
        assert (decision.reason is None) == succeeded


@given(collecting(), offsets)
def test_the_deadline_always_ends_a_round_and_nothing_to_wait_for_does_too(
    facts: RoundFacts, offset: timedelta
) -> None:
    over = NOW + offset >= facts.deadline
    everybody = facts.answered + facts.failed == facts.admitted
    hopeless = facts.admitted - facts.failed < facts.threshold
    assert (decide(facts, now=NOW + offset) is not None) == (over or everybody or hopeless)


@given(collecting(), offsets, offsets)
def test_what_is_decided_stays_decided_as_time_passes(
    facts: RoundFacts, one: timedelta, other: timedelta
) -> None:
    first, later = sorted((NOW + one, NOW + other))
    decided = decide(facts, now=first)
    if decided is not None:
        again = decide(facts, now=later)
        assert again is not None
        assert again.state is decided.state


@given(
    st.lists(st.booleans(), min_size=1, max_size=30),
    st.data(),
    st.sampled_from(RoundKind),
)
def test_a_round_ends_once_whatever_the_order_of_answers_and_failures(
    outcomes: list[bool], data: st.DataObject, kind: RoundKind
) -> None:
    threshold = data.draw(st.integers(1, len(outcomes)))
    decisions: list[Decision | None] = []
    for known in range(len(outcomes) + 1):
        answered = sum(outcomes[:known])
        facts = RoundFacts(
            kind=kind,
            state=RoundState.COLLECTING,
            admitted=len(outcomes),
            answered=answered,
            failed=known - answered,
            threshold=threshold,
            deadline=NOW,
        )
        decisions.append(decide(facts, now=NOW - timedelta(seconds=1)))
    assert decisions[-1] is not None
    for earlier, later in pairwise(decisions):
        if earlier is not None:
            assert later is not None
            assert later.state is earlier.state
    succeeded = decisions[-1].state is not RoundState.FAILED
    assert succeeded == (sum(outcomes) >= threshold)


labels = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3)
candidates = st.lists(
    st.builds(
        Candidate,
        name=st.text("abcdefgh", min_size=1, max_size=3),
        labels=labels,
        last_seen_at=st.none() | offsets.map(lambda offset: NOW + offset),
    ),
    max_size=12,
    unique_by=lambda site: site.name,
)


@given(candidates, labels, st.integers(1, 6))
def test_a_cohort_is_every_matching_site_online_or_nobody(
    sites: list[Candidate], wanted: dict[str, str], threshold: int
) -> None:
    plan = CohortPlan(labels=wanted)
    cohort = choose_cohort(plan, sites, threshold=threshold, online_for=ONLINE_FOR, now=NOW)
    fitting = {
        site.name
        for site in sites
        if wanted.items() <= site.labels.items() and is_online(site.last_seen_at, ONLINE_FOR, NOW)
    }
    enough = len(fitting) >= threshold
    assert cohort.names == (fitting if enough else frozenset())
    if enough:
        assert cohort.waiting_for is None
    else:
        expected = f"{len(fitting)} of {threshold} sites online: waiting for "
        assert (cohort.waiting_for or "").startswith(expected)
    shuffled = choose_cohort(plan, sites[::-1], threshold=threshold, online_for=ONLINE_FOR, now=NOW)
    assert shuffled == cohort


@given(st.integers(1, 40), st.integers(0, 45), st.booleans())
def test_a_run_has_its_rounds_in_order_and_ends(rounds: int, every: int, final: bool) -> None:
    plan = RunPlan(
        name="r", model="m", rounds=rounds, evaluation=EvaluationPlan(every=every, final=final)
    )
    numbers: list[int] = []
    completed, evaluated = 0, False
    while coming := next_round(plan, rounds_completed=completed, evaluated=evaluated):
        numbers.append(coming.number)
        if coming.kind is RoundKind.TRAIN:
            completed += 1
        else:
            evaluated = True
    assert numbers == list(range(1, rounds + 1 + final))
    assert (completed, evaluated) == (rounds, final)


reports = st.lists(
    st.tuples(st.sampled_from(["loss", "auc"]), finite, st.integers(1, 2**40)), max_size=12
)


@given(reports)
def test_a_mean_lies_among_its_values_and_does_not_depend_on_their_order(
    points: list[tuple[str, float, int]],
) -> None:
    means = weighted_means(points)
    assert set(means) == {name for name, _, _ in points}
    for name, (mean, num_examples) in means.items():
        values = [value for other, value, _ in points if other == name]
        assert min(values) <= mean <= max(values)
        assert num_examples == sum(count for other, _, count in points if other == name)
    assert weighted_means(sorted(points, reverse=True)) == means
