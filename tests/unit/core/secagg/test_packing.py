"""Lanes of words: where values lie, and that their sums never carry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.packing import BLOCK, LANE_BITS, Packing, ceil_log2
from tests.unit.core.secagg.quantised import plain_place

LANES = sorted(LANE_BITS)
SITES = (2, 3, 4, 5, 7, 8, 9, 10, 16, 17, 31, 32, 33, 100, 128, 129, 256, 1000, 1024, 4096, 10_000)
FITTING = [
    (lanes, sites) for lanes in LANES for sites in SITES if LANE_BITS[lanes] - ceil_log2(sites) >= 4
]


def packed(packing: Packing, values: np.ndarray) -> np.ndarray:
    words = np.zeros(packing.words(len(values)), np.uint64)
    packing.pack(values.astype(np.int64), words)
    return words


def unpacked(packing: Packing, words: np.ndarray, elements: int) -> np.ndarray:
    out = np.empty(elements, np.int64)
    packing.unpack(words, out)
    return out


@pytest.mark.parametrize(("lanes", "sites"), FITTING)
def test_sums_of_greatest_values_do_not_carry(lanes: int, sites: int) -> None:
    packing = Packing(lanes, sites)
    elements = packing.block_elements + 2 * lanes + 1
    one = packed(packing, np.full(elements, packing.top))
    assert max(map(int, one)) * sites < 2**64
    total = one * np.uint64(sites)
    assert sites * packing.top < 2**packing.lane_bits
    assert (unpacked(packing, total, elements) == sites * packing.top).all()
    one[0] += np.uint64(1)  # one more than any site may send shows in its own lane
    assert unpacked(packing, one, elements)[0] == packing.top + 1


@pytest.mark.parametrize(("lanes", "sites"), FITTING)
def test_value_bits_are_as_many_as_sites_leave(lanes: int, sites: int) -> None:
    packing = Packing(lanes, sites)
    assert sites * packing.top < 2**packing.lane_bits
    assert 2**packing.site_bits >= sites > 2 ** (packing.site_bits - 1)
    assert packing.value_bits + packing.site_bits == 64 // lanes


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("whole", [0, 1])
def test_every_tail_lies_where_it_is_said_to(lanes: int, whole: int) -> None:
    packing = Packing(lanes, 4)
    block = packing.block_elements
    for rest in [*range(3 * lanes + 2), block // 2, block - lanes, block - 1]:
        elements = whole * block + rest
        words = packed(packing, np.arange(elements) % packing.top)
        assert len(words) == whole * BLOCK + -(-rest // lanes)
        for element in {0, 1, elements // 2, elements - 2, elements - 1} | set(
            range(whole * block, whole * block + min(rest, 3 * lanes))
        ):
            if not 0 <= element < elements:
                continue
            word, lane = packing.place(element, elements)
            assert (word, lane) == plain_place(packing, element, elements)
            held = (int(words[word]) >> (lane * packing.lane_bits)) % 2**packing.lane_bits
            assert held == element % packing.top


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FITTING),
    st.one_of(st.integers(0, 40), st.integers(0, 70_000)),
    st.integers(0, 2**32),
)
def test_unpacking_gives_back_what_was_packed(
    fitting: tuple[int, int], elements: int, seed: int
) -> None:
    packing = Packing(*fitting)
    values = np.random.default_rng(seed).integers(0, packing.top, elements, endpoint=True)
    words = packed(packing, values)
    assert (unpacked(packing, words, elements) == values).all()
    assert sorted({packing.place(e, elements) for e in range(min(elements, 50))}) == sorted(
        plain_place(packing, e, elements) for e in range(min(elements, 50))
    )


@given(st.sampled_from(LANES), st.integers(1, 100_000), st.data())
def test_words_of_elements_hold_them(lanes: int, elements: int, data: st.DataObject) -> None:
    packing = Packing(lanes, 10)
    begin = data.draw(st.integers(0, elements))
    end = data.draw(st.integers(begin, elements))
    words = packing.words_of(begin, end, elements)
    held = packing.elements_of(words.start, words.stop, elements)
    if begin < end:
        assert held.start <= begin < end <= held.stop
        assert begin - held.start < packing.block_elements
        for element in (begin, end - 1):
            assert packing.place(element, elements)[0] in words
    else:
        assert not words


@pytest.mark.parametrize("lanes", LANES)
def test_tiles_are_whole_blocks_in_order(lanes: int) -> None:
    packing = Packing(lanes, 10)
    elements = 11 * packing.block_elements + 5
    stop = packing.words(elements)
    tiles = list(packing.tiles(0, stop, elements))
    assert [tile.first for tile in tiles[1:]] == [tile.stop for tile in tiles[:-1]]
    assert [tile.begin for tile in tiles[1:]] == [tile.end for tile in tiles[:-1]]
    assert (tiles[0].first, tiles[0].begin) == (0, 0)
    assert (tiles[-1].stop, tiles[-1].end) == (stop, elements)
    assert all(tile.first % BLOCK == 0 for tile in tiles)
    assert list(packing.tiles(0, 0, 0)) == []


def test_cut_blocks_are_refused() -> None:
    packing = Packing(3, 10)
    elements = 3 * packing.block_elements
    for first, stop in ((1, BLOCK), (0, BLOCK + 1), (BLOCK, 2 * BLOCK - 1)):
        with pytest.raises(SecaggError, match=f"words {first} to {stop} of {3 * BLOCK} cut"):
            packing.elements_of(first, stop, elements)
    with pytest.raises(SecaggError, match=f"words 0 to {4 * BLOCK} are asked for"):
        packing.elements_of(0, 4 * BLOCK, elements)
    with pytest.raises(SecaggError, match="elements -1 to 0"):
        packing.place(-1, elements)


def test_sums_beyond_the_last_value_are_refused() -> None:
    packing = Packing(3, 10)
    words = packed(packing, np.array([1, 2, 3, 4]))  # two words: lane 2 is empty
    words[1] += np.uint64(7 << 42)
    with pytest.raises(SecaggError, match="past the last value sums up to 7, wanted 0"):
        unpacked(packing, words, 4)


@pytest.mark.parametrize(
    ("lanes", "sites", "says"),
    [
        (5, 257, "5 lanes of 12 bits leave 3 bits for a value of one of 257 sites, wanted 4"),
        (4, 10_000, "leave 2 bits"),
        (6, 10, "6 lanes, wanted one of 2, 3, 4, 5"),
        (3, 1, "of 1 sites, wanted 2 to 10000"),
        (2, 10_001, "of 10001 sites"),
    ],
)
def test_packings_that_are_none_are_refused(lanes: int, sites: int, says: str) -> None:
    with pytest.raises(SecaggError, match=says):
        Packing(lanes, sites)
