"""A site's answers to its tasks: signed updates and evaluation reports, checked and kept.

An answer is taken once: the same bytes again get the first receipt, others are refused. What was
signed is stored exactly, so that anybody can check it later.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from app.db import artifacts as artifact_rows
from app.db import metrics as metric_rows
from app.db import tasks as rows
from app.db.models import Evaluation, Update, UpdatePart
from app.db.tasks import TaskContext
from app.domain.errors import (
    ArtifactMissingError,
    InvalidRequestError,
    SignatureRefusedError,
    UpdateConflictError,
    UpdateRefusedError,
)
from app.domain.ids import new_id
from app.doorbell import STEP_RUN
from app.services import tasks
from app.services.principals import SitePrincipal
from app.services.secure.work import bound_of_task, require_masked
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.canonical import canonical_json
from hansa_core.inspection import describe_mismatch
from hansa_core.layouts import Layout
from hansa_core.plans import RunPlan
from hansa_core.problems import CoreError
from hansa_core.signing import Purpose, decode_base64, verify
from hansa_core.states import RoundKind, RoundState, TaskState


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
    context = tasks.require_context(tx, task_id, site.id)
    payload = canonical_json(manifest.model_dump(mode="json"))
    known = rows.find_update(tx.session, task_id)
    if known is not None:
        if known.manifest.encode() != payload:
            raise UpdateConflictError(
                f"task {task_id} has the update {known.digest}, got {manifest.digest}"
            )
        return _receipt(task_id, known.digest, known.created_at), False
    tasks.require_held(context, signed.lease_token)
    plan = RunPlan.model_validate(context.run.plan)
    bound = bound_of_task(tx, context, plan)
    kind = RoundKind.TRAIN if bound is None else context.kind
    _require_about(context, kind, manifest.model_dump(), site.id)
    _require_signed(site, Purpose.UPDATE, payload, signed.signature)
    if bound is None:
        _require_complete(manifest, plan, context.task.groups)
    else:
        require_masked(manifest, plan, bound)
    _require_stored(tx, context, plan, None, manifest.digest, manifest.size)
    for name, part in manifest.parts.items():
        _require_stored(tx, context, plan, name, part.digest, part.size)
    update = Update(
        id=new_id(),
        federation_id=context.run.federation_id,
        round_id=_counts_in(tx, context),
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
    tx.session.flush()
    tx.session.add_all(
        UpdatePart(
            update_id=update.id,
            name=name,
            federation_id=update.federation_id,
            digest=part.digest,
        )
        for name, part in manifest.parts.items()
    )
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
    context = tasks.require_context(tx, task_id, site.id)
    payload = canonical_json(report.model_dump(mode="json"))
    digest = hashlib.sha256(payload).hexdigest()
    known = rows.find_evaluation(tx.session, task_id)
    if known is not None:
        if known.report.encode() != payload:
            raise UpdateConflictError(f"task {task_id} has another evaluation report already")
        return _receipt(task_id, digest, known.created_at), False
    tasks.require_held(context, signed.lease_token)
    _require_about(context, RoundKind.EVALUATE, report.model_dump(), site.id)
    if bound_of_task(tx, context, RunPlan.model_validate(context.run.plan)) is not None:
        raise InvalidRequestError(
            f"task {task_id} is of a secure run: it takes a masked update, no report"
        )
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


def _require_about(
    context: TaskContext, kind: RoundKind, message: Mapping[str, object], site_id: UUID
) -> None:
    if context.kind != kind:
        raise InvalidRequestError(f"task {context.task.id} is a {context.kind} task")
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


def _require_complete(manifest: wire.UpdateManifest, plan: RunPlan, groups: list[str]) -> None:
    """Refuse an update without what the strategy needs beside a delta."""
    work = plan.strategy.local_work()
    told = {
        "scalars": (sorted(manifest.scalars), sorted(work.scalars)),
        "parts": (sorted(manifest.parts), sorted(work.parts)),
        "groups": (sorted(manifest.groups), sorted(groups)),
        "secure_round": (sorted(filter(None, [manifest.secure_round])), list[str]()),
    }
    wrong = [
        f"its {name} are {', '.join(seen) or 'none'}, wanted {', '.join(wanted) or 'none'}"
        for name, (seen, wanted) in told.items()
        if seen != wanted
    ]
    if wrong:
        raise UpdateRefusedError(f"the update does not suit the run's plan: {'; '.join(wrong)}")


def _require_stored(
    tx: Tx, context: TaskContext, plan: RunPlan, part: str | None, digest: str, size: int
) -> None:
    """Refuse a file that is not there, or is not what the update or its part has to be."""
    artifact = artifact_rows.pin_artifact(tx.session, context.run.federation_id, digest)
    if artifact is None or artifact.purged_at is not None:
        raise ArtifactMissingError(f"upload the bytes of {digest} before its manifest")
    if artifact.size != size:
        raise UpdateRefusedError(f"the manifest says {size} bytes, {digest} has {artifact.size}")
    encoding = plan.encoding if part is None else None
    if artifact.encoding != encoding:
        raise UpdateRefusedError(
            f"{digest} is encoded by {artifact.encoding or 'nothing'}, wanted "
            f"{encoding or 'tensors as they are'}"
        )
    wanted = tasks.upload_layout(tx, context, plan, part)
    if artifact.layout != wanted.to_json():
        raise UpdateRefusedError(describe_mismatch(Layout.from_json(artifact.layout), wanted))


def _require_signed(site: SitePrincipal, purpose: Purpose, payload: bytes, signature: str) -> None:
    try:
        verify(site.public_key, purpose, payload, decode_base64(signature))
    except CoreError as error:
        raise SignatureRefusedError(
            f"the {purpose} is not signed by the key in force of site {site.name}: {error}"
        ) from error


def _add_evaluation(tx: Tx, context: TaskContext, evaluation: wire.Evaluation) -> None:
    _add_metrics(tx, context, "eval", evaluation.metrics, evaluation.num_examples)


def _add_metrics(
    tx: Tx, context: TaskContext, kind: str, metrics: Mapping[str, float], num_examples: int
) -> None:
    """Add a site's metrics; evaluations count for the checkpoint that the round began from."""
    number = context.round.number - (1 if kind == "eval" else 0)
    metric_rows.put(
        tx.session,
        [
            metric_rows.NewMetric(
                run_id=context.run.id,
                round_number=number,
                kind=kind,
                name=name,
                site_id=context.task.site_id,
                value=value,
                num_examples=num_examples,
            )
            for name, value in metrics.items()
        ],
    )


def _counts_in(tx: Tx, context: TaskContext) -> UUID | None:
    """Return the round that an update counts in.

    In a buffered run that is the round that is open now; between two of them, and while one is
    being decided about, there is none, and the next look takes the update into the open one.
    """
    if context.round.state == RoundState.COLLECTING:
        return context.round.id
    current = rows.collecting_round(tx.session, context.run.id)
    return None if current is None else current.id


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


def _receipt(task_id: UUID, digest: str, received_at: datetime) -> wire.TaskReceipt:
    return wire.TaskReceipt(task_id=task_id, digest=digest, received_at=received_at)
