"""What plans may say, and what one would do."""

from datetime import timedelta

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import JsonValue

from app.api.dependencies import Access, CurrentPerson, Now, SettingsDep, TransactionsDep
from app.api.problems import problems
from app.domain.errors import (
    ArtifactPurgedError,
    ForbiddenError,
    InvalidRequestError,
    NotAuthenticatedError,
    NotFoundError,
)
from app.domain.permissions import Action
from app.services import previews
from hansa_core import wire
from hansa_core.plan_schemas import PlanSchema, plan_schema

router = APIRouter(tags=["runs"])


@router.get(
    "/v1/plan-schema",
    response_model=dict[str, JsonValue],
    responses=problems(NotAuthenticatedError) | {304: {"description": "as `If-None-Match` has it"}},
)
def read_plan_schema(request: Request, _person: CurrentPerson) -> Response:
    """Return the JSON Schema (draft 2020-12) of a run's plan, as this hub accepts it.

    Strategies that other packages bring are in it. Every field has a title, a description, and its
    default unless it is required. What it cannot say (fields that need each other) the preview
    tells.
    """
    schema: PlanSchema = plan_schema()
    headers = {"ETag": f'"{schema.digest}"', "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(schema.body, media_type="application/schema+json", headers=headers)


@router.post(
    "/v1/federations/{federation}/runs/preview",
    responses=problems(NotFoundError, ForbiddenError, InvalidRequestError, ArtifactPurgedError),
)
def preview_run(
    body: wire.RunPreviewRequest,
    access: Access,
    transactions: TransactionsDep,
    settings: SettingsDep,
    now: Now,
) -> wire.RunPreview:
    """Say what a run of this plan would do: whom it asks, what it moves, how long it may take.

    Nothing is stored. A plan that is refused here is refused for a run, with the same fields; one
    that passes makes a run, as long as its checkpoint stays.
    """
    access.require(Action.RUN)
    online_for = timedelta(seconds=settings.site_online_seconds)
    with transactions.begin("preview_run") as tx:
        return previews.preview(tx, access.federation_id, body, now=now, online_for=online_for)
