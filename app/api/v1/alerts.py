"""What needs somebody's attention in a federation."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from app.api.dependencies import Access, Now, PageParams, TransactionsDep
from app.api.pagination import page_of
from app.api.problems import problems
from app.domain.errors import (
    ForbiddenError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
)
from app.services import alerts
from hansa_core import wire

router = APIRouter(prefix="/v1/federations/{federation}/alerts", tags=["alerts"])


@router.get(
    "",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError, InvalidRequestError),
)
def list_alerts(
    access: Access,
    transactions: TransactionsDep,
    page: PageParams,
    is_open: Annotated[
        bool | None, Query(alias="open", description="only open ones, or only resolved ones")
    ] = None,
) -> wire.Page[wire.Alert]:
    """Return the federation's alerts, newest first."""
    with transactions.reading() as tx:
        found = alerts.list_all(tx, access, is_open=is_open, before=page.id(), limit=page.fetch)
    return page_of(found, page.limit, lambda alert: alert.id)


@router.post(
    "/{alert_id}/acknowledge",
    responses=problems(NotAuthenticatedError, ForbiddenError, NotFoundError),
)
def acknowledge_alert(
    alert_id: UUID, access: Access, transactions: TransactionsDep, now: Now
) -> wire.Alert:
    """Note that somebody looks after an alert. Again changes nothing.

    An alert about something that happened is resolved by this; one about a condition, when that
    ends. For those who can do something about it: sites need an operator, runs a researcher.
    """
    with transactions.begin("acknowledge_alert", by=access.actor) as tx:
        return alerts.acknowledge(tx, access, alert_id, now=now)
