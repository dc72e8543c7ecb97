"""Spans of time as `hansa run preview` tells them."""

import pytest

from hansa.cli.previews import lasting


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (None, "not known"),
        (0.1234, "0.123 s"),
        (9.94, "9.94 s"),
        (42.44, "42.4 s"),
        (90, "1.5 min"),
        (5400, "1.5 h"),
        (3 * 86400, "3.0 d"),
    ],
)
def test_a_span_is_told_in_its_unit(seconds: float | None, told: str) -> None:
    assert lasting(seconds) == told
