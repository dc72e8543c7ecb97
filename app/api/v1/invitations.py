"""Invitations for sites."""

from uuid import UUID

from fastapi import APIRouter, status

from app.api.dependencies import (
    Access,
    IdempotencyKey,
    Now,
    PageParams,
    SettingsDep,
    TransactionsDep,
)
from app.api.pagination import page_of
from app.api.problems import problems
from app.domain.errors import (
    ForbiddenError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
    SecretAlreadyShownError,
)
from app.services import invitations
from app.services.idempotency import once_secret
from hansa_core import wire

router = APIRouter(prefix="/v1/federations/{federation}/invitations", tags=["invitations"])


@router.get(
    "",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError, InvalidRequestError),
)
def list_invitations(
    access: Access, transactions: TransactionsDep, page: PageParams
) -> wire.Page[wire.Invitation]:
    """Return the federation's invitations, newest first, without their secrets."""
    with transactions.begin("list_invitations") as tx:
        found = invitations.list_all(tx, access, before=page.id(), limit=page.fetch)
    return page_of(found, page.limit, lambda invitation: invitation.id)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=problems(
        NotAuthenticatedError,
        ForbiddenError,
        NotFoundError,
        InvalidRequestError,
        IdempotencyKeyReusedError,
        SecretAlreadyShownError,
    ),
)
def create_invitation(
    request: wire.InvitationCreate,
    access: Access,
    transactions: TransactionsDep,
    settings: SettingsDep,
    claim: IdempotencyKey,
    now: Now,
) -> wire.NewInvitation:
    """Make an invitation; its secret is in this answer only. For owners and operators."""
    with transactions.begin("create_invitation", by=access.actor) as tx:
        return once_secret(
            tx,
            claim,
            lambda: invitations.create(
                tx, access, request, public_url=settings.public_url, now=now
            ),
        )


@router.delete(
    "/{invitation_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError),
)
def revoke_invitation(
    invitation_id: UUID, access: Access, transactions: TransactionsDep, now: Now
) -> None:
    """Make an invitation unusable. Sites that have used it stay."""
    with transactions.begin("revoke_invitation", by=access.actor) as tx:
        invitations.revoke(tx, access, invitation_id, now=now)
