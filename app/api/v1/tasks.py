"""Routes a data site polls. Thin: parse, call one service, answer."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response, status

from app.api import blobs
from app.api.dependencies import (
    ArtifactsDep,
    Asking,
    BellDep,
    CurrentSite,
    Now,
    SettingsDep,
    TransactionsDep,
)
from app.api.problems import problems
from app.api.v1.artifacts import DOWNLOAD, UPLOAD_BODY, DigestPath, PartName
from app.domain.errors import (
    ArtifactMissingError,
    DigestMismatchError,
    DomainError,
    InvalidRequestError,
    LeaseLostError,
    NotAuthenticatedError,
    NotFoundError,
    RangeNotSatisfiableError,
    SignatureRefusedError,
    SiteNotActiveError,
    SiteRevokedError,
    StorageFullError,
    StorageUnavailableError,
    TaskClosedError,
    TooLargeError,
    UpdateConflictError,
    UpdateRefusedError,
)
from app.services import answers, tasks
from app.services.secure import duties
from app.services.transactions import Tx
from app.services.upload_terms import Terms
from hansa_core import wire

router = APIRouter(
    prefix="/v1/tasks",
    tags=["tasks"],
    responses=problems(NotAuthenticatedError, SiteNotActiveError, SiteRevokedError),
)

DUTIES = "X-Hansa-Duties"
RETRY_AFTER = "1"  # seconds; a site that found nothing asks again, with its own jitter

HOLDING = problems(NotFoundError, TaskClosedError, LeaseLostError)
ANSWERING = problems(
    NotFoundError,
    TaskClosedError,
    LeaseLostError,
    UpdateConflictError,
    InvalidRequestError,
    SignatureRefusedError,
    ArtifactMissingError,
    UpdateRefusedError,
)


@router.post(
    "/claim",
    response_model=wire.Task,
    responses={status.HTTP_204_NO_CONTENT: {"description": "Nothing to do yet."}},
)
async def claim_task(
    body: wire.ClaimRequest,
    response: Response,
    site: CurrentSite,
    transactions: TransactionsDep,
    bell: BellDep,
    settings: SettingsDep,
    wait_seconds: Annotated[float, Query(ge=0)] = 0,
) -> wire.Task | Response:
    """Lease the site's oldest unfinished task, waiting for one. Repeating renews the lease.

    A waiting claim costs no thread and no database connection: it sleeps on the doorbell and
    looks into the database only before the wait and when rung. The header X-Hansa-Duties says how
    many duties of secure runs wait for the site; a waiting claim ends when there are any.
    """
    lease_for = timedelta(seconds=settings.task_lease_seconds)
    online_for = timedelta(seconds=settings.site_online_seconds)
    seconds = min(wait_seconds, settings.claim_wait_seconds)

    def look(tx: Tx) -> tuple[wire.Task | None, int]:
        task = tasks.claim(
            tx,
            site,
            body,
            now=transactions.clock.now(),
            lease_for=lease_for,
            online_for=online_for,
        )
        return task, duties.count(tx, site.id)

    waiting = 0
    async for _ in bell.rings(site.id, seconds=seconds):
        task, waiting = await transactions.run("claim_task", look)
        if task is not None:
            response.headers[DUTIES] = str(waiting)
            return task
        if waiting:
            break
    headers = {"Retry-After": RETRY_AFTER, DUTIES: str(waiting)}
    return Response(status_code=status.HTTP_204_NO_CONTENT, headers=headers)


@router.post("/{task_id}/heartbeat", responses=problems(NotFoundError, LeaseLostError))
async def renew_lease(
    task_id: UUID,
    body: wire.Heartbeat,
    asking: Asking,
    transactions: TransactionsDep,
    settings: SettingsDep,
    now: Now,
) -> wire.HeartbeatReply:
    """Renew the lease and tell the progress; the answer may ask the site to stop."""
    lease_for = timedelta(seconds=settings.task_lease_seconds)
    online_for = timedelta(seconds=settings.site_online_seconds)

    def renew(tx: Tx) -> wire.HeartbeatReply:
        site = asking.identify(tx)
        return tasks.renew(
            tx, task_id, site.id, body, now=now, lease_for=lease_for, online_for=online_for
        )

    return await transactions.run("renew_lease", renew)


@router.get(
    "/{task_id}/checkpoint",
    response_class=Response,
    responses={
        **problems(NotFoundError, RangeNotSatisfiableError, StorageUnavailableError),
        status.HTTP_200_OK: DOWNLOAD,
        status.HTTP_206_PARTIAL_CONTENT: DOWNLOAD,
    },
)
def download_task_checkpoint(
    task_id: UUID,
    request: Request,
    asking: Asking,
    artifacts: ArtifactsDep,
    transactions: TransactionsDep,
) -> Response:
    """Send the global model that the task starts from."""
    with transactions.reading() as tx:
        blob = tasks.find_checkpoint_blob(tx, task_id, asking.identify(tx).id)
    return blobs.send(request, artifacts, blob, filename=f"{blob.digest[:16]}.safetensors")


@router.get(
    "/{task_id}/slots/{name}",
    response_class=Response,
    responses={
        **problems(NotFoundError, RangeNotSatisfiableError, StorageUnavailableError),
        status.HTTP_200_OK: DOWNLOAD,
        status.HTTP_206_PARTIAL_CONTENT: DOWNLOAD,
    },
)
def download_task_slot(
    task_id: UUID,
    name: str,
    request: Request,
    asking: Asking,
    artifacts: ArtifactsDep,
    transactions: TransactionsDep,
) -> Response:
    """Send one of the server's tensor files that the task's local work needs."""
    with transactions.reading() as tx:
        blob = tasks.find_slot_blob(tx, task_id, asking.identify(tx).id, name)
    return blobs.send(request, artifacts, blob, filename=f"{blob.digest[:16]}.safetensors")


@router.put(
    "/{task_id}/artifacts/{digest}",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=UPLOAD_BODY,
    responses=problems(
        NotFoundError,
        TaskClosedError,
        LeaseLostError,
        TooLargeError,
        UpdateRefusedError,
        DigestMismatchError,
        StorageUnavailableError,
        StorageFullError,
    ),
)
async def upload_update(
    task_id: UUID,
    digest: DigestPath,
    request: Request,
    response: Response,
    asking: Asking,
    artifacts: ArtifactsDep,
    transactions: TransactionsDep,
    settings: SettingsDep,
    lease_token: Annotated[UUID, Header(alias="X-Hansa-Lease")],
    part: PartName = None,
) -> wire.BlobReceipt:
    """Store the update's bytes; wrong tensors, NaN and infinity are refused as they arrive."""

    def open_upload(tx: Tx) -> tasks.UploadTicket:
        site = asking.identify(tx)
        return tasks.open_upload(tx, task_id, site.id, lease_token=lease_token, part=part)

    try:
        ticket = await transactions.run("open_upload", open_upload)
    except DomainError:
        await blobs.drain(request)
        raise
    blob = await blobs.receive(
        request,
        artifacts,
        ticket.federation_id,
        digest,
        Terms(settings.max_artifact_bytes, ticket.layout, ticket.codec, ticket.encoding),
    )
    receipt, created = await blobs.record(transactions, artifacts, ticket.federation_id, blob)
    if not created:
        response.status_code = status.HTTP_200_OK
    return receipt


@router.put("/{task_id}/update", status_code=status.HTTP_201_CREATED, responses=ANSWERING)
async def submit_update(
    task_id: UUID,
    body: wire.SignedUpdate,
    asking: Asking,
    transactions: TransactionsDep,
    now: Now,
    response: Response,
) -> wire.TaskReceipt:
    """Record that an uploaded blob is this task's update. The same manifest again answers 200."""
    receipt, created = await transactions.run(
        "submit_update",
        lambda tx: answers.submit_update(tx, task_id, asking.identify(tx), body, now=now),
    )
    if not created:
        response.status_code = status.HTTP_200_OK
    return receipt


@router.put("/{task_id}/evaluation", status_code=status.HTTP_201_CREATED, responses=ANSWERING)
async def submit_evaluation(
    task_id: UUID,
    body: wire.SignedEvaluation,
    asking: Asking,
    transactions: TransactionsDep,
    now: Now,
    response: Response,
) -> wire.TaskReceipt:
    """Record the metrics of an evaluation task. The same report again answers 200."""
    receipt, created = await transactions.run(
        "submit_evaluation",
        lambda tx: answers.submit_evaluation(tx, task_id, asking.identify(tx), body, now=now),
    )
    if not created:
        response.status_code = status.HTTP_200_OK
    return receipt


@router.post("/{task_id}/failure", status_code=status.HTTP_204_NO_CONTENT, responses=HOLDING)
async def report_failure(
    task_id: UUID,
    body: wire.TaskFailure,
    asking: Asking,
    transactions: TransactionsDep,
    now: Now,
) -> None:
    """Say why the site cannot do the task; the researcher reads the traceback."""
    await transactions.run(
        "report_failure",
        lambda tx: tasks.fail(tx, task_id, asking.identify(tx), body, now=now),
    )
