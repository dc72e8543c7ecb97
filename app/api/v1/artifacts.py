"""Blobs of a federation: upload a model's tensors, download any artifact."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response, status

from app.api import blobs
from app.api.dependencies import (
    Access,
    ArtifactsDep,
    Now,
    SettingsDep,
    TakingsDep,
    TransactionsDep,
)
from app.api.problems import problems
from app.domain.errors import (
    ArtifactMissingError,
    ArtifactPurgedError,
    DigestMismatchError,
    ForbiddenError,
    NotFoundError,
    RangeNotSatisfiableError,
    StorageFullError,
    StorageUnavailableError,
    TooLargeError,
    UpdateRefusedError,
)
from app.domain.permissions import Action
from app.services import audit, checkpoints
from app.services.upload_terms import Terms
from hansa_core import wire

router = APIRouter(prefix="/v1/federations/{federation}/artifacts", tags=["artifacts"])

PartName = Annotated[
    str | None, Query(alias="part", max_length=64, description="a part of the update by its name")
]
DigestPath = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the bytes")]

UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
DOWNLOAD = {
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    "description": "The bytes, or the range of them that was asked for.",
}


@router.put(
    "/{digest}",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=UPLOAD_BODY,
    responses=problems(
        NotFoundError,
        ForbiddenError,
        TooLargeError,
        UpdateRefusedError,
        DigestMismatchError,
        StorageUnavailableError,
        StorageFullError,
    ),
)
async def upload_artifact(
    digest: DigestPath,
    request: Request,
    response: Response,
    access: Access,
    artifacts: ArtifactsDep,
    transactions: TransactionsDep,
    settings: SettingsDep,
) -> wire.BlobReceipt:
    """Store a safetensors file under its digest. Repeating it answers 200."""
    access.require(Action.RUN)
    blob = await blobs.receive(
        request,
        artifacts,
        access.federation_id,
        digest,
        Terms(settings.max_artifact_bytes),
    )
    receipt, created = await blobs.record(
        transactions, artifacts, access.federation_id, blob, by=access.actor
    )
    if not created:
        response.status_code = status.HTTP_200_OK
    return receipt


@router.get(
    "/{digest}",
    response_class=Response,
    responses={
        **problems(
            NotFoundError,
            ArtifactMissingError,
            ArtifactPurgedError,
            RangeNotSatisfiableError,
            StorageUnavailableError,
        ),
        status.HTTP_200_OK: DOWNLOAD,
        status.HTTP_206_PARTIAL_CONTENT: DOWNLOAD,
    },
)
@router.head("/{digest}", include_in_schema=False)
def download_artifact(
    digest: DigestPath,
    request: Request,
    access: Access,
    artifacts: ArtifactsDep,
    transactions: TransactionsDep,
    takings: TakingsDep,
    now: Now,
) -> Response:
    """Send the artifact; Range and If-None-Match are honoured."""
    access.require(Action.READ)
    with transactions.begin("find_artifact") as tx:
        blob = checkpoints.find_blob(tx, access.federation_id, digest)
    response = blobs.send(request, artifacts, blob, filename=f"{digest[:16]}.safetensors")
    if blobs.is_news(request, response, takings, access.principal, now):
        with transactions.begin("note_download", by=access.actor) as tx:
            audit.note_download(tx, blob, part=request.headers.get("range"))
    return response
