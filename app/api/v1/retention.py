"""What a retention policy would delete. The policy itself is a setting of the federation."""

from datetime import timedelta

from fastapi import APIRouter

from app.api.dependencies import Access, Now, SettingsDep, TransactionsDep
from app.api.problems import problems
from app.domain.errors import ForbiddenError, NotAuthenticatedError, NotFoundError
from app.services import retention
from hansa_core import wire

router = APIRouter(prefix="/v1/federations/{federation}/retention", tags=["federations"])


@router.post("/preview", responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError))
def preview_retention(
    access: Access,
    transactions: TransactionsDep,
    settings: SettingsDep,
    now: Now,
    policy: wire.Retention | None = None,
) -> wire.RetentionPreview:
    """Count what a policy, without a body the one in force, would delete now. Deletes nothing."""
    grace = timedelta(hours=settings.orphan_grace_hours)
    with transactions.reading() as tx:
        return retention.preview(tx, access, policy, now=now, grace=grace)
