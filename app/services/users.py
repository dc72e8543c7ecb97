"""People's accounts. The hub always keeps one admin who is not disabled."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from pydantic import JsonValue, SecretStr

from app.db import people
from app.db.models import User
from app.domain.clock import utc_now
from app.domain.errors import (
    AlreadyExistsError,
    ForbiddenError,
    IllegalTransitionError,
    NotFoundError,
)
from app.domain.ids import new_id
from app.services.passwords import hash_password
from app.services.principals import Principal
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.states import Scope


def create(tx: Tx, request: wire.UserCreate, *, password_hash: str, now: datetime) -> wire.User:
    """Add a person.

    Raises:
        AlreadyExistsError: the address has an account.
    """
    user = people.insert_user(
        tx.session,
        id=new_id(),
        email=normalise_email(request.email),
        name=request.name,
        password_hash=password_hash,
        is_admin=request.is_admin,
        created_at=now,
    )
    if user is None:
        raise AlreadyExistsError(f"{normalise_email(request.email)} has an account already")
    tx.audit(
        "user.created",
        federation_id=None,
        user_id=str(user.id),
        email=user.email,
        is_admin=user.is_admin,
    )
    return view(user)


def ensure_admin(tx: Tx, *, email: str, name: str, password: str) -> wire.User:
    """Make sure that `email` is an enabled admin; an existing account keeps its password.

    For setup alone: it hashes the password, slowly, inside the transaction.
    """
    address = normalise_email(email)
    user = people.user_by_email(tx.session, address)
    if user is None:
        user = people.insert_user(
            tx.session,
            id=new_id(),
            email=address,
            name=name,
            password_hash=hash_password(SecretStr(password)),
            is_admin=True,
            created_at=utc_now(),
        ) or people.user_by_email(tx.session, address)  # somebody was quicker
    if user is None:
        raise NotFoundError(f"the account {address} vanished while it was made an admin")
    user.is_admin = True
    user.disabled_at = None
    tx.audit("user.made_admin", federation_id=None, user_id=str(user.id), email=user.email)
    return view(user)


def list_all(tx: Tx, *, before: UUID | None, limit: int) -> Sequence[wire.User]:
    """Return people, newest first."""
    return [view(user) for user in people.list_users(tx.session, before=before, limit=limit)]


def get(tx: Tx, principal: Principal, user_id: UUID) -> wire.User:
    """Return a person: oneself, or for an admin anybody.

    Raises:
        ForbiddenError, NotFoundError.
    """
    if user_id == principal.user_id:
        principal.require_scope(Scope.READ)
    else:
        principal.require_admin()
    user = people.find_user(tx.session, user_id)
    if user is None:
        raise NotFoundError(f"there is no user {user_id}")
    return view(user)


def require_may_change(principal: Principal, user_id: UUID, request: wire.UserChange) -> None:
    """Raise ForbiddenError unless the principal may change these things of this person.

    Everybody may change their own name and password; the rest takes an admin.
    """
    if user_id != principal.user_id:
        principal.require_admin()
        return
    principal.require_scope(Scope.ADMIN)
    if not principal.is_admin and (request.is_admin is not None or request.disabled is not None):
        raise ForbiddenError(
            f"{principal.email} is not an admin of this hub; is_admin and disabled need one"
        )


def change(
    tx: Tx,
    principal: Principal,
    user_id: UUID,
    request: wire.UserChange,
    *,
    password_hash: str | None,
    now: datetime,
) -> wire.User:
    """Change what `request` names. Ends every session on a new password, all tokens on disabling.

    Raises:
        ForbiddenError, NotFoundError.
        IllegalTransitionError: it would leave the hub without an admin.
    """
    require_may_change(principal, user_id, request)
    if request.is_admin is False or request.disabled:
        admins = people.lock_admins(tx.session)
        if list(admins) == [user_id]:
            raise IllegalTransitionError(
                "this is the hub's only admin; make somebody else one before"
            )
    user = people.lock_user(tx.session, user_id)
    if user is None:
        raise NotFoundError(f"there is no user {user_id}")
    changes: dict[str, JsonValue] = {}
    if request.name is not None and request.name != user.name:
        user.name = changes["name"] = request.name
    if request.is_admin is not None and request.is_admin != user.is_admin:
        user.is_admin = changes["is_admin"] = request.is_admin
    if password_hash is not None:
        changes["new_password"] = True
        user.password_hash = password_hash
        people.revoke_tokens(
            tx.session, user_id, now=now, kinds=(people.SESSION,), keep=principal.token_id
        )
    if request.disabled is True and user.disabled_at is None:
        changes["disabled"] = True
        user.disabled_at = now
        people.revoke_tokens(tx.session, user_id, now=now)
    elif request.disabled is False and user.disabled_at is not None:
        changes["disabled"] = False
        user.disabled_at = None
    if changes:
        tx.audit(
            "user.changed",
            federation_id=None,
            user_id=str(user.id),
            email=user.email,
            changes=changes,
        )
    return view(user)


def normalise_email(email: str) -> str:
    """Return the address as it is stored and compared."""
    return email.strip().lower()


def view(user: User) -> wire.User:
    """Return the person as the API shows them."""
    return wire.User(
        id=user.id,
        email=user.email,
        name=user.name,
        is_admin=user.is_admin,
        created_at=user.created_at,
        disabled_at=user.disabled_at,
    )
