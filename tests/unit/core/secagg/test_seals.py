"""Seals: open for whom and for what they were made alone; their file, and damage to it."""

import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from hansa_core.secagg.errors import SealError, SecaggError
from hansa_core.secagg.seals import (
    COMMITMENT_SIZE,
    SEAL_SIZE,
    SealsFile,
    seal,
    seals_size,
    unseal,
    write_seals,
)

KEY = hashlib.sha256(b"key").digest()
ROUND = hashlib.sha256(b"round").digest()
SHARE = hashlib.sha512(b"share").digest()[:33]
COMMITMENTS = [bytes([16 + index]) * COMMITMENT_SIZE for index in range(3)]
SEALS = [[bytes([64 * member + index]) * SEAL_SIZE for index in range(3)] for member in range(4)]
FILE = write_seals(COMMITMENTS, SEALS)


def read(data: bytes) -> SealsFile:
    return SealsFile(data, neighbours=2, committee=4)


def test_seal_is_the_documented_one() -> None:
    sealed = seal(SHARE, KEY, ROUND, 3, 260, 5)
    bound = b"hansa/secagg/1 share\n" + ROUND + b"\x00\x03\x01\x04\x00\x05"
    assert sealed == AESGCM(KEY).encrypt(bytes(11) + b"\x05", SHARE, bound)
    assert len(sealed) == SEAL_SIZE == 49


@given(
    st.binary(min_size=33, max_size=33),
    st.integers(0, 65_535),
    st.integers(0, 65_535),
    st.integers(0, 65_535),
)
def test_seal_opens_for_what_it_was_made(
    share: bytes, sender: int, member: int, index: int
) -> None:
    sealed = seal(share, KEY, ROUND, sender, member, index)
    assert unseal(sealed, KEY, ROUND, sender, member, index) == share


@pytest.mark.parametrize(
    ("key", "round_digest", "sender", "member", "index"),
    [
        (bytes(32), ROUND, 1, 2, 3),
        (KEY, bytes(32), 1, 2, 3),
        (KEY, ROUND, 2, 2, 3),
        (KEY, ROUND, 1, 1, 3),
        (KEY, ROUND, 2, 1, 3),
        (KEY, ROUND, 1, 2, 4),
    ],
)
def test_seal_opens_for_nothing_else(
    key: bytes, round_digest: bytes, sender: int, member: int, index: int
) -> None:
    sealed = seal(SHARE, KEY, ROUND, 1, 2, 3)
    named = f"seal {index} of sender {sender} for member {member} does not open"
    with pytest.raises(SealError, match=named):
        unseal(sealed, key, round_digest, sender, member, index)


def test_seal_with_any_byte_changed_does_not_open() -> None:
    for place in range(SEAL_SIZE):
        sealed = bytearray(seal(SHARE, KEY, ROUND, 1, 2, 3))
        sealed[place] ^= 1
        with pytest.raises(SealError, match="does not open"):
            unseal(bytes(sealed), KEY, ROUND, 1, 2, 3)


@pytest.mark.parametrize("size", [0, 32, 34])
def test_parts_of_another_length_are_refused(size: int) -> None:
    wrong = bytes(size)
    with pytest.raises(SealError, match=f"share has {size} bytes, wanted 33"):
        seal(wrong, KEY, ROUND, 1, 2, 3)
    with pytest.raises(SealError, match=f"seal has {size} bytes, wanted 49"):
        unseal(wrong, KEY, ROUND, 1, 2, 3)
    if size != 32:
        with pytest.raises(SealError, match=f"key has {size} bytes, wanted 32"):
            seal(SHARE, wrong, ROUND, 1, 2, 3)
        with pytest.raises(SealError, match=f"round digest has {size} bytes, wanted 32"):
            seal(SHARE, KEY, wrong, 1, 2, 3)


@pytest.mark.parametrize("place", [(-1, 0, 0), (0, 65_536, 0), (0, 0, -1), (0, 0, 65_536)])
def test_places_beyond_two_bytes_are_refused(place: tuple[int, int, int]) -> None:
    with pytest.raises(SecaggError, match="wanted 0 to 65535"):
        seal(SHARE, KEY, ROUND, *place)


def test_file_is_the_documented_one() -> None:
    wanted = b"hsaseal1\x00\x02\x00\x04" + b"".join(COMMITMENTS)
    for row in SEALS:
        wanted += b"".join(row)
    assert wanted == FILE
    assert len(FILE) == seals_size(2, 4) == 12 + 3 * 32 + 4 * 3 * 49


def test_file_of_a_large_run_has_the_size_that_is_said() -> None:
    assert seals_size(100, 103) == 12 + 101 * 32 + 103 * 101 * 49


def test_everything_in_the_file_is_found_again() -> None:
    file = read(FILE)
    assert file.commitments == tuple(COMMITMENTS)
    assert [[file.seal(member, index) for index in range(3)] for member in range(4)] == SEALS
    assert (file.neighbours, file.committee) == (2, 4)


@pytest.mark.parametrize("place", [(-1, 0), (4, 0), (0, -1), (0, 3)])
def test_seals_that_are_not_in_the_file_are_not_found(place: tuple[int, int]) -> None:
    with pytest.raises(SealError, match=f"seal {place[1]} for member {place[0]}, wanted 0 to 2"):
        read(FILE).seal(*place)


def test_file_cut_anywhere_is_refused() -> None:
    for size in range(len(FILE)):
        with pytest.raises(SealError, match=f"have {size} bytes, wanted"):
            read(FILE[:size])


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "have 0 bytes, wanted at least 12"),
        (FILE + b"\0", f"have {len(FILE) + 1} bytes, wanted {len(FILE)}"),
        (b"hsaseal2" + FILE[8:], "start with b'hsaseal2', wanted b'hsaseal1'"),
        (FILE[:8] + b"\x00\x03\x00\x04" + FILE[12:], "for 3 neighbours and 4 members, wanted 2"),
        (FILE[:8] + b"\x00\x02\x00\x05" + FILE[12:], "for 2 neighbours and 5 members, wanted 2"),
        (FILE[:8] + b"\xff\xff\xff\xff" + FILE[12:], "for 65535 neighbours and 65535 members"),
        (write_seals(COMMITMENTS[:2], [row[:2] for row in SEALS]), "for 1 neighbours"),
        (write_seals(COMMITMENTS, SEALS[:3]), "for 2 neighbours and 3 members"),
    ],
)
def test_other_files_are_refused(data: bytes, named: str) -> None:
    with pytest.raises(SealError, match=named):
        read(data)


@pytest.mark.parametrize(
    ("commitments", "seals", "named"),
    [
        (COMMITMENTS[:1], [row[:1] for row in SEALS], "for 0 neighbours and 4 members"),
        ([], [], "for -1 neighbours and 0 members"),
        (COMMITMENTS, [], "for 2 neighbours and 0 members"),
        (COMMITMENTS, [*SEALS[:2], SEALS[2][:2]], "member 2 has 2 seals, wanted 3"),
        ([*COMMITMENTS[:2], b"short"], SEALS, "commitment 2 has 5 bytes, wanted 32"),
        (COMMITMENTS, [[*SEALS[0][:2], b"short"]], "seal 2 has 5 bytes, wanted 49"),
    ],
)
def test_files_of_other_parts_are_not_written(
    commitments: list[bytes], seals: list[list[bytes]], named: str
) -> None:
    with pytest.raises(SealError, match=named):
        write_seals(commitments, seals)
