"""Federations and their members. A federation always keeps an owner who is not disabled."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.db import federations as rows
from app.db import people
from app.db.models import Federation, Member, User
from app.domain.errors import (
    AlreadyExistsError,
    FieldProblem,
    IllegalTransitionError,
    InvalidRequestError,
    NotFoundError,
)
from app.domain.ids import new_id
from app.domain.permissions import Action, allowed_actions
from app.services.principals import Membership, Principal
from app.services.retention import policy_of
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.states import Role, Scope


def access(tx: Tx, principal: Principal, federation: str) -> Membership:
    """Return the principal's membership in the federation with this slug or id.

    Raises:
        NotFoundError: there is none, or the principal has no part in it: which, is not told.
    """
    found = rows.access_of(
        tx.session, federation=_as_id(federation) or federation, user_id=principal.user_id
    )
    if found is not None:
        federation_id, slug, stored_role = found
        role = _effective_role(principal, stored_role)
        if role is not None:
            return Membership(federation_id, slug, role, principal)
    raise NotFoundError(f"you have no federation {federation!r}")


def create(
    tx: Tx, principal: Principal, request: wire.FederationCreate, *, now: datetime
) -> wire.Federation:
    """Found a federation; the principal is its first owner.

    Raises:
        ForbiddenError.
        InvalidRequestError: the slug reads as an id.
        AlreadyExistsError: the slug is taken.
    """
    principal.require_scope(Scope.ADMIN)
    if _as_id(request.slug) is not None:
        message = f"a slug must not read as a UUID, got {request.slug!r}"
        raise InvalidRequestError(message, fields=(FieldProblem("slug", message),))
    federation = rows.insert_federation(
        tx.session,
        id=new_id(),
        slug=request.slug,
        name=request.name,
        description=request.description,
        requires_approval=request.requires_approval,
        created_by=principal.user_id,
        created_at=now,
    )
    if federation is None:
        raise AlreadyExistsError(f"there is a federation {request.slug!r} already")
    rows.insert_member(
        tx.session,
        Member(
            federation_id=federation.id,
            user_id=principal.user_id,
            role=Role.OWNER,
            created_at=now,
        ),
    )
    tx.record(
        "federation.created",
        federation_id=federation.id,
        slug=federation.slug,
        name=federation.name,
        by=principal.email,
    )
    return _view(federation, principal, Role.OWNER)


def list_mine(
    tx: Tx, principal: Principal, *, before: UUID | None, limit: int
) -> Sequence[wire.Federation]:
    """Return the principal's federations, all of them for an admin, newest first."""
    principal.require_scope(Scope.READ)
    found = rows.list_federations(
        tx.session,
        principal.user_id,
        everything=principal.is_admin,
        before=before,
        limit=limit,
    )
    return [
        _view(federation, principal, _effective_role(principal, role)) for federation, role in found
    ]


def get(tx: Tx, membership: Membership) -> wire.Federation:
    """Return the federation."""
    membership.require(Action.READ)
    federation = rows.get_federation(tx.session, membership.federation_id)
    return _view(federation, membership.principal, membership.role)


def change(tx: Tx, membership: Membership, request: wire.FederationChange) -> wire.Federation:
    """Change the settings that `request` names.

    Raises:
        ForbiddenError.
    """
    membership.require(Action.GOVERN)
    federation = rows.lock_federation(tx.session, membership.federation_id)
    changes = request.model_dump(exclude_none=True)
    changed = {
        field: value for field, value in changes.items() if getattr(federation, field) != value
    }
    for field, value in changed.items():
        setattr(federation, field, value)
    if changed:
        tx.record(
            "federation.changed",
            federation_id=federation.id,
            changes=changed,
            by=membership.principal.email,
        )
    return _view(federation, membership.principal, membership.role)


def list_members(
    tx: Tx, membership: Membership, *, before: UUID | None, limit: int
) -> Sequence[wire.Member]:
    """Return the federation's people, the newest account first."""
    membership.require(Action.READ)
    found = rows.list_members(tx.session, membership.federation_id, before=before, limit=limit)
    return [_member_view(member, user) for member, user in found]


def put_member(
    tx: Tx, membership: Membership, person: str, request: wire.MemberChange, *, now: datetime
) -> wire.Member:
    """Give a person, named by id or e-mail address, this role in the federation.

    Raises:
        ForbiddenError.
        NotFoundError: there is no such person, or they are disabled.
        IllegalTransitionError: it would leave the federation without an owner.
    """
    membership.require(Action.GOVERN)
    rows.lock_federation(tx.session, membership.federation_id)
    user = _find_person(tx, person)
    if user is None or user.disabled_at is not None:
        raise NotFoundError(f"there is no enabled user {person}")
    member = rows.find_member(tx.session, membership.federation_id, user.id)
    if member is None:
        member = Member(
            federation_id=membership.federation_id,
            user_id=user.id,
            role=request.role,
            created_at=now,
        )
        rows.insert_member(tx.session, member)
    elif member.role == request.role:
        return _member_view(member, user)
    else:
        _require_other_owner(tx, membership, member)
        member.role = request.role
    tx.record(
        "member.changed",
        federation_id=membership.federation_id,
        user_id=str(user.id),
        email=user.email,
        role=request.role,
        by=membership.principal.email,
    )
    return _member_view(member, user)


def remove_member(tx: Tx, membership: Membership, person: str) -> None:
    """Take a person out of the federation; one who is not in it is no error.

    Raises:
        ForbiddenError.
        IllegalTransitionError: it would leave the federation without an owner.
    """
    membership.require(Action.GOVERN)
    rows.lock_federation(tx.session, membership.federation_id)
    user = _find_person(tx, person)
    member = rows.find_member(tx.session, membership.federation_id, user.id) if user else None
    if member is None:
        return
    _require_other_owner(tx, membership, member)
    rows.delete_member(tx.session, membership.federation_id, member.user_id)
    tx.record(
        "member.removed",
        federation_id=membership.federation_id,
        user_id=str(member.user_id),
        by=membership.principal.email,
    )


def _find_person(tx: Tx, person: str) -> User | None:
    user_id = _as_id(person)
    if user_id is not None:
        return people.find_user(tx.session, user_id)
    return people.user_by_email(tx.session, person.strip().lower())


def _require_other_owner(tx: Tx, membership: Membership, member: Member) -> None:
    """Raise IllegalTransitionError if `member` is the federation's last owner."""
    if member.role == Role.OWNER and not rows.has_other_owner(
        tx.session, membership.federation_id, member.user_id
    ):
        raise IllegalTransitionError(
            f"this is the only owner of {membership.slug!r}; make somebody else one before"
        )


def _effective_role(principal: Principal, role: str | None) -> Role | None:
    if principal.is_admin:
        return Role.OWNER
    return None if role is None else Role(role)


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _view(federation: Federation, principal: Principal, role: Role | None) -> wire.Federation:
    return wire.Federation(
        id=federation.id,
        slug=federation.slug,
        name=federation.name,
        description=federation.description,
        requires_approval=federation.requires_approval,
        retention=policy_of(federation.retention),
        created_at=federation.created_at,
        my_role=role,
        my_actions=[] if role is None else list(allowed_actions(role, principal.scopes)),
    )


def _member_view(member: Member, user: User) -> wire.Member:
    return wire.Member(
        user_id=user.id,
        email=user.email,
        name=user.name,
        role=Role(member.role),
        created_at=member.created_at,
    )
