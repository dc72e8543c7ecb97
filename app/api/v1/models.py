"""Models and their checkpoints."""

from uuid import UUID

from fastapi import APIRouter, Request, Response, status

from app.api import blobs
from app.api.dependencies import (
    Access,
    ArtifactsDep,
    IdempotencyKey,
    Now,
    PageParams,
    TakingsDep,
    TransactionsDep,
)
from app.api.pagination import page_of
from app.api.problems import problems
from app.api.v1.artifacts import DOWNLOAD
from app.domain.errors import (
    AlreadyExistsError,
    ArtifactMissingError,
    ArtifactPurgedError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RangeNotSatisfiableError,
    StorageUnavailableError,
)
from app.domain.permissions import Action
from app.services import audit, checkpoints, idempotency
from hansa_core import wire

router = APIRouter(prefix="/v1/federations/{federation}", tags=["models"])


@router.post(
    "/models",
    status_code=status.HTTP_201_CREATED,
    responses=problems(NotFoundError, ForbiddenError, AlreadyExistsError),
)
def create_model(
    body: wire.ModelCreate,
    access: Access,
    transactions: TransactionsDep,
    key: IdempotencyKey,
    now: Now,
) -> wire.Model:
    """Create an empty model; its first checkpoint fixes its layout."""
    access.require(Action.RUN)
    with transactions.begin("create_model", by=access.actor) as tx:
        return idempotency.once(
            tx,
            key,
            wire.Model,
            lambda: checkpoints.create_model(
                tx, access.federation_id, body, user_id=access.principal.user_id, now=now
            ),
        )


@router.get("/models", responses=problems(NotFoundError, ForbiddenError))
def list_models(
    access: Access, transactions: TransactionsDep, page: PageParams
) -> wire.Page[wire.Model]:
    """List models, newest first."""
    access.require(Action.READ)
    with transactions.begin("list_models") as tx:
        found = checkpoints.list_models(
            tx, access.federation_id, before=page.id(), limit=page.fetch
        )
    return page_of(found, page.limit, lambda model: model.id)


@router.get("/models/{model}", responses=problems(NotFoundError, ForbiddenError))
def get_model(model: str, access: Access, transactions: TransactionsDep) -> wire.Model:
    """Return one model, by name or id."""
    access.require(Action.READ)
    with transactions.begin("get_model") as tx:
        return checkpoints.get_model(tx, access.federation_id, model)


@router.post(
    "/models/{model}/checkpoints",
    status_code=status.HTTP_201_CREATED,
    responses=problems(
        NotFoundError,
        ForbiddenError,
        ArtifactMissingError,
        ArtifactPurgedError,
        InvalidRequestError,
    ),
)
def create_checkpoint(
    model: str,
    body: wire.CheckpointCreate,
    access: Access,
    transactions: TransactionsDep,
    key: IdempotencyKey,
    now: Now,
) -> wire.Checkpoint:
    """Make an uploaded artifact the model's newest checkpoint."""
    access.require(Action.RUN)
    with transactions.begin("create_checkpoint", by=access.actor) as tx:
        return idempotency.once(
            tx,
            key,
            wire.Checkpoint,
            lambda: checkpoints.add_checkpoint(tx, access.federation_id, model, body, now=now),
        )


@router.get("/models/{model}/checkpoints", responses=problems(NotFoundError, ForbiddenError))
def list_checkpoints(
    model: str, access: Access, transactions: TransactionsDep, page: PageParams
) -> wire.Page[wire.Checkpoint]:
    """List a model's checkpoints, newest first."""
    access.require(Action.READ)
    with transactions.begin("list_checkpoints") as tx:
        found = checkpoints.list_checkpoints(
            tx, access.federation_id, model, before=page.id(), limit=page.fetch
        )
    return page_of(found, page.limit, lambda checkpoint: checkpoint.id)


@router.get("/checkpoints/{checkpoint_id}", responses=problems(NotFoundError, ForbiddenError))
def get_checkpoint(
    checkpoint_id: UUID, access: Access, transactions: TransactionsDep
) -> wire.Checkpoint:
    """Return one checkpoint."""
    access.require(Action.READ)
    with transactions.begin("get_checkpoint") as tx:
        return checkpoints.get_checkpoint(tx, access.federation_id, checkpoint_id)


@router.get(
    "/checkpoints/{checkpoint_id}/content",
    response_class=Response,
    responses={
        **problems(
            NotFoundError,
            ForbiddenError,
            ArtifactPurgedError,
            RangeNotSatisfiableError,
            StorageUnavailableError,
        ),
        status.HTTP_200_OK: DOWNLOAD,
        status.HTTP_206_PARTIAL_CONTENT: DOWNLOAD,
    },
)
@router.head("/checkpoints/{checkpoint_id}/content", include_in_schema=False)
def download_checkpoint(
    checkpoint_id: UUID,
    request: Request,
    access: Access,
    artifacts: ArtifactsDep,
    transactions: TransactionsDep,
    takings: TakingsDep,
    now: Now,
) -> Response:
    """Send the checkpoint as a safetensors file; its ETag is its digest."""
    access.require(Action.READ)
    with transactions.begin("find_checkpoint") as tx:
        found = checkpoints.get_checkpoint(tx, access.federation_id, checkpoint_id)
        blob = checkpoints.find_blob(tx, access.federation_id, found.digest)
    name = f"round-{found.round_number}" if found.round_number is not None else "base"
    response = blobs.send(request, artifacts, blob, filename=f"{name}.safetensors")
    if blobs.is_news(request, response, takings, access.principal, now):
        with transactions.begin("note_download", by=access.actor) as tx:
            audit.note_download(
                tx, blob, checkpoint_id=checkpoint_id, part=request.headers.get("range")
            )
    return response
