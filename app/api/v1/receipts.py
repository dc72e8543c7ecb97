"""A run's receipts, and which of them nothing may be deleted for."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, status

from app.api.dependencies import Access, Now, PageParams, TransactionsDep
from app.api.pagination import page_of
from app.api.problems import problems
from app.domain.errors import ForbiddenError, NotFoundError
from app.domain.permissions import Action
from app.services import receipts
from hansa_core import wire

router = APIRouter(prefix="/v1/federations/{federation}/runs/{run_id}/receipts", tags=["receipts"])

DigestPath = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the body")]


@router.get("", responses=problems(NotFoundError, ForbiddenError))
def list_receipts(
    run_id: UUID, access: Access, transactions: TransactionsDep, page: PageParams
) -> wire.Page[wire.Receipt]:
    """List a run's receipts, ascending: exactly the signed bytes, with what verifies them."""
    access.require(Action.READ)
    with transactions.begin("list_receipts") as tx:
        found = receipts.list_receipts(
            tx, access.federation_id, run_id, after=page.number() or 0, limit=page.fetch
        )
    return page_of(found, page.limit, lambda receipt: receipt.number)


@router.put("/{digest}/hold", responses=problems(NotFoundError, ForbiddenError))
def hold_receipt(
    run_id: UUID,
    digest: DigestPath,
    body: wire.HoldRequest,
    access: Access,
    transactions: TransactionsDep,
    now: Now,
) -> wire.Receipt:
    """Keep every artifact that the receipt names, whatever the retention policy says."""
    access.require(Action.HOLD)
    with transactions.begin("hold_receipt", by=access.actor) as tx:
        return receipts.hold(
            tx,
            access.federation_id,
            run_id,
            digest,
            body,
            user_id=access.principal.user_id,
            now=now,
        )


@router.delete(
    "/{digest}/hold",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotFoundError, ForbiddenError),
)
def release_receipt(
    run_id: UUID, digest: DigestPath, access: Access, transactions: TransactionsDep
) -> None:
    """Let the retention policy decide again. Repeating it changes nothing."""
    access.require(Action.HOLD)
    with transactions.begin("release_receipt", by=access.actor) as tx:
        receipts.release(tx, access.federation_id, run_id, digest)
