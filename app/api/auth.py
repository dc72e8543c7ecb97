"""Bearer tokens: how a request says who asks. What a token is worth, the services know.

Each resolver opens its own short transaction: no connection is held while a handler runs.
"""

from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from app.api.resources import Now, TransactionsDep
from app.domain.errors import NotAuthenticatedError
from app.services import enrollment, federations, sessions
from app.services.principals import Membership, Principal, SitePrincipal

_MAX_TOKEN = 512  # characters; ours have 46
_MAX_ADDRESS = 64  # characters; a proxy may say anything

_person = HTTPBearer(
    scheme_name="person",
    description="A login session (`POST /v1/session`) or an API token (`POST /v1/tokens`).",
    auto_error=False,
)
_site = HTTPBearer(
    scheme_name="site",
    description="A site's access token (`POST /v1/sites/{site_id}/tokens`).",
    auto_error=False,
)

PersonCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_person)]
SiteCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_site)]
FederationName = Annotated[
    str, Path(max_length=64, pattern=r"^[A-Za-z0-9._-]+$", description="slug or id")
]


async def client_address(request: Request) -> str | None:
    """Return where the request comes from, with what a trusted proxy says; None: a local socket."""
    return None if request.client is None else request.client.host[:_MAX_ADDRESS]


ClientAddress = Annotated[str | None, Depends(client_address)]


def current_person(
    credentials: PersonCredentials,
    address: ClientAddress,
    transactions: TransactionsDep,
    now: Now,
) -> Principal:
    """Return whose token this is. Raises NotAuthenticatedError."""
    secret = _secret(credentials)
    with transactions.begin("authenticate_person") as tx:
        return replace(sessions.authenticate(tx, secret, now=now), address=address)


def current_admin(principal: Annotated[Principal, Depends(current_person)]) -> Principal:
    """Return the admin who asks. Raises NotAuthenticatedError, ForbiddenError."""
    principal.require_admin()
    return principal


def access(
    principal: Annotated[Principal, Depends(current_person)],
    federation: FederationName,
    transactions: TransactionsDep,
) -> Membership:
    """Return the person's part in the federation. Raises NotFoundError where there is none."""
    with transactions.begin("resolve_access") as tx:
        return federations.access(tx, principal, federation)


def current_site(
    credentials: SiteCredentials,
    address: ClientAddress,
    transactions: TransactionsDep,
    now: Now,
) -> SitePrincipal:
    """Return the active site that asks. Raises NotAuthenticatedError, SiteNotActiveError."""
    secret = _secret(credentials)
    with transactions.reading() as tx:
        site = enrollment.authenticate(tx, secret, now=now, allow_pending=False)
    return replace(site, address=address)


def site_or_person(
    person: PersonCredentials,
    site: SiteCredentials,
    transactions: TransactionsDep,
    now: Now,
) -> SitePrincipal | Principal:
    """Return the active site or the person that asks. Raises as the two do."""
    secret = _secret(site or person)
    with transactions.reading() as tx:
        try:
            return enrollment.authenticate(tx, secret, now=now, allow_pending=False)
        except NotAuthenticatedError:
            return sessions.authenticate(tx, secret, now=now)


def any_site(
    credentials: SiteCredentials, transactions: TransactionsDep, now: Now
) -> SitePrincipal:
    """Return the active or pending site that asks."""
    secret = _secret(credentials)
    with transactions.reading() as tx:
        return enrollment.authenticate(tx, secret, now=now, allow_pending=True)


def _secret(credentials: HTTPAuthorizationCredentials | None) -> str:
    if credentials is None:
        raise NotAuthenticatedError("the request has no bearer token; send Authorization: Bearer")
    if len(credentials.credentials) > _MAX_TOKEN:
        raise NotAuthenticatedError(
            f"the bearer token has {len(credentials.credentials)} characters; ours have fewer"
        )
    return credentials.credentials
