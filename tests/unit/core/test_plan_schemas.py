"""The plan's schema says of every field what a form needs, and takes what the plan takes."""

import hashlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hansa_core.codecs.plans import codec_names
from hansa_core.plan_schemas import DRAFT, plan_schema
from hansa_core.plans import RunPlan, parse_plan
from hansa_core.strategies import strategies

LEAST = {"name": "first", "model": "tumor", "rounds": 1}
EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*/plan.toml"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(plan_schema().body)


def sections(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "RunPlan", schema
    for name, section in schema["$defs"].items():
        if "properties" in section:
            yield name, section


def test_every_field_has_a_title_a_description_and_its_default(schema: dict[str, Any]) -> None:
    found = 0
    for name, section in sections(schema):
        assert section["title"], name
        assert section["description"], name
        for field, told in section["properties"].items():
            found += 1
            lacking = {"title", "description"} - set(told)
            if field not in section.get("required", []):
                lacking |= {"default"} - set(told)
            assert not lacking, f"{name}.{field}"
            assert "_" not in told["title"], f"{name}.{field}"
            assert "\n" not in told["description"], f"{name}.{field}"
    assert found > 80


def test_strategies_and_codecs_are_told_apart_by_name(schema: dict[str, Any]) -> None:
    for section, names in (("strategy", set(strategies())), ("codec", set(codec_names()))):
        told = schema["properties"][section]
        assert told["discriminator"]["propertyName"] == "name"
        assert set(told["discriminator"]["mapping"]) == names
        for name, reference in told["discriminator"]["mapping"].items():
            choice = schema["$defs"][reference.removeprefix("#/$defs/")]
            assert choice["properties"]["name"]["const"] == name
            what, _, use = choice["description"].partition(". ")
            assert what, name
            assert use, f"{name} does not say when to use it"


def test_defaults_are_the_plan_s_own(schema: dict[str, Any]) -> None:
    plan = parse_plan(LEAST).model_dump(mode="json")
    told = {name: it["default"] for name, it in schema["properties"].items() if "default" in it}
    assert set(told) == set(plan) - set(LEAST)
    for name, default in told.items():
        assert default == plan[name], name


def test_it_takes_the_plans_that_are_plans(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == DRAFT
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert EXAMPLES
    for path in EXAMPLES:
        validator.validate(tomllib.loads(path.read_text()))
    spelled = parse_plan(LEAST).model_dump(mode="json")
    bare: dict[str, Any] = {"strategy": {}, "codec": {}, "secure": {}, "cohort": {"min_sites": 3}}
    for document in (LEAST, spelled, {**LEAST, **bare}):
        validator.validate(document)
        RunPlan.model_validate(document)


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": -1},
        {"name": "No Name"},
        {"no_such_field": 1},
        {"strategy": {"name": "none-such"}},
        {"strategy": {"name": "fedprox"}},
        {"strategy": {"mu": 0.1}},
        {"codec": {"name": "int8", "block": 17}},
        {"cohort": {"choose": "nobody"}},
        {"secure": {"quantiser": {"lanes": 6}}},
    ],
)
def test_it_refuses_what_the_plan_refuses(schema: dict[str, Any], change: dict[str, Any]) -> None:
    document = {**LEAST, **change}
    assert not Draft202012Validator(schema).is_valid(document)
    with pytest.raises(ValueError, match=r"validation error"):
        parse_plan(document)


def test_its_digest_is_that_of_its_bytes() -> None:
    made = plan_schema()
    assert made.digest == hashlib.sha256(made.body).hexdigest()
    assert plan_schema() is made
