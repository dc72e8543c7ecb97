"""Rows of federations, their members and invitations.

Whoever changes members holds the federation's row lock, so that the last owner cannot leave
by two doors at once. Every read of something inside a federation names the federation.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, exists, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import Federation, Invitation, Member, User
from hansa_core.states import Role


def access_of(
    session: Session, *, federation: UUID | str, user_id: UUID
) -> tuple[UUID, str, str | None] | None:
    """Return (id, slug, the person's role or None) of the federation with this id or slug."""
    named = (
        Federation.id == federation
        if isinstance(federation, UUID)
        else Federation.slug == federation
    )
    query = (
        select(Federation.id, Federation.slug, Member.role)
        .outerjoin(Member, (Member.federation_id == Federation.id) & (Member.user_id == user_id))
        .where(named)
    )
    row = session.execute(query).one_or_none()
    return None if row is None else (row[0], row[1], row[2])


def insert_federation(session: Session, **columns: Any) -> Federation | None:  # noqa: ANN401
    """Return the new federation, or None when the slug is taken."""
    statement = insert(Federation).values(**columns).on_conflict_do_nothing(index_elements=["slug"])
    return session.scalars(statement.returning(Federation)).one_or_none()


def get_federation(session: Session, federation_id: UUID) -> Federation:
    return session.scalars(select(Federation).where(Federation.id == federation_id)).one()


def lock_federation(session: Session, federation_id: UUID) -> Federation:
    query = select(Federation).where(Federation.id == federation_id)
    locked = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalars(locked).one()


def list_federations(
    session: Session, user_id: UUID, *, everything: bool, before: UUID | None, limit: int
) -> list[tuple[Federation, str | None]]:
    """Return federations with the person's role: their own, or `everything`. Newest first."""
    query = select(Federation, Member.role).join(
        Member,
        (Member.federation_id == Federation.id) & (Member.user_id == user_id),
        isouter=everything,
    )
    if before is not None:
        query = query.where(Federation.id < before)
    found = session.execute(query.order_by(Federation.id.desc()).limit(limit))
    return [(federation, role) for federation, role in found]


def list_members(
    session: Session, federation_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Row[tuple[Member, User]]]:
    """Return the members as people, the newest account first."""
    query = (
        select(Member, User)
        .join(User, User.id == Member.user_id)
        .where(Member.federation_id == federation_id)
    )
    if before is not None:
        query = query.where(Member.user_id < before)
    return session.execute(query.order_by(Member.user_id.desc()).limit(limit)).all()


def find_member(session: Session, federation_id: UUID, user_id: UUID) -> Member | None:
    query = select(Member).where(Member.federation_id == federation_id, Member.user_id == user_id)
    return session.scalars(query).one_or_none()


def insert_member(session: Session, member: Member) -> None:
    session.add(member)
    session.flush()


def delete_member(session: Session, federation_id: UUID, user_id: UUID) -> None:
    session.execute(
        delete(Member).where(Member.federation_id == federation_id, Member.user_id == user_id)
    )


def has_other_owner(session: Session, federation_id: UUID, user_id: UUID) -> bool:
    """Tell whether somebody else, who is not disabled, owns the federation."""
    other = exists().where(
        Member.federation_id == federation_id,
        Member.role == Role.OWNER,
        Member.user_id != user_id,
        User.id == Member.user_id,
        User.disabled_at.is_(None),
    )
    return session.execute(select(other)).scalar_one()


def insert_invitation(session: Session, invitation: Invitation) -> None:
    session.add(invitation)
    session.flush()


def list_invitations(
    session: Session, federation_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Invitation]:
    query = select(Invitation).where(Invitation.federation_id == federation_id)
    if before is not None:
        query = query.where(Invitation.id < before)
    return session.scalars(query.order_by(Invitation.id.desc()).limit(limit)).all()


def lock_invitation(
    session: Session, federation_id: UUID, invitation_id: UUID
) -> Invitation | None:
    query = select(Invitation).where(
        Invitation.id == invitation_id, Invitation.federation_id == federation_id
    )
    return session.scalars(query.with_for_update(key_share=True)).one_or_none()


def lock_invitation_by_token(session: Session, token_hash: bytes) -> Invitation | None:
    query = select(Invitation).where(Invitation.token_hash == token_hash)
    return session.scalars(query.with_for_update(key_share=True)).one_or_none()
