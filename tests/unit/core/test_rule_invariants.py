"""Every rule gives the same bits in whatever order and tile, in bounded memory."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from hansa_core.aggregation.distances import BLOCK
from hansa_core.aggregation.inputs import Contribution, Source
from hansa_core.layouts import Layout
from hansa_core.tensors import ReadAt, encode_header
from tests.rules import (
    MEASURED,
    NAMED,
    a_model,
    aggregate,
    combine,
    contribution,
    strategy,
    weighted_mean,
)
from tests.tensors import Tensors, encode


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
        monkeypatch.setattr("hansa_core.aggregation.readers.READ_BYTES", read_bytes)
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
            aggregate(*rule)
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
        aggregate(strategy(section), Source("base", _zeros_after(head)), updates, len)
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
