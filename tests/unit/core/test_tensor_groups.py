"""Which tensors are shared with whom, and that groups are combined over their holders."""

from typing import Any

import numpy as np
import pytest

from hansa_core.layouts import Layout
from hansa_core.problems import AggregationError, TensorGroupsError, UpdateRefusedError
from hansa_core.tensor_groups import TensorsPlan, partition
from tests.jobs import Sent, a_server
from tests.tensors import Tensors

MODEL: Tensors = {
    "body.w": np.zeros(3),
    "body.n": np.array([5]),
    "norm.scale": np.ones(2),
    "head.a": np.zeros(1),
    "head.b": np.zeros(1),
    "embed": np.full(2, 7.0),
}
PLAN: dict[str, Any] = {
    "personal": ["norm.*"],
    "frozen": ["embed"],
    "groups": [
        {"name": "a", "tensors": ["head.a"], "labels": {"kind": "a"}},
        {"name": "b", "tensors": ["head.b"], "labels": {"kind": "b"}},
    ],
}


def plan(**sections: Any) -> TensorsPlan:
    return TensorsPlan.model_validate(sections)


def names(layout: Layout) -> set[str]:
    return {tensor.name for tensor in layout.tensors}


def test_every_tensor_is_in_one_place() -> None:
    parts = partition(Layout.of(MODEL), plan(**PLAN))
    assert {group.name: {it.name for it in group.tensors} for group in parts.groups} == {
        "": {"body.w", "body.n"},
        "a": {"head.a"},
        "b": {"head.b"},
    }
    assert (parts.personal, parts.frozen) == ({"norm.scale"}, {"embed"})
    assert names(parts.upload_layout(["b"])) == {"body.w", "body.n", "head.b"}
    assert names(parts.upload_layout([])) == {"body.w", "body.n"}


def test_who_holds_what_follows_from_labels() -> None:
    tensors = plan(groups=[*PLAN["groups"], {"name": "all", "tensors": ["body.*"]}])
    assert tensors.held_by({"kind": "b"}) == ["b", "all"]
    assert tensors.held_by({}) == ["all"]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"frozen": ["tail.*"]}, r"frozen: 'tail.\*' matches no tensor; there are '"),
        ({"frozen": ["embed"], "personal": ["emb*"]}, "'embed' is both personal and frozen"),
        ({"frozen": ["*"]}, "there is nothing to train"),
        (
            {"groups": [{"name": "x", "tensors": ["*.w"]}, {"name": "y", "tensors": ["body.*"]}]},
            "'body.w' is both group 'x' and group 'y'",
        ),
    ],
)
def test_a_plan_that_does_not_fit_the_model_is_refused(
    sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(TensorGroupsError, match=message):
        partition(Layout.of(MODEL), plan(**sections))


def test_a_site_without_any_group_has_nothing_to_upload() -> None:
    parts = partition(Layout.of(MODEL), plan(groups=[{"name": "all", "tensors": ["*"]}]))
    with pytest.raises(TensorGroupsError, match="holds no tensor group"):
        parts.upload_layout([])
    with pytest.raises(TensorGroupsError, match="no tensor group 'none'"):
        parts.upload_layout(["none"])


def delta(number: float, *groups: str) -> Sent:
    tensors: Tensors = {"body.w": np.full(3, float(number)), "body.n": np.array([int(number)])}
    tensors |= {f"head.{group}": np.full(1, float(number)) for group in groups}
    return Sent(tensors, num_examples=int(number), groups=groups)


def test_a_group_is_the_mean_over_its_holders() -> None:
    server = a_server(MODEL, tensors=PLAN)
    made = server.round([delta(1, "a"), delta(3, "a", "b"), delta(4)]).model
    assert made["body.w"].tolist() == [(1 + 9 + 16) / 8] * 3
    assert made["head.a"].tolist() == [(1 + 9) / 4]
    assert made["head.b"].tolist() == [3]
    assert made["body.n"].tolist() == [5 + 3]
    for name in ("norm.scale", "embed"):
        assert made[name].tolist() == MODEL[name].tolist()


def test_a_group_that_nobody_holds_stays_with_its_state() -> None:
    server = a_server(MODEL, tensors=PLAN, strategy={"name": "fedavgm", "momentum": 0.5})
    once = server.round([delta(2, "a", "b")])
    assert set(once.slot("momentum")) == {"body.w", "head.a", "head.b"}
    twice = once.round([delta(2, "a")])
    assert twice.model["head.a"].tolist() == [2 + 3]
    assert twice.model["head.b"].tolist() == once.model["head.b"].tolist() == [2]
    assert twice.slot("momentum")["head.b"].tolist() == [2]
    back = twice.round([delta(2, "b")])
    assert back.model["head.b"].tolist() == [2 + 3]


@pytest.mark.parametrize(
    "section",
    [
        {"name": "median"},
        {"name": "krum", "byzantine": 1},
        {"name": "geometric-median"},
        {"name": "norm-clipping", "bound": 1e9},
        {"name": "fedadam"},
    ],
    ids=lambda it: it["name"],
)
def test_groups_are_combined_apart_and_in_any_order(section: dict[str, Any]) -> None:
    cohort = {"min_sites": 5}
    server = a_server(MODEL, tensors=PLAN, strategy=section, cohort=cohort)
    sent = [delta(k, "a", "b") for k in (1, 2, 4, 6, 12)]
    one = server.round(sent)
    other = server.round(sent[::-1], tile_bytes=8)
    assert (one.checkpoint, one.slots) == (other.checkpoint, other.slots)
    alone = a_server({"head.a": np.zeros(1)}, strategy=section, cohort=cohort)
    wanted = alone.round([Sent({"head.a": np.full(1, float(k))}, k) for k in (1, 2, 4, 6, 12)])
    assert one.model["head.a"].tolist() == wanted.model["head.a"].tolist()


def test_a_group_with_too_few_holders_for_the_rule_is_told() -> None:
    section = {"name": "krum", "byzantine": 0}
    server = a_server(MODEL, tensors=PLAN, strategy=section, cohort={"min_sites": 3})
    with pytest.raises(AggregationError, match="1 contributions, wanted 3 or more"):
        server.round([delta(1, "a"), delta(2), delta(3)])


def test_an_update_with_more_or_less_than_its_groups_is_refused() -> None:
    server = a_server(MODEL, tensors=PLAN)
    lying = Sent(delta(1, "a", "b").delta, groups=("a",))
    with pytest.raises(UpdateRefusedError, match=r"'head\.b' is unexpected"):
        server.round([lying])
    short = Sent(delta(1).delta, groups=("a",))
    with pytest.raises(UpdateRefusedError, match=r"'head\.a' is missing"):
        server.round([short])
