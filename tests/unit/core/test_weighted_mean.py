"""Federated averaging: what it computes, in which order, in how much memory, what it refuses."""

import hashlib
import json
import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.aggregation.inputs import MAX_WEIGHT, Contribution, Source
from hansa_core.aggregation.jobs import AggregateSummary
from hansa_core.aggregation.staleness import staleness_scale
from hansa_core.dtypes import BFLOAT16, f32_to_bf16
from hansa_core.layouts import Layout
from hansa_core.plans import BufferPlan
from hansa_core.problems import (
    AggregationError,
    RefusalReason,
    TensorFormatError,
    UpdateRefusedError,
)
from hansa_core.tensors import ReadAt, bytes_reader, encode_header, read_tensors, write_tensors
from tests.rules import weighted_mean

Tensors = Mapping[str, NDArray[Any]]


def encode(tensors: Tensors) -> bytes:
    file = bytearray()
    write_tensors(tensors, file.extend)
    return bytes(file)


def update(tensors: Tensors | bytes, weight: int = 1, scale: float = 1.0) -> Contribution:
    file = tensors if isinstance(tensors, bytes) else encode(tensors)
    return Contribution(hashlib.sha256(file).hexdigest(), weight, bytes_reader(file), scale)


def checkpoint(tensors: Tensors | bytes) -> Source:
    file = tensors if isinstance(tensors, bytes) else encode(tensors)
    return Source(hashlib.sha256(file).hexdigest(), bytes_reader(file))


def aggregate(
    base: Tensors | bytes, *updates: Contribution, tile_bytes: int = 64
) -> tuple[dict[str, NDArray[Any]], bytes, AggregateSummary]:
    out = bytearray()
    summary = weighted_mean(checkpoint(base), updates, out.extend, tile_bytes=tile_bytes)
    assert summary.checkpoint.size == len(out)
    return read_tensors(bytes_reader(out), len(out)), bytes(out), summary


def test_deltas_count_by_their_examples() -> None:
    base = {"w": np.array([10, 20, 30], "f4")}
    found, _, _ = aggregate(
        base,
        update({"w": np.array([1, 0, -3], "f4")}, weight=3),
        update({"w": np.array([5, 4, 1], "f4")}, weight=1),
    )
    assert found["w"].tolist() == [12, 21, 28]
    assert found["w"].dtype == np.float32


def test_zero_deltas_give_the_base_back_bit_for_bit() -> None:
    base = {
        "f": np.random.default_rng(1).standard_normal(1_000).astype("f4"),
        "i": np.array([-(2**63), 2**63 - 1, 2**53 + 1]),
        "m": np.array([True, False]),
    }
    zero = {name: np.zeros_like(array) for name, array in base.items()}
    _, out, _ = aggregate(base, update(zero, 3), update(zero, 5))
    assert out == encode(base)


def test_many_small_terms_are_not_lost_beside_a_large_one() -> None:
    # In float32, 1e8 + 1 is 1e8 again; summed in float64, the thousand ones arrive.
    ones = [update({"w": np.array([1.0, index], "f4")}) for index in range(1_000)]
    large = update({"w": np.array([1e8, 0], "f4")})
    found, _, _ = aggregate({"w": np.zeros(2, "f4")}, large, *ones)
    assert found["w"][0] == np.float32((1e8 + 1_000) / 1_001)


def test_result_does_not_depend_on_order_or_tile() -> None:
    rng = np.random.default_rng(2)
    base = {"w": rng.standard_normal(501).astype("f4"), "h": rng.standard_normal(7).astype("f2")}
    updates = [
        update({"w": rng.standard_normal(501).astype("f4") * 10.0**k, "h": base["h"]}, 10**k)
        for k in range(6)
    ]
    _, out, summary = aggregate(base, *updates)
    for tile_bytes in (1, 8, 40, 4096, 2**20):
        _, other, same = aggregate(base, *reversed(updates), tile_bytes=tile_bytes)
        assert other == out
        assert same == summary


def test_summary_names_what_was_summed_in_that_order() -> None:
    base = {"w": np.zeros(2)}
    updates = [update({"w": np.full(2, float(k))}, weight=k + 1) for k in range(5)]
    _, _, summary = aggregate(base, *updates)
    assert summary.contributions == tuple(sorted((u.digest, u.weight) for u in updates))
    assert summary.base_digest == hashlib.sha256(encode(base)).hexdigest()
    assert summary.checkpoint.layout == Layout.of(base)


def test_equal_updates_from_two_sites_both_count() -> None:
    same = {"w": np.array([1.0])}
    other = update({"w": np.array([4.0])})
    found, _, _ = aggregate({"w": np.array([0.0])}, update(same), update(same), other)
    assert found["w"].tolist() == [2.0]


def test_integers_and_flags_take_the_rounded_mean() -> None:
    base = {"n": np.array([10, 10, 10, 10]), "u": np.array([250], "u1"), "m": np.array([False] * 2)}
    first = {"n": np.array([1, 3, 0, -3]), "u": np.array([9], "u1"), "m": np.array([True, True])}
    second = {"n": np.array([0, 0, 0, 0]), "u": np.array([9], "u1"), "m": np.array([True, False])}
    found, _, _ = aggregate(base, update(first), update(second))
    assert found["n"].tolist() == [10, 12, 10, 8]  # 0.5, 1.5 and -1.5, half to even
    assert found["u"].tolist() == [255]
    assert found["m"].tolist() == [True, False]


def test_bfloat16_is_rounded_once() -> None:
    # 1 + 2^-8 is the tie between two bfloat16; 2^-48 more must decide it upward, although
    # float32 on the way would have lost it.
    base = {"w": f32_to_bf16(np.array([1.0], "f4")).view(BFLOAT16)}
    deltas = [2.0**-8, 2.0**-8 + 2.0**-15]
    updates = [
        update({"w": f32_to_bf16(np.array([deltas[0]], "f4")).view(BFLOAT16)}, 2**33),
        update({"w": f32_to_bf16(np.array([deltas[1]], "f4")).view(BFLOAT16)}, 1),
    ]
    found, _, _ = aggregate(base, *updates)
    assert found["w"].view("<u2").tolist() == [0x3F81]


def test_files_in_another_order_than_ours_are_understood() -> None:
    # Data order b, a; a longer header; and one tensor of another width between them.
    data = np.array([5, 6], "<f4").tobytes() + b"\1\2\3\0" + np.array([7], "<f4").tobytes()
    fields = {
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]},
        "u": {"dtype": "U8", "shape": [4], "data_offsets": [8, 12]},
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    }
    head = json.dumps(fields).encode() + b" " * 5
    foreign = len(head).to_bytes(8, "little") + head + data
    ours = {
        "a": np.array([1], "f4"),
        "b": np.array([1, 2], "f4"),
        "u": np.array([1, 1, 1, 1], "u1"),
    }
    for base, delta in ((ours, foreign), (foreign, encode(ours))):
        found, out, _ = aggregate(base, update(delta), tile_bytes=8)
        assert found["a"].tolist() == [8]
        assert found["b"].tolist() == [6, 8]
        assert found["u"].tolist() == [2, 3, 4, 1]
        assert out == encode(found)


def test_empty_model_and_empty_tensors_aggregate() -> None:
    for base in ({}, {"e": np.zeros((0, 2), "f4"), "w": np.ones(1, "f4")}):
        _, out, _ = aggregate(base, update({n: np.zeros_like(a) for n, a in base.items()}))
        assert out == encode(base)


def test_no_contributions_are_refused() -> None:
    with pytest.raises(AggregationError, match="0 contributions"):
        aggregate({"w": np.zeros(1)})


@pytest.mark.parametrize("weight", [0, -1, MAX_WEIGHT + 1, True, 1.0])
def test_weight_that_is_no_number_of_examples_is_refused(weight: Any) -> None:
    base = {"w": np.zeros(1)}
    with pytest.raises(UpdateRefusedError, match="has weight") as caught:
        aggregate(base, update(base), update(base, weight))
    assert caught.value.reason is RefusalReason.WEIGHT_OUT_OF_RANGE


def test_a_scale_shrinks_the_delta_and_not_the_others_share() -> None:
    base = {"w": np.array([10, 20], "f4"), "n": np.array([100])}
    stale = {"w": np.array([8, -4], "f4"), "n": np.array([16])}
    fresh = {"w": np.array([2, 2], "f4"), "n": np.array([0])}
    found, _, _ = aggregate(base, update(stale, 3, 0.25), update(fresh, 1))
    assert found["w"].tolist() == [10 + (3 * 2 + 2) / 4, 20 + (3 * -1 + 2) / 4]
    assert found["n"].tolist() == [103]


def test_equal_files_of_other_scale_are_summed_in_one_order() -> None:
    base = {"w": np.zeros(101)}
    same = {"w": np.random.default_rng(3).standard_normal(101)}
    updates = [update(same, 3, scale) for scale in (1.0, 0.7, 0.1, 1e-9)]
    _, out, summary = aggregate(base, *updates)
    _, other, again = aggregate(base, *reversed(updates))
    assert other == out
    assert again == summary


@pytest.mark.parametrize("scale", [0.0, -0.5, 1.0000000000000002, np.inf, np.nan])
def test_a_scale_that_does_not_shrink_is_refused(scale: float) -> None:
    written = bytearray()
    delta = {"w": np.zeros(1)}
    with pytest.raises(UpdateRefusedError, match="has scale") as caught:
        weighted_mean(checkpoint(delta), [update(delta), update(delta, 1, scale)], written.extend)
    assert caught.value.reason is RefusalReason.WEIGHT_OUT_OF_RANGE
    assert not written


def test_the_smallest_scale_is_taken() -> None:
    found, _, _ = aggregate({"w": np.zeros(1)}, update({"w": np.ones(1)}, 1, 5e-324))
    assert found["w"].tolist() == [5e-324]


def test_staleness_leaves_the_share_of_the_paper() -> None:
    plan = BufferPlan(size=2)
    assert [staleness_scale(plan, tau) for tau in (0, 3, 8)] == [1.0, 0.5, pytest.approx(1 / 3)]
    flat = BufferPlan(size=2, staleness_exponent=0)
    assert staleness_scale(flat, 99) == 1.0
    assert staleness_scale(None, 7) == 1.0
    steepest = BufferPlan(size=2, staleness_exponent=10, max_staleness=10_000)
    assert 0 < staleness_scale(steepest, 10_001) < 1e-39
    with pytest.raises(ValueError, match="staleness is -1"):
        staleness_scale(plan, -1)


def test_largest_weights_are_exact() -> None:
    deltas = [update({"w": np.array([value], "f4")}, MAX_WEIGHT) for value in (1.0, 2.0)]
    found, _, _ = aggregate({"w": np.zeros(1, "f4")}, *deltas)
    assert found["w"].tolist() == [1.5]


def test_other_layout_is_refused_before_anything_is_written() -> None:
    written = bytearray()
    with pytest.raises(UpdateRefusedError, match=r"'w' is F64 \[2\], wanted F64 \[1\]") as caught:
        weighted_mean(checkpoint({"w": np.zeros(1)}), [update({"w": np.zeros(2)})], written.extend)
    assert caught.value.reason is RefusalReason.LAYOUT_MISMATCH
    assert not written


@pytest.mark.parametrize(
    ("dtype", "base", "delta"),
    [("f4", 3e38, 3e38), ("f2", 6e4, 6e4), ("f8", 1e308, 1e308), ("f4", 0, np.nan)],
)
def test_result_that_is_not_finite_is_refused_with_its_place(
    dtype: str, base: float, delta: float
) -> None:
    checkpoint_ = {"a": np.zeros(5, dtype), "b": np.array([0, 0, base], dtype)}
    delta_ = {"a": np.zeros(5, dtype), "b": np.array([0, 0, delta], dtype)}
    with pytest.raises(UpdateRefusedError, match="tensor 'b' element 2") as caught:
        aggregate(checkpoint_, update(delta_), tile_bytes=16)
    assert caught.value.reason is RefusalReason.NON_FINITE


def test_bfloat16_overflow_is_refused() -> None:
    large = {"w": f32_to_bf16(np.array([3e38], "f4")).view(BFLOAT16)}
    with pytest.raises(UpdateRefusedError, match="tensor 'w' element 0"):
        aggregate(large, update(large))


def test_file_shorter_than_its_header_says_is_an_error() -> None:
    file = encode({"w": np.zeros(100)})
    with pytest.raises(TensorFormatError, match="bytes lie at offset"):
        aggregate(file, update(file[:-1]))


def test_memory_does_not_grow_with_the_model_or_the_sites() -> None:
    def peak(elements: int, sites: int) -> int:
        layout = Layout.of({"w": np.broadcast_to(np.float32(0), (elements,))})
        head = encode_header(layout)
        tracemalloc.start()
        try:
            weighted_mean(
                Source("base", _zeros_after(head)),
                [Contribution(f"{k:064x}", 1, _zeros_after(head)) for k in range(sites)],
                len,
                tile_bytes=64 * 1024,
            )
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small = peak(50_000, 2)
    assert peak(2_000_000, 40) < small + 96 * 1024


def _zeros_after(head: bytes) -> ReadAt:
    """Return a file that is `head` and then zeros without end, without holding it."""

    def read(buffer: memoryview, offset: int) -> None:
        start = head[offset : offset + len(buffer)]
        buffer[:] = start + bytes(len(buffer) - len(start))

    return read
