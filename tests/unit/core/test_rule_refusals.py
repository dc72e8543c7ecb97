"""What the rules refuse, and by what name receipts know them."""

from typing import Any

import numpy as np
import pytest

from hansa_core.aggregation.centres import centred_clipping, geometric_median
from hansa_core.aggregation.clipping import clipped_mean
from hansa_core.aggregation.inputs import Source
from hansa_core.aggregation.krum import MOST_UPDATES, krum
from hansa_core.aggregation.medians import trimmed_mean
from hansa_core.aggregation.outputs import TILE_BYTES
from hansa_core.aggregation.ranks import NETWORK_LIMIT
from hansa_core.problems import AggregationError, RefusalReason, UpdateRefusedError
from hansa_core.strategies import strategies, strategy_of
from tests.rules import (
    MEASURED,
    NAMED,
    ROBUST,
    STRATEGIES,
    combine,
    combined,
    contribution,
    inputs_of,
    of,
    strategy,
)
from tests.tensors import encode


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
        with pytest.raises(AggregationError, match=message):
            krum(inputs_of(source, updates[:1] * count), tile_bytes=TILE_BYTES, **settings)

    refused("4 contributions, wanted 5 or more", 4, byzantine=1)
    refused("wanted at most 1000", MOST_UPDATES + 1, byzantine=1)
    refused("keep is 4, wanted 1 to 3", 6, byzantine=1, keep=4)
    refused("keep is 0, wanted 1 to 3", 6, byzantine=1, keep=0)
    refused("byzantine is -1", 6, byzantine=-1)


def test_settings_out_of_range_are_refused() -> None:
    source = Source("base", contribution(encode(of([0]))).read)
    inputs = inputs_of(source, [contribution(of([k])) for k in range(6)])
    for bad in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(AggregationError, match="bound is"):
            clipped_mean(inputs, bound=bad, tile_bytes=TILE_BYTES)
        with pytest.raises(AggregationError, match="radius is"):
            centred_clipping(inputs, radius=bad, iterations=1, tile_bytes=TILE_BYTES)
        with pytest.raises(AggregationError, match="smoothing is"):
            geometric_median(inputs, iterations=1, smoothing=bad, tile_bytes=TILE_BYTES)
    with pytest.raises(AggregationError, match="iterations is 0"):
        geometric_median(inputs, iterations=0, smoothing=1e-6, tile_bytes=TILE_BYTES)
    for bad in (-0.1, 0.5, np.nan):
        with pytest.raises(AggregationError, match="trim is"):
            trimmed_mean(inputs, trim=bad)


# The names in receipts


@NAMED
def test_a_rule_is_named_with_its_settings_and_read_back(section: dict[str, Any]) -> None:
    name = strategy(section).rule_name()
    assert strategy_of(name) == strategy(section)
    assert len(name) <= 128


def test_the_names_are_what_they_always_were() -> None:
    assert [strategy(section).rule_name() for section in STRATEGIES] == [
        "weighted-mean/1",
        "median/1",
        "trimmed-mean/1 trim=0.2",
        "krum/1 byzantine=1",
        "multi-krum/1 byzantine=1 keep=2",
        "geometric-median/1 iterations=4 smoothing=1e-06",
        "centred-clipping/1 radius=1.5 iterations=3",
        "norm-clipping/1 bound=1.5",
    ]
    assert {section["name"] for section in STRATEGIES} <= set(strategies())


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
        strategy_of(name)
