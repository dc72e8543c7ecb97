"""When a round ends, how, and what its means are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.errors import IllegalTransitionError
from app.domain.rounds import Decision, RoundFacts, decide, require_legal, weighted_means
from hansa_core.states import RoundKind, RoundState

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
FACTS = RoundFacts(
    kind=RoundKind.TRAIN,
    state=RoundState.COLLECTING,
    admitted=3,
    answered=0,
    failed=0,
    threshold=2,
    deadline=NOW + timedelta(hours=1),
)
AGGREGATING = Decision(RoundState.AGGREGATING)

LEGAL = {
    (RoundState.COLLECTING, RoundState.AGGREGATING),
    (RoundState.COLLECTING, RoundState.COMPLETED),
    (RoundState.COLLECTING, RoundState.FAILED),
    (RoundState.COLLECTING, RoundState.CANCELLED),
    (RoundState.AGGREGATING, RoundState.COMPLETED),
    (RoundState.AGGREGATING, RoundState.FAILED),
    (RoundState.AGGREGATING, RoundState.CANCELLED),
}


def test_a_round_with_enough_answers_waits_for_the_rest_until_the_deadline() -> None:
    enough = replace(FACTS, answered=2)
    assert decide(enough, now=FACTS.deadline - timedelta(microseconds=1)) is None
    assert decide(enough, now=FACTS.deadline) == AGGREGATING


def test_a_round_ends_when_everybody_answered_or_failed() -> None:
    assert decide(replace(FACTS, answered=3), now=NOW) == AGGREGATING
    assert decide(replace(FACTS, answered=2, failed=1), now=NOW) == AGGREGATING


def test_an_evaluation_has_nothing_to_aggregate() -> None:
    evaluated = replace(FACTS, kind=RoundKind.EVALUATE, answered=3)
    assert decide(evaluated, now=NOW) == Decision(RoundState.COMPLETED)


def test_a_round_fails_as_soon_as_its_threshold_is_out_of_reach() -> None:
    assert decide(replace(FACTS, failed=1), now=NOW) is None
    assert decide(replace(FACTS, answered=1, failed=2), now=NOW) == Decision(
        RoundState.FAILED, "2 of 3 sites failed, so 2 answers cannot be reached"
    )


def test_a_round_fails_at_its_deadline_with_too_few_answers() -> None:
    assert decide(replace(FACTS, answered=1), now=FACTS.deadline) == Decision(
        RoundState.FAILED, "1 of 3 sites answered by the deadline, 2 were needed"
    )


@pytest.mark.parametrize("state", [s for s in RoundState if s is not RoundState.COLLECTING])
def test_a_round_that_does_not_collect_is_left_alone(state: RoundState) -> None:
    ready = replace(FACTS, state=state, answered=3)
    assert decide(ready, now=FACTS.deadline) is None


@pytest.mark.parametrize("current", list(RoundState))
@pytest.mark.parametrize("target", list(RoundState))
def test_exactly_the_drawn_moves_are_legal(current: RoundState, target: RoundState) -> None:
    if (current, target) in LEGAL:
        require_legal(current, target)
    else:
        with pytest.raises(IllegalTransitionError, match=f"a {current} round cannot"):
            require_legal(current, target)


def test_means_are_weighted_by_examples_over_the_sites_that_report() -> None:
    means = weighted_means([("loss", 1.0, 10), ("loss", 2.0, 30), ("auc", 0.5, 30)])
    assert means == {"loss": (1.75, 40), "auc": (0.5, 30)}
    assert weighted_means([]) == {}


def test_equal_reports_have_exactly_that_mean() -> None:
    assert weighted_means([("auc", 0.1, 3)] * 7) == {"auc": (0.1, 21)}


def test_the_mean_of_the_largest_numbers_is_finite() -> None:
    largest = 1.7976931348623157e308
    assert weighted_means([("loss", largest, 2**40)] * 3)["loss"] == (largest, 3 * 2**40)
    assert weighted_means([("loss", largest, 1), ("loss", -largest, 1)])["loss"] == (0.0, 2)
