"""The robust rules against plain numpy on whatever updates; order, tile and copies never matter."""

import random
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hansa_core.aggregation.distances import pairwise_squared_distances
from hansa_core.aggregation.inputs import Source
from hansa_core.aggregation.neighbours import closest, krum_scores
from tests.rules import STRATEGIES, combine, combined, contribution, inputs_of, plain, wide
from tests.tensors import Tensors, decode

BRIEF = settings(max_examples=60, deadline=None)  # a busy machine is no failure

RULES = st.sampled_from(STRATEGIES)
SIZES = st.integers(1, 40)
SCALES = st.sampled_from([1e-6, 1.0, 1e3])


def rows(seed: int, sites: int, size: int, scale: float) -> NDArray[np.float64]:
    """Return deltas that often share values: drawn one by one they would take too long."""
    rng = np.random.default_rng(seed)
    values = scale * rng.standard_normal((sites, size)) * 10.0 ** rng.integers(-3, 3, (sites, 1))
    equal = rng.random((sites, size)) < 0.2
    return np.where(equal, np.round(rng.standard_normal(size)), values)


DELTAS = st.builds(rows, st.integers(0, 2**32), st.integers(5, 40), SIZES, SCALES)


def tensors(row: NDArray[np.float64]) -> Tensors:
    return {"a": row.astype("f4"), "d": row, "n": np.rint(row).astype("i8")}


@BRIEF
@given(RULES, DELTAS, st.integers(1, 400), st.randoms(use_true_random=False))
def test_any_permutation_and_tile_gives_identical_bytes(
    section: dict[str, Any], deltas: NDArray[np.float64], tile_bytes: int, rng: random.Random
) -> None:
    base = tensors(deltas[0] / 3)
    updates = [contribution(tensors(deltas[k]), 1 + k) for k in range(len(deltas))]
    first = combine(section, base, updates)
    rng.shuffle(updates)
    assert combine(section, base, updates, tile_bytes=tile_bytes) == first


@BRIEF
@given(RULES, DELTAS)
def test_agrees_with_plain_numpy(section: dict[str, Any], deltas: NDArray[np.float64]) -> None:
    # Krum's choice between scores that differ in their last bits depends on the rounding.
    updates = sorted(({"d": row} for row in deltas), key=lambda it: contribution(it).digest)
    found = combined(section, {"d": np.zeros(deltas.shape[1])}, updates)["d"]
    wanted = plain(section, [wide(update["d"]) for update in updates])
    room = 1e-9 * (np.abs(deltas).max() + 1e-300)
    if "krum" in section["name"]:
        squares = ((deltas[:, None] - deltas[None]) ** 2).sum(axis=2)
        scores = sorted(krum_scores(squares, len(squares) - section["byzantine"] - 2))
        keep = section.get("keep", 1)
        if scores[keep] - scores[keep - 1] <= 1e-9 * scores[keep]:
            return
    assert np.abs(found - wanted).max() <= room


@BRIEF
@given(RULES, DELTAS)
def test_a_result_lies_within_the_values_of_the_sites(
    section: dict[str, Any], deltas: NDArray[np.float64]
) -> None:
    # Every rule takes means and medians, with what is clipped pulled towards zero.
    updates = [contribution(tensors(row)) for row in deltas]
    nothing: NDArray[np.float64] = np.zeros_like(deltas[0])
    out = decode(combine(section, tensors(nothing), updates))
    high, low = np.maximum(deltas.max(axis=0), 0), np.minimum(deltas.min(axis=0), 0)
    room = 1e-12 * np.abs(deltas).max()
    assert (out["d"] <= high + room).all()
    assert (out["d"] >= low - room).all()
    assert (out["n"] <= np.rint(high)).all()
    assert (out["n"] >= np.rint(low)).all()


@BRIEF
@given(DELTAS, st.sampled_from([-1e6, 1e6]))
def test_a_minority_cannot_move_a_median_past_the_others_values(
    deltas: NDArray[np.float64], push: float
) -> None:
    attackers = (len(deltas) - 1) // 2
    moved = deltas.copy()
    moved[:attackers] = push * (1 + np.abs(deltas[:attackers]))
    base = {"d": np.zeros(deltas.shape[1])}
    found = combined({"name": "median"}, base, [{"d": row} for row in moved])["d"]
    honest = deltas[attackers:]
    assert (found <= honest.max(axis=0)).all()
    assert (found >= honest.min(axis=0)).all()


@BRIEF
@given(DELTAS)
def test_every_rule_gives_back_what_all_sites_agree_on(deltas: NDArray[np.float64]) -> None:
    agreed = {"d": deltas[0]}
    length = float(np.linalg.norm(deltas[0]))
    generous = {"bound": 2 * length + 1, "radius": 2 * length + 1, "iterations": 60}
    for section in STRATEGIES:
        changed = section | {key: it for key, it in generous.items() if key in section}
        found = combined(changed, {"d": np.zeros(deltas.shape[1])}, [agreed] * len(deltas))["d"]
        assert np.abs(found - deltas[0]).max() <= 1e-12 * (length + 1e-300), section["name"]


@BRIEF
@given(DELTAS, st.integers(0, 3), st.sampled_from([0.0, 1.0, 1e6]))
def test_bounds_never_choose_other_than_the_distances(
    deltas: NDArray[np.float64], byzantine: int, common: float
) -> None:
    # Moved far together, nothing but the differences tells the sites apart.
    moved = {"d": np.zeros(deltas.shape[1])}
    updates = [contribution({"d": deltas[index] + common}) for index in range(len(deltas))]
    file = contribution(moved)
    inputs = inputs_of(Source(file.digest, file.read), updates)
    neighbours = max(1, len(deltas) - byzantine - 2)
    scores = krum_scores(pairwise_squared_distances(inputs), neighbours)
    for keep in range(1, len(deltas)):
        by_distance = sorted(sorted(range(len(scores)), key=scores.__getitem__)[:keep])
        assert closest(inputs, neighbours, keep) == by_distance
