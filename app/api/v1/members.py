"""The people of a federation."""

from fastapi import APIRouter, status

from app.api.dependencies import Access, Now, PageParams, TransactionsDep
from app.api.pagination import page_of
from app.api.problems import problems
from app.domain.errors import (
    ForbiddenError,
    IllegalTransitionError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
)
from app.services import federations
from hansa_core import wire

router = APIRouter(prefix="/v1/federations/{federation}/members", tags=["members"])


@router.get(
    "",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError, InvalidRequestError),
)
def list_members(
    access: Access, transactions: TransactionsDep, page: PageParams
) -> wire.Page[wire.Member]:
    """Return the federation's people, the newest account first."""
    with transactions.begin("list_members") as tx:
        found = federations.list_members(tx, access, before=page.id(), limit=page.fetch)
    return page_of(found, page.limit, lambda member: member.user_id)


@router.put(
    "/{person}",
    responses=problems(
        NotAuthenticatedError,
        ForbiddenError,
        NotFoundError,
        InvalidRequestError,
        IllegalTransitionError,
    ),
)
def put_member(
    person: str,
    request: wire.MemberChange,
    access: Access,
    transactions: TransactionsDep,
    now: Now,
) -> wire.Member:
    """Give a person, by id or e-mail address, a role. For owners; the last owner stays one."""
    with transactions.begin("put_member", by=access.actor) as tx:
        return federations.put_member(tx, access, person, request, now=now)


@router.delete(
    "/{person}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(
        NotAuthenticatedError, ForbiddenError, NotFoundError, IllegalTransitionError
    ),
)
def remove_member(person: str, access: Access, transactions: TransactionsDep) -> None:
    """Take a person out of the federation. For owners; the last owner stays."""
    with transactions.begin("remove_member", by=access.actor) as tx:
        federations.remove_member(tx, access, person)
