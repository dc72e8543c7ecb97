"""What an open round says of itself."""

from datetime import UTC, datetime, timedelta
from typing import Any

from app.domain.progress import Part, describe_round
from hansa_core.states import RoundState, TaskState

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)


def a_part(name: str, state: TaskState, progress: dict[str, Any] | None = None) -> Part:
    return Part(name, NOW - timedelta(minutes=3), state, progress)


def says(
    *parts: Part,
    number: int = 3,
    state: RoundState = RoundState.COLLECTING,
    wanted: int | None = None,
) -> str:
    return describe_round(
        number=number, rounds=10, state=state, wanted=wanted, parts=parts, now=NOW
    )


DONE = a_part("bergen", TaskState.DONE)


def test_a_round_counts_its_answers_and_says_what_each_other_site_does() -> None:
    training = a_part("oslo", TaskState.CLAIMED, {"phase": "training", "fraction": 0.4})
    begun = a_part("turku", TaskState.CLAIMED)
    away = a_part("vaasa", TaskState.OPEN)
    assert says(DONE, training, begun, away) == (
        "round 3 of 10: 1 of 4 answers, waiting for oslo (training 40%), turku (has begun), "
        "vaasa (last seen 3 min ago)"
    )


def test_nobody_is_waited_for_who_cannot_answer_any_more() -> None:
    over = [a_part("oslo", TaskState.FAILED), a_part("turku", TaskState.LATE)]
    assert says(DONE, *over) == "round 3 of 10: 1 of 3 answers"


def test_a_round_with_a_target_counts_towards_that() -> None:
    assert says(DONE, a_part("oslo", TaskState.CLAIMED), wanted=1).startswith(
        "round 3 of 10: 1 of 1 answers"
    )


def test_five_sites_are_named_and_the_rest_counted() -> None:
    many = [a_part(f"site-{number}", TaskState.CLAIMED) for number in range(8)]
    assert says(*many).endswith("site-4 (has begun) and 3 more")


def test_a_round_that_is_summed_waits_for_nobody() -> None:
    late = a_part("oslo", TaskState.LATE)
    summing = says(DONE, late, state=RoundState.AGGREGATING)
    assert summing == "round 3 of 10: combining 1 updates"


def test_a_secure_round_says_what_its_sites_agree_on() -> None:
    assert says(state=RoundState.SETUP) == "round 3 of 10: the sites agree on a roster"
    assert says(DONE, state=RoundState.SIGNING) == (
        "round 3 of 10: the committee signs which of 1 updates the sum is of"
    )
    assert says(DONE, state=RoundState.OPENING) == "round 3 of 10: the committee opens the sum"


def test_the_round_after_the_last_is_the_final_evaluation() -> None:
    assert says(DONE, number=11).startswith("the final evaluation: 1 of 1 answers")
    assert says(DONE, number=10).startswith("round 10 of 10: ")
