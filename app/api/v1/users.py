"""People's accounts: for admins, and each for oneself."""

from uuid import UUID

from fastapi import APIRouter, status

from app.api.dependencies import CurrentAdmin, CurrentPerson, Now, PageParams, TransactionsDep
from app.api.pagination import page_of
from app.api.problems import problems
from app.domain.errors import (
    AlreadyExistsError,
    ForbiddenError,
    IllegalTransitionError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
)
from app.services import users
from app.services.passwords import hash_password
from hansa_core import wire

router = APIRouter(prefix="/v1/users", tags=["users"])


@router.get("", responses=problems(NotAuthenticatedError, ForbiddenError, InvalidRequestError))
def list_users(
    _admin: CurrentAdmin, transactions: TransactionsDep, page: PageParams
) -> wire.Page[wire.User]:
    """Return everybody, newest first. For admins."""
    with transactions.begin("list_users") as tx:
        found = users.list_all(tx, before=page.id(), limit=page.fetch)
    return page_of(found, page.limit, lambda user: user.id)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=problems(
        NotAuthenticatedError, ForbiddenError, InvalidRequestError, AlreadyExistsError
    ),
)
def create_user(
    request: wire.UserCreate, admin: CurrentAdmin, transactions: TransactionsDep, now: Now
) -> wire.User:
    """Add a person. For admins.

    Takes no Idempotency-Key: the address is the natural one, and a stored fast hash of a body
    with a password in it would be a gift to whoever reads the database.
    """
    password_hash = hash_password(request.password)
    with transactions.begin("create_user", by=admin.actor) as tx:
        return users.create(tx, request, password_hash=password_hash, now=now)


@router.get("/{user_id}", responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError))
def get_user(user_id: UUID, principal: CurrentPerson, transactions: TransactionsDep) -> wire.User:
    """Return a person: oneself, or for admins anybody."""
    with transactions.begin("get_user") as tx:
        return users.get(tx, principal, user_id)


@router.patch(
    "/{user_id}",
    responses=problems(
        NotAuthenticatedError,
        ForbiddenError,
        NotFoundError,
        InvalidRequestError,
        IllegalTransitionError,
    ),
)
def change_user(
    user_id: UUID,
    request: wire.UserChange,
    principal: CurrentPerson,
    transactions: TransactionsDep,
    now: Now,
) -> wire.User:
    """Change a person: one's own name and password, or for admins anything of anybody."""
    users.require_may_change(principal, user_id, request)  # before the slow hash
    password_hash = None if request.password is None else hash_password(request.password)
    with transactions.begin("change_user", by=principal.actor) as tx:
        return users.change(tx, principal, user_id, request, password_hash=password_hash, now=now)
