"""Metric curves: what a page draws, with no more points than it can show."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query

from app.api.dependencies import Access, TransactionsDep
from app.api.problems import problems
from app.domain.errors import ForbiddenError, InvalidRequestError, NotFoundError
from app.domain.permissions import Action
from app.services import curves
from app.services.curves import SitesWanted
from hansa_core import wire

MOST_RUNS = 20
MOST_NAMES = 64
MOST_SITES = 1000
MetricName = Annotated[str, Query(min_length=1, max_length=64)]

router = APIRouter(prefix="/v1/federations/{federation}/curves", tags=["runs"])


@router.get("", responses=problems(NotFoundError, ForbiddenError, InvalidRequestError))
def read_curves(
    access: Access,
    transactions: TransactionsDep,
    run: Annotated[
        list[UUID],
        Query(min_length=1, max_length=MOST_RUNS, description="repeat it to compare runs"),
    ],
    kind: Annotated[Literal["train", "eval"] | None, Query(description="None: both")] = None,
    name: Annotated[
        list[MetricName] | None,
        Query(max_length=MOST_NAMES, description="metrics; repeat it for several; None: all"),
    ] = None,
    points: Annotated[int, Query(ge=2, le=2000, description="most rounds of a curve")] = 200,
    *,
    sites: Annotated[bool, Query(description="each site's own numbers too")] = False,
    most_sites: Annotated[
        int, Query(ge=0, le=MOST_SITES, description="of a run, those with the most numbers")
    ] = 60,
    site: Annotated[
        list[UUID] | None,
        Query(max_length=MOST_NAMES, description="sites that are never left out; repeat it"),
    ] = None,
) -> wire.CurveSet:
    """Return metric curves, thinned out so that their shape stays: first, last and extremes do."""
    access.require(Action.READ)
    with transactions.begin("read_curves") as tx:
        return curves.read(
            tx,
            access.federation_id,
            run,
            kind=kind,
            names=name or (),
            points=points,
            sites=SitesWanted(most=most_sites, always=frozenset(site or ())) if sites else None,
        )
