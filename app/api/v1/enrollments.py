"""How a site comes in, and how it gets an access token: by proving that it holds its key."""

from uuid import UUID

from fastapi import APIRouter, Response, status

from app.api.dependencies import ClientAddress, Now, SettingsDep, TransactionsDep
from app.api.problems import problems
from app.domain.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    InvitationError,
    NotAuthenticatedError,
    NotFoundError,
    SignatureRefusedError,
    SiteNotActiveError,
    SiteRevokedError,
)
from app.services import enrollment
from hansa_core import wire

router = APIRouter(prefix="/v1", tags=["enrollment"])


@router.post(
    "/enrollments",
    status_code=status.HTTP_201_CREATED,
    responses={
        status.HTTP_200_OK: {"model": wire.SiteView, "description": "Enrolled before."},
        **problems(InvalidRequestError, SignatureRefusedError, InvitationError, AlreadyExistsError),
    },
)
def enroll(
    request: wire.SignedEnrollment,
    address: ClientAddress,
    transactions: TransactionsDep,
    now: Now,
    response: Response,
) -> wire.SiteView:
    """Redeem an invitation. The same key and name again get the same site, with 200."""
    proven = enrollment.prove_enrollment(request)
    with transactions.begin("enroll", by=proven.actor(address)) as tx:
        site, created = enrollment.enroll(tx, proven, now=now)
    if not created:
        response.status_code = status.HTTP_200_OK
    return site


@router.post(
    "/sites/{site_id}/challenges",
    status_code=status.HTTP_201_CREATED,
    responses=problems(NotFoundError),
)
def create_challenge(site_id: UUID, transactions: TransactionsDep, now: Now) -> wire.Challenge:
    """Get a nonce to sign, good once and for a minute."""
    with transactions.begin("create_challenge") as tx:
        return enrollment.create_challenge(tx, site_id, now=now)


@router.post(
    "/sites/{site_id}/tokens",
    status_code=status.HTTP_201_CREATED,
    responses=problems(
        InvalidRequestError,
        NotAuthenticatedError,
        SignatureRefusedError,
        SiteNotActiveError,
        SiteRevokedError,
    ),
)
def issue_site_token(
    site_id: UUID,
    answer: wire.ChallengeAnswer,
    transactions: TransactionsDep,
    settings: SettingsDep,
    now: Now,
) -> wire.SiteToken:
    """Exchange a signed nonce for a short-lived access token.

    A pending site gets one as well, good for `GET /v1/site` alone.
    """
    with transactions.begin("take_challenge") as tx:
        taken = enrollment.take_challenge(tx, site_id, answer.nonce, now=now)
    proven = enrollment.prove_challenge(taken, answer.signature)
    with transactions.begin("issue_site_token") as tx:
        return enrollment.issue_token(tx, proven, now=now, minutes=settings.site_token_minutes)
