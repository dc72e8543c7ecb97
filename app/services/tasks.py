"""What a site does with its tasks: claim, renew, answer, fail.

A task belongs to one site, so a lease only keeps two processes of that site apart: claiming
again takes the lease over at once, and a restarted site loses no time.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from app.db import artifacts as artifact_rows
from app.db import tasks as rows
from app.db.models import Evaluation, Metric, Model, Update
from app.db.tasks import TaskContext
from app.domain.errors import (
    ArtifactMissingError,
    InvalidRequestError,
    LeaseLostError,
    NotFoundError,
    SignatureRefusedError,
    TaskClosedError,
    UpdateConflictError,
    UpdateRefusedError,
)
from app.domain.ids import new_id
from app.doorbell import STEP_RUN
from app.services import sites
from app.services.checkpoints import Blob
from app.services.principals import SitePrincipal
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.canonical import canonical_json
from hansa_core.inspection import describe_mismatch
from hansa_core.layouts import Layout
from hansa_core.problems import CoreError
from hansa_core.signing import Purpose, decode_base64, verify
from hansa_core.states import RoundKind, RoundState, TaskState

HEARTBEATS_PER_LEASE = 4  # three may be lost before the lease runs out


@dataclass(frozen=True, slots=True)
class UploadTicket:
    """What an update's bytes have to be."""

    federation_id: UUID
    layout: Layout


def claim(
    tx: Tx,
    site: SitePrincipal,
    request: wire.ClaimRequest,
    *,
    now: datetime,
    lease_for: timedelta,
    online_for: timedelta,
) -> wire.Task | None:
    """Lease the site's oldest unfinished task, or None. Repeating renews the lease.

    A site that was away wakes the runs that may have waited for it.
    """
    if sites.seen(tx, site.id, now, request.sdk_version, request.hardware, online_for=online_for):
        sites.wake_runs(tx, site.federation_id)
    context = rows.oldest_claimable(tx.session, site.id)
    if context is None:
        return None
    task, row, run = context.task, context.round, context.run
    token, expires_at = new_id(), now + lease_for
    task.state = TaskState.CLAIMED
    task.state_reason = None
    task.lease_token = token
    task.lease_expires_at = expires_at
    task.claimed_at = now
    task.attempts += 1
    tx.record(
        "task.claimed",
        federation_id=run.federation_id,
        run_id=run.id,
        round_number=row.number,
        site_id=str(site.id),
        site_name=site.name,
        attempt=task.attempts,
    )
    return wire.Task(
        id=task.id,
        kind=RoundKind(row.kind),
        federation_id=run.federation_id,
        run_id=run.id,
        run_name=run.name,
        site_id=site.id,
        round_number=row.number,
        rounds=run.plan["rounds"],
        seed=run.plan["seed"],
        checkpoint=wire.CheckpointRef(
            id=context.checkpoint.id,
            digest=context.checkpoint.digest,
            size=context.checkpoint_size,
        ),
        evaluate=row.evaluate,
        training=run.plan["training"],
        lease=wire.Lease(
            token=token,
            expires_at=expires_at,
            heartbeat_seconds=lease_for.total_seconds() / HEARTBEATS_PER_LEASE,
        ),
        attempt=task.attempts,
        deadline_at=row.deadline_at,
    )


def renew(
    tx: Tx,
    task_id: UUID,
    site_id: UUID,
    heartbeat: wire.Heartbeat,
    *,
    now: datetime,
    lease_for: timedelta,
    online_for: timedelta,
) -> wire.HeartbeatReply:
    """Renew the lease, or tell the site to stop and why.

    Raises:
        NotFoundError: the site has no such task.
        LeaseLostError: another process of the site claimed the task.
    """
    sites.seen(tx, site_id, now, "", None, online_for=online_for)
    expires_at = now + lease_for
    if rows.renew_lease(
        tx.session,
        task_id,
        site_id,
        lease_token=heartbeat.lease_token,
        expires_at=expires_at,
        progress=heartbeat.progress.model_dump(mode="json"),
    ):
        return wire.HeartbeatReply(expires_at=expires_at)
    context = rows.find_context(tx.session, task_id, site_id)
    if context is None:
        raise NotFoundError(f"this site has no task {task_id}")
    if context.task.state in {TaskState.OPEN, TaskState.CLAIMED}:
        raise _lease_lost(task_id)
    return wire.HeartbeatReply(expires_at=now, stop=True, reason=_why_closed(context))


def find_checkpoint_blob(tx: Tx, task_id: UUID, site_id: UUID) -> Blob:
    """Return where the task's base checkpoint is stored.

    Raises:
        NotFoundError: the site has no such task.
    """
    context = rows.find_context(tx.session, task_id, site_id)
    if context is None:
        raise NotFoundError(f"this site has no task {task_id}")
    checkpoint = context.checkpoint
    return Blob(checkpoint.federation_id, checkpoint.digest, context.checkpoint_size)


def open_upload(tx: Tx, task_id: UUID, site_id: UUID, *, lease_token: UUID) -> UploadTicket:
    """Return what the update's tensors have to be, so that they can be checked as they come.

    Raises:
        NotFoundError, TaskClosedError, LeaseLostError: the site may not upload for this task.
    """
    context = rows.find_context(tx.session, task_id, site_id)
    if context is None:
        raise NotFoundError(f"this site has no task {task_id}")
    if context.task.state != TaskState.DONE:  # an answered task takes the same bytes again
        _require_held(context, lease_token)
    if context.round.kind != RoundKind.TRAIN:
        raise UpdateRefusedError(f"task {task_id} is an evaluation: it takes metrics, no update")
    return UploadTicket(context.run.federation_id, _layout_of(tx, context))


def submit_update(
    tx: Tx, task_id: UUID, site: SitePrincipal, signed: wire.SignedUpdate, *, now: datetime
) -> tuple[wire.TaskReceipt, bool]:
    """Record that an uploaded blob is the task's update; tell whether it is news.

    Raises:
        NotFoundError, TaskClosedError, LeaseLostError: the site may not answer this task.
        UpdateConflictError: another update was accepted before.
        InvalidRequestError: the manifest speaks of another task or checkpoint.
        SignatureRefusedError: it is not signed by the site's key in force.
        ArtifactMissingError, UpdateRefusedError: the blob is not there, or does not fit.
    """
    manifest = signed.manifest
    context = _require_context(tx, task_id, site.id)
    payload = canonical_json(manifest.model_dump(mode="json"))
    known = rows.find_update(tx.session, task_id)
    if known is not None:
        if known.manifest.encode() != payload:
            raise UpdateConflictError(
                f"task {task_id} has the update {known.digest}, got {manifest.digest}"
            )
        return _receipt(task_id, known.digest, known.created_at), False
    _require_held(context, signed.lease_token)
    _require_about(context, RoundKind.TRAIN, manifest.model_dump(), site.id)
    _require_signed(site, Purpose.UPDATE, payload, signed.signature)
    artifact = artifact_rows.find_artifact(tx.session, context.run.federation_id, manifest.digest)
    if artifact is None:
        raise ArtifactMissingError(f"upload the bytes of {manifest.digest} before its manifest")
    if artifact.size != manifest.size:
        raise UpdateRefusedError(
            f"the manifest says {manifest.size} bytes, {manifest.digest} has {artifact.size}"
        )
    seen, wanted = Layout.from_json(artifact.layout), _layout_of(tx, context)
    if seen != wanted:
        raise UpdateRefusedError(describe_mismatch(seen, wanted))
    update = Update(
        id=new_id(),
        federation_id=context.run.federation_id,
        round_id=context.round.id,
        task_id=task_id,
        site_id=site.id,
        key_id=site.key_id,
        digest=manifest.digest,
        num_examples=manifest.num_examples,
        manifest=payload.decode(),
        signature=decode_base64(signed.signature),
        created_at=now,
    )
    tx.session.add(update)
    _add_metrics(tx, context, "train", manifest.metrics, manifest.num_examples)
    if manifest.evaluation is not None:
        _add_evaluation(tx, context, manifest.evaluation)
    _finish(tx, context, site, now=now, digest=manifest.digest)
    return _receipt(task_id, manifest.digest, now), True


def submit_evaluation(
    tx: Tx, task_id: UUID, site: SitePrincipal, signed: wire.SignedEvaluation, *, now: datetime
) -> tuple[wire.TaskReceipt, bool]:
    """Record the site's metrics of the checkpoint; tell whether it is news.

    Raises:
        as `submit_update`.
    """
    report = signed.report
    context = _require_context(tx, task_id, site.id)
    payload = canonical_json(report.model_dump(mode="json"))
    digest = hashlib.sha256(payload).hexdigest()
    known = rows.find_evaluation(tx.session, task_id)
    if known is not None:
        if known.report.encode() != payload:
            raise UpdateConflictError(f"task {task_id} has another evaluation report already")
        return _receipt(task_id, digest, known.created_at), False
    _require_held(context, signed.lease_token)
    _require_about(context, RoundKind.EVALUATE, report.model_dump(), site.id)
    _require_signed(site, Purpose.EVALUATION, payload, signed.signature)
    evaluation = Evaluation(
        id=new_id(),
        round_id=context.round.id,
        task_id=task_id,
        site_id=site.id,
        key_id=site.key_id,
        num_examples=report.evaluation.num_examples,
        report=payload.decode(),
        signature=decode_base64(signed.signature),
        created_at=now,
    )
    tx.session.add(evaluation)
    _add_evaluation(tx, context, report.evaluation)
    _finish(tx, context, site, now=now, digest=digest)
    return _receipt(task_id, digest, now), True


def fail(
    tx: Tx, task_id: UUID, site: SitePrincipal, failure: wire.TaskFailure, *, now: datetime
) -> None:
    """Record why the site cannot do the task. Repeating changes nothing.

    Raises:
        NotFoundError, TaskClosedError, LeaseLostError: the site may not answer this task.
    """
    context = _require_context(tx, task_id, site.id)
    task = context.task
    if task.state == TaskState.FAILED:
        return
    _require_held(context, failure.lease_token)
    task.state = TaskState.FAILED
    task.state_reason = _storable(failure.error)
    task.traceback = _storable(failure.traceback)
    task.lease_token = None
    task.finished_at = now
    tx.record(
        "task.failed",
        federation_id=context.run.federation_id,
        run_id=context.run.id,
        round_number=context.round.number,
        site_id=str(site.id),
        site_name=site.name,
        reason=task.state_reason,
    )
    tx.send(STEP_RUN, context.run.id)


def _require_context(tx: Tx, task_id: UUID, site_id: UUID) -> TaskContext:
    context = rows.lock_context(tx.session, task_id, site_id)
    if context is None:
        raise NotFoundError(f"this site has no task {task_id}")
    return context


def _require_held(context: TaskContext, lease_token: UUID) -> None:
    task = context.task
    unfinished = task.state in {TaskState.OPEN, TaskState.CLAIMED}
    if not unfinished or context.round.state != RoundState.COLLECTING:
        raise TaskClosedError(f"task {task.id} takes no answer: {_why_closed(context)}")
    if task.lease_token != lease_token:
        raise _lease_lost(task.id)


def _require_about(
    context: TaskContext, kind: RoundKind, message: Mapping[str, object], site_id: UUID
) -> None:
    if context.round.kind != kind:
        raise InvalidRequestError(f"task {context.task.id} is a {context.round.kind} task")
    wanted = {
        "task_id": context.task.id,
        "run_id": context.run.id,
        "site_id": site_id,
        "round_number": context.round.number,
        "checkpoint_digest": context.checkpoint.digest,
    }
    wrong = [
        f"{name} is {message[name]}, wanted {value}"
        for name, value in wanted.items()
        if message[name] != value
    ]
    if wrong:
        raise InvalidRequestError("the signed message is about something else: " + "; ".join(wrong))


def _require_signed(site: SitePrincipal, purpose: Purpose, payload: bytes, signature: str) -> None:
    try:
        verify(site.public_key, purpose, payload, decode_base64(signature))
    except CoreError as error:
        raise SignatureRefusedError(
            f"the {purpose} is not signed by the key in force of site {site.name}: {error}"
        ) from error


def _layout_of(tx: Tx, context: TaskContext) -> Layout:
    model = tx.session.get(Model, context.run.model_id)
    assert model is not None
    return Layout.from_json(model.layout)


def _add_evaluation(tx: Tx, context: TaskContext, evaluation: wire.Evaluation) -> None:
    _add_metrics(tx, context, "eval", evaluation.metrics, evaluation.num_examples)


def _add_metrics(
    tx: Tx, context: TaskContext, kind: str, metrics: Mapping[str, float], num_examples: int
) -> None:
    """Add a site's metrics; evaluations count for the checkpoint that the round began from."""
    number = context.round.number - (1 if kind == "eval" else 0)
    tx.session.add_all(
        Metric(
            run_id=context.run.id,
            round_number=number,
            kind=kind,
            name=name,
            site_id=context.task.site_id,
            value=value,
            num_examples=num_examples,
        )
        for name, value in metrics.items()
    )


def _finish(
    tx: Tx, context: TaskContext, site: SitePrincipal, *, now: datetime, digest: str
) -> None:
    task = context.task
    task.state = TaskState.DONE
    task.lease_token = None
    task.finished_at = now
    tx.record(
        "task.done",
        federation_id=context.run.federation_id,
        run_id=context.run.id,
        round_number=context.round.number,
        site_id=str(site.id),
        site_name=site.name,
        digest=digest,
    )
    tx.send(STEP_RUN, context.run.id)


def _storable(text: str) -> str:
    """Return text that Postgres can hold: an error may quote a NUL, and is wanted nevertheless."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _why_closed(context: TaskContext) -> str:
    task, row = context.task, context.round
    return task.state_reason or f"the task is {task.state} and its round {row.state}"


def _lease_lost(task_id: UUID) -> LeaseLostError:
    return LeaseLostError(
        f"task {task_id} was claimed again by another process with this site's key"
    )


def _receipt(task_id: UUID, digest: str, received_at: datetime) -> wire.TaskReceipt:
    return wire.TaskReceipt(task_id=task_id, digest=digest, received_at=received_at)
