"""Updates in, sums of words, mean delta out: exact where it is integers, close where it rounds."""

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa_core.local_work import CONTROL, Scalar
from hansa_core.secagg.decoding import MeanDelta, read_totals
from hansa_core.secagg.packing import BLOCK, LANE_BITS, Words
from hansa_core.secagg.terms import QuantiserPlan, Weighing
from hansa_core.secagg.vectors import Slot, VectorLayout
from tests.unit.core.secagg.quantised import (
    SiteUpdate,
    a_model,
    bfloats,
    encoded,
    gathered,
    layout_of,
    opened,
    plain_lane,
    summed,
    uniforms,
    wide,
)

TERMS = QuantiserPlan(clip=100.0, max_examples=1000)


def lanes_of(layout: VectorLayout, words: Words) -> list[int]:
    """Return every packed value, read one by one."""
    bits = layout.packing.lane_bits
    places = (layout.packing.place(it, layout.elements) for it in range(layout.elements))
    return [(int(words[word]) >> (lane * bits)) % 2**bits for word, lane in places]


def flat(layout: VectorLayout, update: SiteUpdate, slot: Slot) -> np.ndarray:
    """Return a tensor's values in a row."""
    source = update.tensors if slot.part is None else update.parts[slot.part]
    return wide(source[slot.tensor.name]).reshape(-1)


@pytest.mark.parametrize("lanes", sorted(LANE_BITS))
def test_words_are_those_of_the_formula(lanes: int) -> None:
    model = a_model()
    model["conv"] = model["conv"][:9, :11]
    update = SiteUpdate(model, weight=250)
    layout = layout_of(update, lanes=lanes)
    ranges = [0.05 * (1 + slot.index) for slot in layout.floats]
    words = encoded(layout, TERMS, ranges, update, seed=5)
    random = uniforms(5, layout.elements)
    top = layout.packing.top
    seen = lanes_of(layout, words)
    for slot in layout.floats:
        for at, value in enumerate(flat(layout, update, slot)):
            element = slot.start + at
            wanted = plain_lane(value * 0.25, ranges[slot.index], top, random[element])
            # On the edge of a step float64 may fall to either side.
            again = plain_lane(value * 0.25, ranges[slot.index], top, random[element] ^ (1 << 8))
            assert seen[element] in {wanted, again}
            assert abs(seen[element] - wanted) <= 1


@settings(max_examples=15, deadline=None)
@given(
    lanes=st.sampled_from(sorted(LANE_BITS)),
    weights=st.lists(st.integers(1, 1000), min_size=2, max_size=5),
    weighing=st.sampled_from([Weighing.EXAMPLES, Weighing.EQUAL]),
    rows=st.sampled_from([0, 1, 40, 91]),
    seed=st.integers(0, 2**32),
)
def test_sums_open_to_the_mean_of_what_was_quantised(
    lanes: int, weights: list[int], weighing: Weighing, rows: int, seed: int
) -> None:
    updates = [SiteUpdate(a_model(seed + k), weight) for k, weight in enumerate(weights)]
    for update in updates:
        update.tensors["conv"] = update.tensors["conv"][:rows]
    n, layout = len(updates), layout_of(updates[0], lanes=lanes, sites=8)
    ranges = [0.1] * len(layout.floats)
    vectors = [
        encoded(layout, TERMS, ranges, it, weighing=weighing, seed=seed + k)
        for k, it in enumerate(updates)
    ]
    totals, means = opened(layout, TERMS, ranges, summed(vectors), n, weighing)
    assert (totals.updates, totals.weight, totals.clipped_updates) == (n, sum(weights), 0)
    shares = [1.0] * n if weighing is Weighing.EQUAL else [weight / 1000 for weight in weights]
    top = layout.packing.top

    values = np.zeros((n, layout.elements), np.int64)
    for row, words in zip(values, vectors, strict=True):
        layout.packing.unpack(words[: layout.integers_at], row)
    exact = (values.sum(axis=0) * 2 - n * top) * 0.1 / top / sum(shares)
    for slot in layout.floats:
        mine = exact[slot.start : slot.start + slot.tensor.count]
        assert means[slot.name].reshape(-1) == pytest.approx(mine, rel=1e-12, abs=1e-15)
        true = sum(s * flat(layout, it, slot) for s, it in zip(shares, updates, strict=True)) / sum(
            shares
        )
        step = 2 * 0.1 / top
        assert np.all(np.abs(means[slot.name].reshape(-1) - true) <= n * step / sum(shares))
    for slot in layout.integers:
        true = sum(s * flat(layout, it, slot) for s, it in zip(shares, updates, strict=True)) / sum(
            shares
        )
        assert np.all(np.abs(means[slot.name].reshape(-1) - true) <= n * 2.0**-20 / sum(shares))


@pytest.mark.parametrize("value", [0.0, 0.31, -0.0123, 0.0999999])
@pytest.mark.parametrize("lanes", [2, 5])
def test_rounding_has_no_bias(value: float, lanes: int) -> None:
    update = SiteUpdate({"x": np.full(200_000, value)})
    layout, terms = layout_of(update, lanes=lanes), QuantiserPlan(lanes=2, clip=1e6)
    reach = 0.5
    total = encoded(layout, terms, [reach], update, weighing=Weighing.EQUAL, seed=3)
    _, means = opened(layout, terms, [reach], total, 1, Weighing.EQUAL)
    step = 2 * reach / layout.packing.top
    assert abs(means["x"].mean() - value) < 5 * 0.5 * step / math.sqrt(200_000)
    assert np.all(np.abs(means["x"] - value) < step * (1 + 1e-9))
    assert len(np.unique(means["x"])) == 2


@pytest.mark.parametrize(("sites", "wanted"), [(10, 1.2e-5), (100, 3.0e-5), (1000, 7.6e-5)])
def test_the_mean_is_as_close_as_21_bits_allow(sites: int, wanted: float) -> None:
    """Reference error of the mean over one site's standard deviation, at a range of 6 of those."""
    rng = np.random.default_rng(1)
    elements, terms = 6000, QuantiserPlan(clip=1e6)
    layout = layout_of(SiteUpdate({"x": np.zeros(elements)}), sites=sites)
    total, true = np.zeros(layout.words, np.uint64), np.zeros(elements)
    for site in range(sites):
        x = np.clip(rng.standard_normal(elements), -6, 6)
        true += x / sites
        update = SiteUpdate({"x": x})
        total += encoded(layout, terms, [6.0], update, weighing=Weighing.EQUAL, seed=site)
    _, means = opened(layout, terms, [6.0], total, sites, Weighing.EQUAL)
    assert np.std(means["x"] - true) == pytest.approx(wanted, rel=0.2)


def test_the_seed_alone_decides_the_rounding() -> None:
    update = SiteUpdate(a_model(), 10)
    layout = layout_of(update)
    ranges = [0.1] * len(layout.floats)
    one, again, other = (encoded(layout, TERMS, ranges, update, seed=s) for s in (1, 1, 2))
    assert (one == again).all()
    assert np.count_nonzero(one != other) > 0.5 * layout.integers_at
    assert (one[layout.integers_at :] == other[layout.integers_at :]).all()


def test_how_tensors_lie_in_memory_does_not_matter() -> None:
    plain = a_model()
    strewn = {name: array.copy(order="F") for name, array in plain.items()}
    strewn["double"] = strewn["double"].astype(">f8")
    strewn["conv"] = np.repeat(plain["conv"], 2, axis=1)[:, ::2]
    strewn["steps"] = plain["steps"].astype(">i8")
    layout = layout_of(SiteUpdate(plain))
    ranges = [0.1] * len(layout.floats)
    seen = encoded(layout, TERMS, ranges, SiteUpdate(strewn, 7))
    assert (seen == encoded(layout, TERMS, ranges, SiteUpdate(plain, 7))).all()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 14), max_size=6), st.integers(0, 2**32))
def test_any_cut_at_blocks_decodes_to_the_same(cuts: list[int], seed: int) -> None:
    model = a_model(seed)
    model["more"] = np.random.default_rng(seed).standard_normal(130_000).astype("f2")
    update = SiteUpdate(model, 100)
    layout = layout_of(update)
    ranges = [4.0] * len(layout.floats)
    terms = QuantiserPlan(clip=1e6)
    total = encoded(layout, terms, ranges, update, seed=seed % 2**32)
    totals, whole = opened(layout, terms, ranges, total, 1)
    decoder = MeanDelta.of(layout, terms, ranges, Weighing.EXAMPLES, totals)
    ends = sorted({0, layout.words, *(min(cut * BLOCK, layout.words) for cut in cuts)})
    spans = list(pairwise(ends))
    parts = gathered(layout, decoder, spans[::-1], total)
    for name, mean in whole.items():
        assert not np.isnan(mean).any()
        assert mean.tobytes() == parts[name].tobytes()


def test_integers_can_be_cut_anywhere() -> None:
    update = SiteUpdate({"a": np.arange(70_000), "b": np.arange(5, dtype="i4")}, 1000)
    layout = layout_of(update)
    total = encoded(layout, TERMS, [], update)
    totals, whole = opened(layout, TERMS, [], total, 1)
    assert (whole["a"] == np.arange(70_000)).all()
    decoder = MeanDelta.of(layout, TERMS, [], Weighing.EXAMPLES, totals)
    spans = [(69_999, layout.words), (3, 69_999), (0, 3)]
    parts = gathered(layout, decoder, spans, total)
    assert (parts["a"] == whole["a"]).all()
    assert (parts["b"] == whole["b"]).all()


def test_integers_are_clipped_after_weighting() -> None:
    big = np.array([2**40, -(2**40), 2**31, 5], "i8")
    update = SiteUpdate({"a": big, "b": np.array([True, False])}, 500)
    layout = layout_of(update)
    _, means = opened(layout, TERMS, [], encoded(layout, TERMS, [], update), 1)
    assert means["a"].tolist() == [2**31, -(2**31), 2**31, 5]  # 2 ** 30 at a weight of a half
    assert means["b"].tolist() == [1, 0]


def test_long_updates_are_shortened_to_the_clip() -> None:
    rng = np.random.default_rng(2)
    model = {"a": rng.standard_normal(500), "b": bfloats(rng.standard_normal((5, 5)))}
    control = {"a": rng.standard_normal(500) * 3, "b": rng.standard_normal((5, 5)).astype("f4")}
    norms = [
        math.sqrt(sum(float((wide(x) ** 2).sum()) for x in t.values())) for t in (model, control)
    ]
    update = SiteUpdate(model, 400, {CONTROL: control})
    layout, ranges = layout_of(update, lanes=2), [16.0] * 4
    for clip, shortened in ((100.0, 0), (norms[0] * 1.01, 1), (norms[0] / 8, 1)):
        terms = QuantiserPlan(clip=clip, max_examples=1000)
        total = encoded(layout, terms, ranges, update)
        totals, means = opened(layout, terms, ranges, total, 1)
        assert totals.clipped_updates == shortened
        for (name, array), norm in [
            *((it, norms[0]) for it in model.items()),
            *(((f"control/{name}", array), norms[1]) for name, array in control.items()),
        ]:
            wanted = wide(array) * min(1, clip / norm)
            assert means[name] == pytest.approx(wanted, abs=2 * 16 / layout.packing.top / 0.4)


def test_values_beyond_the_range_are_clipped_and_counted() -> None:
    x = np.array([0.5, -0.5, 3.0, -7.0, 0.1], "f4")
    update = SiteUpdate({"x": x, "y": np.ones(2, "f4")}, 1000)
    layout = layout_of(update)
    totals, means = opened(layout, TERMS, [0.5, 2.0], encoded(layout, TERMS, [0.5, 2.0], update), 1)
    assert [tensor.clipped for tensor in totals.tensors] == [2, 0]
    assert means["x"] == pytest.approx([0.5, -0.5, 0.5, -0.5, 0.1], abs=1e-5)
    assert means["x"][:4].tolist() == [0.5, -0.5, 0.5, -0.5]
    assert totals.tensors[0].rms == pytest.approx(math.sqrt((4 * 0.25 + 0.01) / 5), rel=1e-6)
    assert totals.tensors[1].rms == pytest.approx(1.0, rel=1e-12)


def test_root_mean_squares_are_those_of_all_sites() -> None:
    updates = [SiteUpdate(a_model(k), 100 * (k + 1)) for k in range(5)]
    layout = layout_of(updates[0])
    ranges = [0.2] * len(layout.floats)
    vectors = [encoded(layout, TERMS, ranges, it, seed=k) for k, it in enumerate(updates)]
    totals, _ = opened(layout, TERMS, ranges, summed(vectors), 5)
    for slot, tensor in zip(layout.floats, totals.tensors, strict=True):
        squares = [(flat(layout, it, slot) * it.weight / 1000) ** 2 for it in updates]
        wanted = math.sqrt(np.mean(squares)) if slot.tensor.count else 0.0
        assert tensor.rms == pytest.approx(wanted, rel=1e-6)
        assert (tensor.name, tensor.clipped) == (slot.name, 0)


def test_parts_count_once_whatever_the_weights() -> None:
    controls = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    updates = [
        SiteUpdate({"x": np.array([float(k), 1.0])}, weight, {CONTROL: {"x": controls[k]}})
        for k, weight in enumerate((100, 300))
    ]
    layout, ranges = layout_of(updates[0]), [4.0, 4.0]
    total = summed([encoded(layout, TERMS, ranges, it, seed=k) for k, it in enumerate(updates)])
    _, means = opened(layout, TERMS, ranges, total, 2)
    assert means["x"] == pytest.approx([0.75, 1.0], abs=1e-3)
    assert means["control/x"] == pytest.approx([0.5, 0.5], abs=1e-3)


def test_normalised_means_are_those_of_fednova() -> None:
    rng = np.random.default_rng(4)
    steps, weights = [3.0, 40.5, 11.0], [100, 250, 900]
    deltas = [rng.standard_normal(50) * a for a in steps]
    updates = [
        SiteUpdate({"x": delta}, weight, scalars={Scalar.NORMALISER: a})
        for delta, weight, a in zip(deltas, weights, steps, strict=True)
    ]
    layout, weighing = layout_of(updates[0], lanes=2), Weighing.NORMALISED
    vectors = [
        encoded(layout, TERMS, [8.0], it, weighing=weighing, seed=k) for k, it in enumerate(updates)
    ]
    totals, means = opened(layout, TERMS, [8.0], summed(vectors), 3, weighing)
    shares = np.array(weights) / sum(weights)
    tau = float(shares @ np.array(steps))
    assert totals.scalars == {Scalar.NORMALISER: pytest.approx(tau, rel=1e-8)}
    wanted = tau * sum(p * d / a for p, d, a in zip(shares, deltas, steps, strict=True))
    assert means["x"] == pytest.approx(wanted, abs=1e-4)


def test_memory_is_a_few_tiles_beside_the_words() -> None:
    x = np.zeros((1000, 4000), "f4")
    x[0] = 1e-3
    update = SiteUpdate({"x": x}, 1000)
    layout = layout_of(update)
    tracemalloc.start()
    try:
        total = encoded(layout, TERMS, [1.0], update)
        encoding = tracemalloc.get_traced_memory()[1] - total.nbytes
        totals = read_totals(layout.tail_of(total), layout, TERMS, [1.0], Weighing.EXAMPLES, 1)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        decoder = MeanDelta.of(layout, TERMS, [1.0], Weighing.EXAMPLES, totals)
        seen = sum(len(piece.values) for piece in decoder.pieces(total, 0))
        decoding = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert seen == x.size
    assert encoding < 4 << 20  # bytes, of 16 MB of values
    assert decoding < 4 << 20
