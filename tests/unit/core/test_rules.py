"""The robust rules: what they compute, in which order, in how much memory, what they refuse."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.aggregation import rules
from hansa_core.aggregation.centres import centred_clipping, geometric_median
from hansa_core.aggregation.clipping import clipped_mean
from hansa_core.aggregation.distances import BLOCK, pairwise_squared_distances
from hansa_core.aggregation.inputs import Contribution, Inputs, Source
from hansa_core.aggregation.krum import MOST_UPDATES, krum
from hansa_core.aggregation.mean import weighted_mean
from hansa_core.aggregation.medians import trimmed_count, trimmed_mean
from hansa_core.aggregation.networks import network
from hansa_core.aggregation.ranks import NETWORK_LIMIT
from hansa_core.dtypes import BFLOAT16, f32_to_bf16
from hansa_core.layouts import Layout
from hansa_core.problems import AggregationError, RefusalReason, UpdateRefusedError
from hansa_core.strategies import NAMES
from hansa_core.tensors import ReadAt, encode_header
from tests.rules import (
    STRATEGIES,
    combine,
    combined,
    contribution,
    plain,
    plain_krum,
    strategy,
    wide,
)
from tests.tensors import Tensors, decode, encode

NAMED = pytest.mark.parametrize("section", STRATEGIES, ids=lambda it: it["name"])
ROBUST = [section for section in STRATEGIES if section["name"] not in {"fedavg", "norm-clipping"}]
MEASURED = [it for it in STRATEGIES if it["name"] not in {"fedavg", "median", "trimmed-mean"}]


def a_model(seed: int, elements: int = 3 * BLOCK + 17) -> Tensors:
    """Return tensors of every float width and some that are no floats."""
    rng = np.random.default_rng(seed)
    narrow = rng.standard_normal(33).astype("f4")
    return {
        "w": rng.standard_normal((elements, 1)).astype("f4"),
        "d": rng.standard_normal(5),
        "h": rng.standard_normal(41).astype("f2"),
        "b": f32_to_bf16(narrow).view(BFLOAT16),
        "steps": rng.integers(-50, 50, ()),
        "table": rng.integers(-50, 50, 7).astype("i4"),
        "bytes": rng.integers(0, 9, 3).astype("u1"),
        "mask": rng.integers(0, 2, 5).astype(bool),
    }


FLOATS = ("d", "w", "b", "h")  # in canonical order


def floats(tensors: Tensors) -> NDArray[np.float64]:
    return np.concatenate([wide(tensors[name]) for name in FLOATS])


def of(vector: Any) -> Tensors:
    return {"w": np.asarray(vector, "f4")}


# What they compute


@NAMED
@pytest.mark.parametrize("sites", [5, 6, NETWORK_LIMIT + 2])
def test_a_rule_agrees_with_its_textbook(section: dict[str, Any], sites: int) -> None:
    zero = {name: np.zeros_like(array) for name, array in a_model(0).items()}
    deltas = [a_model(1 + site) for site in range(sites)]
    found = combined(section, zero, deltas)
    wanted = plain(section, [floats(delta) for delta in deltas])
    steps = {"f8": 1e-12, "f4": 2.0**-24, "f2": 2.0**-11, "V2": 2.0**-8}  # half a step, relative
    start = 0
    for name in FLOATS:
        array = zero[name]
        part = wanted[start : start + array.size]
        start += array.size
        kind = "V2" if array.dtype == BFLOAT16 else f"f{array.dtype.itemsize}"
        tolerance = steps[kind] * np.abs(part) + 1e-7 * (kind != "f8") + 1e-12
        assert (np.abs(wide(found[name]) - part) <= tolerance).all(), name


@NAMED
def test_a_checkpoint_is_the_base_and_the_delta(section: dict[str, Any]) -> None:
    base = {"w": np.array([10, -20, 0.5])}
    deltas = [{"w": np.random.default_rng(site).standard_normal(3)} for site in range(5)]
    found = combined(section, base, deltas)["w"]
    wanted = base["w"] + plain(section, [delta["w"] for delta in deltas])
    assert found == pytest.approx(wanted, rel=1e-13)


def test_a_median_is_the_middle_value_or_the_mean_of_two() -> None:
    base = {"w": np.zeros(2, "f4"), "n": np.array([100, 100])}
    deltas = [
        {"w": np.array([value, -value], "f4"), "n": np.array([value, value * 3])}
        for value in (1, 2, 4, 1000)
    ]
    assert combined({"name": "median"}, base, deltas[:3])["w"].tolist() == [2, -2]
    even = combined({"name": "median"}, base, deltas)
    assert even["w"].tolist() == [3, -3]
    assert even["n"].tolist() == [103, 109]
    halves = [{"n": np.array([value])} for value in (0, 1, 2, 3, 0, 5)]
    for chosen, wanted in ((halves[:2], 10), (halves[1:3], 12), (halves[2:4], 12)):
        found = combined({"name": "median"}, {"n": np.array([10])}, chosen)
        assert found["n"].tolist() == [wanted]  # 10.5, 11.5 and 12.5, half to even


def test_the_trim_is_counted_as_it_is_written() -> None:
    assert [trimmed_count(n, 0.2) for n in (4, 5, 9, 10)] == [0, 1, 1, 2]
    assert trimmed_count(100, 0.29) == 29  # 0.29 * 100 is 28.999... in binary
    assert trimmed_count(3, 0.49999) == 1
    assert trimmed_count(10_000, 0.0) == 0
    base, deltas = of([0]), [of([value]) for value in (-1e30, 1, 2, 6, 1e30)]
    assert combined({"name": "trimmed-mean", "trim": 0.2}, base, deltas)["w"].tolist() == [3]


@pytest.mark.parametrize("wires", [*range(1, 11), 13])
def test_a_network_sorts_all_zeros_and_ones(wires: int) -> None:
    # By the 0-1 principle it then sorts everything. Pruned, each output is still its rank.
    numbers = [[number >> wire & 1 for wire in range(wires)] for number in range(2**wires)]
    cases = np.array(numbers, np.int64)
    wanted = np.sort(cases, axis=1)
    for kept in (range(wires), range((wires - 1) // 2, wires // 2 + 1)):
        columns: list[NDArray[np.int64]] = list(cases.T)
        for it in network(wires, tuple(kept)):
            low, high = columns[it.low], columns[it.high]
            columns[it.low] = np.minimum(low, high) if it.low_used else low * 0 - 1
            columns[it.high] = np.maximum(low, high) if it.high_used else high * 0 - 1
        for rank in kept:
            assert np.array_equal(columns[rank], wanted[:, rank])


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?"])
def test_network_and_sort_give_the_same_bits(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    values = rng.integers(0, 2 if dtype == "?" else 100, (11, 301))
    deltas = [{"w": row.astype(dtype)} for row in values]
    if np.dtype(dtype).kind == "f":
        for delta in deltas:
            delta["w"] *= rng.choice([-0.0, 1e-3, 1.0], 301).astype(dtype)
    base = {"w": np.full(301, -0.0).astype(dtype)}
    updates = [contribution(delta) for delta in deltas]
    for section in ({"name": "median"}, {"name": "trimmed-mean", "trim": 0.2}):
        found: list[bytes] = []
        for limit in (100, 0):
            monkeypatch.setattr("hansa_core.aggregation.ranks.NETWORK_LIMIT", limit)
            found.append(combine(section, base, updates))
        assert found[0] == found[1]


def test_krum_takes_one_update_as_it_is() -> None:
    rng = np.random.default_rng(3)
    deltas = [a_model(seed) for seed in rng.integers(0, 1000, 4)]
    near = {name: array.copy() for name, array in deltas[0].items()}
    near["w"][0] += np.float32(1e-3)
    near["steps"] = near["steps"] + 1
    base = {name: np.zeros_like(array) for name, array in near.items()}
    updates = [contribution(delta) for delta in (*deltas, near)]
    found = combine({"name": "krum", "byzantine": 1}, base, updates)
    ranked = sorted((*deltas, near), key=lambda it: contribution(it).digest)
    chosen = plain_krum(np.stack([floats(it) for it in ranked]), 1, 1)[0]
    assert found == encode({**ranked[chosen]})


def test_distances_between_close_and_long_deltas_do_not_cancel() -> None:
    # Honest sites have all moved far the same way and differ little: |a|^2 + |b|^2 - 2ab in
    # float32 is noise there, and picks another site.
    rng = np.random.default_rng(0)
    common = rng.uniform(1, 2, 20_000).astype("f4")
    spread = np.array([4, 1, 4, 8, 16, 3, 12, 6, 9]) * 2.0**-20
    rows = np.stack([common + s * rng.standard_normal(20_000) for s in spread]).astype("f4")
    deltas = [{"w": row} for row in rows]
    exact = plain_krum(rows.astype("f8"), 2, 1)[0]
    squares = (rows * rows).sum(axis=1)
    shortcut = squares[:, None] + squares[None, :] - 2 * (rows @ rows.T)
    np.fill_diagonal(shortcut, 0)
    scores = np.sort(shortcut, axis=1)[:, 1:6].sum(axis=1)
    assert int(np.argmin(scores)) != exact
    found = combined({"name": "krum", "byzantine": 2}, {"w": np.zeros(20_000, "f4")}, deltas)
    assert np.array_equal(found["w"], rows[exact])


def test_distances_are_formed_only_where_bounds_do_not_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def counted(inputs: Inputs) -> NDArray[np.float64]:
        asked.append(len(inputs.files))
        return pairwise_squared_distances(inputs)

    monkeypatch.setattr("hansa_core.aggregation.neighbours.pairwise_squared_distances", counted)
    section = {"name": "krum", "byzantine": 1}
    clear = [{"w": np.random.default_rng(k).standard_normal(3 * BLOCK)} for k in range(6)]
    zero = {"w": np.zeros(3 * BLOCK)}
    combined(section, zero, [*clear, {"w": clear[0]["w"] * 1e9}])
    assert asked == []
    combined(section, zero, [{"w": delta["w"] + 1e9} for delta in clear])
    combined(section, zero, [clear[0]] * 5)
    assert asked == [6, 5]


def test_of_equal_scores_the_lesser_digest_is_kept() -> None:
    deltas = [of(vector) for vector in np.eye(5)]
    first = min(deltas, key=lambda it: contribution(it).digest)
    for order in (deltas, deltas[::-1]):
        found = combined({"name": "krum", "byzantine": 1}, of(np.zeros(5)), order)
        assert found["w"].tolist() == first["w"].tolist()


@pytest.mark.parametrize("section", MEASURED, ids=lambda it: it["name"])
def test_counters_have_no_part_in_the_geometry(section: dict[str, Any]) -> None:
    base = {"w": np.zeros(1, "f4"), "n": np.array(0)}
    values = [1, 1.1, 0.9, 1.05, 50]
    counts = [10**9, 2, 3, 4, 5]
    deltas = [
        {"w": np.array([value], "f4"), "n": np.array(count)}
        for value, count in zip(values, counts, strict=True)
    ]
    found = combined(section, base, deltas)
    assert abs(float(found["w"][0])) < 2
    alone = combined(section, of([0]), [of([value]) for value in values])
    if "krum" not in section["name"]:  # in which equal scores are told apart by digest
        assert found["w"] == pytest.approx(alone["w"], rel=1e-6)
        assert found["n"] == 4  # the median of all


def test_norm_clipping_without_a_long_delta_is_the_weighted_mean_to_the_bit() -> None:
    base = {"w": np.random.default_rng(0).standard_normal(5000).astype("f4")}
    deltas = [{"w": np.random.default_rng(9 + k).standard_normal(5000).astype("f4")}
              for k in range(4)]  # fmt: skip
    updates = [contribution(delta, 3 + k, 1 / (1 + k)) for k, delta in enumerate(deltas)]
    mean = combine({"name": "fedavg"}, base, updates)
    assert combine({"name": "norm-clipping", "bound": 100}, base, updates) == mean
    assert combine({"name": "norm-clipping", "bound": 10}, base, updates) != mean


def test_norm_clipping_bounds_each_site_and_keeps_its_weight() -> None:
    base = of([0, 0])
    updates = [contribution(of([300, 400]), 3), contribution(of([0, 1]), 1, 0.5)]
    found = decode(combine({"name": "norm-clipping", "bound": 5}, base, updates))["w"]
    assert found == pytest.approx([3 * 3 / 4, (3 * 4 + 0.5) / 4], rel=1e-6)


def test_centred_clipping_moves_no_further_than_its_steps() -> None:
    deltas = [of([1e30, 0]), of([1e30, 0]), of([0, 1])]
    found = combined(
        {"name": "centred-clipping", "radius": 0.5, "iterations": 2}, of([0, 0]), deltas
    )
    assert np.linalg.norm(found["w"]) <= 1.0


def test_a_geometric_median_of_equal_deltas_is_that_delta() -> None:
    section = {"name": "geometric-median", "iterations": 3, "smoothing": 1e-6}
    assert combined(section, of([0, 0]), [of([3, 4])] * 3)["w"].tolist() == [3, 4]
    assert combined(section, of([5, 5]), [of([0, 0])] * 3)["w"].tolist() == [5, 5]


# Always the same bits


@NAMED
def test_result_does_not_depend_on_order_or_tile(section: dict[str, Any]) -> None:
    base = a_model(0)
    updates = [contribution(a_model(1 + k), 1 + k) for k in range(7)]
    out = combine(section, base, updates)
    for tile_bytes in (8, 4096, 2**20):
        assert combine(section, base, updates[::-1], tile_bytes=tile_bytes) == out


@pytest.mark.parametrize("section", MEASURED, ids=lambda it: it["name"])
def test_how_many_blocks_are_in_hand_does_not_matter(
    section: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = a_model(0, 20 * BLOCK + 3)
    updates = [contribution(a_model(1 + k, 20 * BLOCK + 3)) for k in range(5)]
    found: set[bytes] = set()
    for wide_bytes, read_bytes in ((1, 1), (5 * 3 * BLOCK * 8, 1), (1 << 20, 1 << 20)):
        monkeypatch.setattr("hansa_core.aggregation.distances.WIDE_BYTES", wide_bytes)
        monkeypatch.setattr("hansa_core.aggregation.distances.READ_BYTES", read_bytes)
        found.add(combine(section, base, updates))
    assert len(found) == 1


@NAMED
def test_where_a_file_keeps_its_tensors_does_not_matter(section: dict[str, Any]) -> None:
    base = {"a": np.zeros(1500, "f4"), "e": np.zeros((0, 2), "f4"), "z": np.ones(900, "f4")}
    deltas = [
        {name: np.random.default_rng(k).standard_normal(array.shape).astype("f4")
         for name, array in base.items()}
        for k in range(5)
    ]  # fmt: skip
    plainly = [contribution(delta) for delta in deltas]
    foreign = [
        Contribution(was.digest, 1, contribution(_reversed(delta)).read)
        for was, delta in zip(plainly, deltas, strict=True)
    ]
    assert combine(section, base, foreign) == combine(section, base, plainly)


def _reversed(tensors: Tensors) -> bytes:
    """Return a file with its tensors in descending order."""
    fields: dict[str, Any] = {}
    data = b""
    for name in sorted(tensors, reverse=True):
        raw = tensors[name].tobytes()
        shape = list(tensors[name].shape)
        offsets = [len(data), len(data) + len(raw)]
        fields[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        data += raw
    head = json.dumps(fields).encode()
    return len(head).to_bytes(8, "little") + head + data


@NAMED
def test_empty_models_and_tensors_aggregate(section: dict[str, Any]) -> None:
    for base in (
        {},
        {"e": np.zeros((0, 2), "f4")},
        {"e": np.zeros(0, "f4"), "n": np.zeros(2, int)},
    ):
        assert combine(section, base, [contribution(base)] * 5) == encode(base)


# What they refuse


@pytest.mark.parametrize("section", ROBUST, ids=lambda it: it["name"])
def test_an_update_that_counts_for_less_is_refused(section: dict[str, Any]) -> None:
    updates = [contribution(of([k])) for k in range(5)]
    updates.append(contribution(of([9]), 1, 0.5))
    with pytest.raises(UpdateRefusedError, match=r"has scale 0\.5, wanted 1"):
        combine(section, of([0]), updates)


@NAMED
@pytest.mark.parametrize("sites", [5, NETWORK_LIMIT + 2])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused_or_left_out(
    section: dict[str, Any], sites: int, value: float
) -> None:
    deltas = [of([k, 1, 2]) for k in range(sites)]
    deltas[2]["w"][1] = value
    left_out = value == np.inf and section["name"] in {"median", "trimmed-mean"}
    if left_out:
        assert np.isfinite(combined(section, of([0, 0, 0]), deltas)["w"]).all()
        return
    with pytest.raises(UpdateRefusedError) as caught:
        combine(section, of([0, 0, 0]), [contribution(delta) for delta in deltas])
    assert caught.value.reason is RefusalReason.NON_FINITE
    named = contribution(deltas[2]).digest if section in MEASURED else "tensor 'w' element 1"
    assert named in str(caught.value)


@NAMED
def test_a_result_that_is_not_finite_is_refused_by_name(section: dict[str, Any]) -> None:
    base, deltas = of([0, 3e38]), [of([0, 3e38])] * 5
    if section["name"] in {"centred-clipping", "norm-clipping"}:
        section = section | {"radius" if "radius" in section else "bound": 1e12}
        base, deltas = {"w": np.array([0, 65504], "f2")}, [{"w": np.array([0, 65504], "f2")}] * 5
    with pytest.raises(UpdateRefusedError, match="tensor 'w' element 1") as caught:
        combine(section, base, [contribution(delta) for delta in deltas])
    assert caught.value.reason is RefusalReason.NON_FINITE


def test_too_few_and_too_many_updates_for_krum_are_refused() -> None:
    updates = [contribution(of([k])) for k in range(6)]
    file = encode(of([0]))
    source = Source("base", contribution(file).read)

    def refused(message: str, count: int, **settings: int) -> None:
        written = bytearray()
        with pytest.raises(AggregationError, match=message):
            krum(source, updates[:1] * count, written.extend, **settings)  # pyright: ignore[reportArgumentType] -- never a tile
        assert not written

    refused("4 contributions, wanted 5 or more", 4, byzantine=1)
    refused("wanted at most 1000", MOST_UPDATES + 1, byzantine=1)
    refused("keep is 4, wanted 1 to 3", 6, byzantine=1, keep=4)
    refused("keep is 0, wanted 1 to 3", 6, byzantine=1, keep=0)
    refused("byzantine is -1", 6, byzantine=-1)


def test_settings_out_of_range_are_refused() -> None:
    source = Source("base", contribution(encode(of([0]))).read)
    updates = [contribution(of([k])) for k in range(6)]
    for bad in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(AggregationError, match="bound is"):
            clipped_mean(source, updates, len, bound=bad)
        with pytest.raises(AggregationError, match="radius is"):
            centred_clipping(source, updates, len, radius=bad, iterations=1)
        with pytest.raises(AggregationError, match="smoothing is"):
            geometric_median(source, updates, len, iterations=1, smoothing=bad)
    with pytest.raises(AggregationError, match="iterations is 0"):
        geometric_median(source, updates, len, iterations=0, smoothing=1e-6)
    for bad in (-0.1, 0.5, np.nan):
        with pytest.raises(AggregationError, match="trim is"):
            trimmed_mean(source, updates, len, trim=bad)


# The names in receipts


@NAMED
def test_a_rule_is_named_with_its_settings_and_read_back(section: dict[str, Any]) -> None:
    name = rules.rule_name(strategy(section))
    assert rules.strategy_of(name) == strategy(section)
    assert len(name) <= 128


def test_the_names_are_what_they_always_were() -> None:
    assert [rules.rule_name(strategy(section)) for section in STRATEGIES] == [
        "weighted-mean/1",
        "median/1",
        "trimmed-mean/1 trim=0.2",
        "krum/1 byzantine=1",
        "multi-krum/1 byzantine=1 keep=2",
        "geometric-median/1 iterations=4 smoothing=1e-06",
        "centred-clipping/1 radius=1.5 iterations=3",
        "norm-clipping/1 bound=1.5",
    ]
    assert {section["name"] for section in STRATEGIES} == set(NAMES)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "median",
        "median/2",
        "fedavg/1",
        "weighted-mean/2",
        "mode/1",
        "trimmed-mean/1",
        "trimmed-mean/1 trim=0.20",
        "trimmed-mean/1 trim=0.5",
        "trimmed-mean/1  trim=0.2",
        "trimmed-mean/1 trim=",
        "trimmed-mean/1 trim=0.2 trim=0.2",
        "trimmed-mean/1 trim=" + "[" * 100,
        "geometric-median/1 smoothing=1e-06 iterations=4",
        "krum/1 byzantine=true",
    ],
)
def test_a_name_that_no_rule_has_is_refused(name: str) -> None:
    with pytest.raises(AggregationError, match="not known here"):
        rules.strategy_of(name)


# Attackers


HONEST, BAD, SIZE = 9, 3, 400  # 25 % attackers
FLIP_AND_SCALE = pytest.mark.parametrize("factor", [-1.0, -30.0, 1000.0])


def an_attacked_round(factor: float) -> tuple[list[Tensors], NDArray[np.float64], float]:
    """Return deltas, the honest mean, and the honest sites' mean distance from it.

    The attackers know it all, and send the honest mean times `factor`.
    """
    rng = np.random.default_rng(11)
    truth = rng.standard_normal(SIZE)
    honest = [(truth + 0.3 * rng.standard_normal(SIZE)).astype("f4") for _ in range(HONEST)]
    mean = np.mean([row.astype("f8") for row in honest], axis=0)
    spread = float(np.mean([np.linalg.norm(row - mean) for row in honest]))
    bad = [(factor * mean + 1e-3 * k).astype("f4") for k in range(BAD)]
    return [{"w": row} for row in (*honest, *bad)], mean, spread


@FLIP_AND_SCALE
def test_attackers_drag_the_mean_and_no_robust_rule(factor: float) -> None:
    deltas, mean, spread = an_attacked_round(factor)
    radius = float(np.linalg.norm(mean))

    def error(section: dict[str, Any]) -> float:
        found = combined(section, {"w": np.zeros(SIZE, "f4")}, deltas)["w"]
        return float(np.linalg.norm(found - mean))

    dragged = abs(factor - 1) * BAD / (HONEST + BAD) * radius
    assert error({"name": "fedavg"}) == pytest.approx(dragged, rel=0.02)
    assert dragged > 1.5 * spread
    # The trimmed mean and the medians are pulled by a part of the honest sites' own spread.
    for section in (
        {"name": "median"},
        {"name": "trimmed-mean", "trim": 0.25},
        {"name": "krum", "byzantine": BAD},
        {"name": "multi-krum", "byzantine": BAD, "keep": 6},
        {"name": "geometric-median", "iterations": 20, "smoothing": 1e-6},
    ):
        assert error(section) < 1.1 * spread, section
    # Clipping lets an attacker have a bounded say: a quarter of the length at the most.
    clipping = error({"name": "norm-clipping", "bound": radius})
    assert clipping < 2 * radius * BAD / (HONEST + BAD) + 0.2 * spread
    centred = error({"name": "centred-clipping", "radius": 1.5 * spread, "iterations": 20})
    assert centred < 1.5 * spread


# Memory


@NAMED
def test_memory_does_not_grow_with_the_model(section: dict[str, Any]) -> None:
    def peak(elements: int) -> int:
        layout = Layout.of({"w": np.broadcast_to(np.float32(0), (elements,))})
        head = encode_header(layout)
        updates = [Contribution(f"{k:064x}", 1, _zeros_after(head)) for k in range(8)]
        tracemalloc.start()
        try:
            rule = (strategy(section), Source("base", _zeros_after(head)), updates, len)
            rules.aggregate(*rule)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small = peak(2**18)
    assert peak(2**21) < max(small, 12 << 20) + 64 * 1024  # of 64 MB of input


@NAMED
def test_memory_hardly_grows_with_the_sites(section: dict[str, Any]) -> None:
    sites = 100 if "krum" in section["name"] else 400  # it compares every two: 4 s for 400
    head = encode_header(Layout.of({"w": np.broadcast_to(np.float32(0), (20_000,))}))
    updates = [Contribution(f"{k:064x}", 1, _zeros_after(head)) for k in range(sites)]
    tracemalloc.start()
    try:
        rules.aggregate(strategy(section), Source("base", _zeros_after(head)), updates, len)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 11 * 2**20 + sites * 2**14  # of 80 KB per site, 160 KB as float64


def _zeros_after(head: bytes) -> ReadAt:
    """Return a file that is `head` and then zeros without end, without holding it."""

    def read(buffer: memoryview, offset: int) -> None:
        start = head[offset : offset + len(buffer)]
        buffer[:] = start + bytes(len(buffer) - len(start))

    return read


def test_the_plain_mean_is_still_the_rule_of_fedavg() -> None:
    base = a_model(0)
    updates = [contribution(a_model(1 + k), 1 + k) for k in range(3)]
    out = bytearray()
    weighted_mean(Source("base", contribution(base).read), updates, out.extend)
    assert combine({"name": "fedavg"}, base, updates) == out
