"""Whether the hub lives, and whether it can work."""

from fastapi import APIRouter
from pydantic import BaseModel
from redis.exceptions import RedisError

from app.api.dependencies import ArtifactsDep, TransactionsDep
from app.api.problems import problems
from app.domain.errors import NotReadyError, StorageFullError, StorageUnavailableError
from app.services import health

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """What a probe reads."""

    status: str
    detail: str | None = None  # what is wrong, although it can work


@router.get("/healthz", response_model_exclude_none=True)
async def is_alive() -> Health:
    """Answer at all: the process lives."""
    return Health(status="ok")


@router.get(
    "/readyz",
    response_model_exclude_none=True,
    responses=problems(NotReadyError, StorageUnavailableError),
)
def is_ready(transactions: TransactionsDep, artifacts: ArtifactsDep) -> Health:
    """Answer 200 only when database, broker and artifact store do.

    A store without room takes no uploads, but sites can work, and their uploads are repeated: that
    is told and no reason to take the hub out of service.
    """
    with transactions.begin("probe_database") as tx:
        health.require_database(tx)
    try:
        transactions.ringer.ping()
    except (RedisError, OSError) as error:
        raise NotReadyError(f"Redis does not answer: {error}") from error
    try:
        artifacts.require_usable()
    except StorageFullError as error:
        return Health(status="storage-full", detail=str(error))
    return Health(status="ok")
