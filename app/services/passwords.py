"""Passwords: argon2id, slow on purpose, so never inside a transaction.

At most a few run at once: each takes 64 MiB, and a burst of logins must not take them all.
"""

import threading
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import SecretStr

_AT_ONCE = 4
_slots = threading.BoundedSemaphore(_AT_ONCE)
_hasher = PasswordHasher()  # the RFC 9106 low-memory profile: 64 MiB, 3 passes


def hash_password(password: SecretStr) -> str:
    """Return the salted argon2id hash to store."""
    with _slots:
        return _hasher.hash(_encode(password))


def matches(stored: str | None, password: SecretStr) -> bool:
    """Tell whether `password` is the one behind `stored`.

    None, for nobody, is False after the same work: the time does not tell who has an account.
    """
    with _slots:
        try:
            _hasher.verify(_nobodys_hash() if stored is None else stored, _encode(password))
        except (VerificationError, InvalidHashError):
            return False
    return stored is not None


@lru_cache
def _nobodys_hash() -> str:
    return _hasher.hash("nobody has this password")


def _encode(password: SecretStr) -> bytes:
    return password.get_secret_value().encode("utf-8", "surrogatepass")
