"""What a fork changes of its parent's plan, as a JSON merge patch (RFC 7396)."""

from typing import Any

import pytest

from app.domain.errors import InvalidRequestError
from app.domain.plans import changed_plan
from hansa_core.plans import CohortChoice, parse_plan, plan_digest

PARENT: dict[str, Any] = {
    "name": "first",
    "model": "tumor",
    "rounds": 5,
    "cohort": {"min_sites": 2, "choose": "random", "size": 3, "pinned": ["oslo"]},
    "evaluation": {"every": 2},
    "training": {"lr": 0.1, "schedule": {"warmup": 3, "decay": 0.5}, "layers": [1, 2]},
}


def test_what_a_patch_does_not_name_stays() -> None:
    assert changed_plan(PARENT, {}) == parse_plan(PARENT)
    plan = changed_plan(PARENT, {"rounds": 9, "cohort": {"size": 4}})
    assert plan == parse_plan({**PARENT, "rounds": 9, "cohort": {**PARENT["cohort"], "size": 4}})
    assert PARENT["cohort"]["size"] == 3  # the parent's own is left alone


def test_a_null_takes_a_field_away_and_a_list_is_replaced_whole() -> None:
    plan = changed_plan(PARENT, {"cohort": {"choose": None, "size": None, "pinned": ["bergen"]}})
    assert plan.cohort.choose is CohortChoice.ALL
    assert plan.cohort.size is None
    assert plan.cohort.pinned == ["bergen"]
    assert plan.cohort.min_sites == 2
    whole = changed_plan(PARENT, {"cohort": None})
    assert "cohort" not in whole.model_dump(exclude_defaults=True)


def test_the_trainers_own_values_are_merged_as_deep_as_they_go() -> None:
    changes = {"schedule": {"decay": None, "kind": {"name": "cosine", "none": None}}, "layers": 3}
    plan = changed_plan(PARENT, {"training": changes})
    assert plan.training == {
        "lr": 0.1,
        "schedule": {"warmup": 3, "kind": {"name": "cosine"}},
        "layers": 3,
    }
    assert changed_plan(PARENT, {"training": {"lr": {"a": 1}}}).training["lr"] == {"a": 1}


def test_a_stored_plan_with_its_defaults_written_out_forks_to_the_same() -> None:
    stored = parse_plan(PARENT).model_dump(mode="json")
    assert plan_digest(changed_plan(stored, {})) == plan_digest(parse_plan(PARENT))


def test_every_wrong_field_is_named_below_changes() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        changed_plan(PARENT, {"rounds": -1, "colour": "red", "cohort": {"size": "many"}})
    paths = {problem.path: problem.message for problem in caught.value.fields}
    assert set(paths) == {"changes.rounds", "changes.colour", "changes.cohort.size"}
    assert "got -1" in paths["changes.rounds"]
    for path in paths:
        assert path in str(caught.value)


def test_a_change_that_contradicts_what_stays_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"size 3 is below min_sites 4"):
        changed_plan(PARENT, {"cohort": {"min_sites": 4}})
    with pytest.raises(InvalidRequestError, match=r"changes\.model: Field required"):
        changed_plan(PARENT, {"model": None})


@pytest.mark.parametrize("bound", [{}, {"bound": None}], ids=["unsaid", "null"])
def test_another_strategy_takes_the_settings_of_the_old_one_away(bound: dict[str, None]) -> None:
    parent = {**PARENT, "strategy": {"name": "norm-clipping", "bound": 2}}
    change = {"strategy": {"name": "median", **bound}}
    assert changed_plan(parent, change).strategy.name == "median"


def test_a_setting_of_the_same_strategy_leaves_the_others() -> None:
    parent = {**PARENT, "strategy": {"name": "fedadam", "lr": 0.1, "tau": 0.01}}
    for change in ({"lr": 0.2}, {"name": "fedadam", "lr": 0.2}):
        assert changed_plan(parent, {"strategy": change}).strategy.settings()["tau"] == 0.01
