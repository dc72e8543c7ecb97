"""The keys of secure aggregation: what two sites share, and what of it one round may use.

Everything comes of X25519 (RFC 7748) by HKDF-SHA256 (RFC 5869) without salt. What binds a value
to its use stands in the info: the roster, the round (thereby the model's digest), the pair. A
round's seed tells nothing about the pair's secret, so opening it spoils that round alone.
"""

import hashlib
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hansa_core.secagg.errors import SecaggError

KEY_SIZE = 32  # bytes, of every key, seed and digest here
POSITION_SIZE = 2  # bytes

_PAIR = b"hansa/secagg/1 pair\n"
_MASK = b"hansa/secagg/1 mask\n"
_SEAL = b"hansa/secagg/1 seal\n"
_COMMIT = b"hansa/secagg/1 commit\n"


def generate_exchange_key() -> bytes:
    """Return a new X25519 private key from the system's randomness."""
    return X25519PrivateKey.generate().private_bytes_raw()


def exchange_public(private: bytes) -> bytes:
    """Return the X25519 public key of a private key. Raises SecaggError."""
    return _private_key(private).public_key().public_bytes_raw()


def pair_secret(private: bytes, public: bytes, roster_digest: bytes, own: int, other: int) -> bytes:
    """Return s_ij, alike for both of a pair: one's `private` key and the other's `public` key.

    `own` and `other` are the positions; where they are one, `public` is one's own key.

    Raises:
        SecaggError: a key or digest of another length, a position that is no u16, or a public key
            of low order, which makes the same secret with every private key.
    """
    return pair_secrets(private, {other: public}, roster_digest, own)[other]


def pair_secrets(
    private: bytes, publics: Mapping[int, bytes], roster_digest: bytes, own: int
) -> dict[int, bytes]:
    """Return s_ij with each of many others, by position: as `pair_secret`, many at once."""
    key = _private_key(private)
    roster = _sized(roster_digest, "roster digest")
    return {
        other: _pair_secret(key, public, roster, own, other) for other, public in publics.items()
    }


def _pair_secret(
    key: X25519PrivateKey, public: bytes, roster: bytes, own: int, other: int
) -> bytes:
    their_key = X25519PublicKey.from_public_bytes(_sized(public, "X25519 public key"))
    try:
        shared = key.exchange(their_key)
    except ValueError as error:
        raise SecaggError(
            f"the X25519 public key {public.hex()} of position {other} is a point of low order: "
            "the exchange gives zeros, wanted a secret"
        ) from error
    low, high = sorted((own, other))
    return derive_key(shared, _PAIR + roster + position_bytes(low) + position_bytes(high))


def mask_seed(secret: bytes, round_digest: bytes) -> bytes:
    """Return h_ij of the pair's secret s_ij: the seed of its mask in one round.

    Raises SecaggError.
    """
    return derive_key(_sized(secret, "pair secret"), _MASK + _round(round_digest))


def seal_key(secret: bytes, round_digest: bytes, sender: int, member: int) -> bytes:
    """Return e_ic of the secret s_ic: the key of one sender's seals for one member.

    It encrypts one set of seals only, as it fixes their nonces. Raises SecaggError.
    """
    info = _SEAL + _round(round_digest) + position_bytes(sender) + position_bytes(member)
    return derive_key(_sized(secret, "pair secret"), info)


def commitment(round_digest: bytes, seed: bytes) -> bytes:
    """Return the commitment to a seed of one round. Raises SecaggError."""
    return hashlib.sha256(_COMMIT + _round(round_digest) + _sized(seed, "seed")).digest()


def derive_key(material: bytes, info: bytes) -> bytes:
    """Return the 32 bytes of HKDF-SHA256 without salt."""
    return HKDF(algorithm=SHA256(), length=KEY_SIZE, salt=None, info=info).derive(material)


def position_bytes(position: int) -> bytes:
    """Return a position as two big-endian bytes. Raises SecaggError: it does not fit."""
    if not 0 <= position < 2 ** (8 * POSITION_SIZE):
        raise SecaggError(f"position {position}, wanted 0 to {2 ** (8 * POSITION_SIZE) - 1}")
    return position.to_bytes(POSITION_SIZE, "big")


def _private_key(private: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(_sized(private, "X25519 private key"))


def _round(digest: bytes) -> bytes:
    return _sized(digest, "round digest")


def _sized(value: bytes, what: str) -> bytes:
    if len(value) != KEY_SIZE:
        raise SecaggError(f"the {what} has {len(value)} bytes, wanted {KEY_SIZE}")
    return value
