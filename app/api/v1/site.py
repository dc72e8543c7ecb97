"""What a site does about itself."""

from fastapi import APIRouter

from app.api.dependencies import AnySite, CurrentSite, Now, TransactionsDep
from app.api.problems import problems
from app.domain.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    NotAuthenticatedError,
    SignatureRefusedError,
    SiteNotActiveError,
    SiteRevokedError,
)
from app.services import enrollment
from hansa_core import wire

router = APIRouter(prefix="/v1/site", tags=["enrollment"])


@router.get("", responses=problems(NotAuthenticatedError, SiteNotActiveError, SiteRevokedError))
def get_own_site(site: AnySite, transactions: TransactionsDep) -> wire.SiteView:
    """Tell a site how it stands. The one thing that a pending site may ask."""
    with transactions.begin("get_own_site") as tx:
        return enrollment.get_own(tx, site)


@router.post(
    "/keys",
    responses=problems(
        NotAuthenticatedError,
        SiteNotActiveError,
        SiteRevokedError,
        InvalidRequestError,
        SignatureRefusedError,
        AlreadyExistsError,
    ),
)
def rotate_key(
    request: wire.KeyRotation, site: CurrentSite, transactions: TransactionsDep, now: Now
) -> wire.SiteView:
    """Replace the site's key. Every access token of the site dies with the old one."""
    proven = enrollment.prove_rotation(site, request)
    with transactions.begin("rotate_key", by=site.actor) as tx:
        return enrollment.rotate_key(tx, site, proven, now=now)
