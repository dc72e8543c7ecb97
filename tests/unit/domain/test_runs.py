"""How a run moves, which round comes next, and who is admitted to it."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.errors import IllegalTransitionError
from app.domain.runs import (
    ENDED,
    Candidate,
    NextRound,
    choose_cohort,
    is_online,
    next_round,
    require_legal,
)
from hansa_core.plans import CohortPlan, EvaluationPlan, RunPlan
from hansa_core.states import RoundKind, RunState

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
ONLINE_FOR = timedelta(seconds=120)

LEGAL = {
    (RunState.DRAFT, RunState.QUEUED),
    (RunState.DRAFT, RunState.CANCELLED),
    (RunState.QUEUED, RunState.RUNNING),
    (RunState.QUEUED, RunState.CANCELLED),
    (RunState.RUNNING, RunState.COMPLETED),
    (RunState.RUNNING, RunState.FAILED),
    (RunState.RUNNING, RunState.CANCELLED),
}


def a_plan(rounds: int, *, every: int = 1, final: bool = True) -> RunPlan:
    return RunPlan(
        name="first",
        model="tumor",
        rounds=rounds,
        cohort=CohortPlan(min_sites=3),
        evaluation=EvaluationPlan(every=every, final=final),
    )


def a_site(name: str, seconds_ago: float | None = 0, **labels: str) -> Candidate:
    seen = None if seconds_ago is None else NOW - timedelta(seconds=seconds_ago)
    return Candidate(name, labels, seen)


def waiting_for(*sites: Candidate, threshold: int = 2, **labels: str) -> str | None:
    cohort = choose_cohort(
        CohortPlan(labels=labels), sites, threshold=threshold, online_for=ONLINE_FOR, now=NOW
    )
    assert (cohort.waiting_for is None) == bool(cohort.names)
    return cohort.waiting_for


@pytest.mark.parametrize("current", list(RunState))
@pytest.mark.parametrize("target", list(RunState))
def test_exactly_the_drawn_moves_are_legal(current: RunState, target: RunState) -> None:
    if (current, target) in LEGAL:
        require_legal(current, target)
    else:
        with pytest.raises(IllegalTransitionError, match=f"a {current} run cannot"):
            require_legal(current, target)


def test_an_illegal_move_says_what_is_possible() -> None:
    with pytest.raises(IllegalTransitionError, match="only cancelled or running"):
        require_legal(RunState.QUEUED, RunState.COMPLETED)
    with pytest.raises(IllegalTransitionError, match="nothing: it is over"):
        require_legal(RunState.FAILED, RunState.QUEUED)
    assert {RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED} == ENDED


def test_training_rounds_come_first_and_then_one_evaluation() -> None:
    plan = a_plan(2)
    first = next_round(plan, rounds_completed=0, evaluated=False)
    assert first == NextRound(1, RoundKind.TRAIN, evaluate=True, threshold=3)
    last = next_round(plan, rounds_completed=2, evaluated=False)
    assert last == NextRound(3, RoundKind.EVALUATE, evaluate=True, threshold=1)
    assert next_round(plan, rounds_completed=2, evaluated=True) is None


def test_a_plan_without_a_final_evaluation_ends_with_its_last_round() -> None:
    assert next_round(a_plan(2, final=False), rounds_completed=2, evaluated=False) is None


@pytest.mark.parametrize(
    ("every", "evaluated"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [1, 3, 5]), (9, [1])]
)
def test_every_nth_round_evaluates_its_base_first(every: int, evaluated: list[int]) -> None:
    plan = a_plan(5, every=every)
    coming = [next_round(plan, rounds_completed=done, evaluated=False) for done in range(5)]
    assert [row.number for row in coming if row and row.evaluate] == evaluated


def test_all_matching_sites_online_are_admitted_not_only_the_needed_ones() -> None:
    sites = [
        a_site("bergen", 0, scanner="mri"),
        a_site("oslo", 120, scanner="mri", country="no"),
        a_site("turku", 121, scanner="mri"),
        a_site("vaasa", 0, scanner="ct"),
        a_site("visby", 0),
    ]
    plan = CohortPlan(labels={"scanner": "mri"})
    cohort = choose_cohort(plan, sites, threshold=1, online_for=ONLINE_FOR, now=NOW)
    assert (cohort.names, cohort.waiting_for) == ({"bergen", "oslo"}, None)


def test_a_run_that_waits_says_for_whom() -> None:
    absent = (
        a_site("turku", 7300),
        a_site("oslo", None),
        a_site("vaasa", 130),
        a_site("kiel", 119.9 + 0.2),
    )
    assert waiting_for(a_site("bergen"), *absent) == (
        "1 of 2 sites online: waiting for kiel (last seen 2 min ago), oslo (never seen), "
        "turku (last seen 2 h ago), vaasa (last seen 2 min ago)"
    )


def test_a_run_that_waits_names_five_at_most() -> None:
    many = [a_site(f"site-{number}", 600) for number in range(7)]
    reason = waiting_for(*many) or ""
    assert reason.endswith("site-4 (last seen 10 min ago) and 2 more")
    assert waiting_for(*many[:5]) == reason.removesuffix(" and 2 more")


def test_a_run_waits_for_enrolments_where_no_more_site_could_come() -> None:
    assert waiting_for() == "0 of 2 sites online: waiting for more sites to enroll"
    others = (a_site("bergen", scanner="ct"), a_site("oslo", scanner="mri"))
    assert waiting_for(*others, scanner="mri") == (
        "1 of 2 sites online: waiting for more sites to enroll"
    )


def test_a_site_is_online_for_a_while_after_it_was_seen() -> None:
    assert is_online(NOW - ONLINE_FOR, ONLINE_FOR, NOW)
    assert not is_online(NOW - ONLINE_FOR - timedelta(microseconds=1), ONLINE_FOR, NOW)
    assert not is_online(None, ONLINE_FOR, NOW)
    assert is_online(NOW + timedelta(seconds=1), ONLINE_FOR, NOW)  # another replica's clock


def test_sites_that_wait_for_approval_are_what_the_run_waits_for() -> None:
    cohort = choose_cohort(
        CohortPlan(min_sites=2),
        [],
        threshold=2,
        online_for=timedelta(minutes=2),
        now=datetime(2026, 1, 1, tzinfo=UTC),
        pending=["oslo", "rome"],
    )
    assert cohort.waiting_for == "0 of 2 sites online: waiting for the approval of oslo, rome"
