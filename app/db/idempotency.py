"""Rows of idempotency keys: the answers to POSTs that may be repeated."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import IdempotencyKey


def claim(session: Session, *, user_id: UUID, key: str, request_hash: bytes, now: datetime) -> bool:
    """Write the key; False when it exists. Waits for a transaction that is writing the same."""
    statement = (
        insert(IdempotencyKey)
        .values(user_id=user_id, key=key, request_hash=request_hash, created_at=now)
        .on_conflict_do_nothing(index_elements=[IdempotencyKey.user_id, IdempotencyKey.key])
        .returning(IdempotencyKey.key)
    )
    return session.scalars(statement).one_or_none() is not None


def find(session: Session, *, user_id: UUID, key: str) -> IdempotencyKey | None:
    query = select(IdempotencyKey).where(
        IdempotencyKey.user_id == user_id, IdempotencyKey.key == key
    )
    return session.scalars(query).one_or_none()


def store(session: Session, *, user_id: UUID, key: str, response: dict[str, Any]) -> None:
    session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.user_id == user_id, IdempotencyKey.key == key)
        .values(response=response)
    )


def delete_before(session: Session, moment: datetime) -> None:
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < moment))
