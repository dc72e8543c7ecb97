"""What a plan's codec section takes, and what it means."""

import pytest
from pydantic import ValidationError

from hansa_core.canonical import canonical_json
from hansa_core.codecs.plans import ExactPlan, Int4Plan, Int8Plan, kept_of, requires_memory
from tests.unit.core.codecs.samples import LOSSY, SPARSE, codec, sparse


def test_a_section_without_a_name_is_exact() -> None:
    assert codec({}) == ExactPlan()


def test_defaults_stay_what_they_are() -> None:
    # Plans are named by what differs from these: they never change.
    assert [codec({"name": name}).model_dump(mode="json") for name in ("int8", "int4")] == [
        {"name": "int8", "block": 256, "rounding": "nearest"},
        {"name": "int4", "block": 64, "rounding": "nearest"},
    ]
    assert codec({"name": "topk"}).model_dump(mode="json") == {
        "name": "topk",
        "fraction": 0.05,
        "values": "bf16",
        "decay": 1.0,
    }
    assert codec({"name": "sparse2"}).model_dump(mode="json") == {
        "name": "sparse2",
        "fraction": 0.03125,
        "decay": 1.0,
    }


def test_a_plan_is_written_without_its_defaults_and_keeps_its_name() -> None:
    plan = codec({"name": "int8", "block": 128})
    document = plan.model_dump(mode="json", exclude_defaults=True)
    assert canonical_json(document) == b'{"block":128,"name":"int8"}'
    assert codec(document) == plan


@pytest.mark.parametrize(
    "section",
    [
        {"name": "zip"},
        {"name": "exact", "block": 64},
        {"name": "bf16", "rounding": "nearest"},
        {"name": "int8", "block": 15},
        {"name": "int8", "block": 17},
        {"name": "int4", "block": 8192},
        {"name": "int8", "rounding": "down"},
        {"name": "topk", "fraction": 0},
        {"name": "topk", "fraction": 1.5},
        {"name": "topk", "fraction": float("nan")},
        {"name": "topk", "values": "fp8"},
        {"name": "topk", "decay": 0},
        {"name": "sparse2", "decay": 1.1},
        {"name": "sparse2", "error_feedback": False},
    ],
)
def test_what_no_codec_has_is_refused(section: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        codec(section)


def test_the_sparse_ones_need_memory() -> None:
    assert [plan for plan in LOSSY if requires_memory(plan)] == list(SPARSE)
    assert not requires_memory(ExactPlan())
    assert isinstance(codec({"name": "int4"}), Int4Plan)
    assert isinstance(codec({"name": "int8"}), Int8Plan)


@pytest.mark.parametrize(
    ("fraction", "kept"), [(0.05, 205), (0.25, 1024), (1, 4096), (1e-9, 1), (0.03125, 128)]
)
def test_the_fraction_is_rounded_up(fraction: float, kept: int) -> None:
    for name in ("topk", "sparse2"):
        assert kept_of(sparse(name, fraction=fraction)) == kept
