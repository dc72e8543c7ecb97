"""How the deployment is, for administrators."""

from fastapi import APIRouter

from app.api.dependencies import ArtifactsDep, CurrentAdmin, InspectorDep, Now
from app.api.problems import problems
from app.domain.errors import ForbiddenError, NotAuthenticatedError
from hansa_core import wire

router = APIRouter(tags=["operations"])


@router.get("/v1/deployment", responses=problems(NotAuthenticatedError, ForbiddenError))
async def get_deployment(
    admin: CurrentAdmin, inspector: InspectorDep, artifacts: ArtifactsDep, now: Now
) -> wire.Deployment:
    """Return how database, broker, workers and store are, measured now, each within 2 s.

    A part that does not answer is told of and hides no other; but without the database nobody can
    be told who asks, and the answer is 503.
    """
    del admin  # asking is what takes one
    return await inspector.look(artifacts, now=now)
