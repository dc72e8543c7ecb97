"""The events of a federation, from which clients live."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from app.api.dependencies import Access, BellDep, SettingsDep, TransactionsDep
from app.api.problems import problems
from app.domain.errors import ForbiddenError, NotFoundError
from app.domain.permissions import Action
from app.services import reports
from hansa_core import wire

router = APIRouter(prefix="/v1/federations/{federation}/events", tags=["events"])

MAX_LIMIT = 500


@router.get("", responses=problems(NotFoundError, ForbiddenError))
async def list_events(
    access: Access,
    transactions: TransactionsDep,
    bell: BellDep,
    settings: SettingsDep,
    after: Annotated[int, Query(ge=0, description="the last id seen")] = 0,
    run_id: UUID | None = None,
    wait_seconds: Annotated[float, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
) -> wire.Page[wire.Event]:
    """List events after an id, oldest first; with `wait_seconds`, wait for the first one.

    Ids are in commit order: who resumes by the last id misses nothing.
    """
    access.require(Action.READ)
    seconds = min(wait_seconds, settings.claim_wait_seconds)
    async for _ in bell.rings(access.federation_id, seconds=seconds):
        found = await transactions.run(
            "list_events",
            lambda tx: reports.list_events(
                tx, access.federation_id, after=after, run_id=run_id, limit=limit
            ),
        )
        if found:
            return wire.Page(items=found)
    return wire.Page(items=list[wire.Event]())
