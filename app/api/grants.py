"""Who sends chunk after chunk is looked up once in ten seconds, not for each of them.

A look into the database costs as much as half a chunk. A chunk decides nothing: what it adds to
counts only when the upload is completed, and opening and completing look afresh every time. So
a token that was revoked a moment ago can fill an upload that comes to nothing, and no more.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Request

from app.api.auth import (
    AskingSite,
    ClientAddress,
    FederationName,
    PersonSecret,
    access,
    asking_site,
    current_person,
    current_site,
)
from app.api.resources import Now, TransactionsDep
from app.services.principals import Membership, SitePrincipal

SECONDS = 10.0
MOST = 1000  # remembered at once

WhoT = TypeVar("WhoT")


class Grants(Generic[WhoT]):
    """Who had which token a moment ago. For one event loop."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[float, WhoT]] = OrderedDict()

    def get(self, key: bytes) -> WhoT | None:
        """Return who it is; None: look it up."""
        until, who = self._known.get(key, (0.0, None))
        return who if time.monotonic() < until else None

    def put(self, key: bytes, who: WhoT) -> None:
        """Remember who it is."""
        self._known.pop(key, None)
        self._known[key] = (time.monotonic() + SECONDS, who)
        while len(self._known) > MOST:
            self._known.popitem(last=False)


def key_of(*parts: str) -> bytes:
    """Return a key that keeps no secret in memory."""
    return hashlib.sha256("\0".join(parts).encode()).digest()


async def _sending_site(
    request: Request,
    asking: Annotated[AskingSite, Depends(asking_site)],
    transactions: TransactionsDep,
) -> SitePrincipal:
    grants: Grants[SitePrincipal] = request.app.state.site_grants
    key = key_of(asking.secret, asking.address or "")
    found = grants.get(key)
    if found is None:
        found = await asyncio.to_thread(current_site, asking, transactions)
        grants.put(key, found)
    return found


async def _sending_person(
    request: Request,
    federation: FederationName,
    secret: PersonSecret,
    address: ClientAddress,
    transactions: TransactionsDep,
    now: Now,
) -> Membership:
    grants: Grants[Membership] = request.app.state.person_grants
    key = key_of(secret, federation, address or "")
    found = grants.get(key)
    if found is None:

        def look() -> Membership:
            person = current_person(secret, address, transactions, now)
            return access(person, federation, transactions)

        found = await asyncio.to_thread(look)
        grants.put(key, found)
    return found


SendingSite = Annotated[SitePrincipal, Depends(_sending_site)]
SendingAccess = Annotated[Membership, Depends(_sending_person)]
