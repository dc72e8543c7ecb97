"""Invariants of the round state machine, of cohorts and of means, for whatever is counted."""

import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.domain.cohorts import Candidate, Cohort, choose_cohort, is_online
from app.domain.rounds import Decision, RoundFacts, decide, require_legal, weighted_means
from app.domain.runs import NextRound, next_round, stagnation
from hansa_core.plans import CohortPlan, EarlyStopping, EvaluationPlan, RunPlan, parse_plan
from hansa_core.states import RoundKind, RoundState, SiteState

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
        target=draw(st.none() | st.integers(1, 50)),
        evaluating=draw(st.integers(0, 2)),
    )


@st.composite
def buffering(draw: st.DrawFn) -> RoundFacts:
    """Facts of a buffered round: updates of older rounds count as well."""
    target = draw(st.integers(1, 20))
    return RoundFacts(
        kind=RoundKind.TRAIN,
        state=RoundState.COLLECTING,
        admitted=draw(st.integers(0, 50)),
        answered=draw(st.integers(0, 30)),
        failed=draw(st.integers(0, 50)),
        threshold=draw(st.integers(1, target)),
        deadline=NOW + draw(offsets),
        target=target,
        unfinished=draw(st.integers(0, 3)),
        buffered=True,
    )


@given(collecting() | buffering(), offsets)
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
    reached = facts.target is not None and facts.answered >= facts.target
    hopeless = facts.admitted - facts.failed < facts.threshold
    done = (everybody or reached) and not facts.evaluating
    assert (decide(facts, now=NOW + offset) is not None) == (over or done or hopeless)


@given(buffering(), offsets)
def test_a_buffer_closes_when_full_or_over_and_else_only_when_nobody_works(
    facts: RoundFacts, offset: timedelta
) -> None:
    assert facts.target is not None
    decided = decide(facts, now=NOW + offset) is not None
    if facts.answered >= facts.target or NOW + offset >= facts.deadline:
        assert decided
    elif decided:
        assert facts.unfinished == 0
        assert facts.failed or facts.answered >= facts.threshold


@given(collecting() | buffering(), offsets, offsets)
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
        last_seen_at=st.none() | st.just(NOW) | offsets.map(lambda offset: NOW + offset),
        state=st.sampled_from([SiteState.ACTIVE, *SiteState]),
        examples=st.none() | st.integers(1, 2**40),
    ),
    max_size=12,
    unique_by=lambda site: site.name,
)


def online_and_eligible(sites: list[Candidate], wanted: dict[str, str]) -> set[str]:
    return {
        site.name
        for site in sites
        if site.state is SiteState.ACTIVE
        and wanted.items() <= site.labels.items()
        and is_online(site.last_seen_at, ONLINE_FOR, NOW)
    }


@given(candidates, labels, st.integers(1, 6))
def test_a_cohort_is_every_matching_site_online_or_nobody(
    sites: list[Candidate], wanted: dict[str, str], threshold: int
) -> None:
    plan = RunPlan(name="r", model="m", rounds=1, cohort=CohortPlan(labels=wanted))
    coming = NextRound(1, RoundKind.TRAIN, evaluate=False, threshold=threshold)
    cohort = choose_cohort(plan, coming, sites, online_for=ONLINE_FOR, now=NOW)
    fitting = online_and_eligible(sites, wanted)
    enough = len(fitting) >= threshold
    assert cohort.names == (fitting if enough else frozenset())
    if enough:
        assert cohort.waiting_for is None
        assert {item.site for item in cohort.excluded} == {s.name for s in sites} - fitting
    else:
        expected = f"{len(fitting)} of {threshold} sites online: waiting for "
        assert (cohort.waiting_for or "").startswith(expected)
    shuffled = choose_cohort(plan, coming, sites[::-1], online_for=ONLINE_FOR, now=NOW)
    assert shuffled == cohort


@st.composite
def drawing_plans(draw: st.DrawFn) -> RunPlan:
    choice = draw(st.sampled_from(["random", "weighted", "stratified"]))
    size, over_select = draw(st.integers(1, 5)), draw(st.integers(0, 2))
    names = st.lists(st.text("abcdefgh", min_size=1, max_size=3), max_size=1)
    cohort = {
        "min_sites": draw(st.integers(1, size)),
        "choose": choice,
        "size": size,
        "over_select": over_select,
        "pinned": draw(names),
        "stratify_by": "a" if choice == "stratified" else None,
    }
    seed = draw(st.integers(0, 2**63 - 1))
    return parse_plan({"name": "r", "model": "m", "rounds": 9, "seed": seed, "cohort": cohort})


@given(drawing_plans(), candidates, st.integers(1, 9), st.integers(0, 3), st.randoms())
def test_a_draw_fills_its_places_from_the_eligible_and_keeps_the_pinned(
    plan: RunPlan, sites: list[Candidate], number: int, tries: int, luck: random.Random
) -> None:
    coming = NextRound(number, RoundKind.TRAIN, evaluate=True, threshold=plan.cohort.min_sites)

    def draw(among: list[Candidate]) -> Cohort:
        return choose_cohort(
            plan, coming, among, online_for=ONLINE_FOR, now=NOW, failed_tries=tries
        )

    cohort = draw(sites)
    fitting = online_and_eligible(sites, {})
    if plan.cohort.stratify_by is not None:
        fitting &= {site.name for site in sites if plan.cohort.stratify_by in site.labels}
    size = plan.cohort.size or 0
    if len(fitting) < coming.threshold or not fitting >= set(plan.cohort.pinned):
        assert cohort.names == frozenset()
        assert cohort.waiting_for
    else:
        assert cohort.names <= fitting
        assert cohort.names >= set(plan.cohort.pinned)
        assert len(cohort.names) == min(size + plan.cohort.over_select, len(fitting))
        assert cohort.target == size
        against = {item.site for item in cohort.excluded if item.drawn_against}
        assert against == fitting - cohort.names
    among = list(sites)
    luck.shuffle(among)
    assert draw(among) == cohort


@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]), max_size=12),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.5, 0.75]),
)
def test_training_stops_exactly_when_the_last_measurements_hold_no_gain(
    values: list[float], patience: int, min_delta: float
) -> None:
    plan = EarlyStopping(metric="loss", patience=patience, min_delta=min_delta)
    best, gained_at = float("inf"), 0
    for place, value in enumerate(values):
        if best - value > min_delta:
            best, gained_at = value, place
    stalled = bool(values) and len(values) - 1 - gained_at >= patience
    assert (stagnation(plan, list(enumerate(values))) is not None) == stalled
    rising = plan.model_copy(update={"mode": "max"})
    mirrored = [(place, -value) for place, value in enumerate(values)]
    assert (stagnation(rising, mirrored) is not None) == stalled


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
