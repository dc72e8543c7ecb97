"""Properties of thinning a curve out, over hostile values."""

import math

from hypothesis import given
from hypothesis import strategies as st

from app.domain.curves import LEAST_WITH_EXTREMES, chosen_points

VALUES = st.floats(allow_nan=False, allow_infinity=False)
CURVES = st.lists(VALUES, min_size=1, max_size=300)
MOST = st.integers(min_value=2, max_value=60)


@given(values=CURVES, most=MOST)
def test_there_are_as_many_points_as_wanted_the_first_and_the_last_among_them(
    values: list[float], most: int
) -> None:
    chosen = chosen_points(range(len(values)), values, most)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(len(values), most)
    assert (chosen[0], chosen[-1]) == (0, len(values) - 1)


@given(values=CURVES, most=st.integers(min_value=LEAST_WITH_EXTREMES, max_value=60))
def test_the_least_and_the_greatest_value_are_kept(values: list[float], most: int) -> None:
    kept = [values[index] for index in chosen_points(range(len(values)), values, most)]
    assert (min(kept), max(kept)) == (min(values), max(values))


@given(
    values=st.lists(st.none() | st.floats(), min_size=1, max_size=200),
    most=MOST,
)
def test_what_cannot_be_drawn_takes_no_place_from_what_can(
    values: list[float | None], most: int
) -> None:
    chosen = chosen_points(range(len(values)), values, most)
    assert len(chosen) <= max(most, 0)
    if len(values) > most:
        drawable = [value is not None and math.isfinite(value) for value in values]
        assert all(drawable[index] for index in chosen[1:-1])
        assert len(chosen) == min(most, 2 + sum(drawable[1:-1]))


@given(count=st.integers(min_value=5, max_value=300), most=st.integers(min_value=5, max_value=60))
def test_a_single_spike_survives(count: int, most: int) -> None:
    spike = count // 2
    values = [0.0] * count
    values[spike] = 1.0
    assert spike in chosen_points(range(count), values, most)


def test_the_triangles_are_those_of_the_paper() -> None:
    # One point to a bucket of three between the ends: the corner of the largest triangle, each
    # counted out by hand. The extremes, 0 and 9, are the ends already.
    values = [0.0, 1.0, 5.0, 2.0, 3.0, 3.0, 8.0, 9.0]
    # bucket 1: 1, 5, 2 with the mean of 3, 3, 8 (x 5, y 14/3): doubled areas 1/3, 47/3, 4
    # bucket 2: 3, 3, 8 with the end (7, 9), from (2, 5): 18, 22, 1
    assert chosen_points(range(8), values, 4) == [0, 2, 5, 7]
