"""What a preview warns of, and that it is silent where nothing is wrong."""

from dataclasses import replace
from typing import Any

import pytest

from app.domain.cautions import Outlook, cautions, say_bytes
from hansa_core.plans import parse_plan

CALM = {"name": "first", "model": "tumor", "rounds": 10}
SECURE = {"secure": {}, "cohort": {"min_sites": 6}}


def outlook(plan: dict[str, Any] | None = None, **facts: Any) -> Outlook:
    parsed = parse_plan({**CALM, **(plan or {})})
    calm = Outlook(
        plan=parsed,
        trainers=9,
        threshold=parsed.cohort.min_sites,
        evaluators_away=(),
        evaluators_unknown=(),
        runs_at_work=0,
        seconds_per_round=20.0,
        bytes_per_round=1000,
    )
    return replace(calm, **facts)


@pytest.mark.parametrize(
    ("plan", "facts"),
    [
        ({}, {}),
        ({}, {"seconds_per_round": None}),
        (SECURE, {}),
        ({"deadlines": {"round_seconds": 20}}, {}),
        ({"budget": {"seconds": 200, "bytes": 10_000}}, {}),
        ({"budget": {"bytes": 9_001}}, {}),
        ({"deadlines": {"round_seconds": 1}}, {"seconds_per_round": None}),
        ({"buffer": {"size": 9}}, {"trainers": 2}),
        ({"early_stopping": {"metric": "loss", "patience": 8}}, {}),
    ],
)
def test_a_plan_that_fits_its_federation_is_not_warned_of(
    plan: dict[str, Any], facts: dict[str, Any]
) -> None:
    assert cautions(outlook(plan, **facts)) == []


@pytest.mark.parametrize(
    ("plan", "facts", "words"),
    [
        ({}, {"trainers": 2}, "all 2 sites: if a site fails or is late the round fails, and the"),
        ({"cohort": {"min_sites": 2, "retries": 3}}, {"trainers": 2}, "again at most 3 times"),
        ({"cohort": {"min_sites": 1}}, {"trainers": 1}, "of the one site"),
        ({"secure": {}, "cohort": {"min_sites": 3}}, {"trainers": 5}, "sum may be of 4 updates"),
        ({"deadlines": {"round_seconds": 19}}, {}, "round_seconds is 19, and rounds of this"),
        ({"budget": {"seconds": 199}}, {}, "enough for about 9 of 10 rounds"),
        ({"budget": {"bytes": 9000}}, {}, "9 kB: at 1 kB a round it is spent after about 9 of 10"),
        ({"evaluation": {"every": 0, "final": False}}, {}, "nobody evaluates"),
        ({}, {"evaluators_unknown": ["lab"]}, "names lab, which is no active site"),
        ({}, {"evaluators_away": ["lab"]}, "names lab, which is not online"),
        ({"early_stopping": {"metric": "loss", "patience": 9}}, {}, "before round 10 of 10"),
        ({}, {"runs_at_work": 1}, "1 other run is queued or running"),
        ({}, {"secure_problem": "too many"}, "secure rounds of so many sites cannot be: too many"),
    ],
)
def test_what_is_probably_not_meant_is_told(
    plan: dict[str, Any], facts: dict[str, Any], words: str
) -> None:
    (told,) = cautions(outlook(plan, **facts))
    assert words in told


def test_a_run_that_only_evaluates_is_not_warned_of_training() -> None:
    assert cautions(outlook({"rounds": 0, "budget": {"bytes": 1}}, trainers=1, threshold=1)) == []


def test_sizes_are_readable() -> None:
    sizes = [say_bytes(size) for size in (999, 1000, 12_345_678, 5 * 10**9)]
    assert sizes == ["999 bytes", "1 kB", "12.3 MB", "5 GB"]
