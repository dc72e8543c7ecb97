"""What a site does with its tasks: claim, renew, upload, fail. Answers are in answers.py.

A task belongs to one site, so a lease only keeps two processes of that site apart: claiming
again takes the lease over at once, and a restarted site loses no time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.db import artifacts as artifact_rows
from app.db import tasks as rows
from app.db import updates
from app.db.models import Checkpoint, CheckpointSlot, Run
from app.db.tasks import TaskContext
from app.domain.errors import (
    LeaseLostError,
    NotFoundError,
    TaskClosedError,
    UpdateRefusedError,
)
from app.domain.ids import new_id
from app.domain.rounds import repeat_seed
from app.doorbell import STEP_RUN
from app.services import sites
from app.services.checkpoints import Blob
from app.services.layouts import update_layout
from app.services.principals import SitePrincipal
from app.services.secure import duties
from app.services.secure.work import bound_of_task, masked_upload_layout, work_of
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.codecs.plans import CodecPlan, ExactPlan
from hansa_core.layouts import Layout
from hansa_core.local_work import LocalWork
from hansa_core.plans import RunPlan
from hansa_core.states import RoundKind, TaskState
from hansa_core.tensor_groups import TensorsPlan

MOST_FORKS = 64  # of forks of forks, looked through for what a site remembers
HEARTBEATS_PER_LEASE = 4  # three may be lost before the lease runs out


@dataclass(frozen=True, slots=True)
class UploadTicket:
    """What an update's bytes have to be."""

    federation_id: UUID
    layout: Layout
    plan: RunPlan
    part: str | None = None  # of the update; None: the delta itself

    @property
    def codec(self) -> CodecPlan:
        """How the bytes are encoded: a part never is."""
        return self.plan.codec if self.part is None else ExactPlan()

    @property
    def encoding(self) -> str | None:
        """What the artifact's row says of it."""
        return self.plan.encoding if self.part is None else None


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
    if sites.seen(
        tx,
        site.id,
        now,
        request.sdk_version,
        request.hardware,
        online_for=online_for,
        policy=request.policy,
    ):
        sites.wake_runs(tx, site.federation_id)
    if wire.Feature.SECURE not in request.features:
        want = f"this site's SDK {request.sdk_version or '(of no known version)'} is too old"
        duties.refuse_for_want(tx, site, f"{want} for secure aggregation: upgrade it", now=now)
    context = rows.oldest_claimable(tx.session, site.id)
    if context is None:
        return None
    task, row, run = context.task, context.round, context.run
    plan = RunPlan.model_validate(run.plan)
    lacking = sorted(_features(plan) - set(request.features))
    if lacking and context.kind is RoundKind.TRAIN:
        reason = (
            f"this site's SDK {request.sdk_version or '(of no known version)'} cannot do "
            f"{', '.join(lacking)}, which the run's plan asks for: upgrade it"
        )
        _fail(tx, context, site, reason, "", now=now)
        return None
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
        kind=context.kind,
        federation_id=run.federation_id,
        run_id=run.id,
        run_name=run.name,
        site_id=site.id,
        round_number=row.number,
        rounds=run.plan["rounds"],
        seed=repeat_seed(run.plan["seed"], task.repeat),
        checkpoint=wire.CheckpointRef(
            id=context.checkpoint.id,
            digest=context.checkpoint.digest,
            size=context.checkpoint_size,
        ),
        evaluate=row.evaluate,
        training=run.plan["training"],
        **_beyond_training(tx, context, plan),
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
        return wire.HeartbeatReply(expires_at=expires_at, duties=duties.count(tx, site_id))
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
    found = rows.find_base(tx.session, task_id, site_id)
    if found is None:
        raise NotFoundError(f"this site has no task {task_id}")
    return Blob(*found)


def find_slot_blob(tx: Tx, task_id: UUID, site_id: UUID, name: str) -> Blob:
    """Return where a slot of the task's base checkpoint is stored.

    Raises:
        NotFoundError: the site has no such task, or its work needs no such slot.
    """
    context = rows.find_context(tx.session, task_id, site_id)
    if context is None:
        raise NotFoundError(f"this site has no task {task_id}")
    plan = RunPlan.model_validate(context.run.plan)
    for slot, size in _slots(tx, context, plan):
        if slot.name == name:
            return Blob(slot.federation_id, slot.digest, size)
    raise NotFoundError(f"task {task_id} has no slot {name[:64]!r}")


def open_upload(
    tx: Tx, task_id: UUID, site_id: UUID, *, lease_token: UUID, part: str | None = None
) -> UploadTicket:
    """Return what the update's tensors have to be, so that they can be checked as they come.

    Raises:
        NotFoundError, TaskClosedError, LeaseLostError: the site may not upload for this task.
        UpdateRefusedError: an evaluation has no update, or the update has no such part.
    """
    context = rows.find_context(tx.session, task_id, site_id)
    if context is None:
        raise NotFoundError(f"this site has no task {task_id}")
    if context.task.state != TaskState.DONE:  # an answered task takes the same bytes again
        require_held(context, lease_token)
    plan = RunPlan.model_validate(context.run.plan)
    masked = bound_of_task(tx, context, plan) is not None
    if context.kind is not RoundKind.TRAIN and not masked:
        raise UpdateRefusedError(f"task {task_id} is an evaluation: it takes metrics, no update")
    return UploadTicket(
        context.run.federation_id, upload_layout(tx, context, plan, part), plan, part
    )


def fail(
    tx: Tx, task_id: UUID, site: SitePrincipal, failure: wire.TaskFailure, *, now: datetime
) -> None:
    """Record why the site cannot do the task. Repeating changes nothing.

    Raises:
        NotFoundError, TaskClosedError, LeaseLostError: the site may not answer this task.
    """
    context = require_context(tx, task_id, site.id)
    task = context.task
    if task.state == TaskState.FAILED:
        return
    require_held(context, failure.lease_token)
    task.log = _storable(failure.log) or None
    _fail(tx, context, site, _storable(failure.error), _storable(failure.traceback), now=now)


def _fail(
    tx: Tx, context: TaskContext, site: SitePrincipal, error: str, traceback: str, *, now: datetime
) -> None:
    task = context.task
    task.state = TaskState.FAILED
    task.state_reason = error
    task.traceback = traceback
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


def require_context(tx: Tx, task_id: UUID, site_id: UUID) -> TaskContext:
    """Return the site's task, its round held open until the commit, or raise NotFoundError."""
    context = rows.lock_context(tx.session, task_id, site_id)
    if context is None:
        raise NotFoundError(f"this site has no task {task_id}")
    return context


def require_held(context: TaskContext, lease_token: UUID) -> None:
    """Raise TaskClosedError or LeaseLostError unless this lease may answer the task."""
    task = context.task
    if task.state not in {TaskState.OPEN, TaskState.CLAIMED}:
        raise TaskClosedError(f"task {task.id} takes no answer: {_why_closed(context)}")
    if task.lease_token != lease_token:
        raise _lease_lost(task.id)


def upload_layout(tx: Tx, context: TaskContext, plan: RunPlan, part: str | None = None) -> Layout:
    """Return what the tensors of the task's update have to be, or those of one of its parts.

    Raises:
        UpdateRefusedError: updates of this run have no such part.
    """
    bound = bound_of_task(tx, context, plan)
    if bound is not None:
        return masked_upload_layout(tx, context, plan, bound, part)
    return update_layout(tx, context.run, plan, context.task.groups, part)


def _features(plan: RunPlan) -> set[str]:
    """Return what a site's SDK has to know for this plan, beyond plain training."""
    needed: set[str] = set()
    if plan.strategy.local_work() != LocalWork():
        needed.add(wire.Feature.LOCAL_WORK)
    if plan.tensors != TensorsPlan():
        needed.add(wire.Feature.TENSOR_GROUPS)
    if plan.encoding is not None:
        needed.add(wire.Feature.CODECS)
    if plan.secure is not None:
        needed.add(wire.Feature.SECURE)
    return needed


def _beyond_training(tx: Tx, context: TaskContext, plan: RunPlan) -> dict[str, Any]:
    """Return the fields of a task that most plans leave as they are."""
    bound = bound_of_task(tx, context, plan)
    return {
        "local_work": plan.strategy.local_work(),
        "slots": [
            wire.SlotRef(name=slot.name, digest=slot.digest, size=size)
            for slot, size in _slots(tx, context, plan)
        ],
        "tensors": plan.tensors,
        "groups": context.task.groups,
        "codec": plan.codec,
        "secure": None if bound is None else work_of(bound),
        "follows": _follows(tx, context, plan),
    }


def _slots(tx: Tx, context: TaskContext, plan: RunPlan) -> Sequence[tuple[CheckpointSlot, int]]:
    """Return the slots of the base checkpoint that the site needs, with their sizes."""
    wanted = plan.strategy.local_work().slots
    if not wanted:
        return []
    return [
        (slot, size)
        for slot, size in artifact_rows.slots(tx.session, context.checkpoint.id)
        if slot.name in wanted and slot.kind == plan.state_kind
    ]


def _follows(tx: Tx, context: TaskContext, plan: RunPlan) -> UUID | None:
    """Return the task that the site goes on from: its last that counted, here or before a fork."""
    if not plan.sites_remember:
        return None
    run, up_to = context.run, context.round.number - 1
    for _ in range(MOST_FORKS):
        found = updates.last_counted(tx.session, run.id, context.task.site_id, up_to=up_to)
        if found is not None:
            return found[0]
        base = tx.session.get_one(Checkpoint, run.base_checkpoint_id)
        if base.run_id is None or base.round_number is None:
            return None
        run, up_to = tx.session.get_one(Run, base.run_id), base.round_number
    return None


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
