"""Tokens: how a request says who asks. What a token is worth, the services know.

A site sends a bearer token. So does a person, or else the console's cookie with the same kind of
token in it: a browser sends that by itself, whoever wrote the page, so whatever changes something
needs a header as well that other sites' pages cannot send. No site route looks at the cookie.

Each resolver opens its own short transaction: no connection is held while a handler runs. What a
site does many times a round asks who it is in the transaction that does the work (AskingSite):
one thread and one connection for both.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from app.api.resources import Now, TransactionsDep
from app.domain.errors import ClientHeaderMissingError, NotAuthenticatedError
from app.services import enrollment, federations, sessions
from app.services.principals import Membership, Principal, SitePrincipal
from app.services.transactions import Tx

SESSION_COOKIE = "hansa_session"
CLIENT_HEADER = "Hansa-Client"
CONSOLE = "console"  # what the console says in it

_MAX_TOKEN = 512  # characters; ours have 46
_MAX_ADDRESS = 64  # characters; a proxy may say anything
_READING = frozenset({"GET", "HEAD"})  # methods that change nothing

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
_cookie = APIKeyCookie(
    name=SESSION_COOKIE,
    scheme_name="console",
    description=(
        "A login session of a browser (`POST /v1/session/cookie`). Everything but GET and HEAD "
        f"needs the header `{CLIENT_HEADER}: {CONSOLE}` as well."
    ),
    auto_error=False,
)

SiteCredentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_site)]
FederationName = Annotated[
    str, Path(max_length=64, pattern=r"^[A-Za-z0-9._-]+$", description="slug or id")
]


async def client_address(request: Request) -> str | None:
    """Return where the request comes from, with what a trusted proxy says; None: a local socket."""
    return None if request.client is None else request.client.host[:_MAX_ADDRESS]


ClientAddress = Annotated[str | None, Depends(client_address)]


async def person_secret(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_person)],
    cookie: Annotated[str | None, Depends(_cookie)],
) -> str:
    """Return the token that a person sent: as bearer, or without such a header in the cookie.

    Raises:
        NotAuthenticatedError: there is none.
        ClientHeaderMissingError: only a cookie, which another site's page may have sent.
    """
    secret = _cookie_secret(request, cookie)
    return _secret(credentials) if secret is None else secret


PersonSecret = Annotated[str, Depends(person_secret)]


def current_person(
    secret: PersonSecret,
    address: ClientAddress,
    transactions: TransactionsDep,
    now: Now,
) -> Principal:
    """Return whose token this is. Raises NotAuthenticatedError, ClientHeaderMissingError."""
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


@dataclass(frozen=True, slots=True)
class AskingSite:
    """A site that has sent a token; nobody has looked yet what that is worth."""

    secret: str
    address: str | None
    asked_at: datetime

    def identify(self, tx: Tx) -> SitePrincipal:
        """Return the active site. Raises NotAuthenticatedError, SiteNotActiveError."""
        site = enrollment.authenticate(tx, self.secret, now=self.asked_at, allow_pending=False)
        return replace(site, address=self.address)


async def asking_site(credentials: SiteCredentials, address: ClientAddress, now: Now) -> AskingSite:
    """Return who asks, not identified yet. Raises NotAuthenticatedError without a token."""
    return AskingSite(_secret(credentials), address, now)


def current_site(
    asking: Annotated[AskingSite, Depends(asking_site)], transactions: TransactionsDep
) -> SitePrincipal:
    """Return the active site that asks. Raises NotAuthenticatedError, SiteNotActiveError."""
    with transactions.reading() as tx:
        return asking.identify(tx)


def site_or_person(
    request: Request,
    bearer: SiteCredentials,
    cookie: Annotated[str | None, Depends(_cookie)],
    _documented: Annotated[HTTPAuthorizationCredentials | None, Depends(_person)],
    transactions: TransactionsDep,
    now: Now,
) -> SitePrincipal | Principal:
    """Return the active site or the person that asks. Raises as the two do."""
    from_cookie = _cookie_secret(request, cookie)
    if from_cookie is not None:
        with transactions.reading() as tx:
            return sessions.authenticate(tx, from_cookie, now=now)
    secret = _secret(bearer)
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


def _cookie_secret(request: Request, cookie: str | None) -> str | None:
    """Return the cookie's token; None: there is no cookie, or a header that comes before it."""
    if cookie is None or "Authorization" in request.headers:
        return None
    said = request.headers.get(CLIENT_HEADER)
    if request.method not in _READING and said != CONSOLE:
        raise ClientHeaderMissingError(
            f"the request has a session cookie and no header {CLIENT_HEADER}: {CONSOLE}, which "
            f"every {request.method} with a cookie needs; no other site's page can send it"
        )
    return _bounded(cookie)


def _secret(credentials: HTTPAuthorizationCredentials | None) -> str:
    if credentials is None:
        raise NotAuthenticatedError("the request has no bearer token; send Authorization: Bearer")
    return _bounded(credentials.credentials)


def _bounded(secret: str) -> str:
    if len(secret) > _MAX_TOKEN:
        raise NotAuthenticatedError(f"the token has {len(secret)} characters; ours have fewer")
    return secret
