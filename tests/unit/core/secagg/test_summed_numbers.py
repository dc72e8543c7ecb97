"""Totals, scalars and metrics of a sum, and what is refused on either end."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hansa_core.layouts import Layout
from hansa_core.local_work import CONTROL, Scalar
from hansa_core.secagg.decoding import Mean, MeanDelta, read_totals
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.packing import Packing, Words
from hansa_core.secagg.terms import QuantiserPlan, Weighing
from hansa_core.secagg.vectors import VectorLayout, vector_layout
from tests.unit.core.secagg.quantised import (
    SiteUpdate,
    Tensors,
    a_model,
    bfloats,
    encoded,
    layout_of,
    opened,
    summed,
)

TERMS = QuantiserPlan(clip=100.0, max_examples=1000)
EVALUATION = vector_layout(Layout(()), {}, [], [], ["loss", "accuracy"], Packing(3, 10))


def an_answer(weight: int, **metrics: tuple[float, int]) -> SiteUpdate:
    return SiteUpdate({}, weight, metrics={f"eval/{name}": it for name, it in metrics.items()})


def evaluated(*answers: SiteUpdate) -> Words:
    return summed([encoded(EVALUATION, TERMS, [], it) for it in answers])


def test_metrics_are_means_over_examples() -> None:
    total = evaluated(
        an_answer(100, loss=(0.5, 100), accuracy=(0.9, 100)),
        an_answer(300, loss=(-1.5, 300)),
        an_answer(50, loss=(0.25, 20)),
    )
    totals, means = opened(EVALUATION, TERMS, [], total, 3)
    assert means == {}
    assert (totals.weight, totals.updates) == (450, 3)
    loss, accuracy = totals.metrics["eval/loss"], totals.metrics["eval/accuracy"]
    assert loss.mean == pytest.approx((50 - 450 + 5) / 420, rel=1e-7)
    assert accuracy.mean == pytest.approx(0.9, rel=1e-7)
    assert (loss.weight, accuracy.weight) == (420, 100)


def test_metrics_that_nobody_reports_are_left_out() -> None:
    totals, _ = opened(EVALUATION, TERMS, [], evaluated(an_answer(5, loss=(0.0, 5))), 1)
    assert totals.metrics == {"eval/loss": Mean(0.0, 5)}


def test_metrics_beyond_what_fits_are_clipped() -> None:
    total = evaluated(an_answer(1000, loss=(1e30, 1000), accuracy=(-1e30, 10**9)))
    totals, _ = opened(EVALUATION, TERMS, [], total, 1)
    assert totals.metrics == {
        "eval/loss": Mean(2.0**20, 1000),
        "eval/accuracy": Mean(-(2.0**20), 1000),
    }


def test_a_site_counts_for_no_more_than_the_greatest_weight() -> None:
    updates = [
        SiteUpdate({"x": np.array([v])}, weight) for v, weight in ((1.0, 10**9), (0.0, 1000))
    ]
    layout = layout_of(updates[0])
    total = summed([encoded(layout, TERMS, [2.0], it) for it in updates])
    totals, means = opened(layout, TERMS, [2.0], total, 2)
    assert totals.weight == 2000
    assert means["x"] == pytest.approx([0.5], abs=1e-4)


@pytest.mark.parametrize(("weighing", "mean"), [(Weighing.EXAMPLES, 3.25), (Weighing.EQUAL, 4.5)])
def test_scalars_are_weighed_as_the_vector_is(weighing: Weighing, mean: float) -> None:
    updates = [
        SiteUpdate({"x": np.zeros(1)}, weight, scalars={Scalar.BASE_LOSS: value})
        for value, weight in ((2.0, 750), (7.0, 250))
    ]
    layout = layout_of(updates[0])
    total = summed([encoded(layout, TERMS, [1.0], it, weighing=weighing) for it in updates])
    totals, _ = opened(layout, TERMS, [1.0], total, 2, weighing)
    assert totals.scalars == {Scalar.BASE_LOSS: pytest.approx(mean, rel=1e-8)}
    assert totals.weight == 1000


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["conv", "half", "brain", "double", "scale", "control/conv"])
def test_values_that_are_not_finite_are_refused_by_name(name: str, bad: float) -> None:
    model, control = a_model(), {"conv": np.zeros((91, 237), "f4")}
    model = {key: model[key] for key in ("conv", "half", "brain", "double", "scale")}
    control |= {key: np.zeros(model[key].shape, "f4") for key in ("half", "brain", "scale")}
    control |= {"double": np.zeros((2, 3))}
    array = control["conv"] if name.startswith("control/") else model[name]
    at = array.size - 1
    flat = array.reshape(-1)
    flat[at : at + 1] = bfloats(np.array([bad])) if name == "brain" else bad
    update = SiteUpdate(model, 1, {CONTROL: control})
    layout = layout_of(update)
    with pytest.raises(SecaggError, match=f"tensor '{name}' element {at} is {bad}, wanted finite"):
        encoded(layout, TERMS, [1.0] * len(layout.floats), update)


def test_norms_beyond_float64_are_refused() -> None:
    for x in (np.full(3, 1e200), np.full(70_000, 1.3e152)):
        layout = layout_of(SiteUpdate({"x": x}))
        with pytest.raises(SecaggError, match="squared norm exceeds float64"):
            encoded(layout, TERMS, [1.0], SiteUpdate({"x": x}))


X = {"x": np.zeros(3)}


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({}, "'x' is missing"),
        (X | {"y": np.zeros(1)}, "'y' is unexpected"),
        ({"x": np.zeros((3, 1))}, r"'x' is F64 \[3, 1\], wanted F64 \[3\]"),
        ({"x": np.zeros(3, "f4")}, r"'x' is F32 \[3\]"),
        ({"x": np.zeros(3, "c8")}, "the update: tensor 'x': array dtype is complex64"),
    ],
)
def test_other_tensors_are_refused(tensors: Tensors, says: str) -> None:
    with pytest.raises(SecaggError, match=says):
        encoded(layout_of(SiteUpdate(X)), TERMS, [1.0], SiteUpdate(tensors))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weight": 0}, "weight 0, wanted 1"),
        ({"scalars": {}}, r"scalars \[\], wanted \['normaliser'\]"),
        ({"scalars": {"normaliser": 0.0}}, "normaliser is 0.0, wanted"),
        ({"scalars": {"normaliser": 2e6}}, "'normaliser' is 2000000.0, wanted at most 1048576"),
        ({"scalars": {"normaliser": np.nan}}, "'normaliser' is nan"),
        ({"parts": {}}, r"parts \[\], wanted \['control'\]"),
        ({"parts": {CONTROL: {"x": np.zeros(4)}}}, r"part 'control': .* is F64 \[4\]"),
        ({"metrics": {"train/loss": (np.inf, 3)}}, "'train/loss' is inf over 3 examples"),
        ({"metrics": {"train/loss": (1.0, 0)}}, "'train/loss' is 1.0 over 0 examples"),
    ],
)
def test_other_numbers_and_parts_are_refused(changes: dict[str, Any], says: str) -> None:
    good = SiteUpdate(X, 1, {CONTROL: X}, {Scalar.NORMALISER: 5.0})
    layout = layout_of(good, train=["loss"])
    encoded(layout, TERMS, [1.0, 1.0], good, weighing=Weighing.NORMALISED)
    bad = replace(good, **changes)
    with pytest.raises(SecaggError, match=says):
        encoded(layout, TERMS, [1.0, 1.0], bad, weighing=Weighing.NORMALISED)


def a_sum() -> tuple[VectorLayout, Words]:
    """Return what two updates add up to, of a float, an integer, a scalar and a metric."""
    updates = [
        SiteUpdate(
            {"x": np.arange(5) / 10, "i": np.arange(3)},
            100,
            scalars={Scalar.NORMALISER: 2.0},
            metrics={"train/loss": (1.0, 100)},
        )
    ] * 2
    layout = layout_of(updates[0], train=["loss"])
    return layout, summed([encoded(layout, TERMS, [1.0], it) for it in updates])


TOP = Packing(3, 10).top
WRONG_WORDS = [
    ("totals_at", 1, 3, "number of updates of 3, wanted 2 to 2"),
    ("totals_at", 0, 0, "weight of 0, wanted 2 to 2000"),
    ("totals_at", 0, 2001, "weight of 2001"),
    ("totals_at", 2, 3, "number of clipped updates of 3, wanted 0 to 2"),
    ("statistics_at", 0, 2**62, "sum of squares of 'x'"),
    ("statistics_at", 1, 11, "clipped values of 'x' of 11, wanted 0 to 10"),
    ("scalars_at", 0, 2**62, "sum of scalar 'normaliser'"),
    ("scalars_at", 1, 199, "weight of scalar 'normaliser' of 199, wanted 200 to 200"),
    ("metrics_at", 0, 2**63, "sum of metric 'train/loss' of -9223372036854775808"),
    ("metrics_at", 1, 0, "weight of metric 'train/loss' of 0, wanted 1 to 2000"),
    ("metrics_at", 1, 2001, "weight of metric 'train/loss' of 2001"),
]


@pytest.mark.parametrize(("section", "offset", "word", "says"), WRONG_WORDS)
def test_sums_that_cannot_be_are_refused(section: str, offset: int, word: int, says: str) -> None:
    layout, total = a_sum()
    opened(layout, TERMS, [1.0], total, 2)
    total[getattr(layout, section) + offset] = word
    with pytest.raises(SecaggError, match=says):
        read_totals(layout.tail_of(total), layout, TERMS, [1.0], Weighing.EXAMPLES, 2)


@pytest.mark.parametrize(
    ("at", "word", "says"),
    [
        (0, (2 * TOP + 1) << 21, f"'x' element 2 sums up to {2 * TOP + 1} in its lane, wanted"),
        (1, 2**63, f"'x' element 5 sums up|past the last value sums up to {2**21}"),
        (0, 2**63, f"'x' element 4 sums up to {2**21} in its lane, wanted at most {2 * TOP} of 2"),
        (2, 2 * 2**50 + 1, "'i' element 0 sums up to 2251799813685249, wanted"),
        (4, 2**63, "'i' element 2 sums up to -9223372036854775808"),
    ],
)
def test_tensors_that_cannot_be_are_refused(at: int, word: int, says: str) -> None:
    layout, total = a_sum()
    totals, _ = opened(layout, TERMS, [1.0], total, 2)
    total[at] = word
    decoder = MeanDelta.of(layout, TERMS, [1.0], Weighing.EXAMPLES, totals)
    with pytest.raises(SecaggError, match=says):
        list(decoder.pieces(total, 0))


def test_sums_of_other_numbers_of_sites_are_refused() -> None:
    layout, total = a_sum()
    tail = layout.tail_of(total)
    for survivors in (0, 11):
        with pytest.raises(SecaggError, match=f"survivors of {survivors}, wanted 1 to 10"):
            read_totals(tail, layout, TERMS, [1.0], Weighing.EXAMPLES, survivors)
    with pytest.raises(SecaggError, match="number of updates of 2, wanted 3 to 3"):
        read_totals(tail, layout, TERMS, [1.0], Weighing.EXAMPLES, 3)


def test_words_of_other_shapes_are_refused() -> None:
    layout, total = a_sum()
    with pytest.raises(SecaggError, match=rf"wanted uint64\[{layout.words}\]"):
        layout.tail_of(total[1:])
    tail: Any = layout.tail_of(total).view(np.int64)
    with pytest.raises(SecaggError, match=r"the sum behind the tensors is int64"):
        read_totals(tail, layout, TERMS, [1.0], Weighing.EXAMPLES, 2)
    totals, _ = opened(layout, TERMS, [1.0], total, 2)
    decoder = MeanDelta.of(layout, TERMS, [1.0], Weighing.EXAMPLES, totals)
    with pytest.raises(SecaggError, match="words 1 to 2 of 2 cut a block"):
        list(decoder.pieces(total[1:], 1))
