"""Federations."""

from fastapi import APIRouter, status

from app.api.dependencies import (
    Access,
    CurrentPerson,
    IdempotencyKey,
    Now,
    PageParams,
    TransactionsDep,
)
from app.api.pagination import page_of
from app.api.problems import problems
from app.domain.errors import (
    AlreadyExistsError,
    ForbiddenError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
)
from app.services import federations
from app.services.idempotency import once
from hansa_core import wire

router = APIRouter(prefix="/v1/federations", tags=["federations"])


@router.get("", responses=problems(NotAuthenticatedError, ForbiddenError, InvalidRequestError))
def list_federations(
    principal: CurrentPerson, transactions: TransactionsDep, page: PageParams
) -> wire.Page[wire.Federation]:
    """Return one's federations, newest first; all of them for admins."""
    with transactions.begin("list_federations") as tx:
        found = federations.list_mine(tx, principal, before=page.id(), limit=page.fetch)
    return page_of(found, page.limit, lambda federation: federation.id)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=problems(
        NotAuthenticatedError,
        ForbiddenError,
        InvalidRequestError,
        IdempotencyKeyReusedError,
        AlreadyExistsError,
    ),
)
def create_federation(
    request: wire.FederationCreate,
    principal: CurrentPerson,
    transactions: TransactionsDep,
    claim: IdempotencyKey,
    now: Now,
) -> wire.Federation:
    """Found a federation and own it."""
    with transactions.begin("create_federation", by=principal.actor) as tx:
        return once(
            tx,
            claim,
            wire.Federation,
            lambda: federations.create(tx, principal, request, now=now),
        )


@router.get(
    "/{federation}", responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError)
)
def get_federation(access: Access, transactions: TransactionsDep) -> wire.Federation:
    """Return one federation, with one's own role in it."""
    with transactions.begin("get_federation") as tx:
        return federations.get(tx, access)


@router.patch(
    "/{federation}",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError, InvalidRequestError),
)
def change_federation(
    request: wire.FederationChange, access: Access, transactions: TransactionsDep
) -> wire.Federation:
    """Change a federation's settings. For owners."""
    with transactions.begin("change_federation", by=access.actor) as tx:
        return federations.change(tx, access, request)
