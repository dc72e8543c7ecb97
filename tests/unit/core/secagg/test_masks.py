"""Masks: the standards' key streams, entering anywhere, and what the hub sees of a vector."""

import hashlib
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.masks import TILE_WORDS, MaskStream, Suite, add_mask

SEED = hashlib.sha256(b"seed").digest()
Words = NDArray[np.uint64]


def mask(words: int, seed: bytes = SEED, *, first_word: int = 0, suite: Suite = Suite.AES) -> Words:
    vector = np.zeros(words, np.uint64)
    add_mask(vector, seed, first_word=first_word, suite=suite)
    return vector


def in_bytes(words: Words) -> bytes:
    return words.astype("<u8").tobytes()


def drawn(words: int, number: int = 0) -> Words:
    return np.random.default_rng(number).integers(0, 2**64, words, np.uint64)


def test_aes_stream_is_that_of_sp_800_38a() -> None:
    # F.5.5: the stream is the output blocks, here entered at the vector's first counter.
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    counter = int.from_bytes(bytes(range(0xF0, 0x100)), "big")
    blocks = (
        "0bdf7df1591716335e9a8b15c860c502"
        "5a6e699d536119065433863c8f657b94"
        "1bc12c9c01610d5d0d8bd6a3378eca62"
        "2956e1c8693536b1bee99c73a31576b6"
    )
    assert in_bytes(mask(8, key, first_word=2 * counter)).hex() == blocks
    assert in_bytes(mask(5, key, first_word=2 * counter + 3)).hex() == blocks[48:]


@pytest.mark.parametrize(
    ("key", "block", "stream"),
    [  # RFC 8439, A.1, vectors 1 to 3
        (
            bytes(32),
            0,
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
            "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        ),
        (
            bytes(32),
            1,
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
            "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
        ),
        (
            bytes(31) + b"\x01",
            1,
            "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
            "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
        ),
    ],
)
def test_chacha_stream_is_that_of_rfc_8439(key: bytes, block: int, stream: str) -> None:
    entered = mask(8, key, first_word=8 * block, suite=Suite.CHACHA)
    assert in_bytes(entered).hex() == stream
    later = mask(5, key, first_word=8 * block + 3, suite=Suite.CHACHA)
    assert in_bytes(later).hex() == stream[48:]


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize(
    "first", [0, 1, 2, 7, 8, 9, TILE_WORDS - 1, TILE_WORDS, 2 * TILE_WORDS + 5]
)
def test_entering_anywhere_gives_the_rest_of_the_stream(suite: Suite, first: int) -> None:
    whole = mask(3 * TILE_WORDS, suite=suite)
    part = mask(TILE_WORDS - 5, first_word=first, suite=suite)
    assert np.array_equal(part, whole[first : first + len(part)])


@given(
    st.sampled_from(Suite),
    st.integers(0, 100),
    st.lists(st.integers(0, 60), min_size=1, max_size=8),
)
def test_pieces_give_the_same_as_the_whole(suite: Suite, first: int, sizes: list[int]) -> None:
    vector = drawn(sum(sizes))
    whole = vector + mask(200 + sum(sizes), suite=suite)[first : first + sum(sizes)]
    stream, start = MaskStream([SEED], first_word=first, suite=suite), 0
    for size in sizes:
        stream.apply(vector[start : start + size])
        start += size
    assert np.array_equal(vector, whole)


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("words", [0, 1, 1000, TILE_WORDS, 2 * TILE_WORDS + 3])
def test_adding_and_subtracting_leaves_the_vector(suite: Suite, words: int) -> None:
    vector = drawn(words)
    add_mask(vector, SEED, suite=suite)
    assert words == 0 or not np.array_equal(vector, drawn(words))
    add_mask(vector, SEED, negative=True, suite=suite)
    assert np.array_equal(vector, drawn(words))


@pytest.mark.parametrize("suite", Suite)
def test_masks_of_pairs_cancel_in_the_sum(suite: Suite) -> None:
    sites, words = 5, TILE_WORDS + 77
    inputs = [drawn(words, site) >> np.uint64(4) for site in range(sites)]
    own = [hashlib.sha256(b"own %d" % site).digest() for site in range(sites)]

    def pair(one: int, other: int) -> bytes:
        return hashlib.sha256(b"pair %d %d" % (min(one, other), max(one, other))).digest()

    total = np.zeros(words, np.uint64)
    for site, vector in enumerate(inputs):
        masked = vector.copy()
        MaskStream(
            [own[site], *(pair(site, other) for other in range(site + 1, sites))],
            [pair(site, other) for other in range(site)],
            suite=suite,
        ).apply(masked)
        assert not np.any(masked[:100] == vector[:100])
        total += masked
    MaskStream((), own, suite=suite).apply(total)
    assert np.array_equal(total, sum(inputs, np.zeros(words, np.uint64)))


def test_masks_of_many_seeds_are_the_sum_of_each() -> None:
    seeds = [hashlib.sha256(b"%d" % number).digest() for number in range(12)]
    vector = drawn(TILE_WORDS + 9)
    wanted = vector.copy()
    for number, seed in enumerate(seeds):
        add_mask(wanted, seed, first_word=3, negative=number >= 7)
    MaskStream(seeds[:7], seeds[7:], first_word=3).apply(vector)
    assert np.array_equal(vector, wanted)


def test_every_other_word_of_an_array_can_be_masked() -> None:
    vector = np.zeros(20, np.uint64)
    add_mask(vector[::2], SEED)
    assert np.array_equal(vector[::2], mask(10))
    assert not vector[1::2].any()


def test_suites_and_seeds_make_streams_of_their_own() -> None:
    starts = {in_bytes(mask(4, seed, suite=suite)) for suite in Suite for seed in (SEED, bytes(32))}
    assert len(starts) == 4


@pytest.mark.parametrize("suite", Suite)
def test_hub_sees_nothing_but_noise_of_a_constant_vector(suite: Suite) -> None:
    for constant in (0, 1, 2**64 - 1, 0x0123456789ABCDEF):
        vector = np.full(2**17, constant, np.uint64)
        add_mask(vector, SEED, suite=suite)
        lanes = np.frombuffer(in_bytes(vector), np.uint8).reshape(-1, 8)
        for one in [lanes, *lanes.T]:  # all bytes, then each byte of the words by itself
            counts = np.bincount(one.reshape(-1), minlength=256)
            expected = one.size / 256
            chi_square = float(((counts - expected) ** 2 / expected).sum())
            # 255 degrees of freedom: both tails together beyond 1 in 10^6 lie outside.
            assert 153 < chi_square < 380


def test_two_constants_look_alike_under_the_mask() -> None:
    difference = mask(4096) - (mask(4096, hashlib.sha256(SEED).digest()) + np.uint64(5))
    bits = np.unpackbits(difference.astype("<u8").view(np.uint8))
    assert abs(int(bits.sum()) - len(bits) // 2) < 5 * (len(bits) / 4) ** 0.5


def test_threads_with_streams_of_their_own_do_not_meet() -> None:
    vectors = [np.zeros(4 * TILE_WORDS, np.uint64) for _ in range(4)]
    seeds = [hashlib.sha256(b"%d" % number).digest() for number in range(4)]
    threads = [
        threading.Thread(target=add_mask, args=(vector, seed))
        for vector, seed in zip(vectors, seeds, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for vector, seed in zip(vectors, seeds, strict=True):
        assert np.array_equal(vector, mask(4 * TILE_WORDS, seed))


@pytest.mark.parametrize("size", [0, 16, 31, 33])
@pytest.mark.parametrize("suite", Suite)
def test_seed_of_another_length_is_refused(suite: Suite, size: int) -> None:
    with pytest.raises(SecaggError, match=f"{size} bytes, wanted 32"):
        MaskStream([bytes(size)], suite=suite)


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.zeros(4, np.int64), "1 dimensions of int64"),
        (np.zeros(4, np.float64), "float64"),
        (np.zeros((2, 2), np.uint64), "2 dimensions of uint64"),
    ],
)
def test_other_arrays_are_refused(array: Words, named: str) -> None:
    with pytest.raises(SecaggError, match=named):
        add_mask(array, SEED)


def test_words_that_no_stream_has_are_refused() -> None:
    with pytest.raises(SecaggError, match="word -1 of a aes-256-ctr mask"):
        MaskStream([SEED], first_word=-1)
    end = 2**35  # words of 2^32 blocks
    assert mask(8, first_word=end - 8, suite=Suite.CHACHA).any()
    with pytest.raises(SecaggError, match=f"word {end + 1} of a chacha20 mask, wanted 0 to {end}"):
        mask(9, first_word=end - 8, suite=Suite.CHACHA)
    stream = MaskStream([SEED], first_word=end - 8, suite=Suite.CHACHA)
    stream.apply(np.zeros(8, np.uint64))
    with pytest.raises(SecaggError, match=f"word {end + 1} of a chacha20 mask"):
        stream.apply(np.zeros(1, np.uint64))
