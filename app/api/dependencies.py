"""What a route may ask for, by type: the process's parts, who asks, which page, which repeat."""

from typing import Annotated

from fastapi import Depends, Header, Query, Request

from app.api.auth import (
    AskingSite,
    ClientAddress,
    access,
    any_site,
    asking_site,
    current_admin,
    current_person,
    current_site,
    site_or_person,
)
from app.api.pagination import DEFAULT_LIMIT, MAX_CURSOR, MAX_LIMIT, PageRequest
from app.api.resources import (
    ArtifactsDep,
    BellDep,
    DeskDep,
    InspectorDep,
    Now,
    SettingsDep,
    TakingsDep,
    TransactionsDep,
)
from app.services.idempotency import Claim, hash_request
from app.services.principals import Membership, Principal, SitePrincipal

__all__ = [
    "Access",
    "AnySite",
    "Asking",
    "ArtifactsDep",
    "BellDep",
    "ClientAddress",
    "CurrentAdmin",
    "CurrentPerson",
    "CurrentSite",
    "DeskDep",
    "IdempotencyKey",
    "InspectorDep",
    "Membership",
    "Now",
    "PageParams",
    "Principal",
    "SettingsDep",
    "SiteOrPerson",
    "SitePrincipal",
    "TakingsDep",
    "TransactionsDep",
]

CurrentPerson = Annotated[Principal, Depends(current_person)]
CurrentAdmin = Annotated[Principal, Depends(current_admin)]
Access = Annotated[Membership, Depends(access)]
Asking = Annotated[AskingSite, Depends(asking_site)]
CurrentSite = Annotated[SitePrincipal, Depends(current_site)]
SiteOrPerson = Annotated[SitePrincipal | Principal, Depends(site_or_person)]
AnySite = Annotated[SitePrincipal, Depends(any_site)]


async def _page(
    cursor: Annotated[
        str | None, Query(max_length=MAX_CURSOR, description="`next_cursor` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="items")] = DEFAULT_LIMIT,
) -> PageRequest:
    return PageRequest(cursor=cursor, limit=limit)


async def _claim(
    request: Request,
    principal: CurrentPerson,
    now: Now,
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern=r"^[\x21-\x7e]{1,200}$",
            description="The same key with the same request gets the first answer again.",
        ),
    ] = None,
) -> Claim | None:
    if idempotency_key is None:
        return None
    url = request.url
    target = f"{url.path}?{url.query}" if url.query else url.path
    return Claim(
        user_id=principal.user_id,
        key=idempotency_key,
        request_hash=hash_request(request.method, target, await request.body()),
        at=now,
    )


PageParams = Annotated[PageRequest, Depends(_page)]
IdempotencyKey = Annotated[Claim | None, Depends(_claim)]
