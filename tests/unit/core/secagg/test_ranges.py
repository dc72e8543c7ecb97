"""Ranges that follow what was summed, and what a run is estimated to cost."""

import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from hansa_core.secagg.decoding import TensorTotals, Totals
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.ranges import estimate, first_ranges, next_ranges
from hansa_core.secagg.terms import QuantiserPlan, SummedMetrics, Weighing
from tests.unit.core.secagg.quantised import SiteUpdate, encoded, layout_of, opened, summed

TERMS = QuantiserPlan(clip=10.0, headroom=16.0, max_examples=1000)
LAYOUT = layout_of(SiteUpdate({"a": np.zeros(50_000), "b": np.zeros((2, 2), "f4")}))


def totals_of(*tensors: tuple[float, int], updates: int = 4) -> Totals:
    named = zip(LAYOUT.float_tensors, tensors, strict=True)
    said = tuple(TensorTotals(name, rms, clipped) for name, (rms, clipped) in named)
    return Totals(100, updates, 0, {}, {}, said)


def test_ranges_begin_at_the_clip() -> None:
    spread = 16 * 10 / math.sqrt(50_004)
    assert first_ranges(LAYOUT, TERMS) == pytest.approx((spread, spread), rel=1e-6)
    few = layout_of(SiteUpdate({"a": np.zeros(255)}))
    assert first_ranges(few, TERMS) == (10.0,)
    third = first_ranges(few, QuantiserPlan(clip=0.1))[0]
    assert third == np.float32(third) >= 0.1


def test_ranges_follow_the_root_mean_square() -> None:
    totals = totals_of((0.01, 0), (0.3, 0))
    seen = next_ranges(LAYOUT, TERMS, (10.0, 10.0), totals)
    assert seen == pytest.approx((0.16, 4.8), rel=1e-6)
    assert all(reach == float(np.float32(reach)) for reach in seen)
    assert seen[0] >= 0.16


def test_ranges_double_where_more_than_one_in_100_000_was_clipped() -> None:
    for clipped, times in ((0, 1), (2, 1), (3, 2), (200_000, 2)):  # of 200 000 values
        seen = next_ranges(LAYOUT, TERMS, (10.0, 10.0), totals_of((0.01, clipped), (0.0, 0)))
        assert seen[0] == pytest.approx(0.16 * times, rel=1e-6)


def test_ranges_stay_between_the_clip_and_its_least_share() -> None:
    seen = next_ranges(LAYOUT, TERMS, (10.0, 10.0), totals_of((5.0, 1000), (0.0, 0)))
    assert seen == (10.0, pytest.approx(10 * 2.0**-40, rel=1e-6))
    assert seen[1] > 0


def test_ranges_settle_on_what_sites_send() -> None:
    """A tensor that shrinks, rests and wakes again is followed, there and back."""
    rng = np.random.default_rng(0)
    ranges = first_ranges(LAYOUT, TERMS)
    for scale in (1e-3, 1e-3, 1e-5, 1e-5, 0.0, 0.0):
        ranges, totals = a_round(rng, scale, ranges)
        assert totals.tensors[0].clipped == 0
        assert ranges[0] == pytest.approx(max(16 * scale * 0.5, 10 * 2.0**-40), rel=0.02)
    for _ in range(8):
        ranges, _ = a_round(rng, 1e-3, ranges)
    assert ranges[0] == pytest.approx(16 * 1e-3 * 0.5, rel=0.02)


def a_round(
    rng: np.random.Generator, scale: float, ranges: tuple[float, ...]
) -> tuple[tuple[float, ...], Totals]:
    updates = [
        SiteUpdate(
            {"a": rng.standard_normal(50_000) * scale, "b": np.zeros((2, 2), "f4")}, weight=500
        )
        for _ in range(3)
    ]
    total = summed([encoded(LAYOUT, TERMS, ranges, it, seed=k) for k, it in enumerate(updates)])
    totals, _ = opened(LAYOUT, TERMS, ranges, total, 3)
    return next_ranges(LAYOUT, TERMS, ranges, totals), totals


def test_totals_of_other_tensors_are_refused() -> None:
    totals = totals_of((0.1, 0), (0.1, 0))
    with pytest.raises(SecaggError, match="totals are of 1 tensors"):
        next_ranges(LAYOUT, TERMS, (1.0, 1.0), replace(totals, tensors=totals.tensors[:1]))
    with pytest.raises(SecaggError, match="there are 1 ranges, wanted 2"):
        next_ranges(LAYOUT, TERMS, (1.0,), totals)


@pytest.mark.parametrize(("lanes", "sites"), [(2, 10), (3, 10), (3, 3), (4, 12), (5, 16)])
def test_estimates_are_what_comes_of_it(lanes: int, sites: int) -> None:
    terms = QuantiserPlan(lanes=lanes, clip=1e5, headroom=16)  # type: ignore[arg-type]
    rng = np.random.default_rng(3)
    xs = rng.standard_normal((sites, 20_000)) * 0.25
    layout = layout_of(SiteUpdate({"x": xs[0]}), lanes=lanes, sites=sites)
    ranges = (16 * 0.25,)
    vectors = [
        encoded(layout, terms, ranges, SiteUpdate({"x": x}), weighing=Weighing.EQUAL, seed=k)
        for k, x in enumerate(xs)
    ]
    _, means = opened(layout, terms, ranges, summed(vectors), sites, Weighing.EQUAL)
    told = estimate(layout, terms, sites)
    assert told.words == len(vectors[0])
    assert told.bytes == vectors[0].nbytes
    assert told.value_bits == layout.packing.value_bits
    assert told.first_step == pytest.approx(32e5 / math.sqrt(20_000) / layout.packing.top)
    assert told.step == 32 / layout.packing.top
    assert told.first_error == pytest.approx(told.error * 1e5 / math.sqrt(20_000), rel=1e-9)
    error = np.std(means["x"] - xs.mean(axis=0)) / 0.25
    assert error == pytest.approx(told.error, rel=0.05)


@pytest.mark.parametrize("weight", [1000, 50])
def test_first_errors_grow_as_weights_shrink(weight: int) -> None:
    rng = np.random.default_rng(5)
    xs = rng.standard_normal((4, 20_000)) * 1e-3
    layout = layout_of(SiteUpdate({"x": xs[0]}), sites=4)
    ranges = first_ranges(layout, TERMS)
    vectors = [
        encoded(layout, TERMS, ranges, SiteUpdate({"x": x}, weight), seed=k)
        for k, x in enumerate(xs)
    ]
    _, means = opened(layout, TERMS, ranges, summed(vectors), 4)
    told = estimate(layout, TERMS, 4).first_error * 1000 / weight
    # Values far below a step lie all halfway between two of them: up to 1/4 of a squared step.
    assert 0.9 * told < np.std(means["x"] - xs.mean(axis=0)) < 1.3 * told


@pytest.mark.parametrize(("sites", "wanted"), [(10, 1.2e-5), (100, 3.0e-5), (1000, 7.6e-5)])
def test_estimates_agree_with_the_reference(sites: int, wanted: float) -> None:
    told = estimate(LAYOUT, QuantiserPlan(headroom=6), sites)
    assert told.error == pytest.approx(wanted, rel=0.02)
    assert told.value_bits == 21 - math.ceil(math.log2(sites))


@pytest.mark.parametrize(
    "section",
    [
        {"lanes": 6},
        {"clip": 0},
        {"clip": math.inf},
        {"clip": math.nan},
        {"headroom": 0.5},
        {"max_examples": 0},
        {"max_examples": 2**31 + 1},
        {"unknown": 1},
    ],
)
def test_quantisers_out_of_bounds_are_refused(section: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        QuantiserPlan.model_validate(section)


def test_metrics_are_named_once_and_in_bounds() -> None:
    assert SummedMetrics().train == ["loss"]
    assert SummedMetrics().evaluation == ["loss", "accuracy"]
    for names in (["loss", "loss"], [""], ["x" * 65], [f"m{k}" for k in range(65)]):
        with pytest.raises(ValidationError):
            SummedMetrics(train=names)
