"""How a run moves, which round comes next, and when it stops early."""

import pytest

from app.domain.errors import IllegalTransitionError
from app.domain.runs import (
    ENDED,
    NextRound,
    next_round,
    require_legal,
    secure_of,
    spent_budget,
    stagnation,
)
from hansa_core.plans import (
    BudgetPlan,
    CohortPlan,
    EarlyStopping,
    EvaluationPlan,
    RunPlan,
)
from hansa_core.secagg.plans import SecurePlan
from hansa_core.states import RoundKind, RunState

LEGAL = {
    (RunState.DRAFT, RunState.QUEUED),
    (RunState.DRAFT, RunState.CANCELLED),
    (RunState.QUEUED, RunState.RUNNING),
    (RunState.QUEUED, RunState.PAUSED),
    (RunState.QUEUED, RunState.COMPLETED),
    (RunState.QUEUED, RunState.CANCELLED),
    (RunState.RUNNING, RunState.PAUSED),
    (RunState.RUNNING, RunState.COMPLETED),
    (RunState.RUNNING, RunState.FAILED),
    (RunState.RUNNING, RunState.CANCELLED),
    (RunState.PAUSED, RunState.QUEUED),
    (RunState.PAUSED, RunState.RUNNING),
    (RunState.PAUSED, RunState.CANCELLED),
}
LOWER = EarlyStopping(metric="loss", patience=2, min_delta=0.1)
HIGHER = EarlyStopping(metric="auc", mode="max", patience=2)


def a_plan(rounds: int, *, every: int = 1, final: bool = True) -> RunPlan:
    return RunPlan(
        name="first",
        model="tumor",
        rounds=rounds,
        cohort=CohortPlan(min_sites=3),
        evaluation=EvaluationPlan(every=every, final=final),
    )


def series(*values: float) -> list[tuple[int, float]]:
    return list(enumerate(values))


@pytest.mark.parametrize("current", list(RunState))
@pytest.mark.parametrize("target", list(RunState))
def test_exactly_the_drawn_moves_are_legal(current: RunState, target: RunState) -> None:
    if (current, target) in LEGAL:
        require_legal(current, target)
    else:
        with pytest.raises(IllegalTransitionError, match=f"a {current} run cannot"):
            require_legal(current, target)


def test_an_illegal_move_says_what_is_possible() -> None:
    with pytest.raises(IllegalTransitionError, match="only cancelled or completed or paused"):
        require_legal(RunState.QUEUED, RunState.FAILED)
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


def test_a_run_of_no_rounds_only_evaluates_its_base() -> None:
    only = next_round(a_plan(0), rounds_completed=0, evaluated=False)
    assert only == NextRound(1, RoundKind.EVALUATE, evaluate=True, threshold=1)
    assert next_round(a_plan(0), rounds_completed=0, evaluated=True) is None


def test_a_run_that_stops_early_is_evaluated_all_the_same() -> None:
    coming = next_round(a_plan(9), rounds_completed=4, evaluated=False, stopped=True)
    assert coming == NextRound(5, RoundKind.EVALUATE, evaluate=True, threshold=1)
    assert next_round(a_plan(9), rounds_completed=4, evaluated=True, stopped=True) is None
    quiet = a_plan(9, final=False)
    assert next_round(quiet, rounds_completed=4, evaluated=False, stopped=True) is None


@pytest.mark.parametrize(
    ("every", "evaluated"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [1, 3, 5]), (9, [1])]
)
def test_every_nth_round_evaluates_its_base_first(every: int, evaluated: list[int]) -> None:
    plan = a_plan(5, every=every)
    coming = [next_round(plan, rounds_completed=done, evaluated=False) for done in range(5)]
    assert [row.number for row in coming if row and row.evaluate] == evaluated


def test_a_budget_is_spent_when_it_is_reached_and_names_itself() -> None:
    budget = BudgetPlan(seconds=90, bytes=1000)
    assert spent_budget(budget, seconds=89.9, moved=999) is None
    assert spent_budget(budget, seconds=90, moved=0) == "the time budget of 90 s is spent"
    assert spent_budget(budget, seconds=0, moved=1000) == (
        "the budget of 1000 bytes is spent: 1000 were moved"
    )
    assert spent_budget(BudgetPlan(), seconds=1e9, moved=2**60) is None


def test_training_stops_after_so_many_measurements_without_a_gain() -> None:
    assert stagnation(LOWER, []) is None
    assert stagnation(LOWER, series(1.0, 1.0)) is None
    assert stagnation(LOWER, series(1.0, 1.0, 1.0)) == (
        "eval loss has not improved on the 1 of checkpoint 0 in 2 measurements"
    )


def test_a_gain_begins_the_count_again() -> None:
    assert stagnation(LOWER, series(1.0, 1.0, 0.5, 0.6)) is None
    stopped = stagnation(LOWER, series(1.0, 1.0, 0.5, 0.6, 0.45))
    assert stopped is not None
    assert "the 0.5 of checkpoint 2" in stopped


def test_a_gain_no_larger_than_min_delta_is_none() -> None:
    exact = LOWER.model_copy(update={"min_delta": 0.25})
    assert stagnation(exact, series(1.0, 0.75, 0.75)) is not None
    assert stagnation(exact, series(1.0, 0.749, 0.75)) is None
    # Slow gains add up, since each is measured against the last value that counted.
    assert stagnation(exact, series(1.0, 0.875, 0.7, 0.7)) is None


def test_of_a_metric_to_maximize_more_is_better() -> None:
    assert stagnation(HIGHER, series(0.5, 0.6, 0.7)) is None
    stopped = stagnation(HIGHER, series(0.5, 0.7, 0.6, 0.7))
    assert stopped is not None
    assert stopped.startswith("eval auc has not improved on the 0.7 of checkpoint 1")


@pytest.mark.parametrize(("least", "wanted"), [(None, 3), (5, 5)])
def test_no_secure_round_is_of_fewer_sites_than_its_sum_hides(
    least: int | None, wanted: int
) -> None:
    plan = a_plan(1).model_copy(update={"secure": SecurePlan(min_survivors=least)})
    training = next_round(plan, rounds_completed=0, evaluated=False)
    final = next_round(plan, rounds_completed=1, evaluated=False)
    assert training is not None
    assert final is not None
    assert (training.threshold, final.threshold) == (wanted, wanted)


def test_an_evaluation_by_evaluators_alone_has_nothing_to_hide() -> None:
    central = EvaluationPlan(at_sites=False, evaluators=["central"])
    plan = a_plan(1).model_copy(update={"secure": SecurePlan(), "evaluation": central})
    assert secure_of(plan, RoundKind.TRAIN) is not None
    assert secure_of(plan, RoundKind.EVALUATE) is None
    final = next_round(plan, rounds_completed=1, evaluated=False)
    assert final is not None
    assert final.threshold == 1
