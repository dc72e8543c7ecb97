"""Ed25519 signatures (RFC 8032) with a purpose, and the text forms of keys.

What is signed is

    b"hansa/1\\n" + purpose + b"\\n" + payload

so a signature made for one purpose never verifies for another. No purpose contains a line feed,
so the three parts cannot be confused. A private key is the 32-byte seed of RFC 8032, section 5.1.5.
"""

import base64
import binascii
import hashlib
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from hansa_core.problems import EncodingError, KeyFormatError, SignatureError

KEY_SIZE = 32  # bytes, of private and of public keys
SIGNATURE_SIZE = 64  # bytes

_CONTEXT = b"hansa/1\n"
_FINGERPRINT_SIZE = 20  # bytes of SHA-256: 160 bits, out of reach of a second preimage
_GROUP = 4  # characters between the dashes of a fingerprint


class Purpose(StrEnum):
    """What a signature says. Permanent: a changed meaning needs a new purpose."""

    ENROLL = "enroll"  # "this key is the site's", at enrollment
    CHALLENGE = "challenge"  # the answer to a hub's challenge, for a session token
    UPDATE = "update-manifest"  # "this update is mine, and so are these counts"
    EVALUATION = "evaluation-report"  # "these metrics are mine"
    ROTATE = "rotate-key"  # the old key names its successor
    RECEIPT = "receipt"  # the hub: "this round, or run, went like this"
    SECAGG_KEYS = "secagg-keys"  # "these are my keys for this roster"
    SECAGG_ROSTER = "secagg-roster"  # "I take part with these members on these terms"
    SECAGG_SURVIVORS = "secagg-survivors"  # committee: "the sum is of these updates, no others"
    SECAGG_OPENING = "secagg-opening"  # committee: "these are my shares"
    MEMBERSHIP = "membership"  # the consortium's offline key: "these sites are ours"


def generate_private_key() -> bytes:
    """Return a new private key from the system's randomness."""
    return Ed25519PrivateKey.generate().private_bytes_raw()


def public_key(private: bytes) -> bytes:
    """Return the public key of a private key. Raises KeyFormatError."""
    return _private_key(private).public_key().public_bytes_raw()


def fingerprint(public: bytes) -> str:
    """Return a public key's fingerprint, for two people to compare: 8 groups of 4 characters.

    The first 20 bytes of the key's SHA-256 in lower-case base32 (RFC 4648: no 0, 1, 8 or 9).
    Raises KeyFormatError.
    """
    _check_key_size(public, "public")
    text = base64.b32encode(hashlib.sha256(public).digest()[:_FINGERPRINT_SIZE]).decode().lower()
    return "-".join(text[start : start + _GROUP] for start in range(0, len(text), _GROUP))


def sign(private: bytes, purpose: Purpose, payload: bytes) -> bytes:
    """Return the 64-byte signature of `payload` for `purpose`. Raises KeyFormatError."""
    return _private_key(private).sign(signed_bytes(purpose, payload))


def verify(public: bytes, purpose: Purpose, payload: bytes, signature: bytes) -> None:
    """Raise SignatureError unless `signature` is this key's for this purpose and payload.

    Raises KeyFormatError if `public` is no 32 bytes.
    """
    _check_key_size(public, "public")
    if len(signature) != SIGNATURE_SIZE:
        raise SignatureError(
            f"the {purpose} signature has {len(signature)} bytes, wanted {SIGNATURE_SIZE}"
        )
    key = Ed25519PublicKey.from_public_bytes(public)
    try:
        key.verify(signature, signed_bytes(purpose, payload))
    except InvalidSignature as error:
        raise SignatureError(
            f"the {purpose} signature does not verify with key {fingerprint(public)}"
        ) from error


def signed_bytes(purpose: Purpose, payload: bytes) -> bytes:
    """Return the bytes that a signature for `purpose` covers."""
    return _CONTEXT + purpose.encode() + b"\n" + payload


def encode_base64(data: bytes) -> str:
    """Return base64url without padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decode_base64(text: str, *, size: int | None = None) -> bytes:
    """Decode what `encode_base64` writes, and nothing else.

    Padding, white space, the other alphabet and stray trailing bits raise EncodingError, so that
    no two texts mean the same bytes; so does a result that is not `size` bytes long, if given.
    """
    try:
        data = base64.b64decode(
            text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
        )
    except (UnicodeEncodeError, binascii.Error) as error:
        raise EncodingError(f"not base64url without padding: {text[:80]!r}") from error
    if encode_base64(data) != text:
        raise EncodingError(f"not the canonical base64url of its bytes: {text[:80]!r}")
    if size is not None and len(data) != size:
        raise EncodingError(f"the base64url text holds {len(data)} bytes, wanted {size}")
    return data


def _private_key(private: bytes) -> Ed25519PrivateKey:
    _check_key_size(private, "private")
    return Ed25519PrivateKey.from_private_bytes(private)


def _check_key_size(key: bytes, kind: str) -> None:
    if len(key) != KEY_SIZE:
        raise KeyFormatError(f"the {kind} key has {len(key)} bytes, wanted {KEY_SIZE}")
