"""When a round ends, how, and what its means are."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.errors import IllegalTransitionError
from app.domain.rounds import (
    Decision,
    RoundFacts,
    decide,
    repeat_seed,
    require_legal,
    weighted_means,
)
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
OVER_SELECTED = replace(FACTS, admitted=5, target=3)
BUFFERED = replace(FACTS, admitted=0, target=4, buffered=True, unfinished=2)
AGGREGATING = Decision(RoundState.AGGREGATING)

LEGAL = {
    (RoundState.SETUP, RoundState.COLLECTING),
    (RoundState.SETUP, RoundState.FAILED),
    (RoundState.SETUP, RoundState.CANCELLED),
    (RoundState.COLLECTING, RoundState.SIGNING),
    (RoundState.SIGNING, RoundState.OPENING),
    (RoundState.SIGNING, RoundState.FAILED),
    (RoundState.SIGNING, RoundState.CANCELLED),
    (RoundState.OPENING, RoundState.AGGREGATING),
    (RoundState.OPENING, RoundState.FAILED),
    (RoundState.OPENING, RoundState.CANCELLED),
    (RoundState.AGGREGATING, RoundState.OPENING),
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


@pytest.mark.parametrize("kind", list(RoundKind))
def test_a_secure_round_is_signed_before_anything_is_summed(kind: RoundKind) -> None:
    answered = replace(FACTS, kind=kind, answered=3, secure=True)
    assert decide(answered, now=NOW) == Decision(RoundState.SIGNING)


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


@pytest.mark.parametrize("facts", [FACTS, OVER_SELECTED, BUFFERED])
@pytest.mark.parametrize("state", [s for s in RoundState if s is not RoundState.COLLECTING])
def test_a_round_that_does_not_collect_is_left_alone(state: RoundState, facts: RoundFacts) -> None:
    ready = replace(facts, state=state, answered=4)
    assert decide(ready, now=FACTS.deadline) is None


def test_an_over_selected_round_ends_with_its_target() -> None:
    assert decide(replace(OVER_SELECTED, answered=2), now=NOW) is None
    assert decide(replace(OVER_SELECTED, answered=3), now=NOW) == AGGREGATING


def test_a_round_whose_target_is_out_of_reach_ends_with_all_that_can_come() -> None:
    assert decide(replace(OVER_SELECTED, answered=1, failed=3), now=NOW) is None
    assert decide(replace(OVER_SELECTED, answered=2, failed=3), now=NOW) == AGGREGATING
    assert decide(replace(OVER_SELECTED, answered=2), now=FACTS.deadline) == AGGREGATING


def test_evaluators_are_waited_for_until_the_deadline_and_are_no_part_of_k() -> None:
    waiting = replace(FACTS, answered=3, evaluating=1)
    assert decide(waiting, now=NOW) is None
    assert decide(waiting, now=FACTS.deadline) == AGGREGATING
    assert decide(replace(waiting, evaluating=0), now=NOW) == AGGREGATING
    hopeless = decide(replace(waiting, answered=1, failed=2), now=NOW)
    assert hopeless is not None
    assert hopeless.state is RoundState.FAILED


def test_a_buffer_closes_when_it_is_full_whoever_still_works() -> None:
    assert decide(replace(BUFFERED, answered=3), now=NOW) is None
    assert decide(replace(BUFFERED, answered=4), now=NOW) == AGGREGATING
    assert decide(replace(BUFFERED, answered=5, failed=9), now=NOW) == AGGREGATING


def test_a_buffer_closes_at_the_deadline_if_it_holds_enough() -> None:
    assert decide(replace(BUFFERED, answered=2), now=FACTS.deadline) == AGGREGATING
    assert decide(replace(BUFFERED, admitted=3, answered=1), now=FACTS.deadline) == Decision(
        RoundState.FAILED, "1 of 3 sites answered by the deadline, 2 were needed"
    )


def test_a_buffer_that_nobody_fills_any_more_closes_before_the_deadline() -> None:
    idle = replace(BUFFERED, unfinished=0)
    assert decide(replace(idle, answered=2), now=NOW) == AGGREGATING
    assert decide(replace(idle, answered=1, failed=1), now=NOW) == Decision(
        RoundState.FAILED, "every site failed or was given up; 1 updates came, 2 were needed"
    )


def test_a_buffer_that_nobody_failed_waits_for_sites_until_the_deadline() -> None:
    idle = replace(BUFFERED, unfinished=0, answered=1)
    assert decide(idle, now=NOW) is None
    assert decide(idle, now=FACTS.deadline) is not None


def test_a_site_asked_again_gets_another_seed_and_everybody_the_same() -> None:
    seeds = [repeat_seed(seed, repeat) for seed in (0, 1, 2**63 - 1) for repeat in range(1, 50)]
    assert seeds[0] == 0
    assert repeat_seed(7, 1) == 7  # what a run without repeats always had
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert repeat_seed(7, 2) == 8254223987835438812


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
