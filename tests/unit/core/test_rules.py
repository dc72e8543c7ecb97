"""The robust rules: what they compute, and what attackers can do to it."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.aggregation import compiled
from hansa_core.aggregation.distances import BLOCK, pairwise_squared_distances
from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.medians import trimmed_count
from hansa_core.aggregation.networks import network
from hansa_core.aggregation.ranks import NETWORK_LIMIT
from hansa_core.dtypes import BFLOAT16
from tests.rules import (
    FLOATS,
    MEASURED,
    NAMED,
    a_model,
    combine,
    combined,
    contribution,
    floats,
    of,
    plain,
    plain_krum,
    wide,
)
from tests.tensors import Tensors, decode, encode


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
    monkeypatch.setenv(compiled.SWITCH, "0")
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
