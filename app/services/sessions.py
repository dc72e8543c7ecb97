"""Logins and API tokens: how a person's bearer token comes, is recognised and goes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.db import people
from app.db.models import ApiToken
from app.domain.errors import NotAuthenticatedError, NotFoundError
from app.domain.ids import new_id
from app.domain.permissions import ALL_SCOPES
from app.services import users
from app.services.principals import Principal
from app.services.secret_tokens import Prefix, hash_secret, new_secret
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.audit import Actor, ActorKind
from hansa_core.states import Scope

USE_NOTED_EVERY = timedelta(minutes=1)
WRONG_LOGIN = "no account has this address and password"  # never says which of the two is wrong


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """What a password is compared with, outside the transaction."""

    user_id: UUID
    password_hash: str | None  # None, which nothing matches: the account is disabled
    email: str


def find_login(tx: Tx, email: str) -> StoredLogin | None:
    """Return what is stored of the account with this address."""
    user = people.user_by_email(tx.session, users.normalise_email(email))
    if user is None:
        return None
    password_hash = user.password_hash if user.disabled_at is None else None
    return StoredLogin(user.id, password_hash, user.email)


def claimant(stored: StoredLogin | None, address: str | None) -> Actor:
    """Return who logs in, as the audit log names them.

    An address that has no account is not repeated: it may be a password in the wrong field.
    """
    if stored is None:
        return Actor(ActorKind.PERSON, "unknown", address=address)
    return Actor(ActorKind.PERSON, stored.email, stored.user_id, address)


def open_session(tx: Tx, login: StoredLogin, *, now: datetime, hours: float) -> wire.Session:
    """Log a person in whose password was found to match `login.password_hash`.

    Raises:
        NotAuthenticatedError: account or password changed since that was compared.
    """
    user = people.lock_user(tx.session, login.user_id)
    changed = user is None or user.password_hash != login.password_hash
    if user is None or changed or user.disabled_at is not None:
        raise NotAuthenticatedError(WRONG_LOGIN)
    secret = new_secret(Prefix.SESSION)
    expires_at = now + timedelta(hours=hours)
    token = ApiToken(
        id=new_id(),
        user_id=user.id,
        kind=people.SESSION,
        name="session",
        token_hash=hash_secret(secret),
        scopes=sorted(ALL_SCOPES),
        created_at=now,
        expires_at=expires_at,
    )
    people.insert_token(tx.session, token)
    tx.audit(
        "session.opened",
        federation_id=None,
        token_id=str(token.id),
        expires_at=expires_at.isoformat(),
    )
    return wire.Session(token=secret, expires_at=expires_at, user=users.view(user))


def authenticate(tx: Tx, secret: str, *, now: datetime) -> Principal:
    """Return whose bearer token this is.

    Raises:
        NotAuthenticatedError: the token is unknown, expired or revoked, or its owner disabled.
    """
    found = people.holder_of(tx.session, hash_secret(secret), now=now)
    if found is None:
        raise NotAuthenticatedError("the token is unknown, expired or revoked; sign in again")
    token, user = found
    if token.last_used_at is None or token.last_used_at <= now - USE_NOTED_EVERY:
        people.touch_token(tx.session, token.id, now=now, unless_after=now - USE_NOTED_EVERY)
    return Principal(
        user_id=user.id,
        email=user.email,
        is_admin=user.is_admin,
        scopes=frozenset(Scope(scope) for scope in token.scopes),
        token_id=token.id,
    )


def close(tx: Tx, principal: Principal, *, now: datetime) -> None:
    """Revoke the token in use."""
    people.revoke_token(tx.session, principal.token_id, now=now)
    tx.audit("session.closed", federation_id=None, token_id=str(principal.token_id))


def create_token(
    tx: Tx, principal: Principal, request: wire.ApiTokenCreate, *, now: datetime
) -> wire.NewApiToken:
    """Make a named token of the principal's, with no scope that the token in use lacks.

    Raises:
        ForbiddenError.
    """
    principal.require_scope(Scope.ADMIN)
    for scope in request.scopes:
        principal.require_scope(scope)
    secret = new_secret(Prefix.API_TOKEN)
    token = ApiToken(
        id=new_id(),
        user_id=principal.user_id,
        kind=people.API,
        name=request.name,
        token_hash=hash_secret(secret),
        scopes=sorted(set(request.scopes)),
        created_at=now,
        expires_at=now + timedelta(days=request.expires_days),
    )
    people.insert_token(tx.session, token)
    tx.audit(
        "token.created",
        federation_id=None,
        token_id=str(token.id),
        name=token.name,
        scopes=list(token.scopes),
        expires_at=token.expires_at.isoformat(),
    )
    return wire.NewApiToken(**_view(token).model_dump(), token=secret)


def list_tokens(
    tx: Tx, principal: Principal, *, before: UUID | None, limit: int
) -> Sequence[wire.ApiToken]:
    """Return the principal's named tokens, expired ones included, revoked ones not."""
    principal.require_scope(Scope.READ)
    tokens = people.list_api_tokens(tx.session, principal.user_id, before=before, limit=limit)
    return [_view(token) for token in tokens]


def revoke_token(tx: Tx, principal: Principal, token_id: UUID, *, now: datetime) -> None:
    """Revoke one of the principal's tokens; again is no error.

    Raises:
        ForbiddenError.
        NotFoundError: the principal has no such token.
    """
    principal.require_scope(Scope.ADMIN)
    token = people.find_token(tx.session, principal.user_id, token_id)
    if token is None:
        raise NotFoundError(f"you have no token {token_id}")
    if token.revoked_at is None:
        people.revoke_token(tx.session, token_id, now=now)
        tx.audit("token.revoked", federation_id=None, token_id=str(token_id), name=token.name)


def _view(token: ApiToken) -> wire.ApiToken:
    return wire.ApiToken(
        id=token.id,
        name=token.name,
        scopes=[Scope(scope) for scope in token.scopes],
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
    )
