"""How long a round may take when its plan does not say."""

import pytest

from app.domain.deadlines import FIRST_SECONDS, LEAST_SECONDS, SLOWEST_LINK, derive_seconds


def test_the_first_round_has_an_hour_and_the_time_of_its_transfers() -> None:
    assert derive_seconds([], transfer_bytes=0) == FIRST_SECONDS
    assert derive_seconds([], transfer_bytes=600 * SLOWEST_LINK) == FIRST_SECONDS + 600


def test_a_later_round_has_thrice_the_slowest_answer_of_late() -> None:
    assert derive_seconds([100.0, 1000.0, 700.0], transfer_bytes=0) == 3000
    # What was measured includes the transfers.
    assert derive_seconds([1000.0], transfer_bytes=2**40) == 3000


@pytest.mark.parametrize("past", [[0.0], [0.5, 12.0], [LEAST_SECONDS / 3]])
def test_no_derived_deadline_is_a_race(past: list[float]) -> None:
    assert derive_seconds(past, transfer_bytes=0) == LEAST_SECONDS
