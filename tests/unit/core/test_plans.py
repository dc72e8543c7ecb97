"""What a plan may say, what it may not, and what its digest rests on."""

from typing import Any

import pytest
from pydantic import ValidationError

from hansa_core.plans import RunPlan, parse_plan, plan_digest, problems_of

LEAST: dict[str, Any] = {"name": "first", "model": "tumor", "rounds": 3}
CROSS_FIELD: list[tuple[dict[str, Any], str, str]] = [
    (
        {"cohort": {"size": 3}},
        "cohort",
        "size needs choose = random, weighted or stratified",
    ),
    (
        {"cohort": {"choose": "random"}},
        "cohort",
        "choose = random needs size, the number of answers wanted",
    ),
    (
        {"cohort": {"choose": "weighted"}},
        "cohort",
        "choose = weighted needs size, the number of answers wanted",
    ),
    (
        {"cohort": {"choose": "random", "size": 2, "min_sites": 3}},
        "cohort",
        "size 2 is below min_sites 3",
    ),
    (
        {"cohort": {"over_select": 1}},
        "cohort",
        "over_select needs size: the answers that close the round",
    ),
    (
        {"cohort": {"choose": "random", "size": 2, "over_select": 1, "pinned": list("abcd")}},
        "cohort",
        "4 pinned sites do not fit into size 2",
    ),
    ({"cohort": {"pinned": ["a", "b", "a"]}}, "cohort", "pinned names a site twice"),
    (
        {"cohort": {"choose": "stratified", "size": 2}},
        "cohort",
        "choose = stratified and stratify_by need each other",
    ),
    (
        {"cohort": {"choose": "random", "size": 2, "stratify_by": "country"}},
        "cohort",
        "choose = stratified and stratify_by need each other",
    ),
    (
        {"rounds": 0, "evaluation": {"final": False}},
        "body",
        "a run of 0 rounds only evaluates: it needs evaluation.final = true",
    ),
    (
        {"evaluation": {"at_sites": False}},
        "body",
        "evaluation.at_sites = false needs evaluation.evaluators",
    ),
    (
        {"cohort": {"pinned": ["a", "b", "c"]}, "evaluation": {"evaluators": ["c", "b"]}},
        "body",
        "pinned sites cannot be evaluators: b, c",
    ),
    (
        {"early_stopping": {"metric": "loss"}, "evaluation": {"every": 0}},
        "body",
        "early_stopping on an eval metric needs evaluation.every above 0",
    ),
    (
        {"buffer": {"size": 2}, "cohort": {"choose": "random", "size": 2}},
        "body",
        "a buffered run asks every eligible site: choose must be all",
    ),
    (
        {"buffer": {"size": 2}, "cohort": {"min_sites": 3}},
        "body",
        "buffer.size 2 is below min_sites 3",
    ),
    (
        {"strategy": {"name": "krum", "byzantine": 1}, "cohort": {"min_sites": 4}},
        "body",
        "krum with byzantine 1 needs min_sites 5 (2 * byzantine + 3), got 4",
    ),
    (
        {
            "strategy": {"name": "krum", "byzantine": 1},
            "cohort": {"min_sites": 5, "choose": "random", "size": 1001},
        },
        "body",
        "krum compares every two updates: size 1001 is above 1000",
    ),
    (
        {"strategy": {"name": "multi-krum", "byzantine": 0, "keep": 2}, "cohort": {"min_sites": 3}},
        "body",
        "multi-krum with byzantine 0 and min_sites 3 can keep 1 (min_sites - byzantine - 2), "
        "got keep 2",
    ),
    (
        {"strategy": {"name": "trimmed-mean", "trim": 0.1}, "cohort": {"min_sites": 9}},
        "body",
        "trim 0.1 of min_sites 9 takes off nobody: the round would be a plain mean",
    ),
    (
        {"buffer": {"size": 2}, "strategy": {"name": "median"}},
        "body",
        "a buffered run scales updates by their staleness, which strategy median cannot: "
        "wanted one of fedavg, fedavgm, fedprox, norm-clipping",
    ),
]
GOOD: list[dict[str, Any]] = [
    {"rounds": 0},
    {"cohort": {"choose": "random", "size": 2}},
    {"cohort": {"choose": "random", "size": 2, "over_select": 1, "pinned": ["a", "b", "c"]}},
    {"cohort": {"choose": "stratified", "size": 2, "stratify_by": "country"}},
    {"cohort": {"pinned": ["a", "b", "c"], "min_sites": 1}},
    {"evaluation": {"at_sites": False, "evaluators": ["central"]}},
    {"early_stopping": {"metric": "loss", "source": "train"}, "evaluation": {"every": 0}},
    {"buffer": {"size": 2}, "cohort": {"min_sites": 2}},
    {"strategy": {}},
    {"strategy": {"name": "median"}},
    {"strategy": {"name": "trimmed-mean", "trim": 0.1}, "cohort": {"min_sites": 10}},
    {"strategy": {"name": "trimmed-mean", "trim": 0}},
    {"strategy": {"name": "krum", "byzantine": 1}, "cohort": {"min_sites": 5}},
    {"strategy": {"name": "multi-krum", "byzantine": 0, "keep": 1}, "cohort": {"min_sites": 3}},
    {"strategy": {"name": "geometric-median"}},
    {"strategy": {"name": "centred-clipping", "radius": 1}},
    {"strategy": {"name": "norm-clipping", "bound": 1}, "buffer": {"size": 2}},
]
STRATEGY_OF: dict[str, dict[str, Any]] = {
    "strategy.trim": {"name": "trimmed-mean"},
    "strategy.byzantine": {"name": "krum"},
    "strategy.keep": {"name": "multi-krum", "byzantine": 0},
    "strategy.iterations": {"name": "geometric-median"},
    "strategy.smoothing": {"name": "geometric-median"},
    "strategy.radius": {"name": "centred-clipping"},
    "strategy.bound": {"name": "norm-clipping"},
}


def refused(document: dict[str, Any]) -> dict[str, str]:
    """Return the problems of a plan that is wrong."""
    with pytest.raises(ValidationError) as caught:
        parse_plan(document)
    return dict(problems_of(caught.value))


@pytest.mark.parametrize(("wrong", "path", "message"), CROSS_FIELD)
def test_fields_that_contradict_each_other_are_refused(
    wrong: dict[str, Any], path: str, message: str
) -> None:
    assert refused({**LEAST, **wrong}) == {path: f"Value error, {message}"}


@pytest.mark.parametrize("fields", GOOD)
def test_the_edges_of_those_rules_are_allowed(fields: dict[str, Any]) -> None:
    plan = parse_plan({**LEAST, **fields})
    assert parse_plan(plan.model_dump(mode="json")) == plan


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "Upper"),
        ("rounds", -1),
        ("rounds", 100_001),
        ("seed", 2**63),
        ("seed", -1),
        ("cohort.min_sites", 0),
        ("cohort.size", 0),
        ("cohort.choose", "best"),
        ("cohort.over_select", -1),
        ("cohort.retries", -1),
        ("cohort.hardware.cpus", -1),
        ("cohort.hardware.memory_gib", -0.5),
        ("cohort.hardware.memory_gib", float("inf")),
        ("cohort.hardware.memory_gib", float("nan")),
        ("cohort.hardware.gpus", 65),
        ("deadlines.round_seconds", 0),
        ("deadlines.round_seconds", 30 * 86400 + 1),
        ("buffer.size", 0),
        ("buffer.concurrency", 0),
        ("buffer.staleness_exponent", -0.1),
        ("buffer.staleness_exponent", float("nan")),
        ("buffer.max_staleness", -1),
        ("strategy.name", "mode"),
        ("strategy.trim", 0.5),
        ("strategy.trim", -0.1),
        ("strategy.byzantine", -1),
        ("strategy.keep", 0),
        ("strategy.iterations", 0),
        ("strategy.iterations", 101),
        ("strategy.smoothing", 0),
        ("strategy.radius", float("inf")),
        ("strategy.bound", float("nan")),
        ("evaluation.every", -1),
        ("early_stopping.mode", "best"),
        ("early_stopping.patience", 0),
        ("early_stopping.min_delta", float("inf")),
        ("budget.seconds", 0),
        ("budget.seconds", float("inf")),
        ("budget.bytes", 0),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_path(path: str, value: object) -> None:
    document: dict[str, Any] = {**LEAST}
    if path.startswith("early"):
        document["early_stopping"] = {"metric": "loss"}
    if path.startswith("buffer"):
        document["buffer"] = {"size": 2}
    if path in STRATEGY_OF:
        document["strategy"] = dict(STRATEGY_OF[path])
    *sections, name = path.split(".")
    section = document
    for part in sections:
        section = section.setdefault(part, {})
    section[name] = value
    problems = refused(document)
    assert set(problems) == {path}
    assert f"got {value!r}" in problems[path]


def test_every_wrong_field_is_told_at_once() -> None:
    problems = refused({"name": "first", "rounds": "many", "cohort": {"colour": 1}, "seed": -1})
    assert set(problems) == {"model", "rounds", "cohort.colour", "seed"}


@pytest.mark.parametrize(
    ("strategy", "field", "message"),
    [
        ({"name": "median", "trim": 0.2}, "trim", "Extra inputs are not permitted"),
        ({"trim": 0.2}, "trim", "Extra inputs are not permitted"),
        ({"name": "trimmed-mean"}, "trim", "Field required"),
        ({"name": "centred-clipping"}, "radius", "Field required"),
    ],
)
def test_a_setting_of_another_strategy_is_told_by_its_path(
    strategy: dict[str, Any], field: str, message: str
) -> None:
    assert refused({**LEAST, "strategy": strategy}) == {f"strategy.{field}": message}


def test_an_unknown_strategy_is_told_what_there_is() -> None:
    problems = refused({**LEAST, "strategy": {"name": "fedavgg"}})
    message = problems["strategy.name"]
    assert message.startswith("Input should be one of 'fedavg', 'fedavgm', 'fedadagrad', ")
    assert message.endswith(", got 'fedavgg'")


def test_a_plan_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_plan(LEAST).rounds = 4  # pyright: ignore[reportAttributeAccessIssue] -- that is the test


# The digest


def test_the_digest_of_a_plan_is_what_it_always_was() -> None:
    # Permanent: it names runs of the past, which new fields must not rename.
    assert plan_digest(parse_plan(LEAST)) == (
        "7017e6d6abc8b72e56480381a5b7d782f163f146e720251720fd315f083fb3b9"
    )


def test_defaults_written_out_do_not_change_the_digest() -> None:
    plan = parse_plan(LEAST)
    spelled = plan.model_dump(mode="json")
    assert set(spelled) == set(RunPlan.model_fields)
    assert plan_digest(parse_plan(spelled)) == plan_digest(plan)
    for section, fields in spelled.items():
        assert plan_digest(parse_plan({**LEAST, section: fields})) == plan_digest(plan)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"rounds": 4},
        {"cohort": {"min_sites": 3}},
        {"cohort": {"hardware": {"gpus": 1}}},
        {"cohort": {"retries": 1}},
        {"deadlines": {"round_seconds": 60}},
        {"buffer": {"size": 2}},
        {"buffer": {"size": 3}},
        {"strategy": {"name": "median"}},
        {"strategy": {"name": "trimmed-mean", "trim": 0}},
        {"strategy": {"name": "geometric-median"}},
        {"strategy": {"name": "geometric-median", "iterations": 9}},
        {"strategy": {"name": "norm-clipping", "bound": 1}},
        {"evaluation": {"every": 2}},
        {"evaluation": {"evaluators": ["central"]}},
        {"early_stopping": {"metric": "loss"}},
        {"budget": {"bytes": 10}},
        {"training": {"lr": 1}},
        {"training": {"lr": 1.0}},
        {"training": {"lr": None}},
    ],
)
def test_whatever_a_plan_says_beyond_its_defaults_is_in_the_digest(change: dict[str, Any]) -> None:
    assert plan_digest(parse_plan({**LEAST, **change})) != plan_digest(parse_plan(LEAST))


def test_strategies_do_not_share_a_digest_and_survive_the_defaults_left_out() -> None:
    plans = [parse_plan({**LEAST, "strategy": {"name": name, **settings}}) for name, settings in (
        ("fedavg", {}), ("median", {}), ("geometric-median", {}),
        ("norm-clipping", {"bound": 1}), ("centred-clipping", {"radius": 1}),
    )]  # fmt: skip
    assert len({plan_digest(plan) for plan in plans}) == len(plans)
    for plan in plans:
        assert parse_plan(plan.model_dump(mode="json", exclude_defaults=True)) == plan


def test_the_order_of_fields_does_not_matter_to_the_digest_but_that_of_lists_does() -> None:
    reverse = dict(reversed(LEAST.items()))
    assert plan_digest(parse_plan(reverse)) == plan_digest(parse_plan(LEAST))
    one, other = ({**LEAST, "training": {"layers": layers}} for layers in ([1, 2], [2, 1]))
    assert plan_digest(parse_plan(one)) != plan_digest(parse_plan(other))
