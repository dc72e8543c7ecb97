"""The audit log: of a federation for owners and auditors, of the hub for admins."""

from collections.abc import Generator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from app.api.dependencies import Access, CurrentPerson, PageParams, TransactionsDep
from app.api.pagination import page_of
from app.api.problems import problems
from app.domain.errors import (
    ForbiddenError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
)
from app.domain.permissions import Action
from app.services import audit
from app.services.audit import Wanted
from app.services.transactions import Transactions
from hansa_core import wire
from hansa_core.audit import Actor
from hansa_core.states import Scope

router = APIRouter(prefix="/v1", tags=["audit"])

MEDIA_TYPE = "application/x-ndjson"
LARGEST = 2**63 - 1  # what a bigint column holds

OF_FEDERATION = problems(NotAuthenticatedError, ForbiddenError, NotFoundError, InvalidRequestError)
OF_HUB = problems(NotAuthenticatedError, ForbiddenError, InvalidRequestError)
EXPORT = {
    200: {
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
        "description": "An entry a line, oldest first: its exact bytes as `body`, their `digest`.",
    }
}


async def _wanted(
    actor: Annotated[str | None, Query(max_length=300, description="email or site name")] = None,
    action: Annotated[str | None, Query(max_length=100, description="how it starts")] = None,
    since: AwareDatetime | None = None,
    until: Annotated[AwareDatetime | None, Query(description="exclusive")] = None,
) -> Wanted:
    return Wanted(actor=actor, action=action, since=since, until=until)


WantedParams = Annotated[Wanted, Depends(_wanted)]
After = Annotated[int, Query(ge=0, le=LARGEST, description="the last number that one has")]


@router.get("/federations/{federation}/audit", responses=OF_FEDERATION)
def list_audit(
    access: Access, transactions: TransactionsDep, wanted: WantedParams, page: PageParams
) -> wire.Page[wire.AuditEntry]:
    """Return who did what, from where, newest first. For owners and auditors."""
    access.require(Action.AUDIT)
    return _page(transactions, access.federation_id, wanted, page)


@router.get(
    "/federations/{federation}/audit/export",
    response_class=StreamingResponse,
    responses={**OF_FEDERATION, **EXPORT},
)
def export_audit(
    access: Access, transactions: TransactionsDep, after: After = 0
) -> StreamingResponse:
    """Stream the log as it is chained, this export's own entry included."""
    access.require(Action.AUDIT)
    return _export(transactions, access.federation_id, access.actor, after)


@router.get("/federations/{federation}/audit/head", responses=OF_FEDERATION)
def get_audit_head(access: Access, transactions: TransactionsDep) -> wire.AuditHead:
    """Return the newest entry's number and digest: kept elsewhere, they vouch for the log."""
    access.require(Action.AUDIT)
    with transactions.reading() as tx:
        return audit.get_head(tx, access.federation_id)


@router.get("/audit", responses=OF_HUB)
def list_hub_audit(
    principal: CurrentPerson,
    transactions: TransactionsDep,
    wanted: WantedParams,
    page: PageParams,
) -> wire.Page[wire.AuditEntry]:
    """Return what happened to accounts, tokens and logins, newest first. For admins."""
    principal.require_admin(Scope.READ)
    return _page(transactions, None, wanted, page)


@router.get("/audit/export", response_class=StreamingResponse, responses={**OF_HUB, **EXPORT})
def export_hub_audit(
    principal: CurrentPerson, transactions: TransactionsDep, after: After = 0
) -> StreamingResponse:
    """Stream the hub's own log as it is chained. For admins."""
    principal.require_admin(Scope.READ)
    return _export(transactions, None, principal.actor, after)


@router.get("/audit/head", responses=OF_HUB)
def get_hub_audit_head(principal: CurrentPerson, transactions: TransactionsDep) -> wire.AuditHead:
    """Return the number and digest of the newest entry of the hub's own log. For admins."""
    principal.require_admin(Scope.READ)
    with transactions.reading() as tx:
        return audit.get_head(tx, None)


def _page(
    transactions: Transactions, chain: UUID | None, wanted: Wanted, page: PageParams
) -> wire.Page[wire.AuditEntry]:
    with transactions.reading() as tx:
        found = audit.list_entries(tx, chain, wanted, before=page.number(), limit=page.fetch)
    return page_of(found, page.limit, lambda entry: entry.number)


def _export(
    transactions: Transactions, chain: UUID | None, actor: Actor, after: int
) -> StreamingResponse:
    with transactions.begin("note_export", by=actor) as tx:
        audit.note_export(tx, chain, after=after)
    with transactions.reading() as tx:
        upto = audit.get_head(tx, chain).number
    return StreamingResponse(_lines(transactions, chain, after, upto), media_type=MEDIA_TYPE)


def _lines(
    transactions: Transactions, chain: UUID | None, after: int, upto: int
) -> Generator[bytes]:
    """Yield pages of lines; no connection is held while the client reads one."""
    while True:
        with transactions.reading() as tx:
            page = audit.export_page(tx, chain, after=after, upto=upto)
        if page is None:
            return
        lines, after = page
        yield lines
