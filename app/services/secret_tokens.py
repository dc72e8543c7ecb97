"""Bearer secrets: a prefix that says what they open, then 256 random bits. Only hashes are kept.

A plain SHA-256 is enough for a secret of that length: there is nothing to guess.
"""

import hashlib
import secrets
from enum import StrEnum

from hansa_core.signing import encode_base64

_RANDOM_BYTES = 32


class Prefix(StrEnum):
    """What a secret opens."""

    SESSION = "hs"  # a person's login
    API_TOKEN = "ha"  # a person's named token  # noqa: S105 -- a prefix
    SITE_TOKEN = "hx"  # a site's access token  # noqa: S105 -- a prefix
    INVITATION = "hi"  # one or more enrolments


def new_secret(prefix: Prefix) -> str:
    """Return a fresh secret."""
    return f"{prefix}_{new_nonce()}"


def new_nonce() -> str:
    """Return 256 random bits as text."""
    return encode_base64(secrets.token_bytes(_RANDOM_BYTES))


def hash_secret(secret: str) -> bytes:
    """Return what is stored of `secret`, and looked up: its SHA-256."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
