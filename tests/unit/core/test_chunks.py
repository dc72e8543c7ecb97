"""Chunks cover a file exactly, and a checksum tells damaged bytes from those that were sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa_core.chunks import (
    LEAST_CHUNK_BYTES,
    MOST_CHUNK_BYTES,
    MOST_CHUNKS,
    Checksum,
    ChunkPlan,
    describe_runs,
    missing_of,
    plan_chunks,
    ranges_of,
    wants_checksum,
)
from hansa_core.problems import ChunkError


@given(st.integers(1, 10**6), st.integers(1, 10**5))
def test_chunks_cover_the_file_without_a_gap(size: int, chunk_bytes: int) -> None:
    plan = ChunkPlan(size, chunk_bytes)
    if plan.count > 10_000:
        return
    end = 0
    for index in range(plan.count):
        start, stop = plan.span(index)
        assert start == end
        assert 0 < plan.length(index) <= chunk_bytes
        end = stop
    assert end == size


@given(st.integers(1, 2**40), st.integers(1, 2**30))
def test_a_plan_stays_within_the_bounds(size: int, wanted: int) -> None:
    plan = plan_chunks(size, wanted)
    assert LEAST_CHUNK_BYTES <= plan.chunk_bytes <= MOST_CHUNK_BYTES
    assert plan.count <= MOST_CHUNKS or plan.chunk_bytes == MOST_CHUNK_BYTES


def test_a_chunk_that_is_not_there_is_named() -> None:
    with pytest.raises(ChunkError, match=r"chunk 3 .* 250 bytes in chunks of 100; .* 0 to 2"):
        ChunkPlan(250, 100).span(3)


@given(st.binary(max_size=200))
def test_runs_and_what_is_missing_complement_each_other(raw: bytes) -> None:
    present = bytes(value & 1 for value in raw)
    missing = missing_of(ranges_of(present), len(present))
    assert missing == [index for index, there in enumerate(present) if not there]


def test_what_a_hub_says_of_too_many_chunks_is_cut() -> None:
    assert missing_of([(-5, 1), (2, 99)], 4) == [1]


def test_runs_are_told_in_short() -> None:
    assert describe_runs([(0, 4), (7, 8), (9, 12)]) == "0-3, 7, 9-11"
    runs = [(2 * index, 2 * index + 1) for index in range(8)]
    assert describe_runs(runs) == "0, 2, 4, 6, 8 and 3 more runs"


@given(st.binary(min_size=1, max_size=1000), st.data())
def test_a_flipped_bit_is_found(content: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(content) - 1))
    damaged = bytearray(content)
    damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    announced, seen = Checksum(), Checksum()
    announced.update(content)
    seen.update(damaged)
    announced.require(announced.field(), "chunk 1")
    with pytest.raises(ChunkError, match="chunk 1 was damaged on the way: its XXH3 is"):
        seen.require(announced.field(), "chunk 1")


def test_the_checksum_is_the_one_of_the_protocol() -> None:
    checksum = Checksum()
    checksum.update(b"hansa")
    assert checksum.field() == "hansa-xxh3-64=:1aSPQxs9IU8=:"


@pytest.mark.parametrize(
    "field",
    ["", "sha-256=:AAAA:", "hansa-xxh3-64=AAAA", "hansa-xxh3-64=:?:", "xhansa-xxh3-64=:AAAA:"],
)
def test_a_header_without_our_checksum_is_refused(field: str) -> None:
    with pytest.raises(ChunkError, match="Content-Digest is"):
        Checksum().require(field, "chunk 0")


def test_our_checksum_is_found_among_others() -> None:
    checksum = Checksum()
    checksum.update(b"x")
    checksum.require(f"sha-256=:AAAA:, {checksum.field()}", "chunk 0")


def test_who_asks_for_our_checksum_is_understood() -> None:
    assert wants_checksum("hansa-xxh3-64=3")
    assert wants_checksum("sha-256=10, hansa-xxh3-64=1")
    assert not wants_checksum("hansa-xxh3-64=0")
    assert not wants_checksum("sha-256=1")
    assert not wants_checksum("")
