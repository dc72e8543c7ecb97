"""Every error leaves as application/problem+json (RFC 9457), by one table.

A route declares what it raises with `responses=problems(...)`; handlers here do the rest.
"""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.domain import errors
from hansa_core import wire
from hansa_core.plans import problems_of

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = {
    HTTPStatus.SERVICE_UNAVAILABLE: 2,
    HTTPStatus.TOO_MANY_REQUESTS: 5,
    HTTPStatus.INSUFFICIENT_STORAGE: 30,  # somebody has to make room
}
SCHEMA = {"$ref": "#/components/schemas/Problem"}

_VALIDATION_ERROR = "HTTPValidationError"  # what FastAPI believes to be its answer to bad input

_STATUS: dict[type[errors.DomainError], HTTPStatus] = {
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.NotAuthenticatedError: HTTPStatus.UNAUTHORIZED,
    errors.ForbiddenError: HTTPStatus.FORBIDDEN,
    errors.ClientHeaderMissingError: HTTPStatus.FORBIDDEN,
    errors.InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.AlreadyExistsError: HTTPStatus.CONFLICT,
    errors.IllegalTransitionError: HTTPStatus.CONFLICT,
    errors.InvitationError: HTTPStatus.FORBIDDEN,
    errors.SiteNotActiveError: HTTPStatus.FORBIDDEN,
    errors.SiteRevokedError: HTTPStatus.FORBIDDEN,
    errors.SignatureRefusedError: HTTPStatus.FORBIDDEN,
    errors.TaskClosedError: HTTPStatus.CONFLICT,
    errors.LeaseLostError: HTTPStatus.CONFLICT,
    errors.UpdateConflictError: HTTPStatus.CONFLICT,
    errors.UpdateRefusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnusableUpdatesError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.IdempotencyKeyReusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.SecretAlreadyShownError: HTTPStatus.CONFLICT,
    errors.TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.RangeNotSatisfiableError: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    errors.DigestMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ChunkDamagedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UploadIncompleteError: HTTPStatus.CONFLICT,
    errors.TooManyUploadsError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.ArtifactMissingError: HTTPStatus.NOT_FOUND,
    errors.ArtifactPurgedError: HTTPStatus.GONE,
    errors.StorageUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.StorageFullError: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
}


def problems(*kinds: type[errors.DomainError]) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI responses for the errors that a route may answer with."""
    by_status: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        status = _STATUS[kind]
        seen = by_status.get(status.value)
        slugs = f"{seen['description']}, `{kind.slug}`" if seen else f"`{kind.slug}`"
        by_status[status.value] = {
            "description": slugs,
            "content": {MEDIA_TYPE: {"schema": SCHEMA}},
        }
    return by_status


def install(app: FastAPI) -> None:
    """Make every failure of `app` answer with a problem."""
    app.add_exception_handler(errors.DomainError, _domain_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(ValidationError, _unexpected)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _client_gone)
    app.add_exception_handler(DataError, _not_storable)
    app.add_exception_handler(OperationalError, _database_away)
    app.add_exception_handler(PoolTimeoutError, _database_away)
    app.add_exception_handler(Exception, _unexpected)
    app.openapi = partial(_describe, app, app.openapi)


def _describe(app: FastAPI, generate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the API's description with what FastAPI cannot know: how our errors look."""
    if app.openapi_schema is None:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        _, described = models_json_schema(
            [(wire.Problem, "serialization")], ref_template="#/components/schemas/{model}"
        )
        schemas.update(described["$defs"])
        wrong_fields = problems(errors.InvalidRequestError)[HTTPStatus.UNPROCESSABLE_ENTITY.value]
        for operations in document["paths"].values():
            for operation in operations.values():
                responses = operation["responses"]
                generated = responses.get(str(HTTPStatus.UNPROCESSABLE_ENTITY.value), {})
                if _VALIDATION_ERROR in str(generated):
                    generated.update(wrong_fields)
        for name in (_VALIDATION_ERROR, "ValidationError"):  # FastAPI's own: never answered
            schemas.pop(name, None)
    assert app.openapi_schema is not None
    return app.openapi_schema


def answer(
    status: HTTPStatus,
    slug: str,
    title: str,
    detail: str,
    fields: list[wire.FieldError] | None = None,
) -> JSONResponse:
    """Return one problem as a response."""
    problem = wire.Problem(
        type=f"urn:hansa:problem:{slug}",
        title=title,
        status=status.value,
        detail=detail,
        slug=slug,
        errors=fields or [],
    )
    headers: dict[str, str] = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status in RETRY_AFTER_SECONDS:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS[status])
    return JSONResponse(
        problem.model_dump(mode="json"), status.value, headers, media_type=MEDIA_TYPE
    )


async def _domain_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.DomainError)
    fields = [wire.FieldError(path=field.path, message=field.message) for field in error.fields]
    return answer(_STATUS[type(error)], error.slug, error.title, str(error), fields)


async def _invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [
        wire.FieldError(path=path.removeprefix("body."), message=message)
        for path, message in problems_of(error)
    ]
    kind = errors.InvalidRequestError
    detail = "; ".join(f"{field.path}: {field.message}" for field in found[:3])
    if len(found) > 3:  # noqa: PLR2004 -- the rest is in `errors`
        detail += f"; and {len(found) - 3} more"
    return answer(_STATUS[kind], kind.slug, kind.title, detail, found)


async def _http_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        slug, title = errors.TooLargeError.slug, errors.TooLargeError.title
    else:
        slug, title = status.phrase.lower().replace(" ", "-"), status.phrase
    response = answer(status, slug, title, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _client_gone(request: Request, _error: Exception) -> Response:
    log.info("client_disconnected", path=request.url.path)
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # nobody reads it


async def _not_storable(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DataError)
    kind = errors.InvalidRequestError
    reason = str(error.orig).splitlines()[0]  # without the row: it may hold what is not the asker's
    return answer(_STATUS[kind], kind.slug, kind.title, f"a value cannot be stored: {reason}")


async def _database_away(_request: Request, error: Exception) -> JSONResponse:
    log.warning("database_unavailable", error=str(error).splitlines()[0])
    kind = errors.NotReadyError
    return answer(_STATUS[kind], kind.slug, kind.title, "the database does not answer; try again")


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("request_crashed", path=request.url.path, exc_info=error)
    return answer(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal-error",
        "A defect in the hub",
        "the hub hit an unexpected error and logged it; nothing was changed",
    )
