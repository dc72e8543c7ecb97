"""Routes of secure runs: what sites owe the protocol, and the rosters that they check."""

import asyncio
from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response, status

from app.api.dependencies import (
    ArtifactsDep,
    Asking,
    BellDep,
    CurrentSite,
    Now,
    SettingsDep,
    TransactionsDep,
)
from app.api.problems import problems
from app.domain.errors import (
    ArtifactMissingError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
    SignatureRefusedError,
    SiteNotActiveError,
    SiteRevokedError,
    StorageUnavailableError,
    TaskClosedError,
    UpdateConflictError,
)
from app.services import sites
from app.services.secure import duties
from app.services.transactions import Tx
from hansa_core import wire

router = APIRouter(
    prefix="/v1/duties",
    tags=["duties"],
    responses=problems(NotAuthenticatedError, SiteNotActiveError, SiteRevokedError),
)


@router.post("/claim", responses=problems(ArtifactMissingError, StorageUnavailableError))
async def claim_duties(
    site: CurrentSite,
    transactions: TransactionsDep,
    artifacts: ArtifactsDep,
    bell: BellDep,
    settings: SettingsDep,
    wait_seconds: Annotated[float, Query(ge=0)] = 0,
) -> wire.Duties:
    """Return what the site owes to secure runs, waiting for something. Repeating gives it again."""
    seconds = min(wait_seconds, settings.claim_wait_seconds)
    online_for = timedelta(seconds=settings.site_online_seconds)

    def look(tx: Tx) -> duties.Waiting:
        now = transactions.clock.now()
        if sites.seen(tx, site.id, now, "", None, online_for=online_for):
            sites.wake_runs(tx, site.federation_id)
        return duties.waiting(tx, site.id)

    found = duties.Waiting((), expected=False)
    async for _ in bell.rings(site.id, seconds=seconds):
        found = await transactions.run("claim_duties", look)
        if found.items:
            break
    return await asyncio.to_thread(duties.read, found, artifacts)


@router.put(
    "/{duty_id}",
    status_code=status.HTTP_201_CREATED,
    responses=problems(
        NotFoundError,
        TaskClosedError,
        UpdateConflictError,
        InvalidRequestError,
        SignatureRefusedError,
    ),
)
async def answer_duty(
    duty_id: UUID,
    body: wire.DutyAnswer,
    asking: Asking,
    transactions: TransactionsDep,
    now: Now,
    response: Response,
) -> wire.DutyReceipt:
    """Do a duty. The same answer again answers 200."""
    receipt, created = await transactions.run(
        "answer_duty",
        lambda tx: duties.answer(tx, duty_id, asking.identify(tx), body, now=now),
    )
    if not created:
        response.status_code = status.HTTP_200_OK
    return receipt


@router.post(
    "/{duty_id}/refusal",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(NotFoundError, TaskClosedError),
)
async def refuse_duty(
    duty_id: UUID,
    body: wire.DutyRefusal,
    asking: Asking,
    transactions: TransactionsDep,
    now: Now,
) -> None:
    """Say why the site's own checks forbid a duty; people are told at once."""
    await transactions.run(
        "refuse_duty",
        lambda tx: duties.refuse(tx, duty_id, asking.identify(tx), body, now=now),
    )
