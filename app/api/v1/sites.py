"""The sites of a federation, as its people see and govern them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Query

from app.api.dependencies import Access, PageParams, TransactionsDep
from app.api.filters import PartOfName
from app.api.pagination import page_of
from app.api.presence import PresenceDep
from app.api.problems import problems
from app.domain.errors import (
    ForbiddenError,
    IllegalTransitionError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
)
from app.services import sites
from app.services.sites import Change, Wanted
from hansa_core import wire
from hansa_core.states import SiteState, TaskState

router = APIRouter(prefix="/v1/federations/{federation}/sites", tags=["sites"])


async def _wanted(
    state: Annotated[list[SiteState] | None, Query(description="repeat it for several")] = None,
    online: Annotated[bool | None, Query(description="seen of late, or not")] = None,
    q: PartOfName = None,
) -> Wanted:
    return Wanted(states=state or (), online=online, named=q)


WantedParams = Annotated[Wanted, Depends(_wanted)]

NO_REASON = wire.SiteStateChange()  # the body may be left out


@router.get(
    "",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError, InvalidRequestError),
)
def list_sites(
    access: Access,
    transactions: TransactionsDep,
    page: PageParams,
    presence: PresenceDep,
    wanted: WantedParams,
    record: Annotated[bool, Query(description="tell what became of their tasks")] = False,
) -> wire.Page[wire.Site]:
    """Return the federation's sites, newest first."""
    with transactions.begin("list_sites") as tx:
        found = sites.list_all(
            tx,
            access,
            presence,
            wanted=wanted,
            with_record=record,
            before=page.id(),
            limit=page.fetch,
        )
    return page_of(found, page.limit, lambda site: site.id)


@router.get("/{site_id}", responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError))
def get_site(
    site_id: UUID, access: Access, transactions: TransactionsDep, presence: PresenceDep
) -> wire.Site:
    """Return one site with its record."""
    with transactions.begin("get_site") as tx:
        return sites.get(tx, access, site_id, presence)


@router.get(
    "/{site_id}/tasks",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError, InvalidRequestError),
)
def list_site_tasks(
    site_id: UUID,
    access: Access,
    transactions: TransactionsDep,
    page: PageParams,
    state: Annotated[list[TaskState] | None, Query(description="repeat it for several")] = None,
) -> wire.Page[wire.SiteTask]:
    """Return what a site was asked for in all runs, newest first, failures included."""
    with transactions.begin("list_site_tasks") as tx:
        found = sites.list_tasks(
            tx, access, site_id, states=state or (), before=page.id(), limit=page.fetch
        )
    return page_of(found, page.limit, lambda row: row.task.id)


@router.post(
    "/{site_id}/{change}",
    responses=problems(
        NotAuthenticatedError,
        ForbiddenError,
        NotFoundError,
        InvalidRequestError,
        IllegalTransitionError,
    ),
)
def change_site(
    site_id: UUID,
    change: Change,
    access: Access,
    transactions: TransactionsDep,
    presence: PresenceDep,
    request: Annotated[wire.SiteStateChange, Body()] = NO_REASON,
) -> wire.Site:
    """Approve, suspend, reinstate or revoke a site. For owners and operators.

    It holds from the site's next request on. Doing again what was done changes nothing.
    """
    with transactions.begin("change_site", by=access.actor) as tx:
        return sites.change(tx, access, site_id, change, request, presence)


@router.put(
    "/{site_id}/labels",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError, InvalidRequestError),
)
def put_site_labels(
    site_id: UUID,
    request: wire.SiteLabels,
    access: Access,
    transactions: TransactionsDep,
    presence: PresenceDep,
) -> wire.Site:
    """Replace a site's labels. For owners and operators."""
    with transactions.begin("put_site_labels", by=access.actor) as tx:
        return sites.put_labels(tx, access, site_id, request, presence)
