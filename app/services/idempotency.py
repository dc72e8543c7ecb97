"""Repeats of a POST: the same Idempotency-Key and request get the first one's answer.

The key's row is written first in the transaction that does the work and filled last, so a
failed request leaves no trace, and a repeat that comes meanwhile waits for the unique row and
then reads the answer. An answer that holds a secret is never stored, only what it was about.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel

from app.db import idempotency as rows
from app.domain.errors import IdempotencyKeyReusedError, SecretAlreadyShownError
from app.services.transactions import Tx

ModelT = TypeVar("ModelT", bound=BaseModel)
SecretT = TypeVar("SecretT", bound="Identified")

KEPT_FOR = timedelta(days=2)

_SECRET_OF = "secret_of"  # noqa: S105 -- a field's name


class Identified(Protocol):
    """An answer about a resource."""

    @property
    def id(self) -> UUID:
        """Return the resource's id."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """One person's use of one idempotency key."""

    user_id: UUID
    key: str
    request_hash: bytes
    at: datetime


def hash_request(method: str, target: str, body: bytes) -> bytes:
    """Return the SHA-256 of a request; `target` is its path with the query."""
    head = f"{method} {target}\n".encode("utf-8", "surrogatepass")
    return hashlib.sha256(head + body).digest()


def once(tx: Tx, claim: Claim | None, model: type[ModelT], make: Callable[[], ModelT]) -> ModelT:
    """Return what `make` returned for this claim the first time. None: just make.

    Raises:
        IdempotencyKeyReusedError: the key was used for another request.
    """
    if claim is None:
        return make()
    stored = _begin(tx, claim)
    if stored is not None:
        return model.model_validate(stored)
    answer = make()
    _finish(tx, claim, answer.model_dump(mode="json"))
    return answer


def once_secret(tx: Tx, claim: Claim | None, make: Callable[[], SecretT]) -> SecretT:
    """Return what `make` returns, but only once for this claim: the answer holds a secret.

    Raises:
        IdempotencyKeyReusedError: the key was used for another request.
        SecretAlreadyShownError: a repeat; it names the resource that was made.
    """
    if claim is None:
        return make()
    stored = _begin(tx, claim)
    if stored is not None:
        raise SecretAlreadyShownError(
            f"this request was done before and made {stored[_SECRET_OF]}; its secret was in that "
            "answer only: revoke it and make another"
        )
    answer = make()
    _finish(tx, claim, {_SECRET_OF: str(answer.id)})
    return answer


def forget_old(tx: Tx, *, now: datetime) -> None:
    """Delete keys that nobody repeats any more."""
    rows.delete_before(tx.session, now - KEPT_FOR)


def _begin(tx: Tx, claim: Claim) -> dict[str, Any] | None:
    """Take the key and return None, or return the stored answer of whoever had it before."""
    if rows.claim(
        tx.session,
        user_id=claim.user_id,
        key=claim.key,
        request_hash=claim.request_hash,
        now=claim.at,
    ):
        return None
    found = rows.find(tx.session, user_id=claim.user_id, key=claim.key)
    if found is None:  # forgotten between the two statements; the next try is the first again
        raise IdempotencyKeyReusedError(f"idempotency key {claim.key!r} has just expired; repeat")
    if found.request_hash != claim.request_hash:
        raise IdempotencyKeyReusedError(
            f"idempotency key {claim.key!r} was used for another request; use a new key"
        )
    assert found.response is not None  # committed only together with its answer
    return found.response


def _finish(tx: Tx, claim: Claim, answer: dict[str, Any]) -> None:
    rows.store(tx.session, user_id=claim.user_id, key=claim.key, response=answer)
