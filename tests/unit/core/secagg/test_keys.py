"""Keys: the standards' vectors through our code, what is bound to what, and bad points."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.keys import (
    commitment,
    derive_key,
    exchange_public,
    generate_exchange_key,
    mask_seed,
    pair_secret,
    position_bytes,
    seal_key,
)

ROSTER = hashlib.sha256(b"roster").digest()
ROUND = hashlib.sha256(b"round").digest()
SECRET = hashlib.sha256(b"secret").digest()

# RFC 7748, section 6.1
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")

# The points of RFC 7748's curve whose order divides 8, and two ways to write zero and one.
LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def plain_hkdf(material: bytes, info: bytes) -> bytes:
    """Return HKDF-SHA256's first block, without salt (RFC 5869, section 2)."""
    extracted = hmac.digest(bytes(32), material, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def test_exchange_is_that_of_rfc_7748() -> None:
    assert exchange_public(ALICE) == ALICE_PUBLIC
    assert exchange_public(BOB) == BOB_PUBLIC
    wanted = plain_hkdf(SHARED, b"hansa/secagg/1 pair\n" + ROSTER + b"\x00\x03\x01\x00")
    assert pair_secret(ALICE, BOB_PUBLIC, ROSTER, 3, 256) == wanted
    assert pair_secret(BOB, ALICE_PUBLIC, ROSTER, 256, 3) == wanted


@pytest.mark.parametrize(
    ("scalar", "point", "result"),
    [  # RFC 7748, section 5.2
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_scalar_multiplication_is_that_of_rfc_7748(scalar: str, point: str, result: str) -> None:
    secret = pair_secret(bytes.fromhex(scalar), bytes.fromhex(point), ROSTER, 0, 1)
    info = b"hansa/secagg/1 pair\n" + ROSTER + b"\x00\x00\x00\x01"
    assert secret == plain_hkdf(bytes.fromhex(result), info)


def test_thousand_multiplications_are_those_of_rfc_7748() -> None:
    scalar = point = bytes([9, *bytes(31)])
    for _ in range(1000):
        key = X25519PrivateKey.from_private_bytes(scalar)
        scalar, point = key.exchange(X25519PublicKey.from_public_bytes(point)), scalar
    assert scalar.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


@pytest.mark.parametrize(
    ("material", "salt", "info", "output"),
    [  # RFC 5869, A.1 and A.2
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(80)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
    ],
)
def test_library_is_the_hkdf_of_rfc_5869(
    material: bytes, salt: bytes, info: bytes, output: str
) -> None:
    wanted = bytes.fromhex(output)
    hkdf = HKDF(algorithm=SHA256(), length=len(wanted), salt=salt, info=info)
    assert hkdf.derive(material) == wanted


def test_our_hkdf_is_that_of_rfc_5869_without_salt() -> None:
    # A.3, of whose 42 bytes ours are the first 32.
    wanted = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert derive_key(b"\x0b" * 22, b"").hex() == wanted
    assert plain_hkdf(b"\x0b" * 22, b"").hex() == wanted


def test_derived_values_are_the_documented_ones() -> None:
    assert mask_seed(SECRET, ROUND) == plain_hkdf(SECRET, b"hansa/secagg/1 mask\n" + ROUND)
    bound = b"hansa/secagg/1 seal\n" + ROUND + b"\x00\x07\x01\x02"
    assert seal_key(SECRET, ROUND, 7, 258) == plain_hkdf(SECRET, bound)
    committed = hashlib.sha256(b"hansa/secagg/1 commit\n" + ROUND + SECRET).digest()
    assert commitment(ROUND, SECRET) == committed


def test_both_of_a_pair_share_a_secret_and_nobody_else() -> None:
    private = [generate_exchange_key() for _ in range(4)]
    public = [exchange_public(key) for key in private]
    secrets = {
        (i, j): pair_secret(private[i], public[j], ROSTER, i, j) for i in range(4) for j in range(4)
    }
    assert all(secrets[i, j] == secrets[j, i] for i, j in secrets)
    assert len(set(secrets.values())) == 10  # six pairs, and each with itself


def test_whatever_a_value_is_bound_to_changes_it() -> None:
    other = bytes(32)
    secrets = {
        pair_secret(ALICE, BOB_PUBLIC, ROSTER, 0, 1),
        pair_secret(ALICE, BOB_PUBLIC, other, 0, 1),
        pair_secret(ALICE, BOB_PUBLIC, ROSTER, 0, 2),
        pair_secret(ALICE, BOB_PUBLIC, ROSTER, 1, 2),
    }
    derived = {
        mask_seed(SECRET, ROUND),
        mask_seed(SECRET, other),
        mask_seed(other, ROUND),
        seal_key(SECRET, ROUND, 1, 2),
        seal_key(SECRET, ROUND, 2, 1),
        seal_key(SECRET, ROUND, 1, 3),
        seal_key(SECRET, other, 1, 2),
        seal_key(other, ROUND, 1, 2),
        commitment(ROUND, SECRET),
        commitment(other, SECRET),
        commitment(ROUND, other),
    }
    assert len(secrets) == 4
    assert len(derived) == 11


@pytest.mark.parametrize("point", LOW_ORDER)
def test_points_of_low_order_are_refused(point: str) -> None:
    with pytest.raises(SecaggError, match=f"{point} of position 5 is a point of low order"):
        pair_secret(ALICE, bytes.fromhex(point), ROSTER, 2, 5)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_values_of_another_length_are_refused(size: int) -> None:
    wrong = bytes(size)
    named = f"has {size} bytes, wanted 32"
    with pytest.raises(SecaggError, match=f"X25519 private key {named}"):
        exchange_public(wrong)
    with pytest.raises(SecaggError, match=f"X25519 private key {named}"):
        pair_secret(wrong, BOB_PUBLIC, ROSTER, 0, 1)
    with pytest.raises(SecaggError, match=f"X25519 public key {named}"):
        pair_secret(ALICE, wrong, ROSTER, 0, 1)
    with pytest.raises(SecaggError, match=f"roster digest {named}"):
        pair_secret(ALICE, BOB_PUBLIC, wrong, 0, 1)
    with pytest.raises(SecaggError, match=f"pair secret {named}"):
        mask_seed(wrong, ROUND)
    with pytest.raises(SecaggError, match=f"round digest {named}"):
        mask_seed(SECRET, wrong)
    with pytest.raises(SecaggError, match=f"pair secret {named}"):
        seal_key(wrong, ROUND, 0, 1)
    with pytest.raises(SecaggError, match=f"round digest {named}"):
        seal_key(SECRET, wrong, 0, 1)
    with pytest.raises(SecaggError, match=f"seed {named}"):
        commitment(ROUND, wrong)
    with pytest.raises(SecaggError, match=f"round digest {named}"):
        commitment(wrong, SECRET)


@pytest.mark.parametrize("position", [-1, 65_536])
def test_positions_beyond_two_bytes_are_refused(position: int) -> None:
    with pytest.raises(SecaggError, match=f"position {position}, wanted 0 to 65535"):
        position_bytes(position)
    with pytest.raises(SecaggError):
        pair_secret(ALICE, BOB_PUBLIC, ROSTER, 0, position)
    with pytest.raises(SecaggError):
        seal_key(SECRET, ROUND, position, 0)


def test_positions_are_big_endian() -> None:
    assert position_bytes(258) == b"\x01\x02"
    assert position_bytes(65_535) == b"\xff\xff"
