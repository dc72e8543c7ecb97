"""Canonical JSON: frozen bytes, and what it refuses."""

import json
from enum import StrEnum
from pathlib import Path

import pytest

from hansa_core.canonical import MAX_DEPTH, canonical_json
from hansa_core.problems import CanonicalizationError

VECTORS = Path(__file__).parents[2] / "vectors" / "canonical.json"


def test_frozen_vectors_hold() -> None:
    for case in json.loads(VECTORS.read_text()):
        assert canonical_json(case["value"]).decode() == case["canonical"]


def test_insertion_order_does_not_matter() -> None:
    assert canonical_json({"b": 1, "a": [1, 2]}) == canonical_json({"a": (1, 2), "b": 1})


def test_integer_and_float_stay_apart() -> None:
    assert canonical_json(1) != canonical_json(1.0)


def test_enum_members_are_written_as_their_text() -> None:
    class Colour(StrEnum):
        RED = "red"

    assert canonical_json({Colour.RED: Colour.RED}) == b'{"red":"red"}'


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (float("nan"), "$ is nan"),
        ({"a": [0, float("inf")]}, "$.a[1] is inf"),
        ({1: "a"}, "key 1"),
        ({"a": b"bytes"}, "$.a is a bytes"),
        ({"a": {1, 2}}, "$.a is a set"),
        (2**64, "65 bits"),
        (-(2**63) - 1, "64 bits"),
        (["\ud800"], "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
    ],
)
def test_what_json_cannot_carry_alike_everywhere_is_refused(value: object, named: str) -> None:
    with pytest.raises(CanonicalizationError) as caught:
        canonical_json(value)
    assert named in str(caught.value)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(CanonicalizationError, match=f"deeper than {MAX_DEPTH}"):
        canonical_json(loop)
