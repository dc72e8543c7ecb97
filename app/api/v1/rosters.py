"""The rosters of secure runs, for the sites that check them and for people."""

from typing import Annotated

from fastapi import APIRouter, Path

from app.api.dependencies import SiteOrPerson, SitePrincipal, TransactionsDep
from app.api.problems import problems
from app.domain.errors import (
    ForbiddenError,
    NotAuthenticatedError,
    NotFoundError,
    SiteNotActiveError,
    SiteRevokedError,
)
from app.domain.permissions import Action
from app.services import federations
from app.services.secure import duties
from hansa_core import wire

router = APIRouter(prefix="/v1/rosters", tags=["duties"])

DigestPath = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the body")]


@router.get(
    "/{digest}",
    responses=problems(
        NotFoundError, NotAuthenticatedError, ForbiddenError, SiteNotActiveError, SiteRevokedError
    ),
)
def get_roster(
    digest: DigestPath, asker: SiteOrPerson, transactions: TransactionsDep
) -> wire.RosterView:
    """Return who takes part in a run's secure sums, and the members' words for it."""
    with transactions.reading() as tx:
        if isinstance(asker, SitePrincipal):
            return duties.get_roster(tx, asker.federation_id, digest)
        federation_id = duties.federation_of_roster(tx, digest)
        membership = federations.access(tx, asker, str(federation_id))
        membership.require(Action.READ)
        return duties.get_roster(tx, federation_id, digest)
