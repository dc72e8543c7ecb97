"""Whether the hub lives, and whether it can work."""

from fastapi import APIRouter
from pydantic import BaseModel
from redis.exceptions import RedisError

from app.api.dependencies import ArtifactsDep, TransactionsDep
from app.api.problems import problems
from app.domain.errors import NotReadyError
from app.services import health
from app.storage.artifacts import require_reachable

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """What a probe reads."""

    status: str


@router.get("/healthz")
async def is_alive() -> Health:
    """Answer at all: the process lives."""
    return Health(status="ok")


@router.get("/readyz", responses=problems(NotReadyError))
def is_ready(transactions: TransactionsDep, artifacts: ArtifactsDep) -> Health:
    """Answer ok only when database, broker and artifact store do."""
    with transactions.begin("probe_database") as tx:
        health.require_database(tx)
    try:
        transactions.ringer.ping()
    except (RedisError, OSError) as error:
        raise NotReadyError(f"Redis does not answer: {error}") from error
    require_reachable(artifacts)
    return Health(status="ok")
