"""Federations at a glance."""

from fastapi import APIRouter

from app.api.dependencies import Access, CurrentPerson, PageParams, TransactionsDep
from app.api.pagination import page_of
from app.api.presence import PresenceDep
from app.api.problems import problems
from app.domain.errors import (
    ForbiddenError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
)
from app.services import overviews
from hansa_core import wire

router = APIRouter(prefix="/v1", tags=["federations"])


@router.get(
    "/overview", responses=problems(NotAuthenticatedError, ForbiddenError, InvalidRequestError)
)
def list_overviews(
    principal: CurrentPerson,
    transactions: TransactionsDep,
    page: PageParams,
    presence: PresenceDep,
) -> wire.Page[wire.Overview]:
    """Return one's federations at a glance, newest first; all of them for admins."""
    with transactions.begin("list_overviews") as tx:
        found = overviews.list_mine(tx, principal, presence, before=page.id(), limit=page.fetch)
    return page_of(found, page.limit, lambda overview: overview.federation.id)


@router.get(
    "/federations/{federation}/overview",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError),
)
def get_overview(
    access: Access, transactions: TransactionsDep, presence: PresenceDep
) -> wire.Overview:
    """Return one federation at a glance."""
    with transactions.begin("get_overview") as tx:
        return overviews.get(tx, access, presence)
