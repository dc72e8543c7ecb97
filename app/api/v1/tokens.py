"""A person's own API tokens."""

from uuid import UUID

from fastapi import APIRouter, status

from app.api.dependencies import (
    CurrentPerson,
    IdempotencyKey,
    Now,
    PageParams,
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
from app.services import sessions
from app.services.idempotency import once_secret
from hansa_core import wire

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])


@router.get("", responses=problems(NotAuthenticatedError, ForbiddenError, InvalidRequestError))
def list_tokens(
    principal: CurrentPerson, transactions: TransactionsDep, page: PageParams
) -> wire.Page[wire.ApiToken]:
    """Return one's tokens, newest first, without the secrets."""
    with transactions.begin("list_tokens") as tx:
        found = sessions.list_tokens(tx, principal, before=page.id(), limit=page.fetch)
    return page_of(found, page.limit, lambda token: token.id)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=problems(
        NotAuthenticatedError,
        ForbiddenError,
        InvalidRequestError,
        IdempotencyKeyReusedError,
        SecretAlreadyShownError,
    ),
)
def create_token(
    request: wire.ApiTokenCreate,
    principal: CurrentPerson,
    transactions: TransactionsDep,
    claim: IdempotencyKey,
    now: Now,
) -> wire.NewApiToken:
    """Make a token; its secret is in this answer only."""
    with transactions.begin("create_token", by=principal.actor) as tx:
        return once_secret(
            tx, claim, lambda: sessions.create_token(tx, principal, request, now=now)
        )


@router.delete(
    "/{token_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError),
)
def revoke_token(
    token_id: UUID, principal: CurrentPerson, transactions: TransactionsDep, now: Now
) -> None:
    """Revoke one of one's tokens, at once."""
    with transactions.begin("revoke_token", by=principal.actor) as tx:
        sessions.revoke_token(tx, principal, token_id, now=now)
