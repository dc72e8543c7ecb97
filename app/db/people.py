"""Rows of people and their bearer tokens. Admins are locked in id order, before anybody else."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import ApiToken, User

SESSION = "session"  # kinds of token
API = "api"


def insert_user(session: Session, **columns: Any) -> User | None:  # noqa: ANN401 -- column values
    """Return the new user, or None when the address is taken."""
    statement = insert(User).values(**columns).on_conflict_do_nothing(index_elements=[User.email])
    return session.scalars(statement.returning(User)).one_or_none()


def user_by_email(session: Session, email: str) -> User | None:
    return session.scalars(select(User).where(User.email == email)).one_or_none()


def find_user(session: Session, user_id: UUID) -> User | None:
    return session.scalars(select(User).where(User.id == user_id)).one_or_none()


def lock_user(session: Session, user_id: UUID) -> User | None:
    query = select(User).where(User.id == user_id).with_for_update(key_share=True)
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()


def lock_admins(session: Session) -> Sequence[UUID]:
    """Return the ids of all admins that are not disabled, locked."""
    query = select(User.id).where(User.is_admin, User.disabled_at.is_(None))
    return session.scalars(query.order_by(User.id).with_for_update(key_share=True)).all()


def list_users(session: Session, *, before: UUID | None, limit: int) -> Sequence[User]:
    query = select(User)
    if before is not None:
        query = query.where(User.id < before)
    return session.scalars(query.order_by(User.id.desc()).limit(limit)).all()


def insert_token(session: Session, token: ApiToken) -> None:
    session.add(token)
    session.flush()


def holder_of(
    session: Session, token_hash: bytes, *, now: datetime
) -> Row[tuple[ApiToken, User]] | None:
    """Return the token in force that has this hash, with its enabled owner."""
    query = (
        select(ApiToken, User)
        .join(User, User.id == ApiToken.user_id)
        .where(
            ApiToken.token_hash == token_hash,
            ApiToken.revoked_at.is_(None),
            ApiToken.expires_at > now,
            User.disabled_at.is_(None),
        )
    )
    return session.execute(query).one_or_none()


def touch_token(session: Session, token_id: UUID, *, now: datetime, unless_after: datetime) -> None:
    """Note the token's use, unless one after `unless_after` is noted already."""
    session.execute(
        update(ApiToken)
        .where(
            ApiToken.id == token_id,
            or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at <= unless_after),
        )
        .values(last_used_at=now)
    )


def list_api_tokens(
    session: Session, user_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[ApiToken]:
    """Return the person's named tokens that are not revoked, newest first."""
    query = select(ApiToken).where(
        ApiToken.user_id == user_id, ApiToken.kind == API, ApiToken.revoked_at.is_(None)
    )
    if before is not None:
        query = query.where(ApiToken.id < before)
    return session.scalars(query.order_by(ApiToken.id.desc()).limit(limit)).all()


def find_token(session: Session, user_id: UUID, token_id: UUID) -> ApiToken | None:
    query = select(ApiToken).where(ApiToken.id == token_id, ApiToken.user_id == user_id)
    return session.scalars(query).one_or_none()


def revoke_token(session: Session, token_id: UUID, *, now: datetime) -> None:
    session.execute(
        update(ApiToken)
        .where(ApiToken.id == token_id, ApiToken.revoked_at.is_(None))
        .values(revoked_at=now)
    )


def revoke_tokens(
    session: Session,
    user_id: UUID,
    *,
    now: datetime,
    kinds: Sequence[str] = (SESSION, API),
    keep: UUID | None = None,
) -> None:
    """Revoke the person's tokens of `kinds`, except the one with id `keep`."""
    statement = update(ApiToken).where(
        ApiToken.user_id == user_id, ApiToken.kind.in_(kinds), ApiToken.revoked_at.is_(None)
    )
    if keep is not None:
        statement = statement.where(ApiToken.id != keep)
    session.execute(statement.values(revoked_at=now))
