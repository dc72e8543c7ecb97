"""Uploads in chunks: of a task's update by its site, of a model's tensors by a person.

Both answer alike; they differ in who asks and in what the tensors have to be. docs/transfers.md.
"""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Path, Request, Response, status

from app.api import blobs, chunks
from app.api.dependencies import (
    Access,
    ArtifactsDep,
    CurrentSite,
    DeskDep,
    Membership,
    SettingsDep,
    SitePrincipal,
    TransactionsDep,
)
from app.api.grants import SendingAccess, SendingSite
from app.api.problems import problems
from app.api.v1.artifacts import UPLOAD_BODY, DigestPath, PartName
from app.domain.errors import (
    ChunkDamagedError,
    DigestMismatchError,
    ForbiddenError,
    InvalidRequestError,
    LeaseLostError,
    NotAuthenticatedError,
    NotFoundError,
    SiteNotActiveError,
    SiteRevokedError,
    StorageFullError,
    StorageUnavailableError,
    TaskClosedError,
    TooLargeError,
    TooManyUploadsError,
    UpdateRefusedError,
    UploadIncompleteError,
)
from app.domain.permissions import Action
from app.services import tasks
from app.services.transactions import Transactions
from app.services.upload_terms import Terms
from app.settings import Settings
from app.storage.uploads import UploadKey
from hansa_core import wire

of_tasks = APIRouter(
    prefix="/v1/tasks/{task_id}/uploads/{digest}",
    tags=["tasks"],
    responses=problems(NotAuthenticatedError, SiteNotActiveError, SiteRevokedError),
)
of_federations = APIRouter(
    prefix="/v1/federations/{federation}/uploads/{digest}", tags=["artifacts"]
)

LeaseToken = Annotated[UUID, Header(alias="X-Hansa-Lease")]
ChunkIndex = Annotated[int, Path(ge=0, le=2**31, description="from 0")]

STORE = (StorageUnavailableError, StorageFullError)
HOLDING = (NotFoundError, TaskClosedError, LeaseLostError, UpdateRefusedError)
OPENING = (TooLargeError, TooManyUploadsError, *STORE)
SENDING = (InvalidRequestError, ChunkDamagedError, UploadIncompleteError, *STORE)
COMPLETING = (UploadIncompleteError, DigestMismatchError, *STORE)


@of_tasks.put("", responses=problems(*HOLDING, *OPENING))
async def open_update_upload(
    task_id: UUID,
    digest: DigestPath,
    body: wire.UploadOpen,
    site: CurrentSite,
    desk: DeskDep,
    transactions: TransactionsDep,
    settings: SettingsDep,
    lease_token: LeaseToken,
    part: PartName = None,
) -> wire.Upload:
    """Begin to upload the update's bytes, or ask which chunks the hub has."""
    terms = await _terms_of_task(transactions, settings, site, task_id, lease_token, part)
    return await desk.open(_key_of_task(site, task_id, digest), body, terms, lease_token)


@of_tasks.put(
    "/chunks/{index}",
    status_code=status.HTTP_204_NO_CONTENT,
    openapi_extra=UPLOAD_BODY,
    responses=problems(*HOLDING, *SENDING),
)
async def upload_update_chunk(
    task_id: UUID,
    digest: DigestPath,
    index: ChunkIndex,
    request: Request,
    site: SendingSite,
    desk: DeskDep,
    transactions: TransactionsDep,
    settings: SettingsDep,
    lease_token: LeaseToken,
    part: PartName = None,
) -> None:
    """Store one chunk; its Content-Digest is checked. One that is there stays as it is."""
    key = _key_of_task(site, task_id, digest)

    async def terms() -> Terms:
        known = desk.granted(key, lease_token)
        if known is not None:
            return known
        return await _terms_of_task(transactions, settings, site, task_id, lease_token, part)

    await chunks.put_chunk(request, desk, key, index, terms, lease_token)


@of_tasks.post(
    "/complete", status_code=status.HTTP_201_CREATED, responses=problems(*HOLDING, *COMPLETING)
)
async def complete_update_upload(
    task_id: UUID,
    digest: DigestPath,
    response: Response,
    site: CurrentSite,
    desk: DeskDep,
    artifacts: ArtifactsDep,
    transactions: TransactionsDep,
    settings: SettingsDep,
    lease_token: LeaseToken,
    part: PartName = None,
) -> wire.BlobReceipt:
    """Check the whole and store it under its digest. Repeating it gives the same receipt."""
    terms = await _terms_of_task(transactions, settings, site, task_id, lease_token, part)
    receipt, created = await desk.complete(
        _key_of_task(site, task_id, digest),
        terms,
        lambda blob: blobs.record(transactions, artifacts, site.federation_id, blob),
    )
    if not created:
        response.status_code = status.HTTP_200_OK
    return receipt


@of_federations.put("", responses=problems(NotFoundError, ForbiddenError, *OPENING))
async def open_artifact_upload(
    digest: DigestPath,
    body: wire.UploadOpen,
    access: Access,
    desk: DeskDep,
    settings: SettingsDep,
) -> wire.Upload:
    """Begin to upload a safetensors file, or ask which chunks the hub has."""
    access.require(Action.RUN)
    return await desk.open(_key_of_person(access, digest), body, _any_tensors(settings))


@of_federations.put(
    "/chunks/{index}",
    status_code=status.HTTP_204_NO_CONTENT,
    openapi_extra=UPLOAD_BODY,
    responses=problems(NotFoundError, ForbiddenError, UpdateRefusedError, *SENDING),
)
async def upload_artifact_chunk(
    digest: DigestPath,
    index: ChunkIndex,
    request: Request,
    access: SendingAccess,
    desk: DeskDep,
    settings: SettingsDep,
) -> None:
    """Store one chunk; its Content-Digest is checked. One that is there stays as it is."""
    access.require(Action.RUN)

    async def terms() -> Terms:
        return _any_tensors(settings)

    await chunks.put_chunk(request, desk, _key_of_person(access, digest), index, terms)


@of_federations.post(
    "/complete",
    status_code=status.HTTP_201_CREATED,
    responses=problems(NotFoundError, ForbiddenError, UpdateRefusedError, *COMPLETING),
)
async def complete_artifact_upload(
    digest: DigestPath,
    response: Response,
    access: Access,
    desk: DeskDep,
    artifacts: ArtifactsDep,
    transactions: TransactionsDep,
    settings: SettingsDep,
) -> wire.BlobReceipt:
    """Check the whole and store it under its digest. Repeating it gives the same receipt."""
    access.require(Action.RUN)
    receipt, created = await desk.complete(
        _key_of_person(access, digest),
        _any_tensors(settings),
        lambda blob: blobs.record(
            transactions, artifacts, access.federation_id, blob, by=access.actor
        ),
    )
    if not created:
        response.status_code = status.HTTP_200_OK
    return receipt


async def _terms_of_task(
    transactions: Transactions,
    settings: Settings,
    site: SitePrincipal,
    task_id: UUID,
    lease_token: UUID,
    part: str | None,
) -> Terms:
    """Return what the task takes, or raise why this site may not upload for it."""
    ticket = await transactions.run(
        "open_upload",
        lambda tx: tasks.open_upload(tx, task_id, site.id, lease_token=lease_token, part=part),
    )
    return Terms(settings.max_artifact_bytes, ticket.layout, ticket.codec, ticket.encoding)


def _any_tensors(settings: Settings) -> Terms:
    return Terms(settings.max_artifact_bytes)


def _key_of_task(site: SitePrincipal, task_id: UUID, digest: str) -> UploadKey:
    return UploadKey(site.federation_id, f"site-{site.id.hex}", task_id.hex, digest)


def _key_of_person(access: Membership, digest: str) -> UploadKey:
    return UploadKey(access.federation_id, f"user-{access.principal.user_id.hex}", "", digest)
